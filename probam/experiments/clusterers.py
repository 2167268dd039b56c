"""Methods that group rows, each tried at four settings: labels of the training rows, log density of held-out rows.

All but the Dirichlet process are told the number of clusters. The von Mises-Fisher mixture sees the directions of the
rows alone, so that its density is one on the sphere and cannot be compared with the others: it is left out.
"""

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from sklearn.cluster import k_means
from sklearn.mixture import BayesianGaussianMixture

from probam.family import Params
from probam.inference.cavi import engine as cavi
from probam.inference.clam.clustering import fit_clam
from probam.inference.common.coordinates import Coordinates
from probam.inference.em import engine as em
from probam.inference.gradient_em import engine as gradient_em
from probam.models.gaussian import Gaussian
from probam.models.mixture import Mixture, mixture
from probam.models.von_mises_fisher import VonMisesFisherMemory
from probam.models.weights import weight_prior

__all__ = ["METHODS", "Grouping", "Split", "gaussian_log_density", "grouped", "settings_of"]

METHODS = (
    "CLAM",
    "EM",
    "gradient EM",
    "k-means",
    "von Mises-Fisher",
    "BayesianGaussianMixture",
    "Dirichlet process",
)

_TRUNCATION = 20
"""Most clusters of the Dirichlet process, which is not told their number."""
_DRAWS = 50
"""Draws of its approximate posterior over which labels and densities are averaged."""


class Grouping(NamedTuple):
    """Result of one method: labels of the training rows, and mean log densities of held-out rows (nats).

    NaN where a method has no density in the units of the rows.
    """

    labels: Int[np.ndarray, " N"]
    log_density: float
    refitted_log_density: float


class Split(NamedTuple):
    """Training and held-out rows in units of the training rows' spread, the classes of the former, their number."""

    train: Float[np.ndarray, "N D"]
    held_out: Float[np.ndarray, "M D"]
    classes: Int[np.ndarray, " N"]
    num_components: int


def settings_of(method: str) -> list[dict[str, Any]]:
    """The four settings that a method tries; one that has fewer gets other starts.

    Args:
        method: one of ``METHODS``.
    """
    covariances = ("isotropic", "diagonal")
    if method == "CLAM":
        return [{"beta": beta, "masked": masked} for beta, masked in product((0.6, 1.2), (0.0, 0.2))]
    if method == "k-means":
        return [{"start": start} for start in range(4)]
    if method == "von Mises-Fisher":
        return [{"weights": weights, "start": start} for weights, start in product(("uniform", "dirichlet"), (0, 1))]
    if method == "BayesianGaussianMixture":
        kinds = ("dirichlet_process", "dirichlet_distribution")
        return [{"covariance": shape, "weights": kind} for shape, kind in product(("spherical", "diag"), kinds)]
    if method == "Dirichlet process":
        return [{"covariance": covariance, "alpha": alpha} for covariance, alpha in product(covariances, (0.1, 1.0))]
    return [
        {"covariance": covariance, "weights": weights}
        for covariance, weights in product(covariances, ("uniform", "dirichlet"))
    ]


def grouped(method: str, split: Split, seed: int, restarts: int, setting: dict[str, Any]) -> Grouping:
    """What a method makes of the training rows at one of its settings.

    Args:
        method: one of ``METHODS``.
        split: rows to group, and rows at which the density is evaluated.
        seed: of its starts.
        restarts: how many there are, of which the best by the method's own criterion is kept.
        setting: one of :func:`settings_of`.
    """
    return _CLUSTERERS[method](split, seed, restarts, **setting)


def gaussian_log_density(
    x: Float[np.ndarray, "M D"], memories: Float[np.ndarray, "K D"], beta: float
) -> Float[np.ndarray, " M"]:
    """Log density of equal Gaussians of covariance I / (2 beta) at the memories, nats: the mixture of the energy."""
    unit = np.stack([-np.ones(x.shape[1]), np.ones(x.shape[1])])  # only priors depend on the data, and none are used
    model = mixture(unit, family=Gaussian("isotropic"), weights=weight_prior("uniform"), num_components=len(memories))
    return np.asarray(_read(model, {"loc": memories, "beta": np.asarray(beta)}, x)[0])


@jax.jit
def _read(model: Mixture, params: Params, x: Any) -> tuple[jax.Array, jax.Array]:
    """Log density and responsibilities of every row."""
    fitted = model.mixture(params)
    return fitted.log_prob(x), fitted.responsibilities(x)


@jax.jit
def _read_draws(model: Mixture, draws: Params, x: Any) -> tuple[jax.Array, jax.Array]:
    """Log of the mean density over draws, and mean responsibilities, of every row."""
    log_density, shares = jax.vmap(lambda params: _read(model, params, x))(draws)
    return jax.nn.logsumexp(log_density, axis=0) - jnp.log(1.0 * len(log_density)), jnp.mean(shares, axis=0)


def _refitted(split: Split, memories: Float[np.ndarray, "K D"]) -> float:
    """Mean held-out log density with the best width for the training rows, at the same memories."""

    def loss(log_beta: float) -> float:
        return -float(gaussian_log_density(split.train, memories, float(np.exp(log_beta))).mean())

    best = minimize_scalar(loss, bounds=(-6.0, 6.0), method="bounded", options={"xatol": 1e-3}).x
    return float(gaussian_log_density(split.held_out, memories, float(np.exp(best))).mean())


def _clam(split: Split, seed: int, restarts: int, *, beta: float, masked: float) -> Grouping:
    fitted = fit_clam(
        split.train, split.num_components, beta, seed=seed, restarts=restarts, num_epochs=200, masked=masked
    )
    own = float(gaussian_log_density(split.held_out, fitted.memories, beta).mean())
    return Grouping(fitted.labels.recalled, own, _refitted(split, fitted.memories))


def _k_means(split: Split, seed: int, restarts: int, *, start: int) -> Grouping:
    centres, labels, _ = k_means(split.train, split.num_components, n_init=restarts, random_state=seed + 1000 * start)
    refitted = _refitted(split, centres)
    return Grouping(labels, refitted, refitted)


def _mixture(
    engine: Callable[..., Any], split: Split, seed: int, restarts: int, *, covariance: str, weights: str
) -> Grouping:
    model = mixture(
        split.train,
        family=Gaussian(covariance),
        weights=weight_prior(weights),
        num_components=split.num_components,
    )
    result = engine(jax.random.key(seed), model, jnp.asarray(split.train), restarts=restarts)
    params = {name: values[0, 0] for name, values in result.sites.items()}
    return _read_out(partial(_read, model, params), split)


def _von_mises_fisher(split: Split, seed: int, restarts: int, *, weights: str, start: int) -> Grouping:
    """The directions of the rows, by EM; no density of the rows."""
    directions = split.train / np.linalg.norm(split.train, axis=1, keepdims=True)
    law = weight_prior(weights)
    model = mixture(directions, family=VonMisesFisherMemory(), weights=law, num_components=split.num_components)
    result = em.run(jax.random.key(seed + 1000 * start), model, jnp.asarray(directions), restarts=restarts)
    params = {name: values[0, 0] for name, values in result.sites.items()}
    labels = np.asarray(_read(model, params, directions)[1].argmax(axis=1))
    return Grouping(labels, float("nan"), float("nan"))


def _scikit_learn(split: Split, seed: int, restarts: int, *, covariance: str, weights: str) -> Grouping:
    """Variational Bayes by scikit-learn, with as many components as there are classes."""
    estimator: Any = BayesianGaussianMixture(
        n_components=split.num_components,
        covariance_type=covariance,
        weight_concentration_prior_type=weights,
        n_init=restarts,
        max_iter=1000,
        random_state=seed,
    )
    log_density = float(estimator.fit(split.train).score(split.held_out))
    return Grouping(np.asarray(estimator.predict(split.train)), log_density, log_density)


def _dirichlet_process(split: Split, seed: int, restarts: int, *, covariance: str, alpha: float) -> Grouping:
    """Variational Bayes of our Dirichlet process mixture; labels and density are averages over draws."""
    law = weight_prior("dp", alpha=alpha)
    model = mixture(split.train, family=Gaussian(covariance), weights=law, num_components=_TRUNCATION)
    x = jnp.asarray(split.train)
    result = cavi.run(jax.random.key(seed), model, x, restarts=restarts, num_draws=_DRAWS)
    draws = {name: jnp.asarray(result.sites[name][0]) for name in Coordinates(model).transforms}
    return _read_out(partial(_read_draws, model, draws), split)


def _read_out(read: Callable[[Any], tuple[jax.Array, jax.Array]], split: Split) -> Grouping:
    """Labels of highest responsibility, and the density of held-out rows; its width is fitted already."""
    log_density = float(read(split.held_out)[0].mean())
    return Grouping(np.asarray(read(split.train)[1].argmax(axis=1)), log_density, log_density)


_CLUSTERERS: dict[str, Callable[..., Grouping]] = {
    "CLAM": _clam,
    "EM": partial(_mixture, em.run),
    "gradient EM": partial(_mixture, gradient_em.run),
    "k-means": _k_means,
    "von Mises-Fisher": _von_mises_fisher,
    "BayesianGaussianMixture": _scikit_learn,
    "Dirichlet process": _dirichlet_process,
}
