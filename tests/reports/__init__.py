"""Tests of probam.reports, in the folders of its sub-rooms.

``conftest`` makes the fits once, without an engine: ``small_fits`` samples a posterior, ``posteriors`` makes the groups
of its tree, ``maximum_likelihood`` runs EM, ``landscapes`` adds recall to a point estimate.
"""
