"""Tests of probam.reports.summaries."""
