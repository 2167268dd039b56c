"""Numbers and verdicts that are read from draws; nothing here draws or writes a page.

``quantities`` and ``convergence``: label-invariant quantities and their summary. ``diagnostics``: the verdict, by the
rules in ``search_rules``, ``chain_rules`` and ``model_rules``. ``discrepancies``: data against replicated data.
``partition``, ``point_partition``, ``credible``: posteriors of partitions. ``relabel``: one numbering for all draws.
``criteria``: leave-one-out and information criteria. ``ranks``: simulation-based calibration.
"""
