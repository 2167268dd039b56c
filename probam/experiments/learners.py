"""Ways to make memories of data, one pass or many, asked for the same: labels, held-out density, time and memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from sklearn.mixture import BayesianGaussianMixture

import probam.fits.posterior as posterior
from probam.experiments.own_process import cost
from probam.fits.choices import find_engine
from probam.inference.common.coordinates import Coordinates
from probam.models.gaussian import Gaussian
from probam.models.mixture import mixture
from probam.models.weights import weight_prior
from probam.reports.summaries.partition import canonical, expected_loss, number_occupied
from probam.streams.stream import Stream

__all__ = ["DPMeans", "Engine", "Learner", "OnePass", "ScikitLearn", "Scores", "dp_means", "scored"]

_ALPHA = 1.0
_TRUNCATION = 15
_CANDIDATES = 200
"""Sampled partitions among which a point estimate is looked for."""


class Scores(NamedTuple):
    """What a learner made of its data, and what that took."""

    memories: float  # their number; of draws, the mean number that hold data
    labels: Int[np.ndarray, " N"]
    log_density: float  # mean over the held-out data, nats; NaN where there is no density
    seconds: float  # to learn, everything compiled on the way
    seconds_again: float  # to learn the same once more in the same process
    peak_mib: float  # memory of the first time, beyond that of a process that has imported all and holds the data


class Learner(Protocol):
    """Learns and then answers; only learning is timed."""

    def learn(self, x: Float[np.ndarray, "N D"], seed: int) -> Any:
        """Whatever :meth:`answer` needs."""

    def answer(
        self, learned: Any, x: Float[np.ndarray, "N D"], held: Float[np.ndarray, "M D"]
    ) -> tuple[Int[np.ndarray, " N"], float, float]:
        """Labels of the data, mean log density of those held out, number of memories."""


def scored(
    learner: Learner, x: Float[np.ndarray, "N D"], held: Float[np.ndarray, "M D"], seed: int, precise: bool = True
) -> Scores:
    """All of :class:`Scores`; for a process of its own (:func:`probam.experiments.own_process.alone`)."""
    with jax.enable_x64(precise):
        jnp.zeros(1).block_until_ready()  # starts the device
        learned, first = cost(lambda: learner.learn(x, seed))
        labels, log_density, memories = learner.answer(learned, x, held)
        del learned
        again = cost(lambda: learner.learn(x, seed))[1]
    return Scores(memories, np.asarray(labels), log_density, first.seconds, again.seconds, first.peak_mib)


@dataclass(frozen=True)
class OnePass:
    """A stream of memories with full covariance."""

    options: Mapping[str, Any] = field(default_factory=dict)

    def learn(self, x: Float[np.ndarray, "N D"], seed: int) -> Stream:
        """The stream after its one pass."""
        return Stream(covariance="full", alpha=_ALPHA, seed=seed, **self.options).partial_fit(x).flush()

    def answer(
        self, learned: Stream, x: Float[np.ndarray, "N D"], held: Float[np.ndarray, "M D"]
    ) -> tuple[Int[np.ndarray, " N"], float, float]:
        """The memory of highest probability of each datum; particles are averaged in the density."""
        numbers = learned.number_of_memories()
        score = float(learned.predict(held)["log_predictive"].mean())
        return learned.predict(x)["memory"].values, score, float((numbers.index * numbers).sum())


@dataclass(frozen=True)
class Engine:
    """An engine of ``probam.fit`` for a Dirichlet process mixture with full covariance."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def learn(self, x: Float[np.ndarray, "N D"], seed: int) -> Any:
        """The model and what the engine returns."""
        law = weight_prior("dp", alpha=_ALPHA)
        model = mixture(x, family=Gaussian("full"), weights=law, num_components=_TRUNCATION)
        run = find_engine(self.name, self.options)
        return model, run(jax.random.key(seed), model, jnp.asarray(x), **self.options)

    def answer(
        self, learned: Any, x: Float[np.ndarray, "N D"], held: Float[np.ndarray, "M D"]
    ) -> tuple[Int[np.ndarray, " N"], float, float]:
        """Of all sampled partitions that of least expected Binder loss; the density averaged over draws."""
        model, result = learned
        sites = {
            name: jnp.asarray(result.sites[name].reshape(-1, *result.sites[name].shape[2:]))
            for name in Coordinates(model).transforms
        }
        pairs = jnp.zeros((1, 2), jnp.int32)
        labels = np.asarray(posterior.read(model, sites, jax.random.key(0), jnp.asarray(x), pairs).labels)
        log_density = np.asarray(posterior.density(model, sites, jnp.asarray(held)))
        score = np.logaddexp.reduce(log_density, axis=0) - np.log(len(log_density))
        candidates = canonical(labels[:: -(-len(labels) // _CANDIDATES)])
        best = candidates[int(np.argmin(expected_loss(candidates, labels, loss="binder")))]
        return best, float(score.mean()), float(number_occupied(labels).mean())


@dataclass(frozen=True)
class ScikitLearn:
    """Variational Bayes for a truncated Dirichlet process by scikit-learn's BayesianGaussianMixture, four starts."""

    def learn(self, x: Float[np.ndarray, "N D"], seed: int) -> Any:
        """The best of the starts."""
        found: Any = BayesianGaussianMixture(  # type: ignore[no-untyped-call]
            n_components=_TRUNCATION, weight_concentration_prior=_ALPHA, n_init=4, max_iter=1000, random_state=seed
        )
        return found.fit(x)

    def answer(
        self, learned: Any, x: Float[np.ndarray, "N D"], held: Float[np.ndarray, "M D"]
    ) -> tuple[Int[np.ndarray, " N"], float, float]:
        """Labels of highest responsibility; the density at the posterior means."""
        labels = learned.predict(x)
        return labels, float(learned.score(held)), float(len(np.unique(labels)))


@dataclass(frozen=True)
class DPMeans:
    """:func:`dp_means` of a radius; no density."""

    radius: float

    def learn(self, x: Float[np.ndarray, "N D"], seed: int) -> Int[np.ndarray, " N"]:  # noqa: ARG002
        """Labels."""
        return dp_means(x, self.radius)

    def answer(
        self,
        learned: Int[np.ndarray, " N"],
        x: Float[np.ndarray, "N D"],  # noqa: ARG002
        held: Float[np.ndarray, "M D"],  # noqa: ARG002
    ) -> tuple[Int[np.ndarray, " N"], float, float]:
        """The labels and their number."""
        return learned, float("nan"), float(len(np.unique(learned)))


def dp_means(x: Float[np.ndarray, "N D"], radius: float, *, max_steps: int = 100) -> Int[np.ndarray, " N"]:
    """Labels by DP-means (Kulis and Jordan 2012): k-means that opens a group for a datum farther than ``radius``."""
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
