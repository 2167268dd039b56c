r"""Simulation-based calibration of an engine: does it sample the posterior of the model that it is given?

Parameters are drawn from the model's own NumPyro program, data from the parameters, and the engine is run on the data;
under an exact engine the rank of the truth among its draws is uniform, for every label-invariant quantity. The default
priors of a fit are scaled to its data and would make prior and data dependent: here the prior is given and fixed.

``python -m probam.calibration`` runs the engines on two small problems and writes the figures into
``docs/validation.md``.
"""

import argparse
import importlib
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import xarray as xr
from jaxtyping import Array, Float
from numpyro import handlers
from numpyro.distributions import Distribution

import probam.posterior as posterior
from probam.api import ENGINES, find_engine, find_family
from probam.compiled import keep_compiled
from probam.errors import InputError, NumericalError
from probam.family import Family, Params, WeightPrior
from probam.inference.coordinates import Coordinates
from probam.inference.result import Progress, silent
from probam.models.gaussian import Gaussian
from probam.models.mixture import Mixture
from probam.models.weights import Dirichlet, StickBreaking, weight_prior
from probam.reports.quantities import invariant_group, quantity_name
from probam.reports.ranks import rank_dataset

__all__ = [
    "BEGIN",
    "END",
    "PROBLEMS",
    "Problem",
    "Row",
    "calibrate",
    "main",
    "run_all",
    "simulate",
    "tables",
    "verdict",
    "write",
]

_LEVEL = 0.01
"""An engine passes on a problem when no quantity's ECDF test falls below this over the number of quantities."""


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
        The dataset of :func:`probam.reports.ranks.rank_dataset`, with attributes ``engine``, ``options``, ``model``,
        ``num_data``, ``failed`` (simulations in which the engine raised a NumericalError; they are left out) and
        ``seconds``.

    Raises:
        InputError: for a prior that lacks a site, too few simulations, and whatever the engine refuses.
    """
    began = time.perf_counter()
    memory_family = find_family(family)
    law = weight_prior(weights) if isinstance(weights, str) else weights
    model = Mixture(memory_family, law, components, dict(prior))
    _check(model, num_data, num_simulations, num_ranked)
    run = _engine(engine, engine_options)
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


def _engine(name: str, options: Mapping[str, Any]) -> Any:
    """The engine's ``run``; one that the façade does not list yet is looked for by name."""
    if name in ENGINES or find_spec(f"probam.inference.{name}") is None:
        return find_engine(name, options)
    return importlib.import_module(f"probam.inference.{name}").run


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


# --- the command ------------------------------------------------------------------------------------------------


class Problem(NamedTuple):
    """A model with its fixed prior, and how many data are drawn from it."""

    words: str
    family: Family
    weights: WeightPrior
    components: int
    prior: dict[str, Distribution]
    num_data: int


def _problems() -> dict[str, Problem]:
    """Small problems on which memories overlap, so that labels switch and numbers of memories are in doubt."""
    prior = {"loc": dist.Normal(jnp.zeros(2), 2.0).to_event(1), "beta": dist.Gamma(4.0, 4.0)}
    return {
        "finite": Problem(
            "three Gaussian memories (spherical, each its precision), Dirichlet(1) weights, 20 data in 2 dimensions",
            Gaussian("spherical"),
            Dirichlet(1.0),
            3,
            prior,
            20,
        ),
        "dp": Problem(
            "Gaussian memories (isotropic, one precision), Dirichlet process truncated at 4, alpha ~ Gamma(2, 1), "
            "20 data in 2 dimensions",
            Gaussian("isotropic"),
            StickBreaking(dist.Gamma(2.0, 1.0)),
            4,
            prior,
            20,
        ),
    }


PROBLEMS = ("finite", "dp")

_RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "gibbs": ("gibbs", {"num_chains": 1, "num_warmup": 300, "num_draws": 99, "thin": 20}),
    "gibbs collapsed": (
        "gibbs",
        {"kernel": "collapsed", "num_chains": 1, "num_warmup": 300, "num_draws": 99, "thin": 20},
    ),
    "nuts": ("nuts", {"num_chains": 1, "num_warmup": 500, "num_draws": 1980, "target_accept": 0.95}),
    "svi": ("svi", {"num_steps": 1000, "num_draws": 99, "restarts": 2}),
    "cavi": ("cavi", {}),
}
"""What the command runs: engine and options. SVI and CAVI are approximations: their error is measured, not judged."""

_EXACT = ("gibbs", "gibbs collapsed", "nuts")


class Row(NamedTuple):
    """One run of the command: its figures, or why there are none."""

    name: str
    problem: str
    figures: xr.Dataset | None
    refused: str


def run_all(names: Sequence[str], problems: Sequence[str], num_simulations: int, seed: int) -> Iterator[Row]:
    """The runs that the command knows by these names, on the problems asked for; engines that are not there are not."""
    for problem_name in problems:
        problem = _problems()[problem_name]
        for name in names:
            engine, options = _RUNS[name]
            if find_spec(f"probam.inference.{engine}") is None:
                continue
            try:
                figures = calibrate(
                    problem.family,
                    problem.weights,
                    engine,
                    components=problem.components,
                    prior=problem.prior,
                    num_data=problem.num_data,
                    num_simulations=num_simulations,
                    seed=seed,
                    progress=_show,
                    **options,
                )
                yield Row(name, problem_name, figures, "")
            except (InputError, NumericalError) as error:
                yield Row(name, problem_name, None, str(error))


def _show(done: int, total: int, text: str) -> None:
    end = "\n" if done == total else ""
    print(f"\r{text}: {done} of {total} simulations{end}", end="", file=sys.stderr, flush=True)


def verdict(name: str, figures: xr.Dataset) -> str:
    """Passes, fails (exact engines) or how many quantities are off (approximations)."""
    low = figures["p_ecdf"].values < _LEVEL / figures.sizes["quantity"]
    if name in _EXACT:
        return "fails" if low.any() else "passes"
    return f"an approximation: {int(low.sum())} of {len(low)} quantities miscalibrated"


def tables(rows: Sequence[Row]) -> str:
    """The figures of each run as Markdown."""
    said = []
    for problem_name in dict.fromkeys(row.problem for row in rows):
        said.append(f"### {problem_name}: {_problems()[problem_name].words}\n")
        for row in rows:
            if row.problem != problem_name:
                continue
            if row.figures is None:
                said.append(f"**{row.name}**: not run ({row.refused}).\n")
                continue
            told = row.figures.attrs
            said.append(
                f"**{row.name}** ({told['options'] or 'default options'}): {verdict(row.name, row.figures)}. "
                f"{row.figures.sizes['simulation']} simulations"
                + (f", {told['failed']} more failed" if told["failed"] else "")
                + f", {told['num_draws']} ranked draws, {told['seconds']:.0f} s.\n"
            )
            said.append("| quantity | p, ECDF | distance | p, chi-square | mean rank | ESS |")
            said.append("|---|---|---|---|---|---|")
            for quantity in row.figures["quantity"].values:
                one = row.figures.sel(quantity=quantity)
                said.append(
                    f"| {quantity_name(str(quantity))} | {_p(one['p_ecdf'])} | {float(one['distance']):.2f} "
                    f"| {_p(one['p_chi_square'])} | {float(one['mean_rank']):.3f} | {float(one['ess']):.0f} |"
                )
            said.append("")
    return "\n".join(said)


def _p(value: Any) -> str:
    return f"{float(value):.3f}" if float(value) >= 0.001 else f"{float(value):.1e}"


BEGIN, END = "<!-- calibration: written by the command below -->", "<!-- end of calibration -->"


def write(rows: Sequence[Row], path: Path, command: str) -> None:
    """Put the figures between the marks of ``path``, with date, versions and command.

    Raises :class:`probam.errors.InputError` where the file or its marks are missing.
    """
    try:
        before, rest = path.read_text(encoding="utf-8").split(BEGIN)
        _, after = rest.split(END)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected a file with the lines {BEGIN!r} and {END!r}") from error
    now = datetime.now(UTC).strftime("%Y-%m-%d")
    versions = ", ".join(f"{name} {version(name)}" for name in ("probam", "jax", "numpyro", "numpy"))
    head = f"Made on {now} by `{command}` (Python {platform.python_version()}, {versions}; float64).\n"
    path.write_text(f"{before}{BEGIN}\n\n{head}\n{tables(rows)}\n{END}{after}", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m probam.calibration``."""
    parser = argparse.ArgumentParser(prog="python -m probam.calibration", description=__doc__.split("\n\n")[0])
    parser.add_argument("--simulations", type=int, default=200)
    parser.add_argument("--engines", nargs="+", choices=tuple(_RUNS), default=tuple(_RUNS))
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=PROBLEMS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="a Markdown file in which the figures are replaced")
    asked = parser.parse_args(arguments)
    jax.config.update("jax_enable_x64", True)
    keep_compiled()
    rows = list(run_all(asked.engines, asked.problems, asked.simulations, asked.seed))
    print(tables(rows))
    if asked.output is not None:
        given = sys.argv[1:] if arguments is None else arguments
        write(rows, asked.output, " ".join(["python -m probam.calibration", *given]))
    exact = [row for row in rows if row.name in _EXACT]
    return int(any(row.figures is None or verdict(row.name, row.figures) == "fails" for row in exact))


if __name__ == "__main__":
    sys.exit(main())
