"""Claim D8: predictive coding climbs the log density of normal layers, and completes as a Gaussian does.

Physics: :mod:`probam.energies.predictive_layers` and the memory made of it. Statistics: NumPyro's normals, layer by
layer, and the joint normal law of what is seen where the layers are linear.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array

from probam.claims.claim import Piece, extreme, ordinary, register, relative_error
from probam.claims.inputs import Floats, generator
from probam.energies import predictive_layers
from probam.energies.predictive_hierarchy import PredictiveCoding
from probam.energies.predictive_layers import Layers

__all__: list[str] = []

_SALVATORI = "Salvatori et al. (2021), Associative memories via predictive coding, arXiv:2109.08063"


def _two_layers(key: jax.Array, *, noise: float = 0.6, size: float = 1.0) -> dict[str, Floats]:
    """Rows of five pixels, two hidden layers of three and two units, weights and biases."""
    draw = generator(key)
    return {
        "seen": size * draw.normal(size=(7, 5)),
        "middle": size * draw.normal(size=(7, 3)),
        "top": size * draw.normal(size=(7, 2)),
        "low": draw.normal(size=(5, 3)),
        "high": draw.normal(size=(3, 2)),
        "bias": draw.normal(size=5),
        "noise": np.asarray(noise),
    }


@register(
    id="D8.joint",
    source=_SALVATORI,
    title="predictive coding: the energy is the log density of normal layers",
    statement=(
        "F = -log N(x0; W0 f(x1) + b, s^2) N(x1; W1 f(x2), 1) N(x2; 0, 1) - constant, and a local update, error times "
        "activity, is the slope of that log density in the weights"
    ),
    latex=(
        r"F = -\log p(x_0 \mid x_1)\,p(x_1 \mid x_2)\,p(x_2) + \text{const},\qquad "
        r"-\nabla_{W_l} F = \frac{\epsilon_l\, f(x_{l+1})^\top}{\sigma_l^2}"
    ),
    printed_statement="abstract only",
    verdict="EXACT",
    relation="equal",
    constant="sum over entries of log sqrt(2 pi) + log s_l",
    inputs=_two_layers,
    cases=(ordinary("plain"), extreme("noise 1e-4", noise=1e-4), extreme("states at 1e6", size=1e6)),
    tolerance=1e-12,
    exact={"active": jnp.tanh, "deviation": lambda noise: noise},
    mutations={
        "activities not squashed": {"active": lambda x: x},
        "noise for its square root": {"deviation": jnp.sqrt},
    },
)
def layers_have_the_log_density_of_normals(
    seen: Array,
    middle: Array,
    top: Array,
    low: Array,
    high: Array,
    bias: Array,
    noise: Array,
    *,
    active: Piece,
    deviation: Piece,
) -> Array:
    """Energy and local slopes against NumPyro's normals and their derivatives."""
    layers = Layers((low, high), (bias, jnp.zeros(3), jnp.zeros(2)))
    hidden = (middle, top)
    physics = predictive_layers.energy(layers, seen, hidden, "tanh", noise)

    def log_density(low: Array, high: Array) -> Array:
        parts = (
            dist.Normal(active(middle) @ low.T + bias, deviation(noise)).log_prob(seen),
            dist.Normal(active(top) @ high.T, 1.0).log_prob(middle),
            dist.Normal(0.0, 1.0).log_prob(top),
        )
        return sum((jnp.sum(part, axis=-1) for part in parts), jnp.zeros(len(seen)))

    constant = 5 * jnp.log(deviation(noise)) + 5 * jnp.log(2 * jnp.pi)
    value = relative_error(physics, -log_density(low, high) - constant, jnp.abs(constant))
    slopes = jax.grad(lambda *w: -jnp.mean(log_density(*w)), argnums=(0, 1))(low, high)
    local = predictive_layers.local_gradient(layers, seen, hidden, "tanh", noise).weights
    return jnp.stack([value, *(relative_error(one, other) for one, other in zip(local, slopes, strict=True))])


@register(
    id="D8.completion",
    source=f"{_SALVATORI}; Tang et al. (2023)",
    title="linear layers complete an image by the Gaussian conditional mean",
    statement=(
        "with linear f, inference with the known pixels clamped ends at their hidden layers' prediction "
        "E[x_unknown | x_known] under N(b, s^2 I + W0 (I + W1 W1') W0')"
    ),
    latex=(
        r"W_0 x_1^* + b_0 = \mathrm E[x_u \mid x_k],\quad x \sim "
        r"\mathcal N(b_0, \sigma^2 I + W_0 (I + W_1 W_1^\top) W_0^\top)"
    ),
    printed_statement="abstract only",
    verdict="EXACT",
    relation="equal",
    inputs=_two_layers,
    cases=(ordinary("plain"), ordinary("noise 2", noise=2.0)),
    tolerance=1e-9,  # steps downhill
    exact={"noise_share": 1.0, "top_share": 1.0},
    mutations={"without noise of the top": {"top_share": 0.0}, "noise doubled": {"noise_share": 4.0}},
)
def linear_layers_complete_by_the_conditional_mean(
    seen: Array,
    middle: Array,  # noqa: ARG001
    top: Array,  # noqa: ARG001
    low: Array,
    high: Array,
    bias: Array,
    noise: Array,
    *,
    noise_share: float,
    top_share: float,
) -> Array:
    """The memory's completion of the last three pixels against that of NumPyro's joint normal law."""
    layers = Layers((low, high), (bias, jnp.zeros(3), jnp.zeros(2)))
    known = jnp.arange(5) < 2
    completed = PredictiveCoding(layers, noise, "linear", 4000).completed(seen, known)
    inner = jnp.eye(3) + top_share * high @ high.T
    law = dist.MultivariateNormal(bias, noise_share * noise**2 * jnp.eye(5) + low @ inner @ low.T)
    covariance = law.covariance_matrix
    gain = jnp.linalg.solve(covariance[:2, :2], covariance[:2, 2:])
    return relative_error(completed[:, 2:], law.mean[2:] + (seen[:, :2] - law.mean[:2]) @ gain)
