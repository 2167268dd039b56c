"""Coordinate-ascent variational inference: closed-form factors, with moves that change the number of memories."""
