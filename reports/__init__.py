"""Results as people read them: diagnostics, partitions, figures and the HTML page. Only reads results."""

if __name__ != "probam.reports":  # pragma: no cover
    raise ImportError(f"this folder is the package 'probam.reports'; it was imported as {__name__!r}")
