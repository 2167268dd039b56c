"""NumPyro programs: likelihood families, weight priors and the mixture they make."""

if __name__ != "probam.models":  # pragma: no cover
    raise ImportError(f"this folder is the package 'probam.models'; it was imported as {__name__!r}")
