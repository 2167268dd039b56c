"""Small real data sets with their provenance."""
