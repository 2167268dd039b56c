r"""Simulation-based calibration of an engine: does it sample the posterior of the model that it is given?

Parameters are drawn from the model's own NumPyro program, data from the parameters, and the engine is run on the data;
under an exact engine the rank of the truth among its draws is uniform, for every label-invariant quantity. The default
priors of a fit are scaled to its data and would make prior and data dependent: here the prior is given and fixed.
:mod:`benchmarks.validation` runs the engines on two small problems.
"""

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float
from numpyro import handlers
from numpyro.distributions import Distribution

import probam.fits.posterior as posterior
from probam.errors import InputError, NumericalError
from probam.family import Family, Params, WeightPrior
from probam.fits.choices import find_engine, find_family
from probam.inference.common.coordinates import Coordinates
from probam.inference.common.result import Progress, silent
from probam.models.mixture import Mixture
from probam.models.weights import weight_prior
from probam.reports.summaries.quantities import invariant_group
from probam.reports.summaries.ranks import rank_dataset

__all__ = ["calibrate", "simulate"]


def calibrate(
    family: str | Family,
    weights: str | WeightPrior,
    engine: str,
    *,
    components: int,
    prior: Mapping[str, Distribution],
    num_data: int,
    num_simulations: int,
    seed: int = 0,
    num_ranked: int = 99,
    progress: Progress | None = None,
    **engine_options: Any,
) -> xr.Dataset:
    """Ranks of label-invariant quantities over simulations, and whether they are uniform.

    Quantities: log likelihood, number of memories that hold data, entropy and largest of the weights, whether the first
    two data share a memory, energy (negative log density) at a fixed point, and the sites that belong to no memory
    (``alpha``, ``discount``, a shared ``beta``).

    Args:
        prior: the prior of every site of the family, fixed for all simulations.
        num_ranked: L, the draws (evenly taken from all chains) among which the truth is ranked; L + 1 should have a
            divisor near 20. They count as independent, so let the chains be longer than that (see ``ess``).
        engine_options: options of the engine.

    Returns:
        The dataset of :func:`probam.reports.summaries.ranks.rank_dataset`, with attributes ``engine``, ``options``,
        ``model``, ``num_data``, ``failed`` (simulations in which the engine raised a NumericalError; they
        are left out) and ``seconds``.

    Raises:
        InputError: for a prior that lacks a site, too few simulations, and whatever the engine refuses.
    """
    began = time.perf_counter()
    memory_family = find_family(family)
    law = weight_prior(weights) if isinstance(weights, str) else weights
    model = Mixture(memory_family, law, components, dict(prior))
    _check(model, num_data, num_simulations, num_ranked)
    run = find_engine(engine, engine_options)
    tell = progress or silent
    named = Coordinates(model).transforms
    key_probe, key_rest = jax.random.split(jax.random.key(seed))
    probe = simulate(key_probe, model, 1)[1]
    truths, ranked, failed = [], [], 0
    for simulation in range(num_simulations):
        key_truth, key_run, key_read = jax.random.split(jax.random.fold_in(key_rest, simulation), 3)
        truth, x = simulate(key_truth, model, num_data)
        try:
            result = run(key_run, model, x, progress=silent, **engine_options)
        except NumericalError:
            failed += 1
            continue
        drawn = {name: values.reshape(-1, *values.shape[2:]) for name, values in result.sites.items() if name in named}
        total = len(next(iter(drawn.values())))
        if total < num_ranked:
            raise InputError(f"num_ranked: {num_ranked} draws are to be ranked and engine {engine!r} made {total}")
        chosen = np.linspace(0, total - 1, num_ranked).round().astype(int)
        sites = {name: jnp.concatenate([truth[name][None], values[chosen]]) for name, values in drawn.items()}
        values = _quantities(model, sites, key_read, x, probe)
        truths.append({name: float(value[0]) for name, value in values.items()})
        ranked.append({name: value[1:] for name, value in values.items()})
        tell(simulation + 1, num_simulations, f"calibrating {engine}")
    if len(truths) < num_simulations / 2:
        raise NumericalError(f"{engine}: {failed} of {num_simulations} runs left the finite numbers")
    return rank_dataset(truths, ranked, seed=seed).assign_attrs(
        engine=engine,
        options=", ".join(f"{name}={value}" for name, value in engine_options.items()),
        model=f"{memory_family.signature}, {law.name}, {components} memories",
        num_data=num_data,
        failed=failed,
        seconds=time.perf_counter() - began,
    )


def _check(model: Mixture, num_data: int, num_simulations: int, num_ranked: int) -> None:
    for name, number, least in (
        ("num_data", num_data, 2),
        ("num_simulations", num_simulations, 10),
        ("num_ranked", num_ranked, 1),
    ):
        if number < least:
            raise InputError(f"{name}: expected at least {least}; got {number}")
    try:
        jax.eval_shape(lambda key: simulate(key, model, 1), jax.random.key(0))
    except KeyError as error:
        raise InputError(
            f"prior: family {model.family.name!r} also needs a prior on {error}, fixed for all simulations"
        ) from error


@partial(jax.jit, static_argnames="num_data")
def simulate(key: jax.Array, model: Mixture, num_data: int) -> tuple[Params, Float[Array, "N D"]]:
    """Site values from the prior and data from them, by the model's own program."""
    trace = handlers.trace(handlers.seed(model, key)).get_trace(num_data=num_data)
    sites = {name: site["value"] for name, site in trace.items() if site["type"] == "sample" and name != "x"}
    return sites, trace["x"]["value"]


def _quantities(
    model: Mixture, sites: Params, key: jax.Array, x: jax.Array, probe: jax.Array
) -> dict[str, Float[np.ndarray, " S"]]:
    """Label-invariant values of truth and draws alike; labels are drawn from their responsibilities in both."""
    reading = posterior.read(model, sites, key, x, jnp.array([[0, 1]])).on_host()
    num_draws = len(reading.log_lik)
    group = invariant_group(
        log_lik=reading.log_lik,
        labels=reading.labels,
        weights=reading.weights,
        together=reading.together,
        probe_energy=-np.asarray(posterior.density(model, sites, probe)),
        shape=(1, num_draws),
    )
    found = {name: np.asarray(values, dtype=np.float64).reshape(num_draws) for name, (values, _) in group.items()}
    return found | {name: np.asarray(value) for name, value in sites.items() if value.ndim == 1}
