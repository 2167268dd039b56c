r"""Gibbs sampling where entries are missing: they are drawn like everything else that is not known.

A sweep of :mod:`probam.inference.gibbs.kernels` leaves invariant the posterior of sites and labels given complete data.
Before it, what is missing is drawn from its full conditional (Tanner & Wong 1987, data augmentation),

.. math:: x_{n, \text{missing}} \sim p(\cdot \mid x_{n, \text{observed}}, \theta_{z_n}),

so that both together leave invariant the posterior given the observed entries alone. For features that are independent
within a memory that is the memory's own law of the missing ones. For a multivariate normal with precision
:math:`\Lambda`

.. math:: x_m \sim \mathcal N(\mu_m - \Lambda_{mm}^{-1} \Lambda_{mo} (x_o - \mu_o), \; \Lambda_{mm}^{-1}).

Where the labels' law given weights and memories is the product of the weights (all kernels but ``slice``, and no free
number of memories) labels and missing entries are drawn together, the labels first, by the density of the observed
entries: a datum then changes its memory as easily as if nothing had been filled in.
"""

from dataclasses import replace
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Int
from numpyro.distributions import Distribution

from probam.distributions.mixture import MemoryMixture
from probam.errors import InputError
from probam.family import Model, Params
from probam.inference.common.coordinates import Coordinates
from probam.inference.common.rows import by_pattern
from probam.inference.gibbs.kernels import Settings, State, sweep
from probam.inference.gibbs.moves import allowed_only, draw_labels
from probam.placement import each

__all__ = ["Patterns", "completed", "observed_log_joint", "patterns", "sweep_with_missing"]


class Patterns(NamedTuple):
    """Rows in groups that lack the same features each; a group is filled up with copies of its first row."""

    row: Int[Array, "G B"]  # which row stands where
    place: Int[Array, " N"]  # where a row stands, groups one after another


def patterns(x: np.ndarray) -> Patterns:
    """The groups of :func:`probam.inference.common.rows.by_pattern`, as numbers of rows."""
    number = np.arange(1, len(x) + 1, dtype=np.float64)
    numbers = by_pattern(x, number)[1].astype(np.int64)  # weighted by its number a row says which it is; 0 for copies
    place = np.empty(len(x), np.int32)
    taken = np.flatnonzero(numbers)
    place[numbers.ravel()[taken] - 1] = taken
    row = np.where(numbers > 0, numbers, numbers[:, :1]) - 1
    return Patterns(jnp.asarray(row, jnp.int32), jnp.asarray(place))


def observed_log_joint(mixture: MemoryMixture, x: Float[Array, "N D"], groups: Patterns | None) -> Float[Array, "N K"]:
    """Log of weight times density of the observed entries (nats); matrices are inverted once for each group."""
    if groups is None or not isinstance(mixture.bank, dist.MultivariateNormal):
        return mixture.log_joint(x)
    rows = x[groups.row]
    numbers = mixture.num_components * (rows[0].size + x.shape[1] ** 2)
    by_group = each(mixture.log_joint_of_pattern, rows, numbers=numbers)
    return by_group.reshape(-1, mixture.num_components)[groups.place]


def completed(
    key: jax.Array, bank: Distribution, x: Float[Array, "N D"], labels: Int[Array, " N"], groups: Patterns | None
) -> Float[Array, "N D"]:
    """The data with missing entries drawn given the observed ones and each datum's memory.

    Raises :class:`probam.errors.InputError` for a bank whose conditional law is not known.
    """
    if isinstance(bank, dist.MultivariateNormal) and groups is not None:
        filled = _of_normals(key, bank, x[groups.row], labels[groups.row])
        return filled.reshape(-1, x.shape[1])[groups.place]
    if isinstance(bank, dist.Independent) and not bank.base_dist.event_shape:
        base = bank.base_dist
        own = {name: jnp.broadcast_to(getattr(base, name), bank.shape())[labels] for name in base.arg_constraints}
        drawn = cast(Any, type(base))(**own, validate_args=False).sample(key)
        return jnp.where(jnp.isnan(x), jnp.asarray(drawn, x.dtype), x)
    raise InputError(
        f"data: entries are missing, and engine 'gibbs' cannot draw those of a {type(bank).__name__}; "
        "use engine 'nuts', 'svi' or 'smc'"
    )


def _of_normals(
    key: jax.Array, bank: dist.MultivariateNormal, x: Float[Array, "G B D"], labels: Int[Array, "G B"]
) -> Float[Array, "G B D"]:
    """Rows of each group with what they lack drawn from its regression on the rest."""
    loc = jnp.broadcast_to(bank.loc, bank.shape()).astype(x.dtype)
    identity = jnp.eye(x.shape[-1], dtype=x.dtype)
    precision = jnp.broadcast_to(bank.precision_matrix, (*bank.shape(), x.shape[-1])).astype(x.dtype)
    noise = jax.random.normal(key, x.shape, x.dtype)

    def group(inputs: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        rows, labels, noise = inputs
        lacking = jnp.isnan(rows[0])
        factor = jnp.linalg.cholesky(jnp.where(lacking[:, None] & lacking, precision, identity))
        half = jax.scipy.linalg.solve_triangular(factor, jnp.broadcast_to(identity, factor.shape), lower=True)[labels]
        gap = jnp.where(lacking, 0, rows - loc[labels])
        pull = -jnp.where(lacking, jnp.einsum("bij,bj->bi", precision[labels], gap, precision="highest"), 0)
        white = jnp.einsum("bij,bj->bi", half, pull, precision="highest") + noise
        shift = jnp.einsum("bji,bj->bi", half, white, precision="highest")
        return jnp.where(lacking, loc[labels] + shift, rows)

    filled: jax.Array = each(group, (x, labels, noise), numbers=x[0].size * x.shape[-1])
    return filled


def sweep_with_missing(
    key: jax.Array,
    model: Model,
    x: Float[Array, "N D"],
    state: State,
    settings: Settings,
    groups: Patterns | None,
) -> tuple[State, tuple[Params, dict[str, jax.Array]]]:
    """Missing entries, then a sweep at the completed data: the next state, and the sites with their statistics.

    ``lp`` is the log joint of the observed entries. Under a target whose ``lp`` is that of the labels (a free number of
    memories, the conjugate base) it is the log joint of labels and completed data.
    """
    key_labels, key_entries, key_sweep = jax.random.split(key, 3)
    mixture, labels = model.mixture(state.params), state.labels
    log_joint = allowed_only(model, observed_log_joint(mixture, x, groups))
    if not settings.exchangeable and settings.kernel != "slice":
        labels, _ = draw_labels(key_labels, log_joint, masked=model.row_weight is not None)
    filled = completed(key_entries, mixture.bank, x, labels, groups)
    complete: Model = replace(cast(Any, model), missing=False)
    after, (params, stats) = sweep(key_sweep, complete, filled, state._replace(labels=labels), settings)
    if not (settings.exchangeable or settings.integrated):
        if any(params[name] is not state.params[name] for name in params):  # kept are the sites after the sweep
            log_joint = allowed_only(model, observed_log_joint(model.mixture(params), x, groups))
        coordinates = Coordinates(model)
        free = coordinates.unconstrain({name: params[name] for name in coordinates.transforms})
        stats = stats | {"lp": jnp.sum(logsumexp(log_joint, axis=-1)) + coordinates.log_prior(free)}
    return after, (params, stats)
