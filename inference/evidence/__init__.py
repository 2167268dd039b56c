"""Estimates of the log evidence, and importance weights of the draws of a guide."""
