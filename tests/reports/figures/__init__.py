"""Tests of probam.reports.figures."""
