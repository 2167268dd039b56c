"""Numbers and verdicts that are read from draws; nothing here draws or writes a page.

``quantities`` and ``convergence``: label-invariant quantities and their summary. ``diagnostics``: verdicts in words.
``partition``, ``point_partition``, ``credible``: posteriors of partitions. ``relabel``: one numbering for all draws.
``criteria``: leave-one-out and information criteria. ``ranks``: simulation-based calibration.
"""
