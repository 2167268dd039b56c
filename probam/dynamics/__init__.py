"""Recall: the dynamics that run downhill on an energy."""
