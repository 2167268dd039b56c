"""Experiments that show what the claims say: seeded, each with a DataTree, a figure and a page."""
