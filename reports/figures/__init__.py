"""Figures of a report: each function returns a Matplotlib ``Figure``; ``style`` turns it into inline SVG.

``posterior``: chains, number of memories, search. ``memories``: memories and weights. ``partition`` and ``data``: which
data belong together, and the predictive check. ``landscape``: the energy. ``recall``: recall under the posterior.
``shown`` decides which memories and features get room, ``style`` how everything looks.
"""
