"""What a run of an engine says, as a DataTree: the draws, and what follows from them for the data."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import probam.fits.posterior as posterior
from probam.distributions.conditional import conditional
from probam.errors import InputError
from probam.family import Params
from probam.fits.fitted import verify_draws
from probam.fits.prepared import Prepared
from probam.fits.recall_group import recall_group
from probam.inference.common.coordinates import Coordinates
from probam.inference.common.result import EngineResult, Progress
from probam.models.mixture import Mixture
from probam.reports.summaries.credible import partition_group
from probam.reports.summaries.partition import cluster_sizes
from probam.reports.summaries.quantities import invariant_group
from probam.reports.summaries.relabel import LabelledDraws, Method, relabel_all
from probam.reports.tree import build_tree

__all__ = ["fit_tree"]

_LARGEST_LOG_LIKELIHOOD = 20_000_000
_READING = 300_000_000
"""Most responsibilities (draws x data x memories) that reading a posterior computes; more draws are thinned."""
_MOST_READ = 4000
_REPLICATED = 2_000_000
_PARTITION_ROWS = 400
_RELABELLED = 20_000_000
"""Most responsibilities for which all rules of relabelling are tried; Stephens' goes through them several times."""
_PROBES = 5


def fit_tree(
    model: Mixture,
    prepared: Prepared,
    result: EngineResult,
    key: jax.Array,
    attributes: dict[str, Any],
    progress: Progress,
) -> Any:
    """The DataTree of a fit, in the schema of ``docs/architecture.md``.

    Args:
        model: the program that was fitted.
        prepared: the data.
        result: what the engine returned.
        key: for labels and replicated data.
        attributes: the root attributes (family, weights, engine, ...).
        progress: called with (done, total, text).
    """
    table, units, x_np = prepared.table, prepared.units, prepared.x
    x = jnp.asarray(x_np)
    num_chains, num_draws = next(iter(result.sites.values())).shape[:2]
    num_data, num_components = len(x), model.num_components
    key_labels, key_predictive, key_probe = jax.random.split(key, 3)

    most = max(1, min(_MOST_READ, _READING // (num_data * num_components)) // num_chains)
    kept = np.unique(np.linspace(0, num_draws - 1, min(most, num_draws)).round().astype(int))
    shape = (num_chains, len(kept))
    named = Coordinates(model).transforms
    sites: Params = {
        name: jnp.asarray(values[:, kept].reshape(-1, *values.shape[2:]))
        for name, values in result.sites.items()
        if name in named
    }
    lp = result.stats["lp"][:, kept].reshape(-1)
    progress(0, 4, "reading the posterior")
    probes = np.asarray(jax.random.permutation(key_probe, num_data)[: min(_PROBES, num_data)])
    pairs = np.stack([probes, np.roll(probes, 1)], axis=1)
    reading = posterior.read(model, sites, key_labels, x, jnp.asarray(pairs)).on_host()

    best = int(np.argmax(lp))
    reference = {name: value[best] for name, value in sites.items()}
    reference_resp = model.mixture(reference).responsibilities(x)
    positions = np.asarray(conditional(model.mixture(reference), x).mean) if model.missing else x_np
    labelled = LabelledDraws(
        overlap=lambda q: np.asarray(posterior.overlap(model, sites, x, jnp.asarray(q))),
        mean=lambda each: np.asarray(posterior.responsibilities(model, sites, jnp.asarray(each), x)[0]),
        memories=reading.memories,
        reference=best,
        start=np.asarray(reference_resp),
    )
    small = len(lp) > 1 and len(lp) * num_data * num_components <= _RELABELLED
    methods: tuple[Method, ...] = ("stephens", "ecr", "pivotal") if small else ("ecr",)
    relabelled, agreement = relabel_all(labelled, methods=methods, sizes=cluster_sizes(reading.labels, num_components))
    permutation = relabelled.permutations
    weights = np.take_along_axis(reading.weights, permutation, axis=1)
    order = np.argsort(-weights.mean(axis=0), kind="stable")
    permutation, weights = permutation[:, order], weights[:, order]
    progress(1, 4, "reading the posterior")

    groups: dict[str, Any] = {
        "posterior": _posterior_variables(model, result),
        "sample_stats": {name: (values, ("chain", "draw")) for name, values in result.stats.items()},
        "invariant": invariant_group(
            log_lik=reading.log_lik,
            labels=reading.labels,
            weights=reading.weights,
            together=reading.together,
            probe_energy=-reading.log_lik[:, probes],
            shape=shape,
        ),
        "memory": _memory_variables(reading, permutation, weights, units),
    }
    memory_attributes: dict[str, Any] = {"reference": best, "relabelling": methods[0], "agreement": agreement}
    left_out = {}
    group_attributes: dict[str, dict[str, Any]] = {"memory": memory_attributes}
    if result.objective is not None:
        groups["optimisation"] = {"objective": (result.objective, ("restart", "iteration"))}
        group_attributes["optimisation"] = {"status": result.status, "what": result.objective_name}
        if result.pareto_k is not None:
            group_attributes["optimisation"]["pareto_k"] = result.pareto_k
        if result.restart_status:
            group_attributes["optimisation"]["restart_status"] = list(result.restart_status)
    if result.evidence is not None:
        found = result.evidence
        shift = float(units.log_jacobians(table.values).sum())
        groups["evidence"] = {"log_evidence": (found.runs + shift, ("run",))}
        group_attributes["evidence"] = {
            "log_evidence": found.log_evidence + shift, "se": found.se, "method": found.method,
        }  # fmt: skip
    if reading.log_lik.size <= _LARGEST_LOG_LIKELIHOOD:
        log_lik = reading.log_lik + units.log_jacobians(table.values).astype(x_np.dtype)
        groups["log_likelihood"] = {"x": (log_lik.reshape(*shape, num_data), ("chain", "draw", "datum"))}
    else:
        left_out["log_likelihood"] = f"more than {_LARGEST_LOG_LIKELIHOOD} values"

    rows = np.sort(np.random.default_rng(0).permutation(num_data)[:_PARTITION_ROWS])
    labels = reading.labels
    resp, _ = posterior.responsibilities(model, sites, jnp.asarray(permutation), x)
    summary, group_attributes["partition"] = partition_group(labels[:, rows])
    groups["partition"] = {
        **summary,
        "label": (np.asarray(resp).argmax(axis=1), ("datum",)),
        "confidence": (np.asarray(resp).max(axis=1), ("datum",)),
    }
    progress(2, 4, "reading the posterior")

    num_replicates = int(np.clip(_REPLICATED // x.size, 2, 50))
    chosen = (
        np.unique(np.linspace(0, len(lp) - 1, num_replicates).round().astype(int)) if len(lp) > 1 else np.zeros(8, int)
    )
    replicated = np.asarray(
        posterior.replicate(model, {name: value[chosen] for name, value in sites.items()}, key_predictive, num_data)
    )
    groups["posterior_predictive"] = {
        "x": (units.invert(replicated).astype(np.float32)[None], ("chain", "draw", "datum", "feature"))
    }
    progress(3, 4, "reading the posterior")

    coordinates: dict[str, Any] = {}
    try:
        occupied = int(np.sum(groups["memory"]["occupied"][0] >= 0.5))
        groups["recall"], group_attributes["recall"], coordinates = recall_group(
            model,
            sites,
            permutation,
            best,
            positions,
            rows,
            np.asarray(resp),
            units,
            draws=kept,
            num_occupied=occupied,
        )
    except InputError as error:
        left_out["recall"] = str(error).removeprefix("recall: ")
    checks = verify_draws(model, sites, jnp.asarray(positions)[:200])
    groups["verification"] = {
        "relation": ([check.relation for check in checks], ("check",)),
        "witnesses": ([check.witnesses for check in checks], ("check",)),
        "error": ([float(check.error) for check in checks], ("check",)),
        "tolerance": ([float(check.tolerance) for check in checks], ("check",)),
        "passed": ([bool(check.passed) for check in checks], ("check",)),
    }
    progress(4, 4, "reading the posterior")
    if left_out:
        attributes = attributes | {"left_out": left_out}
    return build_tree(
        attributes=attributes,
        data=table.values,
        columns=table.columns,
        center=np.asarray(units.center),
        scale=np.asarray(units.scale),
        completed=np.where(np.isnan(x_np), units.invert(positions), table.values) if model.missing else None,
        coordinates={
            "invariant/draw": kept,
            "log_likelihood/draw": kept,
            "invariant/probe": probes,
            "partition/row": rows,
            "verification/check": [check.name for check in checks],
            **coordinates,
        },
        group_attributes=group_attributes,
        **groups,
    )


def _posterior_variables(model: Mixture, result: EngineResult) -> dict[str, Any]:
    """Dimension names by shape: what a memory owns leads with ``memory``, vectors of D are features."""
    num_components = model.num_components
    num_features = int(model.mixture({k: jnp.asarray(v[0, 0]) for k, v in result.sites.items()}).event_shape[0])
    variables = {}
    for name, values in result.sites.items():
        rest: list[str] = []
        owned = (name in model.prior and name not in model.family.shared) or name in ("weights", "proportions")
        owned = owned or (name not in model.prior and values.shape[2:] == (num_components, num_features))
        sizes = list(values.shape[2:])
        if owned:
            rest.append("memory")
            sizes = sizes[1:]
        elif name == "sticks":
            rest.append("stick")
            sizes = sizes[1:]
        for axis, size in enumerate(sizes):
            if size == num_features:
                rest.append("feature" if "feature" not in rest else "feature_bis")
            else:
                rest.append(f"{name}_{axis}")
        variables[name] = (values, ("chain", "draw", *rest))
    return variables


def _memory_variables(
    reading: posterior.HostReading, permutation: np.ndarray, weights: np.ndarray, units: Any
) -> dict[str, Any]:
    """Relabelled memories in data units, averaged over the draws in which they hold data (over all, if none)."""
    memories = units.invert(np.take_along_axis(reading.memories, permutation[..., None], axis=1))
    spread = np.take_along_axis(reading.spread, permutation[..., None], axis=1) * np.asarray(units.scale)
    num_draws, num_components = permutation.shape
    sizes = np.zeros((num_draws, num_components))
    for draw, labels in enumerate(reading.labels):
        sizes[draw] = np.bincount(labels, minlength=num_components)[permutation[draw]]
    holds = sizes > 0
    used = np.where(holds.any(axis=0), holds, True)[..., None]
    count = used.sum(axis=0)
    mean = np.where(used, memories, 0).sum(axis=0) / count
    masked = np.where(used, memories, np.nan)
    low, high = np.nanquantile(masked, [0.05, 0.95], axis=0)
    variance = np.where(used, (memories - mean) ** 2, 0).sum(axis=0) / count
    by_feature = ("memory", "feature")
    return {
        "mean": (mean, by_feature),
        "mean_sd": (np.sqrt(variance), by_feature),
        "mean_q05": (low, by_feature),
        "mean_q95": (high, by_feature),
        "sd": (np.where(used, spread, 0).sum(axis=0) / count, by_feature),
        "weight": (weights.mean(axis=0), ("memory",)),
        "weight_sd": (weights.std(axis=0), ("memory",)),
        "occupied": (holds.mean(axis=0), ("memory",)),
        "size": (sizes.mean(axis=0), ("memory",)),
        "permutation": (permutation.astype(np.int32), ("sample", "memory")),
    }
