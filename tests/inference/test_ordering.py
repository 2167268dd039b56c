"""Memories in order: the same posterior of everything that does not depend on numbering, and one numbering."""

from itertools import pairwise, product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from arviz_stats import ess  # type: ignore[attr-defined]
from scipy.special import logsumexp

from probam.errors import InputError
from probam.inference.common.coordinates import Coordinates, arranged
from probam.inference.common.ordering import OrderedMemories, OrderedModel, OrderedWeights, in_order
from probam.inference.nuts import engine as nuts
from probam.inference.svi import engine as svi
from probam.models.bernoulli import Bernoulli
from probam.models.gaussian import Gaussian
from probam.models.mixture import Mixture, mixture
from probam.models.weights import Dirichlet, Fixed, StickBreaking, Uniform
from tests.inference.enumeration import log_marginal
from tests.inference.posteriordb import SHARED, agree, gauss_mix
from tests.models.known_precision import KnownPrecision

X = np.array([-0.9, -0.4, 0.3, 0.8, 1.9])


def _two(weights: Any) -> Mixture:
    """Two memories of known variance that overlap: ordering cuts through the posterior."""
    return mixture(X[:, None], family=KnownPrecision(1.0, 4.0), weights=weights, num_components=2)


def _labellings() -> tuple[np.ndarray, np.ndarray]:
    """All labels of X in two memories (which are counted), and the log likelihood of the data given them."""
    labels = np.array(list(product((0, 1), repeat=len(X))))
    logs = [sum(log_marginal(X[row == k], 1.0, 4.0) for k in (0, 1) if (row == k).any()) for row in labels]
    return labels, np.array(logs)


def _log_law(labels: np.ndarray, weights: Any) -> np.ndarray:
    """Log probability of labels: a coin toss each, or uniform weights integrated out."""
    ones = labels.sum(1)
    if isinstance(weights, Uniform):
        return np.full(len(labels), -len(X) * np.log(2))
    terms = [np.sum(np.log(np.arange(1, m + 1))) + np.sum(np.log(np.arange(1, len(X) - m + 1))) for m in ones]
    return np.array(terms) - np.sum(np.log(np.arange(1, len(X) + 2)))


@pytest.mark.parametrize("transform", ["location", "weights", pytest.param("probabilities", marks=pytest.mark.slow)])
def test_the_volume_of_ordered_coordinates_is_that_of_differences(transform: str) -> None:
    rng = np.random.default_rng(0)
    bits = transform == "probabilities"
    family = Bernoulli() if bits else Gaussian("spherical")
    x = rng.integers(0, 2, (9, 2)) * 1.0 if bits else rng.normal(0, 1, (9, 2))
    model = in_order(
        mixture(x, family=family, weights=Dirichlet(), num_components=4),
        "weight" if transform == "weights" else "location",
        0 if transform == "weights" else 1,
    )
    site = "proportions" if transform == "weights" else family.location
    law = Coordinates(model).transforms[site]
    assert isinstance(law, OrderedWeights if transform == "weights" else OrderedMemories)
    free = jnp.asarray(rng.normal(0, 0.5, law.inverse_shape((4,) if transform == "weights" else (4, 2))))

    @jax.jit
    def account(free: jax.Array) -> tuple[jax.Array, ...]:
        value = law(free)
        jacobian = jax.jacobian(lambda z: law(z.reshape(free.shape)).ravel()[: z.size])(free.ravel())
        return value, law.log_abs_det_jacobian(free, value), jnp.linalg.slogdet(jacobian)[1], law.inv(value)

    value, volume, expected, back = account(free)
    np.testing.assert_allclose(volume, expected, rtol=1e-10)
    np.testing.assert_allclose(back, free, atol=1e-9)
    ordered = -np.asarray(value) if transform == "weights" else np.asarray(value)[:, 1]
    assert (np.diff(ordered) > 0).all()


@pytest.mark.parametrize("order", ["location", "weight"])
def test_one_labelling_holds_the_whole_evidence(order: str) -> None:
    """Three coordinates by the trapezoidal rule (two where weights are known), against all labels enumerated."""
    weights = Dirichlet() if order == "weight" else Uniform()
    model = in_order(_two(weights), order)
    coordinates = Coordinates(model)
    sizes = [zero.size for zero in coordinates.zeros.values()]
    assert list(coordinates.zeros) == (["loc", "proportions"] if order == "weight" else ["loc"])
    steps = [np.linspace(-9, 9, 81), np.linspace(-9, 9, 81)]
    if order == "location":
        steps[1] = np.linspace(-20, 3.5, 201)
    if sum(sizes) == 3:
        steps.append(np.linspace(-16, 5.5, 101))
    grid = np.stack([axis.ravel() for axis in np.meshgrid(*steps, indexing="ij")], axis=1)
    log_joint = jax.jit(
        lambda points: jax.lax.map(
            lambda z: coordinates.log_joint(coordinates.unflatten(z), jnp.asarray(X[:, None])), points, batch_size=4096
        )
    )
    result = logsumexp(np.asarray(log_joint(jnp.asarray(grid)))) + sum(np.log(axis[1] - axis[0]) for axis in steps)
    labels, logs = _labellings()
    np.testing.assert_allclose(result, logsumexp(logs + _log_law(labels, weights)), atol=2e-5)


@pytest.mark.parametrize("order", ["location", pytest.param("weight", marks=pytest.mark.slow)])
def test_what_does_not_depend_on_numbering_has_the_expectations_of_all_labels(order: str) -> None:
    """P(two data share a memory) by enumeration, five standard errors for each of ten pairs."""
    weights = Dirichlet()
    result = nuts.run(
        jax.random.key(1),
        _two(weights),
        jnp.asarray(X[:, None]),
        order=order,
        num_chains=2,
        num_warmup=300,
        num_draws=1500,
    )
    ordered = result.sites["loc"][..., 0] if order == "location" else -result.sites["proportions"]
    assert (np.diff(ordered, axis=-1) > 0).all()
    assert "memories numbered by" in result.note
    labels, logs = _labellings()
    mass = np.exp(logs + _log_law(labels, weights) - logsumexp(logs + _log_law(labels, weights)))
    loc, share = result.sites["loc"][..., 0], result.sites["proportions"]
    log_joint = np.log(share[:, :, None]) - 0.5 * (X[:, None] - loc[:, :, None]) ** 2
    resp = np.exp(log_joint - logsumexp(log_joint, axis=-1, keepdims=True))  # (C, S, N, K)
    # lp is that of the model without an order, whose coordinates are the locations and a logit
    prior = -0.5 * np.sum(loc**2 / 4 + np.log(2 * np.pi * 4), axis=-1) + np.sum(np.log(share), axis=-1)
    log_lik = np.sum(logsumexp(log_joint, axis=-1) - 0.5 * np.log(2 * np.pi), axis=-1)
    np.testing.assert_allclose(result.stats["lp"], log_lik + prior, rtol=1e-9)
    for i, j in product(range(5), repeat=2):
        if i < j:
            draws = (resp[:, :, i] * resp[:, :, j]).sum(-1)
            expected = mass @ (labels[:, i] == labels[:, j])
            assert abs(draws.mean() - expected) < 5 * draws.std() / np.sqrt(float(ess(draws))), (i, j)


def test_starts_are_the_same_memories_in_order_and_none_tie() -> None:
    model = in_order(
        mixture(np.eye(3), family=Gaussian("diagonal"), weights=Dirichlet(), num_components=4), "location", 2
    )
    rng = np.random.default_rng(0)
    loc = rng.normal(0, 1, (2, 4, 3))
    loc[1, :, 2] = 0.5  # all of them tie
    params = {"loc": loc, "precision": rng.random((2, 4, 3)), "proportions": rng.dirichlet(np.ones(4), 2)}
    result = {name: np.asarray(value) for name, value in arranged(model, jax.tree.map(jnp.asarray, params)).items()}
    order = np.argsort(loc[0, :, 2])
    for name in params:
        np.testing.assert_allclose(result[name][0], params[name][0][order], rtol=1e-12, err_msg=name)
    assert all(a < b for a, b in pairwise(result["loc"][1, :, 2]))
    np.testing.assert_allclose(result["loc"][1, :, 2], 0.5, atol=0.05)


@pytest.mark.slow
def test_the_evidence_of_an_ordered_guide_is_that_of_all_labellings() -> None:
    groups = [np.linspace(-1, 1, 5) - 20, np.linspace(-1, 1, 4) + 1, np.linspace(-1, 1, 6) + 22]
    x = np.concatenate(groups)
    model = mixture(x[:, None], family=KnownPrecision(1.0, 400.0), weights=Uniform(), num_components=3)
    plain, ordered = (
        svi.run(jax.random.key(0), model, jnp.asarray(x[:, None]), guide="full", order=order, num_draws=4000)
        for order in ("none", "location")
    )
    exact = sum(log_marginal(group, 1.0, 400.0) for group in groups) - len(x) * np.log(3)  # memories do not overlap
    for result, labellings in ((plain, 1), (ordered, 6)):
        ratios = np.exp(result.stats["lp"] - result.stats["log_q"] - exact - np.log(labellings))
        assert abs(ratios.mean() - 1) < 5 * ratios.std() / ratios.size**0.5 + 1e-6
        assert ratios.std() < 1
    assert (np.diff(ordered.sites["loc"][0, :, :, 0], axis=-1) > 0).all()


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="the shared data folder is not here")
def test_posteriordb_low_dim_gauss_mix_needs_no_relabelling() -> None:
    """Stan's own model has mu ordered: every parameter as it is."""
    model, y = gauss_mix()
    result = nuts.run(jax.random.key(3), model, jnp.asarray(y), num_warmup=500, order="location")
    assert not result.stats["diverging"].any()
    agree(result.sites["loc"][..., 0], result.sites["scale"][..., 0], result.sites["weights"][..., 0])


def test_orders_that_would_change_the_posterior_are_refused_with_the_reason() -> None:
    for weights, order, coordinate, message in (
        (StickBreaking(1.0), "location", 0, "an order would change the posterior; leave order at 'none'"),
        (StickBreaking(1.0), "weight", 0, "are not the same under all numberings"),
        (Uniform(), "weight", 0, "weights 'uniform' are all equal, and give no order; use order 'location'"),
        (Fixed((0.3, 0.7)), "location", 0, "fixed weights that differ tell the memories apart already"),
        (Dirichlet(), "location", 1, "order_by: expected the number of a coordinate of 'loc', 0 to 0; got 1"),
        (Dirichlet(), "weight", 1, "order_by: a coordinate of the location is for order 'location'"),
        (Dirichlet(), "size", 0, "order: expected one of none, location, weight; got 'size'"),
    ):
        with pytest.raises(InputError, match=message):
            in_order(_two(weights), order, coordinate)
    with pytest.raises(InputError, match="guide: 'sticks' does not keep the weights in order"):
        svi.run(jax.random.key(0), _two(Dirichlet()), jnp.asarray(X[:, None]), guide="sticks", order="weight")
    assert isinstance(in_order(_two(Fixed((0.5, 0.5))), "location"), OrderedModel)
