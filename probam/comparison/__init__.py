"""Fits side by side, and simulation-based calibration of engines."""
