"""Reading, validating and writing data; the small sets that travel with the package."""
