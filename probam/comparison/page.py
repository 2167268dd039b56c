"""The page that puts fits of the same data side by side."""

import os
from collections.abc import Mapping, Sequence

from numpy.typing import ArrayLike

from probam.comparison.compare import compare, named_fits, same_data
from probam.errors import InputError
from probam.fits.fitted import Fit
from probam.options import file_path

__all__ = ["compare_report"]

_MOST = 12


def compare_report(
    fits: Sequence[Fit] | Mapping[str, Fit], path: str | os.PathLike[str], *, labels: ArrayLike | None = None
) -> None:
    """Write a page that compares fits of the same data: ``probam report a.nc b.nc``.

    It gives the verdict on each fit, which one is preferred and how sure that is, the scores of :func:`probam.compare`
    side by side, how far the partitions agree, and which memories correspond.

    Args:
        fits: 2 to 12, a list or a mapping of names to fits.
        path: the HTML file.
        labels: true label of each datum that was fitted, None or NaN where it is not known.

    Raises:
        InputError: for fits of other data, one fit alone or too many, and where ``path`` cannot be written.
    """
    from probam.reports.comparison import comparison_html  # it brings matplotlib, which nothing else here needs
    from probam.reports.page import write_page

    file_path("path", path)
    named = named_fits(fits)
    if not 2 <= len(named) <= _MOST:
        remedy = "Fit.report writes the page of one" if len(named) < 2 else "probam.compare makes a table of any number"
        raise InputError(f"fits: expected 2 to {_MOST} to compare on a page; got {len(named)}; {remedy}")
    _check_same_data(named)
    trees = {str(name): fit.tree for name, fit in named.items()}
    frame = compare({str(name): fit for name, fit in named.items()}, labels=labels)
    write_page(comparison_html(trees, frame), path)


def _check_same_data(fits: Mapping[str, Fit]) -> None:
    """Raise :class:`probam.errors.InputError` where two fits have other data."""
    (first, one), *others = fits.items()
    for name, other in others:
        if not same_data([one, other]):
            sizes = " and ".join(f"{fit.tree['observed_data'].sizes['datum']} rows" for fit in (one, other))
            raise InputError(
                f"fits: {first!r} and {name!r} are fits of different data ({sizes}); a page compares fits of the same "
                "rows, weights and known labels; probam.compare with held_out= (probam compare --held-out) scores both"
            )
