"""Tests of probam.reports.sections."""
