"""Memories made on demand, one datum after the other; particles that carry several partitions."""
