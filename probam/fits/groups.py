"""The groups of a fit's file, one function each; ``docs/architecture.md`` lists what they hold.

Memories are numbered as in the group ``memory``; positions are in the units of the data.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

import probam.fits.posterior as posterior
from probam.data.standardise import Standardiser
from probam.errors import ProbamError
from probam.fits.draws import Draws, Numbering
from probam.fits.prepared import Prepared
from probam.fits.questions import lacking
from probam.inference.common.result import EngineResult, Evidence, Survey
from probam.models.mixture import Mixture
from probam.reports.summaries.credible import partition_group as sampled_partitions
from probam.reports.summaries.credible import point_estimate_group
from probam.reports.summaries.quantities import evenly
from probam.reports.summaries.quantities import invariant_group as invariant_quantities
from probam.reports.tree import Variables

__all__ = [
    "Group",
    "Owners",
    "all_rows_group",
    "evidence_group",
    "invariant_group",
    "log_likelihood_group",
    "memory_group",
    "optimisation_group",
    "partition_group",
    "predictive_group",
    "reason",
    "sample_stats_group",
    "sites_group",
]

_REPLICATED = 2_000_000
"""About so many numbers are replicated, in 2 to 50 data sets; one where the data have more numbers."""

_HOLDS = 0.5
"""Expected number of data from which a memory holds some."""

_OF_ONE_DRAW = 8
"""Most data sets that are replicated from a single draw."""


@dataclass(frozen=True, eq=False)
class Group:
    """A group of the file."""

    variables: Variables
    attributes: Mapping[str, Any] = field(default_factory=dict)
    coordinates: Mapping[str, Any] = field(default_factory=dict)
    """Labels by dimension; a dimension without them counts from 0."""


def reason(name: str, error: Exception) -> str:
    """Why a group could not be made, in a sentence for the file."""
    if isinstance(error, ProbamError):
        return str(error).removeprefix(f"{name}: ")
    return f"{type(error).__name__}: {error}"


def sites_group(model: Mixture, sites: Mapping[str, np.ndarray]) -> Group:
    """All draws. What a memory owns leads with the dimension ``memory``, vectors of D are features.

    Args:
        model: the program.
        sites: values of its sites and of what follows from them, leading with chain and draw.
    """
    first = {name: values[0, 0] for name, values in sites.items()}
    num_features = jax.eval_shape(lambda params: jnp.zeros(model.mixture(params).event_shape), first).shape[0]
    variables = {}
    for name, values in sites.items():
        sizes = list(values.shape[2:])
        leading = _leading_dimension(model, name, sizes, num_features)
        dimensions = leading + _dimensions(name, sizes[len(leading) :], num_features)
        variables[name] = (values, ("chain", "draw", *dimensions))
    return Group(variables)


def _leading_dimension(model: Mixture, name: str, sizes: list[int], num_features: int) -> list[str]:
    """``memory`` or ``stick`` where the first axis of a site runs over them."""
    is_site = name in model.prior
    is_of_memory = is_site and name not in model.family.shared
    is_derived_location = not is_site and sizes == [model.num_components, num_features]
    if is_of_memory or name in ("weights", "proportions") or is_derived_location:
        return ["memory"]
    return ["stick"] if name == "sticks" else []


def _dimensions(name: str, sizes: list[int], num_features: int) -> list[str]:
    """Names of axes by their length: D is ``feature``, a second D ``feature_bis``."""
    dimensions: list[str] = []
    for axis, size in enumerate(sizes):
        if size == num_features:
            dimensions.append("feature" if "feature" not in dimensions else "feature_bis")
        else:
            dimensions.append(f"{name}_{axis}")
    return dimensions


def sample_stats_group(result: EngineResult) -> Group:
    """What the engine says of each draw."""
    return Group({name: (values, ("chain", "draw")) for name, values in result.stats.items()})


def all_rows_group(result: EngineResult, prepared: Prepared) -> Group | None:
    """What all rows of data larger than memory say of the draws; None where all rows are in memory."""
    if result.survey is None or prepared.blocks is None:
        return None
    shape = next(iter(result.stats.values())).shape
    of_draws = ("chain", "draw")
    variables = {
        "log_lik": (np.reshape(result.survey.log_lik, shape), of_draws),
        "size": (np.reshape(result.survey.size, (*shape, -1)), (*of_draws, "memory")),
        "log_confidence": (np.reshape(result.survey.log_confidence, shape), of_draws),
    }
    blocks = prepared.blocks
    weight = {} if blocks.weight is None else {"total_weight": blocks.total_weight}
    return Group(variables, {"num_data": blocks.num_data} | weight)


def invariant_group(
    draws: Draws,
    reading: posterior.Reading,
    probes: Int[np.ndarray, " Q"],
    weight: Float[np.ndarray, " N"] | None,
    survey: Survey | None = None,
) -> Group:
    """What does not depend on how memories are numbered.

    Args:
        draws: draws of the model.
        reading: what these draws say of the data.
        probes: rows at which the energy is followed.
        weight: how often each row counts; None counts each once.
        survey: what all rows say of the same draws, where the data are a sample of them.
    """
    variables = invariant_quantities(
        log_lik=reading.log_lik,
        labels=reading.labels,
        weights=reading.weights,
        together=reading.together,
        probe_energy=-reading.log_lik[:, probes],
        data_weight=weight,
        shape=draws.shape,
    )
    if survey is not None:
        whole = {"log_lik": survey.log_lik, "num_occupied": _number_holding(np.asarray(survey.size))}
        of_draws = ("chain", "draw")
        variables = {**variables, **{name: (np.reshape(own, draws.shape), of_draws) for name, own in whole.items()}}
    return Group(variables, coordinates={"draw": draws.kept, "probe": probes})


def _number_holding(size: Float[np.ndarray, "S K"]) -> Int[np.ndarray, " S"]:
    """How many memories hold data, by the expected numbers of their data."""
    return np.asarray((size >= _HOLDS).sum(axis=1))


def memory_group(reading: posterior.Reading, numbering: Numbering, units: Standardiser, reference: int) -> Group:
    """Memories averaged over the draws in which they hold data (over all draws, if there are none)."""
    permutation, weights, sizes = numbering.permutation, numbering.weights, numbering.sizes
    memories = units.invert(np.take_along_axis(reading.memories, permutation[..., None], axis=1))
    spread = np.take_along_axis(reading.spread, permutation[..., None], axis=1) * np.asarray(units.scale)
    occupied = sizes >= _HOLDS
    used = np.where(occupied.any(axis=0), occupied, True)[..., None]
    count = used.sum(axis=0)
    mean = np.where(used, memories, 0).sum(axis=0) / count
    low, high = np.nanquantile(np.where(used, memories, np.nan), [0.05, 0.95], axis=0)
    variance = np.where(used, (memories - mean) ** 2, 0).sum(axis=0) / count
    by_feature = ("memory", "feature")
    variables = {
        "mean": (mean, by_feature),
        "mean_sd": (np.sqrt(variance), by_feature),
        "mean_q05": (low, by_feature),
        "mean_q95": (high, by_feature),
        "sd": (np.where(used, spread, 0).sum(axis=0) / count, by_feature),
        "weight": (weights.mean(axis=0), ("memory",)),
        "weight_sd": (weights.std(axis=0), ("memory",)),
        "occupied": (occupied.mean(axis=0), ("memory",)),
        "size": (sizes.mean(axis=0), ("memory",)),
        "permutation": (permutation.astype(np.int32), ("sample", "memory")),
    }
    return Group(variables, {"reference": reference, "relabelling": numbering.method, "agreement": numbering.agreement})


def optimisation_group(result: EngineResult) -> Group | None:
    """How an optimiser came to its end; None for an engine that samples."""
    if result.objective is None:
        return None
    attributes: dict[str, Any] = {"status": result.status, "what": result.objective_name}
    if result.pareto_k is not None:
        attributes["pareto_k"] = result.pareto_k
    if result.restart_status:
        attributes["restart_status"] = list(result.restart_status)
    variables: dict[str, Any] = {"objective": (result.objective, ("restart", "iteration"))}
    if result.restarts is not None:
        attributes["restart_kind"] = list(result.restarts.kind)
        variables["round"] = (np.asarray(result.restarts.round), ("restart",))
        if result.restarts.log_mass is not None:
            variables["log_mass"] = (result.restarts.log_mass, ("restart",))
    return Group(variables, attributes)


def evidence_group(evidence: Evidence | None, prepared: Prepared) -> Group | None:
    """The evidence with respect to the units of the data, nats; None where the engine computes none."""
    if evidence is None:
        return None
    jacobians = prepared.units.log_jacobians(prepared.table.values)
    shift = float(jacobians.sum() if prepared.weight is None else prepared.weight @ jacobians)
    return Group(
        {"log_evidence": (evidence.runs + shift, ("run",))},
        {"log_evidence": evidence.log_evidence + shift, "se": evidence.se, "method": evidence.method},
    )


def log_likelihood_group(draws: Draws, reading: posterior.Reading, prepared: Prepared) -> Group:
    """Log density of each datum at each draw, with respect to the units of the data, nats."""
    log_lik = reading.log_lik + prepared.units.log_jacobians(prepared.table.values).astype(prepared.dtype)
    variables = {"x": (log_lik.reshape(*draws.shape, -1), ("chain", "draw", "datum"))}
    return Group(variables, coordinates={"draw": draws.kept})


class Owners(NamedTuple):
    """To which numbered memories the data belong, by the posterior mean of their responsibilities."""

    label: Int[np.ndarray, " N"]
    confidence: Float[np.ndarray, " N"]
    rows: Int[np.ndarray, " R"]
    """The data of which partitions are compared."""
    responsibilities: Float[np.ndarray, "R K"] | None
    """Of these data; None where several draws have sampled partitions."""


def partition_group(reading: posterior.Reading, owners: Owners) -> Group:
    """Who belongs together, of some rows, and the label of every datum.

    From several draws by their sampled partitions, from a single one by its responsibilities.

    Args:
        reading: labels of all data at each draw.
        owners: whom the data belong to.
    """
    if owners.responsibilities is None:
        variables, attributes = sampled_partitions(reading.labels[:, owners.rows])
    else:
        variables, attributes = point_estimate_group(owners.responsibilities), {}
    labels = {"label": (owners.label, ("datum",)), "confidence": (owners.confidence, ("datum",))}
    return Group({**variables, **labels}, attributes, {"row": owners.rows})


def predictive_group(key: jax.Array, draws: Draws, prepared: Prepared) -> Group:
    """Replicated data sets, each from another draw; several from a single one, where the data are not large."""
    count = 1 if prepared.x.size > _REPLICATED else int(np.clip(_REPLICATED // prepared.x.size, 2, 50))
    chosen = evenly(len(draws), count) if len(draws) > 1 else np.zeros(min(count, _OF_ONE_DRAW), int)
    x, model = prepared.x, draws.model
    filled = posterior.replicate(model, draws.at(chosen), key, len(x) + lacking(x, model.num_components))
    rows = np.asarray(filled)[:, : len(x)]
    in_units = rows if prepared.units.is_identity else prepared.units.invert(rows)
    return Group({"x": (in_units.astype(np.float32, copy=False)[None], ("chain", "draw", "datum", "feature"))})
