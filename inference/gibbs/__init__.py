"""Gibbs samplers, blocked and collapsed, with split-merge moves."""
