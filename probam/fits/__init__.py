"""Fit, load and the Fit that they return: from draws to a file, and recall of a posterior."""
