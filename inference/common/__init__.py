"""What the engines share: results, coordinates, orderings, starts, rows and devices."""
