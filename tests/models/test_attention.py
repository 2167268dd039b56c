"""From the weights of a head to its mixture and back, against attention computed in plain NumPy."""

from typing import Any

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from probam.distributions.von_mises_fisher import VonMisesFisher
from probam.errors import InputError
from probam.models import attention
from probam.models.attention import Norm

posterior = jax.jit(attention.posterior, static_argnums=2)
both = jax.jit(lambda *args: (attention.posterior(*args), attention.log_evidence(*args)), static_argnums=2)
mixture_of = jax.jit(attention.mixture, static_argnums=1)

N, K = 5, 7


def layer(dim: int, head: int) -> dict[str, Any]:
    rng = np.random.default_rng(dim)
    return {
        "x": rng.normal(size=(N, dim)) * 1.3 + 0.4,
        "keys": rng.normal(size=(K, head)) * rng.uniform(0.3, 2.0, size=(K, 1)),
        "gamma": rng.uniform(0.5, 1.5, size=dim) * np.where(np.arange(dim) % 4 == 1, -1, 1),
        "delta": 0.3 * rng.normal(size=dim),
        "query_projection": rng.normal(size=(head, dim)) / np.sqrt(dim) * 1.5,
        "query_bias": rng.normal(size=head),
    }


def softmax_attention(parts: dict[str, Any], norm: Norm, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """Attention weights and log-sum-exp of the logits, from the printed formulas."""
    x = parts["x"] - parts["x"].mean(1, keepdims=True) if norm == "layer" else parts["x"]
    normed = parts["gamma"] * x / np.sqrt((x**2).mean(1, keepdims=True) + epsilon) + parts["delta"]
    queries = normed @ parts["query_projection"].T + parts["query_bias"]
    logits = queries @ parts["keys"].T / np.sqrt(parts["keys"].shape[1])
    top = logits.max(1, keepdims=True)
    total = np.exp(logits - top).sum(1, keepdims=True)
    return np.exp(logits - top) / total, (top + np.log(total))[:, 0]


def read(parts: dict[str, Any]) -> attention.Scores:
    rest = {name: parts[name] for name in ("query_projection", "query_bias")}
    return attention.scores(parts["keys"], parts["gamma"], parts["delta"], **rest)


@pytest.mark.parametrize(("dim", "head", "norm"), [(6, 3, "layer"), (768, 64, "layer"), (64, 16, "rms")])
def test_the_posterior_of_a_head_is_its_attention_to_twelve_digits(dim: int, head: int, norm: Norm) -> None:
    parts = layer(dim, head)
    scores = read(parts)
    for epsilon in (0.0, 1e-5, 0.3):
        weights, log_sum = softmax_attention(parts, norm, epsilon)
        shares, evidence = both(scores, parts["x"], norm, epsilon)
        np.testing.assert_allclose(shares, weights, rtol=0, atol=1e-12)
        np.testing.assert_allclose(evidence, log_sum, rtol=1e-12, atol=1e-12)


def test_one_mixture_serves_all_queries_without_epsilon_and_lifted_with_it() -> None:
    parts = layer(64, 16)
    scores = read(parts)
    directions, radius = attention.place(parts["x"], "layer", 0.0)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=-1), 1, rtol=1e-14)
    np.testing.assert_allclose(radius, 8.0, rtol=1e-14)
    mixture = mixture_of(scores, "layer")
    assert mixture.event_shape == (63,)
    np.testing.assert_allclose(
        mixture.responsibilities(directions), softmax_attention(parts, "layer", 0.0)[0], rtol=0, atol=1e-12
    )
    lifted = attention.lifted_mixture(scores, "layer")
    assert lifted.event_shape == (64,)
    np.testing.assert_allclose(
        lifted.responsibilities(attention.lift(parts["x"], "layer", 0.3)),
        softmax_attention(parts, "layer", 0.3)[0],
        rtol=0,
        atol=1e-12,
    )


def test_concentrations_directions_and_weights_are_those_of_the_claim() -> None:
    parts = layer(6, 3)
    scores = read(parts)
    mixture = mixture_of(scores, "layer")
    assert isinstance(mixture.bank, VonMisesFisher)
    slopes = parts["gamma"] * (parts["keys"] @ parts["query_projection"]) / np.sqrt(3)
    centred = slopes - slopes.mean(1, keepdims=True)
    kappa = np.sqrt(6) * np.linalg.norm(centred, axis=1)
    np.testing.assert_allclose(mixture.bank.concentration, kappa, rtol=1e-13)
    basis = attention.zero_sum_basis(6)
    np.testing.assert_allclose(
        mixture.bank.mean_direction @ basis.T, centred / np.linalg.norm(centred, axis=1, keepdims=True), atol=1e-14
    )
    offsets = (
        parts["keys"] @ parts["query_projection"] @ parts["delta"] + parts["keys"] @ parts["query_bias"]
    ) / 3**0.5

    def log_normaliser(k: float) -> Any:  # C_5: half-integer order, from mpmath
        nu = mpmath.mpf(3) / 2
        return nu * mpmath.log(k) - mpmath.mpf(5) / 2 * mpmath.log(2 * mpmath.pi) - mpmath.log(mpmath.besseli(nu, k))

    with mpmath.workdps(40):
        weights = [
            mpmath.exp(mpmath.mpf(c) - log_normaliser(mpmath.mpf(k))) for c, k in zip(offsets, kappa, strict=True)
        ]
        pi = [float(w / mpmath.fsum(weights)) for w in weights]
        log_mass = float(mpmath.log(mpmath.fsum(weights)))
    np.testing.assert_allclose(np.exp(mixture.log_weights), pi, rtol=1e-12)
    assert float(attention.log_mass(scores, "layer")) == pytest.approx(log_mass, rel=1e-13)


def test_the_density_on_the_sphere_of_the_plane_integrates_to_one() -> None:
    mixture = mixture_of(read(layer(3, 2)), "layer")
    angles = 2 * np.pi * np.arange(400) / 400  # features 3: a circle
    density = np.exp(mixture.log_prob(np.stack([np.cos(angles), np.sin(angles)], axis=-1)))
    assert density.mean() * 2 * np.pi == pytest.approx(1, rel=1e-13)


@pytest.mark.parametrize("dim", [3, 10, 101])
def test_the_basis_is_orthonormal_and_sums_to_zero(dim: int) -> None:
    basis = attention.zero_sum_basis(dim)
    np.testing.assert_allclose(basis.T @ basis, np.eye(dim - 1), atol=1e-14)
    np.testing.assert_allclose(basis.sum(0), 0, atol=1e-13)


@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_keys_and_mixture_are_each_other_s_inverse(norm: Norm) -> None:
    parts = layer(6, 3)
    scores = read(parts)
    if norm == "rms":  # its weights are tied: offsets must come from delta alone
        scores = scores._replace(offsets=jnp.asarray((scores.slopes / parts["gamma"]) @ parts["delta"]))
    mixture = mixture_of(scores, norm)
    keys = attention.keys_of(mixture, parts["gamma"], parts["delta"], norm, dim=6)
    again = mixture_of(attention.scores(keys, parts["gamma"], parts["delta"], scale=1.0), norm)
    np.testing.assert_allclose(again.log_weights, mixture.log_weights, rtol=1e-12)
    assert isinstance(mixture.bank, VonMisesFisher)
    assert isinstance(again.bank, VonMisesFisher)
    np.testing.assert_allclose(again.bank.concentration, mixture.bank.concentration, rtol=1e-12)
    np.testing.assert_allclose(again.bank.mean_direction, mixture.bank.mean_direction, atol=1e-13)


def test_a_key_along_the_inverse_of_gamma_is_a_uniform_memory() -> None:
    parts = layer(6, 3)
    keys = np.stack([2.0 / parts["gamma"], parts["delta"] + 1])
    mixture = mixture_of(attention.scores(keys, parts["gamma"], parts["delta"], scale=1.0), "layer")
    assert isinstance(mixture.bank, VonMisesFisher)
    assert float(mixture.bank.concentration[0]) < 1e-14
    assert np.isfinite(mixture.log_weights).all()
    assert np.isfinite(mixture.responsibilities(attention.place(parts["x"], "layer")[0])).all()


def test_float32_stays_float32() -> None:
    parts = {name: np.float32(part) for name, part in layer(64, 16).items()}
    got = posterior(read(parts), parts["x"], "layer", 1e-5)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, softmax_attention(layer(64, 16), "layer", 1e-5)[0], atol=1e-5)


def test_what_cannot_be_said_is_refused() -> None:
    parts = layer(6, 3)
    scores = read(parts)
    mixture = mixture_of(scores, "layer")
    with pytest.raises(InputError, match=r"delta: expected sum\(delta / gamma\) other than 0"):
        attention.keys_of(mixture, parts["gamma"], np.zeros(6), "layer", dim=6)
    with pytest.raises(InputError, match="the concentrations fix the mixing weights, and these differ by"):
        attention.keys_of(mixture_of(scores, "rms"), parts["gamma"], parts["delta"], "rms", dim=6)
    with pytest.raises(InputError, match="gamma: expected no zeros"):
        attention.keys_of(mixture, np.zeros(6), parts["delta"], "layer", dim=6)
    with pytest.raises(InputError, match="mixture: expected directions with 6 coordinates for 7 features; got 5"):
        attention.keys_of(mixture, 1.0, parts["delta"], "layer", dim=7)
    with pytest.raises(InputError, match="x: row 1 is constant and has no direction"):
        attention.place(np.array([[0.0, 1.0, 2.0], [4.0, 4.0, 4.0]]), "layer")
    with pytest.raises(InputError, match="features: a layer norm leaves directions only from 3 features up; got 2"):
        attention.zero_sum_basis(2)
    with pytest.raises(InputError, match="query_projection: expected shape"):
        attention.scores(parts["keys"], 1.0, 0.0, query_projection=np.ones((4, 6)))
    with pytest.raises(InputError, match="norm: expected 'layer' or 'rms'; got 'batch'"):
        attention.mixture(scores, "batch")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="keys: expected finite numbers"):
        attention.scores(np.full((2, 3), np.nan), 1.0, 0.0)
