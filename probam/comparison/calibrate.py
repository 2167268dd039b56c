r"""Simulation-based calibration of an engine: does it sample the posterior of the model that it is given?

Parameters are drawn from the model's own NumPyro program, data from the parameters, and the engine is run on the data;
under an exact engine the rank of the truth among its draws is uniform, for every label-invariant quantity. The default
priors of a fit are scaled to its data and would make prior and data dependent: here the prior is given and fixed.
:mod:`benchmarks.validation` runs the engines on two small problems.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

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
from probam.inference.common.progress import Listener, Reporter
from probam.inference.common.result import EngineResult
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
    progress: Listener | None = None,
    **engine_options: Any,
) -> xr.Dataset:
    """Ranks of label-invariant quantities over simulations, and whether they are uniform.

    Quantities: log likelihood, number of memories that hold data, entropy and largest of the weights, whether the first
    two data share a memory, energy (negative log density) at a fixed point, and the sites that belong to no memory
    (``alpha``, ``discount``, a shared ``beta``).

    Args:
        family: a family, or its name.
        weights: a prior of the weights, or its name.
        engine: name of the engine to calibrate.
        components: number of memories of the model.
        prior: the prior of every site of the family, fixed for all simulations.
        num_data: number of data of a simulation.
        num_simulations: number of simulations, at least 10.
        seed: of everything random.
        num_ranked: L, the draws (evenly taken from all chains) among which the truth is ranked; L + 1 should have a
            divisor near 20. They count as independent, so let the chains be longer than that (see ``ess``).
        progress: told of the simulations that are done. Where it raises ``probam.Stop``, nothing is kept.
        engine_options: options of the engine.

    Returns:
        The dataset of :func:`probam.reports.summaries.ranks.rank_dataset`, with attributes ``engine``, ``options``,
        ``model``, ``num_data``, ``seconds`` and ``failed`` (runs that raised a NumericalError and are left out).

    Raises:
        InputError: for a prior that lacks a site, too few simulations, and whatever the engine refuses.
    """
    began = time.perf_counter()
    law = weight_prior(weights) if isinstance(weights, str) else weights
    model = Mixture(find_family(family), law, components, dict(prior))
    _check(model, num_data, num_simulations, num_ranked)
    run = partial(find_engine(engine, engine_options), **engine_options)
    key_probe, key_simulations = jax.random.split(jax.random.key(seed))
    study = _Study(model, engine, run, simulate(key_probe, model, 1)[1], num_data, num_ranked)
    simulations = _simulations(study, key_simulations, num_simulations, Reporter(progress, nothing_kept=_UNFINISHED))
    failed = num_simulations - len(simulations)
    if len(simulations) < num_simulations / 2:
        raise NumericalError(f"{engine}: {failed} of {num_simulations} runs gave numbers that are not finite")
    return _ranks(simulations, seed).assign_attrs(
        engine=engine,
        options=", ".join(f"{name}={value}" for name, value in engine_options.items()),
        model=f"{model.family.signature}, {law.name}, {components} memories",
        num_data=num_data,
        failed=failed,
        seconds=time.perf_counter() - began,
    )


_UNFINISHED = "calibrate: stopped before every simulation was ranked; nothing is kept"


class _Study(NamedTuple):
    """What all simulations share."""

    model: Mixture
    engine: str
    run: Callable[[jax.Array, Mixture, jax.Array], EngineResult]
    probe: Float[Array, "1 D"]  # where the energy is a quantity
    num_data: int
    num_ranked: int


def _simulations(
    study: _Study, key: jax.Array, num_simulations: int, progress: Reporter
) -> list[dict[str, Float[np.ndarray, " S"]]]:
    """The quantities of every simulation whose run did not fail: first at the truth, then at the ranked draws."""
    simulations = []
    for index in range(num_simulations):
        key_truth, key_run, key_read = jax.random.split(jax.random.fold_in(key, index), 3)
        truth, x = simulate(key_truth, study.model, study.num_data)
        try:
            result = study.run(key_run, study.model, x)
        except NumericalError:
            continue
        sites = _truth_and_draws(study, truth, result)
        simulations.append(_quantities(study.model, sites, key_read, x, study.probe))
        progress(index + 1, num_simulations, f"calibrating {study.engine}")
    return simulations


def _ranks(simulations: Sequence[dict[str, Float[np.ndarray, " S"]]], seed: int) -> xr.Dataset:
    """Ranks of the truth, the first value of each quantity, among the others."""
    truths = [{name: float(values[0]) for name, values in quantities.items()} for quantities in simulations]
    draws = [{name: values[1:] for name, values in quantities.items()} for quantities in simulations]
    return rank_dataset(truths, draws, seed=seed)


def _truth_and_draws(study: _Study, truth: Params, result: EngineResult) -> Params:
    """The sites at the truth, followed by those at ``num_ranked`` draws that are evenly taken from all chains."""
    names = Coordinates(study.model).transforms
    draws = {name: value.reshape(-1, *value.shape[2:]) for name, value in result.sites.items() if name in names}
    num_draws = len(next(iter(draws.values())))
    if num_draws < study.num_ranked:
        raise InputError(
            f"num_ranked: expected at most the number of draws, {num_draws} from engine {study.engine!r}; "
            f"got {study.num_ranked}"
        )
    chosen = np.linspace(0, num_draws - 1, study.num_ranked).round().astype(int)
    return {name: jnp.concatenate([truth[name][None], value[chosen]]) for name, value in draws.items()}


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
    """Sites from the prior, and data from these sites, by the model's own program.

    Args:
        key: of the simulation.
        model: its prior must be fixed.
        num_data: N, number of data.
    """
    trace = handlers.trace(handlers.seed(model, key)).get_trace(num_data=num_data)
    sites = {name: site["value"] for name, site in trace.items() if site["type"] == "sample" and name != "x"}
    return sites, trace["x"]["value"]


def _quantities(
    model: Mixture, sites: Params, key: jax.Array, x: jax.Array, probe: jax.Array
) -> dict[str, Float[np.ndarray, " S"]]:
    """Label-invariant quantities of truth and draws; the labels of both are drawn from their responsibilities."""
    reading = posterior.read(model, sites, key, x, jnp.array([[0, 1]]))
    num_draws = len(reading.log_lik)
    group = invariant_group(
        log_lik=reading.log_lik,
        labels=reading.labels,
        weights=reading.weights,
        together=reading.together,
        probe_energy=-posterior.density(model, sites, probe),
        shape=(1, num_draws),
    )
    own = {name: np.asarray(values, dtype=np.float64).reshape(num_draws) for name, (values, _) in group.items()}
    return own | {name: np.asarray(value) for name, value in sites.items() if value.ndim == 1}
