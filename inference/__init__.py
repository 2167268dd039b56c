"""Inference engines, one per file; each knows a model only as a NumPyro program or a family handed to it."""

if __name__ != "probam.inference":  # pragma: no cover
    raise ImportError(f"this folder is the package 'probam.inference'; it was imported as {__name__!r}")
