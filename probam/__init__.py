"""Associative memories as probabilistic programs.

``fit`` data and get a posterior over memories, ``load`` a saved one, ``compare`` several, ``verify`` that energies are
likelihoods; a ``Stream`` makes memories as data arrive; ``partitions`` has functions for the draws of any sampler. The
names below are read from their modules when first used, so that ``import probam`` costs next to nothing.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import probam.partitions as partitions
    from probam.claims.verify import verify
    from probam.comparison.compare import compare
    from probam.comparison.covariances import compare_covariances
    from probam.comparison.engines import compare_engines
    from probam.comparison.page import compare_report
    from probam.compiled import keep_compiled
    from probam.errors import InputError, NumericalError, ProbamError, Stop
    from probam.estimators.mixture import ProbamMixture
    from probam.estimators.stream import ProbamStream
    from probam.fits.choices import families
    from probam.fits.fit import fit, load
    from probam.fits.fitted import Fit
    from probam.inference.common.progress import Progress
    from probam.streams.stream import Stream

__all__ = [
    "Fit",
    "InputError",
    "NumericalError",
    "ProbamError",
    "ProbamMixture",
    "ProbamStream",
    "Progress",
    "Stop",
    "Stream",
    "compare",
    "compare_covariances",
    "compare_engines",
    "compare_report",
    "families",
    "fit",
    "keep_compiled",
    "load",
    "partitions",
    "verify",
]

_HOMES = {
    "families": "probam.fits.choices",
    "fit": "probam.fits.fit",
    "load": "probam.fits.fit",
    "verify": "probam.claims.verify",
    "keep_compiled": "probam.compiled",
    "compare": "probam.comparison.compare",
    "compare_covariances": "probam.comparison.covariances",
    "compare_engines": "probam.comparison.engines",
    "compare_report": "probam.comparison.page",
    "partitions": "probam.partitions",
    "Fit": "probam.fits.fitted",
    "ProbamMixture": "probam.estimators.mixture",
    "ProbamStream": "probam.estimators.stream",
    "Stream": "probam.streams.stream",
    "InputError": "probam.errors",
    "NumericalError": "probam.errors",
    "ProbamError": "probam.errors",
    "Stop": "probam.errors",
    "Progress": "probam.inference.common.progress",
}


logging.getLogger("probam").addHandler(logging.NullHandler())  # what the library says, for those who listen


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'probam' has no attribute {name!r}")
    home = import_module(_HOMES[name])
    return home if home.__name__ == f"{__name__}.{name}" else getattr(home, name)


def __dir__() -> list[str]:
    return __all__
