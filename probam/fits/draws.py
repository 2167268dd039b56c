"""The draws of a posterior that are read, and their memories numbered alike."""

from dataclasses import dataclass, replace

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from threadpoolctl import threadpool_limits

import probam.fits.posterior as posterior
from probam.family import Params
from probam.fits.answers import responsibilities
from probam.inference.common.coordinates import Coordinates
from probam.inference.common.result import EngineResult, Survey
from probam.models.mixture import Mixture
from probam.reports.summaries.partition import cluster_sizes
from probam.reports.summaries.quantities import evenly
from probam.reports.summaries.relabel import LabelledDraws, Method, from_responsibilities, relabel_all

__all__ = ["Draws", "Numbering", "compared_rows", "number_memories", "thin"]

_RESPONSIBILITIES = 300_000_000
"""Most responsibilities (draws x data x memories) that reading a posterior computes; more draws are thinned."""

_MOST_DRAWS = 4000

_PARTITION_ROWS = 400
"""Most data of which partitions are compared."""

_COMPARED = 20_000_000
"""Most responsibilities that are kept so that all rules of relabelling are tried: Stephens' uses them often."""


@dataclass(frozen=True, eq=False)
class Draws:
    """Draws of a fitted model: T of each chain, S = chains x T in one row, chain by chain."""

    model: Mixture
    sites: Params
    """Site values; leaves lead with the axis S."""
    lp: Float[np.ndarray, " S"]
    """Log joint density of the sites and the data, nats."""
    kept: Int[np.ndarray, " T"]
    """Numbers of these draws within their chain."""

    def __len__(self) -> int:
        return len(self.lp)

    @property
    def shape(self) -> tuple[int, int]:
        """Chains, and draws of each."""
        return len(self.lp) // len(self.kept), len(self.kept)

    @property
    def reference(self) -> int:
        """Number of the draw with the highest log joint density."""
        return int(np.argmax(self.lp))

    def at(self, which: int | Int[np.ndarray, " P"]) -> Params:
        """Site values of one draw, or of several, chosen in NumPy: on the device each site would need a program."""
        return {name: jax.device_put(np.asarray(value)[which]) for name, value in self.sites.items()}

    def of_every_chain(self, chosen: Int[np.ndarray, " U"]) -> Int[np.ndarray, " P"]:
        """Positions among the S draws of those that stand at the positions ``chosen`` within their chain."""
        num_chains, num_draws = self.shape
        return np.asarray(np.arange(num_chains)[:, None] * num_draws + chosen).ravel()

    def survey_of(self, result: EngineResult) -> Survey | None:
        """What all rows of data larger than memory say of these draws; None where all rows are in memory."""
        if result.survey is None:
            return None
        chains = self.shape[0]

        def kept(leaf: Array | np.ndarray) -> np.ndarray:
            every = np.asarray(leaf)
            by_chain = every.reshape(chains, -1, *every.shape[1:])[:, self.kept]
            return by_chain.reshape(-1, *every.shape[1:])

        return Survey(*map(kept, result.survey))

    def only(self, chosen: Int[np.ndarray, " U"]) -> "Draws":
        """The draws that stand at these positions within their chain."""
        which = self.of_every_chain(chosen)
        return Draws(self.model, self.at(which), self.lp[which], self.kept[chosen])


def compared_rows(num_data: int) -> Int[np.ndarray, " R"]:
    """The data of which partitions are compared."""
    return np.sort(np.random.default_rng(0).permutation(num_data)[:_PARTITION_ROWS])


def thin(model: Mixture, result: EngineResult, num_data: int) -> Draws:
    """As many draws as can be read at reasonable cost, evenly taken from each chain."""
    num_chains, num_draws = next(iter(result.sites.values())).shape[:2]
    most = max(1, min(_MOST_DRAWS, _RESPONSIBILITIES // (num_data * model.num_components)) // num_chains)
    kept = evenly(num_draws, most)
    names = Coordinates(model).transforms
    sites: Params = {
        name: jax.device_put(values[:, kept].reshape(-1, *values.shape[2:]))
        for name, values in result.sites.items()
        if name in names
    }
    return Draws(model, sites, result.stats["lp"][:, kept].reshape(-1), kept)


@dataclass(frozen=True, eq=False)
class Numbering:
    """Memories numbered alike in all draws, the largest on average first; or by their labels, where some are known."""

    permutation: Int[np.ndarray, "S K"]
    """Memory k as numbered is memory ``permutation[s, k]`` of draw s."""
    weights: Float[np.ndarray, "S K"]
    sizes: Int[np.ndarray, "S K"] | Float[np.ndarray, "S K"]
    """Data that each memory holds, by the sampled labels; of data larger than memory their expected number."""
    method: str
    """Rule of relabelling."""
    agreement: dict[str, float]
    """Share of the data on which two rules agree, by their names."""

    def of_all_rows(self, survey: Survey | None) -> "Numbering":
        """The same, where all rows and not the sample say how many data each memory holds."""
        if survey is None:
            return self
        return replace(self, sizes=np.take_along_axis(np.asarray(survey.size), self.permutation, axis=1))


def number_memories(
    draws: Draws,
    reading: posterior.Reading,
    x: Float[Array, "N D"],
    *,
    counted: Bool[np.ndarray, " N"] | None = None,
    as_labelled: bool = False,
) -> Numbering:
    """The memories of all draws, numbered like those of the reference draw and sorted by weight.

    Args:
        draws: draws of the model.
        reading: what these draws say of ``x``.
        x: the data in the units of the model.
        counted: which data have a weight above 0, so that a memory holds them; None for all.
        as_labelled: whether known labels number the memories, so that their numbers stay.
    """
    sizes = cluster_sizes(reading.labels if counted is None else reading.labels[:, counted], draws.model.num_components)
    if as_labelled:
        same = np.broadcast_to(np.arange(draws.model.num_components), reading.weights.shape)
        return Numbering(same, reading.weights, sizes, "labels", {})
    if len(draws) == 1:  # any rule leaves the numbers of the draw that it begins at
        return _by_weight(reading.weights, sizes, np.arange(draws.model.num_components)[None], "ecr", {})
    labelled, methods = _labelled(draws, reading, x)
    with threadpool_limits(limits=1, user_api="blas"):  # many small products: threads would wait for each other
        relabelled, agreement = relabel_all(labelled, methods=methods, sizes=sizes)
    return _by_weight(reading.weights, sizes, relabelled.permutations, methods[0], agreement)


def _labelled(
    draws: Draws, reading: posterior.Reading, x: Float[Array, "N D"]
) -> tuple[LabelledDraws, tuple[Method, ...]]:
    """What relabelling needs of several draws, and the rules that are tried: of few responsibilities all."""
    model, sites, num_components = draws.model, draws.sites, draws.model.num_components
    if len(draws) * len(x) * num_components <= _COMPARED:
        table = posterior.memberships(model, sites, x)
        return from_responsibilities(table, reading.memories, draws.reference), ("stephens", "ecr", "pivotal")
    reference, as_it_is = draws.at(np.array([draws.reference])), np.arange(num_components)[None]
    return LabelledDraws(
        overlap=lambda resp: posterior.overlap(model, sites, x, resp),
        mean=lambda numbers: responsibilities(model, sites, numbers, x),
        memories=reading.memories,
        reference=draws.reference,
        start=responsibilities(model, reference, as_it_is, x),
    ), ("ecr",)


def _by_weight(
    weights: Float[np.ndarray, "S K"],
    sizes: Int[np.ndarray, "S K"],
    permutations: Int[np.ndarray, "S K"],
    method: str,
    agreement: dict[str, float],
) -> Numbering:
    """A relabelling with the memories of largest mean weight first; weights and sizes as the draws have them."""
    weights = np.take_along_axis(weights, permutations, axis=1)
    order = np.argsort(-weights.mean(axis=0), kind="stable")
    permutation = permutations[:, order]
    return Numbering(permutation, weights[:, order], np.take_along_axis(sizes, permutation, axis=1), method, agreement)
