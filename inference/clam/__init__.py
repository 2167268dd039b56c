"""Memories learned by descending the error of their own recall: the one engine that sees the physics."""
