"""Benchmarks: probam and its peers in one interleaved run (``make bench``)."""
