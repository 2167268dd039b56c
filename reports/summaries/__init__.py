"""Numbers that a report reads from draws: diagnostics, criteria, partitions, relabelling."""
