"""Expectation-maximisation with closed-form M-steps."""
