"""Estimates of the log evidence, and what importance weights say of a guide."""
