"""Estimators with the interface of scikit-learn: ``probam.ProbamMixture`` and ``probam.ProbamStream``."""
