r"""Attention behind a normalisation as a von Mises-Fisher mixture, and the way back.

What attention asks of a normalised query \(\hat x\) is linear: \(\text{logit}_i = g_i \cdot \hat x + c_i\)
(:class:`Scores`). After a layer norm \(\hat x\) has zero sum and length R, so it is a direction u on the sphere
\(S^{D-2}\) of the plane \(1 \cdot x = 0\), and

.. math::
    \kappa_i = R\,|P g_i|, \quad m_i = P g_i / |P g_i|, \quad
    \pi_i \propto e^{c_i} / C_{D-1}(\kappa_i), \qquad P = I - \mathbf 1 \mathbf 1^\top / D,

make the attention weights the posterior of the memory given u. After a root-mean-square norm nothing is removed: P = I
and the sphere is \(S^{D-1}\), with \(C_D\). Schaeffer et al. (2023), Eq. 9, print \(\pi_i \propto e^{c_i}\), which
holds only when all concentrations are equal.

The radius is \(R = \sqrt{D}\sqrt{v / (v + \epsilon)}\), v the variance (mean square) of the input: the same for all
queries only at \(\epsilon = 0\). :func:`posterior` gives each query its own. For \(\epsilon > 0\) there is also one
mixture for all of them, :func:`lifted_mixture`: add to u the coordinate \(\sqrt{\epsilon / (v + \epsilon)}\), in which
no memory lies.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.scipy.special import logsumexp
from jaxtyping import Array, ArrayLike, Float

from probam.distributions.mixture import MemoryMixture
from probam.distributions.von_mises_fisher import VonMisesFisher
from probam.errors import InputError
from probam.numerics.bessel import log_normalizer

__all__ = [
    "Norm",
    "Scores",
    "keys_of",
    "lift",
    "lifted_mixture",
    "log_evidence",
    "log_mass",
    "mixture",
    "place",
    "posterior",
    "scores",
    "zero_sum_basis",
]

Norm = Literal["layer", "rms"]
"""Which normalisation: ``layer`` removes the mean, ``rms`` does not."""


class Scores(NamedTuple):
    r"""Attention as linear functions of the normalised query: \(\text{logit}_i = g_i \cdot \hat x + c_i\)."""

    slopes: Float[Array, "K D"]
    offsets: Float[Array, " K"]


def scores(
    keys: Float[ArrayLike, "K H"],
    gamma: Float[ArrayLike, "*#D"],
    delta: Float[ArrayLike, "*#D"],
    *,
    query_projection: Float[ArrayLike, "H D"] | None = None,
    query_bias: Float[ArrayLike, " H"] | None = None,
    scale: float | None = None,
) -> Scores:
    r"""What a head asks of the normalised query.

    .. math:: g_i = \gamma \odot a_i, \qquad c_i = a_i \cdot \delta + s\,k_i \cdot b_Q, \qquad a_i = s\,W_Q^\top k_i

    Args:
        keys: \(k_i\) as they meet the query, after the key projection and its bias.
        gamma: scale of the normalisation, a number or one for each feature.
        delta: shift of the normalisation.
        query_projection: \(W_Q\) as (out, in), the layout of ``torch.nn.Linear``; None for none.
        query_bias: \(b_Q\), None for none.
        scale: s, the factor of the dot products; None means \(1 / \sqrt{H}\). The paper's attention has 1.0.

    Raises:
        InputError: for shapes that do not fit and for numbers that are not finite.
    """
    keys = _known("keys", keys, 2)
    num_features = keys.shape[1]
    scaled = keys * (num_features**-0.5 if scale is None else scale)
    slopes = scaled
    if query_projection is not None:
        matrix = _known("query_projection", query_projection, 2)
        if matrix.shape[0] != num_features:
            raise InputError(
                f"query_projection: expected shape ({num_features}, D), one row for each feature of a key; "
                f"got {matrix.shape}"
            )
        slopes = _dot(scaled, matrix)
    offsets = jnp.sum(slopes * _per_feature("delta", delta, slopes), axis=-1)
    if query_bias is not None:
        offsets = offsets + jnp.sum(scaled * _per_feature("query_bias", query_bias, scaled), axis=-1)
    return Scores(_per_feature("gamma", gamma, slopes) * slopes, offsets)


def zero_sum_basis(dim: int) -> npt.NDArray[np.float64]:
    """Orthonormal columns (D, D-1) of the plane 1.x = 0: all but the first of the mirror that takes e_1 to 1/sqrt(D).

    Raises :class:`probam.errors.InputError` below three dimensions, where the plane has no sphere of directions.
    """
    if dim < 3:
        raise InputError(f"features: a layer norm leaves directions only from 3 features up; got {dim}")
    normal = np.full(dim, dim**-0.5)
    normal[0] -= 1.0
    mirror: npt.NDArray[np.float64] = np.eye(dim) - np.outer(normal, normal) * (2 / (normal @ normal))
    return mirror[:, 1:]


def mixture(scores: Scores, norm: Norm, radius: Float[ArrayLike, ""] | None = None) -> MemoryMixture:
    r"""The mixture whose posterior given the direction of the normalised query is the attention to it.

    Its mean directions are coordinates in :func:`zero_sum_basis` for a layer norm (event shape (D-1,)). ``radius`` is
    the length of the normalised query, \(\sqrt{D}\) for None. A key without pull (concentration 0) is a uniform
    memory.
    """
    slopes, logits, kappa = _concentrations(scores, norm, radius)
    pulls = kappa > 0
    first = jnp.eye(1, slopes.shape[1], dtype=slopes.dtype)
    length = jnp.linalg.norm(jnp.where(pulls[:, None], slopes, first), axis=-1, keepdims=True)
    directions = jnp.where(pulls[:, None], slopes, first) / length
    return MemoryMixture(jax.nn.log_softmax(logits), VonMisesFisher(directions, kappa))


def log_mass(scores: Scores, norm: Norm, radius: Float[ArrayLike, ""] | None = None) -> Float[Array, ""]:
    r"""\(\log Z = \log \sum_j e^{c_j} / C(\kappa_j)\): log-sum-exp of the logits minus log density of the mixture."""
    return logsumexp(_concentrations(scores, norm, radius)[1])


def place(
    x: Float[ArrayLike, "N D"], norm: Norm, epsilon: float | Float[ArrayLike, ""] = 1e-5
) -> tuple[Float[Array, "N C"], Float[Array, " N"]]:
    r"""Where the normalisation (before gamma and delta) puts each input: direction u on the sphere, and radius R.

    C is D-1 for a layer norm (coordinates in :func:`zero_sum_basis`), else D.

    Raises :class:`probam.errors.InputError` for an input without direction (constant, or zero).
    """
    inside, spread = _inside(x, norm)
    length = jnp.sqrt(spread)
    radius = jnp.sqrt(jnp.shape(x)[1] * spread / (spread + epsilon))
    return inside / (length * jnp.shape(x)[1] ** 0.5)[:, None], radius


def posterior(
    scores: Scores, x: Float[ArrayLike, "N D"], norm: Norm, epsilon: float | Float[ArrayLike, ""] = 1e-5
) -> Float[Array, "N K"]:
    """Posterior probability of each memory given each input, every query in the mixture of its own radius.

    Equal to the attention weights.
    """
    directions, radius = place(x, norm, epsilon)
    shares: Array = jax.vmap(lambda u, r: mixture(scores, norm, r).responsibilities(u))(directions, radius)
    return shares


def log_evidence(
    scores: Scores, x: Float[ArrayLike, "N D"], norm: Norm, epsilon: float | Float[ArrayLike, ""] = 1e-5
) -> Float[Array, " N"]:
    r"""\(\log p(u) + \log Z\) for each input, in nats: equal to the log-sum-exp of its logits."""
    directions, radius = place(x, norm, epsilon)

    def one(u: Array, r: Array) -> Array:
        density: Array = mixture(scores, norm, r).log_prob(u)
        return density + log_mass(scores, norm, r)

    evidence: Array = jax.vmap(one)(directions, radius)
    return evidence


def lifted_mixture(scores: Scores, norm: Norm) -> MemoryMixture:
    r"""One mixture for all queries of a normalisation with \(\epsilon > 0\), one dimension up.

    Memories have a last coordinate of zero, concentrations \(\sqrt{D} |P g_i|\), and the normaliser of the larger
    sphere. The posterior given :func:`lift` of an input is the attention to it.
    """
    width = scores.slopes.shape[1]
    flat = Scores(_in_sphere(scores.slopes, norm), scores.offsets)
    raised = Scores(jnp.pad(flat.slopes, ((0, 0), (0, 1))), flat.offsets)
    return mixture(raised, "rms", width**0.5)


def lift(x: Float[ArrayLike, "N D"], norm: Norm, epsilon: float | Float[ArrayLike, ""] = 1e-5) -> Float[Array, "N A"]:
    r"""Directions one dimension up, \((\hat x / \sqrt D, \sqrt{\epsilon / (v + \epsilon)})\), of length one."""
    inside, spread = _inside(x, norm)
    last = jnp.sqrt(epsilon / (spread + epsilon))[:, None]
    return jnp.concatenate([inside / jnp.sqrt(jnp.shape(x)[1] * (spread + epsilon))[:, None], last], axis=-1)


def keys_of(
    mixture: MemoryMixture,
    gamma: Float[ArrayLike, "*#D"],
    delta: Float[ArrayLike, "*#D"],
    norm: Norm,
    *,
    dim: int,
    radius: float | None = None,
    check: bool = True,
) -> Float[Array, "K D"]:
    r"""Keys with which attention (scale 1, no projection) behind this normalisation has this mixture as its posterior.

    .. math:: k_i = \gamma^{-1} \odot (\kappa_i m_i / R + t_i \mathbf 1)

    Behind a layer norm the part \(t_i\) is not seen by the concentrations and sets the mixing weight:
    \(k_i \cdot \delta = \log \pi_i + \log C_{D-1}(\kappa_i)\) (CLAIMS A14), which needs
    \(\sum_j \delta_j / \gamma_j \neq 0\). Behind an RMS norm there is no such part: \(t_i = 0\), and the weights follow
    from the concentrations. ``check=False`` leaves the checks of values out (inside ``jit``).

    Raises:
        InputError: when gamma has a zero, the weights of a layer norm cannot be set because
            \(\sum_j \delta_j / \gamma_j = 0\), a weight is zero, or the weights of an RMS norm are not those that the
            concentrations, gamma and delta force.
    """
    bank = mixture.bank
    if not isinstance(bank, VonMisesFisher):
        raise InputError(f"mixture: expected von Mises-Fisher memories; got {type(bank).__name__}")
    size = dim - 1 if norm == "layer" else dim
    if bank.event_shape[0] != size:
        raise InputError(f"mixture: expected directions with {size} coordinates for {dim} features; got {bank.dim}")
    pulls = (bank.concentration / (dim**0.5 if radius is None else radius))[:, None] * bank.mean_direction
    if norm == "layer":
        pulls = _dot(pulls, jnp.asarray(zero_sum_basis(dim).T, pulls.dtype))
    gamma = jnp.broadcast_to(_per_feature("gamma", gamma, pulls), (dim,))
    delta = jnp.broadcast_to(_per_feature("delta", delta, pulls), (dim,))
    keys = pulls / gamma
    missing = mixture.log_weights + log_normalizer(size, bank.concentration) - jnp.sum(keys * delta, axis=-1)
    missing = missing - jnp.max(missing)
    handle = jnp.sum(delta / gamma)
    if check:
        _check_representable(np.asarray(gamma), np.asarray(delta), np.asarray(missing), norm)
    return keys + (missing / handle)[:, None] / gamma if norm == "layer" else keys


def _check_representable(
    gamma: npt.NDArray[np.floating], delta: npt.NDArray[np.floating], missing: npt.NDArray[np.floating], norm: Norm
) -> None:
    """Raise where no keys have the wanted mixing weights; ``missing`` is what the concentrations leave to be set."""
    eps = np.finfo(missing.dtype).eps
    if np.any(gamma == 0):
        raise InputError("gamma: expected no zeros; a feature that is switched off cannot carry a memory")
    if not np.isfinite(missing).all():
        raise InputError("mixture: expected weights above zero; attention switches no key off")
    gap = float(np.max(np.abs(missing)))
    if norm == "rms" and gap > eps**0.5:
        raise InputError(
            f"mixture: behind an RMS norm the concentrations fix the mixing weights, and these differ by {gap:.3g} "
            "nats; use an untied layer or a layer norm"
        )
    terms = delta / gamma
    if norm == "layer" and np.abs(terms.sum()) <= 16 * eps * np.abs(terms).sum():
        raise InputError(
            "delta: expected sum(delta / gamma) other than 0; without it the mixing weights are tied to the "
            "concentrations (use an untied layer)"
        )


def _concentrations(
    scores: Scores, norm: Norm, radius: Float[ArrayLike, ""] | None
) -> tuple[Float[Array, "K C"], Float[Array, " K"], Float[Array, " K"]]:
    """Slopes on the sphere, unnormalised log weights c_i - log C(kappa_i), and concentrations."""
    width = scores.slopes.shape[1]
    slopes = _in_sphere(scores.slopes, norm)
    square = jnp.sum(slopes**2, axis=-1)
    length = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
    kappa = length * jnp.asarray(width**0.5 if radius is None else radius, slopes.dtype)
    return slopes, scores.offsets - log_normalizer(slopes.shape[1], kappa), kappa


def _in_sphere(rows: Float[Array, "N D"], norm: Norm) -> Float[Array, "N C"]:
    """Coordinates in the space whose unit sphere holds the directions."""
    if norm == "rms":
        return rows
    if norm != "layer":
        raise InputError(f"norm: expected 'layer' or 'rms'; got {norm!r}")
    return _dot(rows, jnp.asarray(zero_sum_basis(rows.shape[1]), rows.dtype))


def _inside(x: Float[ArrayLike, "N D"], norm: Norm) -> tuple[Float[Array, "N C"], Float[Array, " N"]]:
    """The inputs in the space of the sphere, and their variance (mean square)."""
    x = _known("x", x, 2)
    if norm == "layer":  # first, or a common offset would cancel inside the basis
        x = x - jnp.mean(x, axis=-1, keepdims=True)
    inside = _in_sphere(x, norm)
    spread = jnp.sum(inside**2, axis=-1) / x.shape[1]
    if not isinstance(spread, jax.core.Tracer) and not np.asarray(spread > 0).all():
        row = int(np.flatnonzero(~np.asarray(spread > 0))[0])
        raise InputError(
            f"x: row {row} is {'constant' if norm == 'layer' else 'zero'} and has no direction; leave it out"
        )
    return inside, spread


def _dot(left: Float[Array, "N I"], right: Float[Array, "I J"]) -> Float[Array, "N J"]:
    return jnp.matmul(left, right, precision="highest")


def _known(name: str, value: ArrayLike, ndim: int) -> Array:
    """``value`` as a floating array with that many axes, finite where it is known."""
    array = jnp.asarray(value)
    array = array.astype(jnp.result_type(array, float))
    if array.ndim != ndim or 0 in array.shape:
        raise InputError(f"{name}: expected {ndim} axes, none of them empty; got shape {array.shape}")
    if not isinstance(array, jax.core.Tracer) and not np.isfinite(np.asarray(array)).all():
        raise InputError(f"{name}: expected finite numbers; got NaN or infinity")
    return array


def _per_feature(name: str, value: ArrayLike, rows: Float[Array, "N D"]) -> Array:
    array = jnp.asarray(value, rows.dtype)
    if array.shape not in ((), rows.shape[-1:]):
        raise InputError(
            f"{name}: expected a number or one for each of the {rows.shape[-1]} features; got shape {array.shape}"
        )
    return array
