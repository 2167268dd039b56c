"""Sections of a report: each function returns one part of the page, or None where the fit lacks what it shows.

``model``: what was fitted, and how to repeat it. ``trust``: verdicts and convergence. ``posterior``: memories, weights,
partition, predictive check, truncation. ``energy``: landscape and verification. ``recall``: recall under the posterior.
"""
