"""Inference engines: each a folder whose ``engine.py`` has ``run``; they know a model only by its public interface."""

if __name__ != "probam.inference":  # pragma: no cover
    raise ImportError(f"this folder is the package 'probam.inference'; it was imported as {__name__!r}")
