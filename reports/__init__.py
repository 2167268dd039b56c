"""Results as people read them: diagnostics, partitions, figures and the HTML page. Only reads results.

How to read the room, from the bottom up; each floor imports only those below it:

1. ``tree``: a fit on disk, the DataTree in ArviZ's schema. ``page``: the bare HTML page, its tables and numbers.
2. ``summaries``: numbers and verdicts from draws (convergence, criteria, partitions, relabelling, ranks).
3. ``figures``: Matplotlib figures of a tree or of its summaries.
4. ``sections``: parts of the report, each a text with its tables and figures.
5. ``html``: the report of a fit. ``court``: the page of the claims.

Begin with ``html.report_html``: it reads the label-invariant draws once (``summaries.diagnostics.diagnose``) and asks
every section for its part of the page; a section whose group the fit lacks is left out.
"""

if __name__ != "probam.reports":  # pragma: no cover
    raise ImportError(f"this folder is the package 'probam.reports'; it was imported as {__name__!r}")
