"""Recall: dynamics that descend an energy."""
