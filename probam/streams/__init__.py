"""A stream that learns by parts: its options, files, and way to a fit."""
