r"""Guides of variational inference: distributions of the unconstrained coordinates of a model, with exact densities.

A guide works in whitened coordinates u; a :class:`Frame` maps them to the model's, :math:`z = c + F u`, so that one
unit of u is about one posterior standard deviation and one step size suits all. Every guide draws by a differentiable
map of noise and has a log density at any point. So gradients of the evidence bound can follow the path of the draw
alone (Roeder, Wu & Duvenaud 2017, arXiv:1703.09194): where the guide equals the posterior their noise is zero.

============== =================================================================================================
``mean_field`` independent Gaussians
``low_rank``   Gaussian, diagonal plus rank r (default the square root of the number of coordinates)
``full``       Gaussian with a full covariance
``flow``       affine coupling layers (Dinh, Sohl-Dickstein & Bengio 2017, arXiv:1605.08803) upon a mean field
``sticks``     independent Betas for the sticks of the weights (dp, pyp; a generalised Dirichlet for ``dirichlet``),
               independent Gaussians for the rest
============== =================================================================================================
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float
from numpyro.distributions.transforms import StickBreakingTransform
from typing_extensions import override

from probam.errors import InputError
from probam.family import Params
from probam.inference.common.coordinates import Coordinates
from probam.numerics.log_gamma import log_beta

__all__ = ["GUIDES", "Flow", "Frame", "Full", "Guide", "LowRank", "MeanField", "Sticks", "draw_logits", "guide_for"]

_NUM_LAYERS = 4
_HIDDEN = 32
"""Coupling layers of the flow, and units of the hidden layer of each."""

_MOST_STRETCH = 3.0
"""Bound on the log scale of one coupling layer, by tanh."""


def _log_normal(standard: Float[Array, " P"]) -> Float[Array, ""]:
    """Log density of independent standard Gaussians, nats."""
    return -0.5 * jnp.sum(standard**2) - 0.5 * standard.size * float(np.log(2 * np.pi))


class Frame(NamedTuple):
    """The affine map z = centre + factor u; a vector ``factor`` is a diagonal."""

    centre: Float[Array, " P"]
    factor: Float[Array, "P *P"]

    def apply(self, u: Float[Array, " P"]) -> Float[Array, " P"]:
        """From whitened to the model's coordinates."""
        return self.centre + (self.factor * u if self.factor.ndim == 1 else self.factor @ u)

    @property
    def log_det(self) -> Float[Array, ""]:
        """Log of the volume in z of a unit volume of u."""
        diagonal = self.factor if self.factor.ndim == 1 else jnp.diagonal(self.factor)
        return jnp.sum(jnp.log(jnp.abs(diagonal)))


class Guide(ABC):
    """A family of distributions of u; instances are hashable, their parameters are in ``params``."""

    name: ClassVar[str]

    natural: ClassVar[bool] = False
    """Whether :mod:`probam.inference.svi.steps` knows its natural gradient."""

    wants_matrix: ClassVar[bool] = False
    """Whether it uses a full covariance at the start."""

    def frame(self, centre: Float[Array, " P"], spread: Float[Array, "P *P"]) -> Frame:
        """Whitened coordinates.

        Args:
            centre: where the guide starts.
            spread: standard deviations of the posterior there, or a factor of its covariance.
        """
        return Frame(centre, spread)

    @abstractmethod
    def start(
        self, key: jax.Array, centre: Float[Array, " P"], spread: Float[Array, "P *P"], scale: Float[Array, ""]
    ) -> Params:
        """Parameters of a guide at ``centre`` with ``scale`` times the ``spread``."""

    @abstractmethod
    def draw(self, params: Params, key: jax.Array) -> Float[Array, " P"]:
        """One draw of u, differentiable in ``params``."""

    @abstractmethod
    def log_density(self, params: Params, u: Float[Array, " P"]) -> Float[Array, ""]:
        """Log density at u, nats."""


@dataclass(frozen=True)
class MeanField(Guide):
    """Independent Gaussians."""

    name: ClassVar[str] = "mean_field"
    natural: ClassVar[bool] = True

    @override
    def start(self, key: jax.Array, centre: jax.Array, spread: jax.Array, scale: jax.Array) -> Params:
        """At zero, with one scale."""
        return {"loc": jnp.zeros_like(centre), "log_scale": jnp.full_like(centre, jnp.log(scale))}

    def draw(self, params: Params, key: jax.Array) -> jax.Array:
        """Location plus scaled noise."""
        loc = params["loc"]
        return loc + jnp.exp(params["log_scale"]) * jax.random.normal(key, loc.shape, loc.dtype)

    def log_density(self, params: Params, u: jax.Array) -> jax.Array:
        """Sum over coordinates."""
        standard = (u - params["loc"]) * jnp.exp(-params["log_scale"])
        return _log_normal(standard) - jnp.sum(params["log_scale"])


@dataclass(frozen=True)
class LowRank(Guide):
    """Gaussian whose covariance is a diagonal plus a product of rank ``rank`` (0: the square root of P)."""

    rank: int = 0

    name: ClassVar[str] = "low_rank"

    @override
    def start(self, key: jax.Array, centre: jax.Array, spread: jax.Array, scale: jax.Array) -> Params:
        """A mean field; the factor starts at zero."""
        rank = self.rank or max(1, round(len(centre) ** 0.5))
        return {
            "loc": jnp.zeros_like(centre),
            "log_scale": jnp.full_like(centre, jnp.log(scale)),
            "factor": jnp.zeros((len(centre), rank), centre.dtype),
        }

    def draw(self, params: Params, key: jax.Array) -> jax.Array:
        """Location plus diagonal and common noise."""
        loc, factor = params["loc"], params["factor"]
        key_own, key_common = jax.random.split(key)
        own = jnp.exp(params["log_scale"]) * jax.random.normal(key_own, loc.shape, loc.dtype)
        return loc + own + factor @ jax.random.normal(key_common, factor.shape[-1:], loc.dtype)

    def log_density(self, params: Params, u: jax.Array) -> jax.Array:
        """By Woodbury's identity."""
        law = dist.LowRankMultivariateNormal(
            params["loc"], params["factor"], jnp.exp(2 * params["log_scale"]), validate_args=False
        )
        return jnp.asarray(law.log_prob(u))


@dataclass(frozen=True)
class Full(Guide):
    """Gaussian with a full covariance, whose Cholesky factor is ``lower`` and, on the diagonal, exp ``log_scale``."""

    name: ClassVar[str] = "full"
    natural: ClassVar[bool] = True
    wants_matrix: ClassVar[bool] = True

    @override
    def start(self, key: jax.Array, centre: jax.Array, spread: jax.Array, scale: jax.Array) -> Params:
        """At zero, with one scale."""
        return {
            "loc": jnp.zeros_like(centre),
            "log_scale": jnp.full_like(centre, jnp.log(scale)),
            "lower": jnp.zeros((len(centre), len(centre)), centre.dtype),
        }

    def draw(self, params: Params, key: jax.Array) -> jax.Array:
        """Location plus the factor times noise."""
        loc = params["loc"]
        return loc + full_factor(params) @ jax.random.normal(key, loc.shape, loc.dtype)

    def log_density(self, params: Params, u: jax.Array) -> jax.Array:
        """By a triangular solve."""
        standard = jax.scipy.linalg.solve_triangular(full_factor(params), u - params["loc"], lower=True)
        return _log_normal(standard) - jnp.sum(params["log_scale"])


def full_factor(params: Params) -> Float[Array, "P P"]:
    """The Cholesky factor of the covariance of :class:`Full`."""
    return jnp.tril(params["lower"], -1) + jnp.diag(jnp.exp(params["log_scale"]))


@dataclass(frozen=True)
class Flow(Guide):
    """Affine coupling layers: each moves and scales some coordinates by functions of the others.

    It begins as the mean field (last layers of the networks are zero) and contains every law in which one group of
    coordinates is Gaussian given the other: a funnel, for one.
    """

    name: ClassVar[str] = "flow"

    @override
    def start(self, key: jax.Array, centre: jax.Array, spread: jax.Array, scale: jax.Array) -> Params:
        """A mean field; the networks start as zero."""
        size, dtype = len(centre), centre.dtype
        inner = jax.random.normal(key, (_NUM_LAYERS, size, _HIDDEN), dtype) * size**0.5
        return {
            "loc": jnp.zeros_like(centre),
            "log_scale": jnp.full_like(centre, jnp.log(scale)),
            "inner": inner,
            "inner_bias": jnp.zeros((_NUM_LAYERS, _HIDDEN), dtype),
            "outer": jnp.zeros((_NUM_LAYERS, _HIDDEN, 2 * size), dtype),
            "outer_bias": jnp.zeros((_NUM_LAYERS, 2 * size), dtype),
        }

    def draw(self, params: Params, key: jax.Array) -> jax.Array:
        """Noise through the layers."""
        loc = params["loc"]

        def layer(v: jax.Array, numbers: tuple[jax.Array, Params]) -> tuple[jax.Array, None]:
            shift, stretch = _coupling(*numbers, v)
            return v * jnp.exp(stretch) + shift, None

        noise = jax.random.normal(key, loc.shape, loc.dtype)
        v, _ = jax.lax.scan(layer, noise, (_kept(loc.size), _networks(params)))
        return loc + jnp.exp(params["log_scale"]) * v

    def log_density(self, params: Params, u: jax.Array) -> jax.Array:
        """By running the layers backwards."""

        def layer(v: jax.Array, numbers: tuple[jax.Array, Params]) -> tuple[jax.Array, jax.Array]:
            shift, stretch = _coupling(*numbers, v)
            return (v - shift) * jnp.exp(-stretch), jnp.sum(stretch)

        outer = (u - params["loc"]) * jnp.exp(-params["log_scale"])
        v, stretches = jax.lax.scan(layer, outer, (_kept(u.size), _networks(params)), reverse=True)
        return _log_normal(v) - jnp.sum(params["log_scale"]) - jnp.sum(stretches)


def _networks(params: Params) -> Params:
    """Weights of the coupling networks of :class:`Flow`, layers first."""
    return {name: params[name] for name in ("inner", "inner_bias", "outer", "outer_bias")}


def _kept(size: int) -> jax.Array:
    """Which coordinates each coupling layer keeps, (layers, P): even and odd ones in turn, then either half."""
    index = np.arange(size)
    return jnp.asarray(np.stack([index % 2 == 0, index % 2 == 1, index < size // 2, index >= size // 2]))


def _coupling(kept: jax.Array, network: Params, v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Shift and log scale of the coordinates that a layer moves, from those that it keeps; zero elsewhere.

    Inputs are averaged, not summed, so that a step of Adam moves an output by about its rate whatever the widths.
    """
    hidden = jnp.tanh(jnp.where(kept, v, 0) @ network["inner"] / v.size + network["inner_bias"])
    shift, raw = jnp.split(hidden @ network["outer"] / _HIDDEN + network["outer_bias"], 2)
    stretch = _MOST_STRETCH * jnp.tanh(raw / _MOST_STRETCH)
    return jnp.where(kept, 0, shift), jnp.where(kept, 0, stretch)


@dataclass(frozen=True)
class Sticks(Guide):
    r"""Beta sticks and Gaussians.

    The ``positions`` of z are logits of sticks up to ``offsets``: :math:`z = o + \operatorname{logit} V`,
    :math:`V \sim \mathrm{Beta}(a, b)`. Learned are the logit of a / (a + b), in units of its spread at the start, and
    log(a + b). Given assignments the sticks of a DP, a Pitman-Yor process and a Dirichlet *are* independent Betas.
    """

    positions: tuple[int, ...]
    offsets: tuple[float, ...]

    name: ClassVar[str] = "sticks"
    natural: ClassVar[bool] = True

    def frame(self, centre: jax.Array, spread: jax.Array) -> Frame:
        """Sticks remain logits; the rest is whitened."""
        at = np.asarray(self.positions)
        return Frame(centre.at[at].set(jnp.asarray(self.offsets, centre.dtype)), spread.at[at].set(1))

    @override
    def start(self, key: jax.Array, centre: jax.Array, spread: jax.Array, scale: jax.Array) -> Params:
        """Betas that match the logits' spread at the start."""
        at = np.asarray(self.positions)
        rest = np.setdiff1d(np.arange(len(centre)), at)
        logit, variance = centre[at] - jnp.asarray(self.offsets, centre.dtype), spread[at] ** 2
        # for large a and b the variance of logit V is 1/a + 1/b = 1 / (n v (1 - v)), n = a + b
        inverse = jnp.exp(jnp.logaddexp(0, logit)) + jnp.exp(jnp.logaddexp(0, -logit))
        return {
            "loc": jnp.zeros_like(centre[rest]),
            "log_scale": jnp.full_like(centre[rest], jnp.log(scale)),
            "logit": jnp.zeros_like(logit),
            "logit_start": logit,
            "logit_unit": spread[at],
            "log_total": jnp.log(inverse / variance) - 2 * jnp.log(scale),
        }

    def betas(self, params: Params) -> tuple[Float[Array, " J"], Float[Array, " J"]]:
        """a and b of each stick."""
        fixed = jax.lax.stop_gradient(params)
        logit = fixed["logit_start"] + fixed["logit_unit"] * params["logit"]
        total = params["log_total"]
        return jnp.exp(total + jax.nn.log_sigmoid(logit)), jnp.exp(total + jax.nn.log_sigmoid(-logit))

    def with_betas(self, params: Params, first: Float[Array, " J"], second: Float[Array, " J"]) -> Params:
        """Parameters with these a and b instead of their own."""
        logit = (jnp.log(first) - jnp.log(second) - params["logit_start"]) / params["logit_unit"]
        return params | {"logit": logit, "log_total": jnp.log(first + second)}

    def joined(self, logit: Float[Array, " J"], gaussian: Float[Array, " R"]) -> Float[Array, " P"]:
        """u with the sticks at their positions."""
        at, size = np.asarray(self.positions), len(self.positions) + len(gaussian)
        u = jnp.zeros(size, gaussian.dtype).at[at].set(logit)
        return u.at[np.setdiff1d(np.arange(size), at)].set(gaussian)

    def split(self, u: Float[Array, " P"]) -> tuple[Float[Array, " J"], Float[Array, " R"]]:
        """Inverse of :meth:`joined`."""
        at = np.asarray(self.positions)
        return u[at], u[np.setdiff1d(np.arange(len(u)), at)]

    def draw(self, params: Params, key: jax.Array) -> jax.Array:
        """Log ratios of Gamma draws (implicit gradients) and Gaussians."""
        key_sticks, key_rest = jax.random.split(key)
        loc = params["loc"]
        gaussian = loc + jnp.exp(params["log_scale"]) * jax.random.normal(key_rest, loc.shape, loc.dtype)
        return self.joined(draw_logits(key_sticks, *self.betas(params)), gaussian)

    def log_density(self, params: Params, u: jax.Array) -> jax.Array:
        r"""Of logit V: :math:`a \log V + b \log(1 - V) - \log B(a, b)`; and of the Gaussians."""
        first, second = self.betas(params)
        logit, rest = self.split(u)
        sticks = first * jax.nn.log_sigmoid(logit) + second * jax.nn.log_sigmoid(-logit) - log_beta(first, second)
        standard = (rest - params["loc"]) * jnp.exp(-params["log_scale"])
        gaussian = _log_normal(standard) - jnp.sum(params["log_scale"])
        return jnp.sum(sticks) + gaussian


def draw_logits(key: jax.Array, first: Float[Array, "*J"], second: Float[Array, "*J"]) -> Float[Array, "*J"]:
    """Logits of Beta draws, differentiable in both numbers."""
    logs = jax.random.loggamma(key, jnp.stack([first, second]), dtype=first.dtype)
    return logs[0] - logs[1]


GUIDES = ("mean_field", "low_rank", "full", "flow", "sticks")


def guide_for(name: str, coordinates: Coordinates) -> Guide:
    """The guide called ``name`` for a model's coordinates.

    Raises:
        InputError: for an unknown name, and for "sticks" where the weights have none.
    """
    if name == "sticks":
        positions: list[int] = []
        offsets: list[float] = []
        begin = 0
        for site, value in coordinates.zeros.items():
            simplex = isinstance(coordinates.transforms[site], StickBreakingTransform)
            if site not in coordinates.model.prior and (site == "sticks" or simplex):
                positions += range(begin, begin + value.size)
                offsets += list(np.log(value.size - np.arange(value.size))) if simplex else [0.0] * value.size
            begin += value.size
        if not positions and "proportions" in coordinates.transforms:
            raise InputError(
                "guide: 'sticks' does not keep the weights in order; use it with order 'none' or 'location'"
            )
        if not positions:
            raise InputError(
                "guide: 'sticks' needs weights 'dirichlet', 'dp' or 'pyp', and more than one memory; "
                "use 'mean_field' with fixed weights"
            )
        return Sticks(tuple(positions), tuple(float(offset) for offset in offsets))
    known: dict[str, Guide] = {"mean_field": MeanField(), "low_rank": LowRank(), "full": Full(), "flow": Flow()}
    if name not in known:
        raise InputError(f"guide: expected one of {', '.join(GUIDES)}; got {name!r}")
    return known[name]
