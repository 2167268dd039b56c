"""Experiments that illustrate the claims: seeded, each with a DataTree, figures and a page."""
