"""Tempered sequential Monte Carlo, with the evidence."""
