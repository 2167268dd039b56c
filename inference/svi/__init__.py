"""Stochastic variational inference under several guides."""
