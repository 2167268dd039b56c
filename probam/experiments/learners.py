"""Methods that make memories of data, in one pass or many, with the same results: labels, density, time and memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from sklearn.mixture import BayesianGaussianMixture
from threadpoolctl import threadpool_limits

import probam.fits.posterior as posterior
from probam.experiments.own_process import Cost, cost
from probam.fits.choices import find_engine
from probam.inference.common.coordinates import Coordinates
from probam.models.gaussian import Gaussian
from probam.models.mixture import mixture
from probam.models.weights import weight_prior
from probam.reports.summaries.partition import canonical, expected_loss, number_occupied
from probam.streams.stream import Stream

__all__ = ["DPMeans", "Engine", "Learner", "OnePass", "ScikitLearn", "Scores", "dp_means", "scored"]

_ALPHA = 1.0
_TRUNCATION = 10
"""Memories of a truncated process. With alpha = 1 those beyond the tenth have a thousandth of the weight a priori."""
_CANDIDATES = 200
"""Sampled partitions from which the point estimate is chosen."""


class Scores(NamedTuple):
    """Results and costs of a learner."""

    memories: float  # their number; of draws, the mean number of occupied ones
    holding: int  # how many of them hold a row, by the labels
    largest: float  # share of the rows that the largest of them holds
    labels: Int[np.ndarray, " N"]
    log_density: float  # mean over the held-out data, nats; NaN where there is no density
    seconds: float  # CPU seconds to learn for the first time in a process, with compilation
    seconds_again: float  # CPU seconds to learn as much later in the same process; NaN of the first time itself
    peak_mib: float  # memory of the first time, above that of a process that has imported all and loaded the data


@runtime_checkable
class Learner(Protocol):
    """Learns from data, then answers about them; only learning is timed."""

    def learn(self, x: Float[np.ndarray, "N D"], seed: int) -> Any:
        """The input of :meth:`answer`."""

    def answer(
        self, learned: Any, x: Float[np.ndarray, "N D"], held_out: Float[np.ndarray, "M D"]
    ) -> tuple[Int[np.ndarray, " N"], float, float]:
        """Labels of the data, mean log density of the held-out rows, number of memories."""


def scored(
    learner: Learner,
    splits: Sequence[tuple[Float[np.ndarray, "N D"], Float[np.ndarray, "M D"]]],
    seed: int,
    precise: bool = True,
) -> list[Scores]:
    """All :class:`Scores` by split; to be called in a separate process (:func:`probam.experiments.own_process.alone`).

    The first split is learned first, with compilation: what that costs is repeated for all.

    Args:
        splits: rows to learn, and rows at which the density is evaluated; all of the same sizes.
        seed: of the learner.
        precise: float64 instead of float32.
    """
    made: list[Scores] = []
    first: Cost | None = None
    with jax.enable_x64(precise):
        jnp.zeros(1).block_until_ready()  # starts the device
        for x, held_out in splits:
            learned, taken = cost(partial(learner.learn, x, seed))
            again = np.nan if first is None else taken.cpu_seconds
            first = first or taken
            labels, log_density, memories = learner.answer(learned, x, held_out)
            del learned
            labels = np.asarray(labels)
            counts = np.unique(labels, return_counts=True)[1]
            shares = (len(counts), float(counts.max() / counts.sum()))
            costs = (first.cpu_seconds, again, first.peak_mib)
            made.append(Scores(memories, *shares, labels, log_density, *costs))
    return made


@dataclass(frozen=True)
class OnePass:
    """A stream of memories with full covariance."""

    options: Mapping[str, Any] = field(default_factory=dict)

    def learn(self, x: Float[np.ndarray, "N D"], seed: int) -> Stream:
        """The stream after its one pass."""
        return Stream(covariance="full", alpha=_ALPHA, seed=seed, **self.options).partial_fit(x).flush()

    def answer(
        self, learned: Stream, x: Float[np.ndarray, "N D"], held_out: Float[np.ndarray, "M D"]
    ) -> tuple[Int[np.ndarray, " N"], float, float]:
        """The most probable memory of each datum; the density is averaged over particles."""
        numbers = learned.number_of_memories()
        score = float(learned.predict(held_out)["log_predictive"].mean())
        return learned.predict(x)["label"].values, score, float((numbers.index * numbers).sum())


@dataclass(frozen=True)
class Engine:
    """An engine of ``probam.fit`` for a Dirichlet process mixture of Gaussians."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    covariance: str = "full"

    def learn(self, x: Float[np.ndarray, "N D"], seed: int) -> Any:
        """The model and what the engine returns."""
        law = weight_prior("dp", alpha=_ALPHA)
        model = mixture(x, family=Gaussian(self.covariance), weights=law, num_components=_TRUNCATION)
        run = find_engine(self.name, self.options)
        return model, run(jax.random.key(seed), model, jnp.asarray(x), **self.options)

    def answer(
        self, learned: Any, x: Float[np.ndarray, "N D"], held_out: Float[np.ndarray, "M D"]
    ) -> tuple[Int[np.ndarray, " N"], float, float]:
        """The sampled partition of least expected Binder loss; the density averaged over draws."""
        model, result = learned
        sites = {
            name: jnp.asarray(result.sites[name].reshape(-1, *result.sites[name].shape[2:]))
            for name in Coordinates(model).transforms
        }
        pairs = np.zeros((1, 2), np.int32)
        labels = posterior.read(model, sites, jax.random.key(0), x, pairs).labels
        log_density = posterior.density(model, sites, held_out)
        score = np.logaddexp.reduce(log_density, axis=0) - np.log(len(log_density))
        candidates = canonical(labels[:: -(-len(labels) // _CANDIDATES)])
        best = candidates[int(np.argmin(expected_loss(candidates, labels, loss="binder")))]
        return best, float(score.mean()), float(number_occupied(labels).mean())


@dataclass(frozen=True)
class ScikitLearn:
    """Variational Bayes for a truncated Dirichlet process by scikit-learn's BayesianGaussianMixture, four starts."""

    def learn(self, x: Float[np.ndarray, "N D"], seed: int) -> Any:
        """The best of the starts."""
        estimator: Any = BayesianGaussianMixture(
            n_components=_TRUNCATION, weight_concentration_prior=_ALPHA, n_init=4, max_iter=1000, random_state=seed
        )
        with threadpool_limits(limits=1, user_api="blas"):  # many small products: threads would wait for each other
            return estimator.fit(x)

    def answer(
        self, learned: Any, x: Float[np.ndarray, "N D"], held_out: Float[np.ndarray, "M D"]
    ) -> tuple[Int[np.ndarray, " N"], float, float]:
        """Labels of highest responsibility; the density at the posterior means."""
        labels = learned.predict(x)
        return labels, float(learned.score(held_out)), float(len(np.unique(labels)))


@dataclass(frozen=True)
class DPMeans:
    """:func:`dp_means` of a radius; no density."""

    radius: float

    def learn(self, x: Float[np.ndarray, "N D"], seed: int) -> Int[np.ndarray, " N"]:
        """Labels."""
        del seed
        return dp_means(x, self.radius)

    def answer(
        self, learned: Int[np.ndarray, " N"], x: Float[np.ndarray, "N D"], held_out: Float[np.ndarray, "M D"]
    ) -> tuple[Int[np.ndarray, " N"], float, float]:
        """The labels and their number."""
        del x, held_out
        return learned, float("nan"), float(len(np.unique(learned)))


def dp_means(x: Float[np.ndarray, "N D"], radius: float, *, max_steps: int = 100) -> Int[np.ndarray, " N"]:
    """Labels by DP-means (Kulis and Jordan 2012): k-means that opens a new group for distant data.

    Args:
        radius: distance from all group means above which a datum opens a group.
        max_steps: most passes over the data.
    """
    places = x.mean(axis=0, keepdims=True)
    labels = np.zeros(len(x), int)
    for _ in range(max_steps):
        before = labels.copy()
        for n, row in enumerate(x):
            squares = ((places - row) ** 2).sum(axis=1)
            labels[n] = squares.argmin()
            if squares.min() > radius**2:
                places, labels[n] = np.vstack([places, row]), len(places)
        kept, labels = np.unique(labels, return_inverse=True)
        places = np.stack([x[labels == k].mean(axis=0) for k in range(len(kept))])
        if (labels == before).all():
            break
    return labels
