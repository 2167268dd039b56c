"""Memories that minimise the error of their own recall: the only engine that uses the physics."""
