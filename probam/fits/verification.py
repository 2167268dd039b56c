"""The energy of a fit against its likelihood, at draws of the posterior."""

from typing import Any

import jax
import numpy as np

from probam.compiled import compiled_quickly
from probam.distributions.mixture import MemoryMixture
from probam.equivalence.check import Check, verify_mixture
from probam.family import Params
from probam.fits.groups import Group
from probam.fits.landscape import kind_of
from probam.fits.saved import Saved
from probam.models.mixture import Mixture
from probam.numerics.steady import restored, steady
from probam.reports.summaries.quantities import evenly

__all__ = ["verification_group", "verify_draws"]

_DRAWS = 3
_ROWS = 200


def verification_group(fit: Saved) -> Group:
    """The checks at the first of the data, as a group of the file."""
    checks = verify_draws(fit.model, fit.draws.sites, jax.device_put(fit.x[:_ROWS]))
    variables: dict[str, Any] = {
        "relation": ([check.relation for check in checks], ("check",)),
        "witnesses": ([check.witnesses for check in checks], ("check",)),
        "error": ([float(check.error) for check in checks], ("check",)),
        "tolerance": ([float(check.tolerance) for check in checks], ("check",)),
        "passed": ([bool(check.passed) for check in checks], ("check",)),
    }
    return Group(variables, coordinates={"check": [check.name for check in checks]})


def verify_draws(model: Mixture, sites: Params, x: jax.Array) -> list[Check]:
    """The checks of :func:`verify_mixture` at a few draws spread over the posterior, the largest error of each."""
    num_draws = len(next(iter(sites.values()))) if sites else 1
    worst: dict[str, Check] = {}
    for draw in evenly(num_draws, _DRAWS):
        params = {name: jax.device_put(np.asarray(value)[draw]) for name, value in sites.items()}
        for check in verify_mixture(_mixture_of(model, params), x):
            before = worst.get(check.name)
            if before is None or not check.passed or (before.passed and check.error > before.error):
                worst[check.name] = check
    return list(worst.values())


def _mixture_of(model: Mixture, params: Params) -> MemoryMixture:
    """The mixture of one draw, in one program where its bank has a twin and so is one that a program can return."""
    if not kind_of(model, params).twin:
        return model.mixture(params)
    mixture: MemoryMixture = restored(_steady_mixture(model, params))
    return mixture


@compiled_quickly()
def _steady_mixture(model: Mixture, params: Params) -> Any:
    return steady(model.mixture(params))
