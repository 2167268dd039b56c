"""The court's claims: what papers say, what is exact, and the numbers that tell the two apart."""
