"""Pairs that integrate out in closed form, and mean-field factors."""
