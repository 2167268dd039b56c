"""Tests of probam.data."""
