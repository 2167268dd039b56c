r"""Where optimisers and chains begin: labels of the data, at k-means++ seeds or given, made into parameters.

Arthur & Vassilvitskii (2007): the next seed is a datum drawn with probability proportional to its squared distance
from the seeds so far. Distances are taken in the model's own metric: each feature in units of its spread, in units of a
memory's guessed covariance where features are correlated within a memory, as they are on the sphere.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from numpyro.distributions import Distribution, biject_to

from probam.compiled import compiled_by_size, is_small
from probam.errors import InputError
from probam.family import Model, Params
from probam.family.capabilities import Absent, DataSpace, Gradients, Guide, Start
from probam.inference.common.rows import without_missing
from probam.placement import each

__all__ = [
    "Given",
    "active_counts",
    "check_gradient",
    "check_guide",
    "hard_assignment",
    "kmeans_plus_plus",
    "metric_rows",
    "starting_params",
    "starts",
    "systematic_sample",
]

_ENOUGH = 8192
_ENOUGH_PER_MEMORY = 128
"""Rows from which seeds are drawn: so many, and so many for each memory. At most twice as many are all used."""


def check_gradient(model: Model) -> None:
    """Raise :class:`probam.errors.InputError` for a family that no engine can fit by following gradients."""
    gradients = Gradients.ask(model.family)
    if isinstance(gradients, Absent):
        raise InputError(f"engine: family {model.family.name!r}: {gradients.reason}; use engine 'em'")


def check_guide(model: Model) -> None:
    """Raise :class:`probam.errors.InputError` for a family that SVI cannot fit."""
    check_gradient(model)
    guide = Guide.ask(model.family)
    if isinstance(guide, Absent):
        raise InputError(f"engine: family {model.family.name!r}: {guide.reason}; use engine 'gradient_em' or 'nuts'")


def kmeans_plus_plus(
    key: jax.Array, points: Float[Array, "N D"], num_seeds: int, weight: Float[Array, " N"] | None = None
) -> tuple[Int[Array, " K"], Int[Array, " N"]]:
    """Row numbers of the seeds, and for each point the number of its nearest seed.

    Args:
        key: for the draws.
        points: (N, D) in units in which distances make sense.
        num_seeds: how many seeds to draw.
        weight: (N,); a point of weight w is drawn as often as w copies of it. None means one each.
    """
    key_first, key_rest = jax.random.split(key)
    if weight is None:
        first = jax.random.randint(key_first, (), 0, len(points))
    else:
        first = jax.random.categorical(key_first, jnp.log(weight))
    square = jnp.sum(points**2, axis=-1)

    def distance(row: jax.Array) -> jax.Array:
        cross = jnp.matmul(points, points[row], precision="highest")
        return jnp.maximum(square - 2 * cross + square[row], 0)

    nearest = distance(first)
    label = jnp.zeros(len(points), jnp.int32)
    seeds = jnp.zeros(num_seeds, jnp.int32).at[0].set(first.astype(jnp.int32))

    def add(k: jax.Array, carry: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        seeds, nearest, label = carry
        total = jnp.cumsum(nearest if weight is None else weight * nearest)
        uniform = jax.random.uniform(jax.random.fold_in(key_rest, k), dtype=points.dtype)
        row = jnp.minimum(jnp.searchsorted(total, uniform * total[-1], side="right"), len(points) - 1)
        fresh = distance(row)
        closer = fresh < nearest
        label = jnp.where(closer, k.astype(jnp.int32), label)
        return seeds.at[k].set(row.astype(jnp.int32)), jnp.minimum(nearest, fresh), label

    seeds, _, label = jax.lax.fori_loop(1, num_seeds, add, (seeds, nearest, label))
    return seeds, label


def systematic_sample(
    key: jax.Array, x: Float[Array, "N D"], weight: Float[Array, "N *each"] | None, num_seeds: int
) -> tuple[Float[Array, "M D"], Float[Array, "M *each"] | None]:
    """Enough rows to draw seeds from: all of few data, else one row from each of equally long stretches of rows."""
    enough = max(_ENOUGH, _ENOUGH_PER_MEMORY * num_seeds)
    if len(x) <= 2 * enough:
        return x, weight
    stretch = len(x) / enough
    within = jax.random.uniform(jax.random.fold_in(key, 1), (enough,))
    rows = jnp.minimum(((jnp.arange(enough) + within) * stretch).astype(jnp.int32), len(x) - 1)
    return x[rows], None if weight is None else weight[rows]


def active_counts(num_components: int, restarts: int, *, nonparametric: bool) -> np.ndarray:
    """How many memories own data at the start of each restart.

    In a finite mixture all of them do. Under stick-breaking the data choose the number of occupied memories, so the
    restarts start from different numbers between K and 1.
    """
    if not nonparametric or restarts == 1:
        return np.full(restarts, num_components)
    choices = np.unique(np.round(np.geomspace(1, num_components, restarts)).astype(int))[::-1]
    return choices[np.arange(restarts) % len(choices)]


def _in_metric(model: Model, x: Float[Array, "N D"]) -> Float[Array, "N D"]:
    """Rows without missing entries in the model's metric."""
    return DataSpace.of(model.family).metric(x, model.prior)


@compiled_by_size(lambda model, x: is_small(x, model.num_components))
def metric_rows(model: Model, x: Float[Array, "N D"]) -> Float[Array, "N D"]:
    """Rows in the metric in which the model's distances make sense; a missing entry is the mean of its feature."""
    return _in_metric(model, without_missing(x) if model.missing else x)


def hard_assignment(
    key: jax.Array,
    model: Model,
    x: Float[Array, "N D"],
    num_active: jax.Array | int | None = None,
    weight: Float[Array, " N"] | None = None,
) -> tuple[Float[Array, "N K"], Int[Array, " K"]]:
    """Each datum (times its weight) given to the nearest of K k-means++ seeds, and the row numbers of the seeds.

    Large memories come first: the size-biased order of stick-breaking. ``num_active`` says how many memories may own
    data (default all).
    """
    points = _in_metric(model, x)
    seeds, label = kmeans_plus_plus(key, points, model.num_components, weight)
    if num_active is not None:  # a point whose seed is not active goes to the nearest active one
        label = _nearest(points, seeds, num_active)
    return _by_size(x, seeds, label, weight)


def _nearest(points: Float[Array, "N D"], seeds: Int[Array, " K"], num_active: jax.Array | int) -> Int[Array, " N"]:
    """The number of the nearest of the first ``num_active`` seeds."""
    centres = points[seeds]
    square = jnp.sum(centres**2, -1) - 2 * jnp.matmul(points, centres.T, precision="highest")
    return jnp.argmin(jnp.where(jnp.arange(len(seeds)) < num_active, square, jnp.inf), axis=-1)


def _by_size(
    x: Float[Array, "N D"], seeds: Int[Array, " K"], label: Int[Array, " N"], weight: Float[Array, " N"] | None
) -> tuple[Float[Array, "N K"], Int[Array, " K"]]:
    """Labels as a table of ones (times the weights of the data), and the seeds, the largest memory first."""
    hard = jax.nn.one_hot(label, len(seeds), dtype=x.dtype)
    if weight is not None:
        hard = weight[:, None] * hard
    order = jnp.argsort(-jnp.sum(hard, axis=0))
    return hard[:, order], seeds[order]


def starting_params(
    key: jax.Array,
    model: Model,
    x: Float[Array, "N D"],
    num_active: jax.Array | int | None = None,
    weight: Float[Array, " N"] | None = None,
) -> Params:
    """Site values that put memories at k-means++ seeds.

    Typical values of the prior, with the location site moved to the seeds, go to ``Start.start``, which takes M-steps
    from the hard assignment to the nearest seed if the family has them. Seeds need K passes over the data. Of many data
    a systematic sample is used, so that a start costs less than one iteration. Missing entries are filled with the mean
    of their feature.

    Args:
        key: for the sample and the seeds.
        model: the mixture.
        x: (N, D) data in model units.
        num_active: how many memories may own data (default all); the rest start where the prior alone puts them.
        weight: how often each row counts (default once).
    """
    if model.missing:
        x = without_missing(x)
    x, weight = systematic_sample(key, x, weight, model.num_components)
    return _params_at(model, x, *hard_assignment(key, model, x, num_active, weight))


def _params_at(model: Model, x: Float[Array, "N D"], hard: Float[Array, "N K"], seeds: Int[Array, " K"]) -> Params:
    """Site values for a hard assignment, the memories at first at the seeds."""
    num_components = model.num_components
    params = {site: _typical(law, site in model.family.shared, num_components) for site, law in model.prior.items()}
    params[model.family.location] = x[seeds]
    params = Start.of(model.family).start(x, hard, params, model.prior)
    weights = model.weights.start(num_components)
    weights = model.weights.maximize(jnp.sum(hard, axis=0), weights, likelihood_only=False)
    return {name: jnp.asarray(value, x.dtype) for name, value in (params | weights).items()}


class Given(NamedTuple):
    """Labels that were made elsewhere, and which of the starts take them."""

    label: Int[Array, "R N"]
    taken: Bool[Array, " R"]


@compiled_by_size(lambda _, model, x, *__: is_small(x, model.num_components))
def starts(
    keys: jax.Array,
    model: Model,
    x: Float[Array, "N D"],
    points: Float[Array, "N D"],
    num_active: Int[Array, " R"],
    weight: Float[Array, " N"] | None,
    given: Given,
    at_random: Bool[Array, " R"],
) -> Params:
    """Site values of several starts; leaves lead with their axis.

    Args:
        keys: one for each start.
        model: the mixture.
        x: rows in model units.
        points: the same in the model's metric.
        num_active: how many memories may own data.
        weight: how often each row counts (None: once).
        given: labels; a start that takes them has its memories at the rows nearest to the means of the groups.
        at_random: whether the seeds of a start without labels are random rows, and not those of k-means++.
    """
    if model.missing:
        x = without_missing(x, weight)

    def one(start: tuple[jax.Array, ...]) -> Params:
        key, active, label, taken, random = start
        by_distance, _ = kmeans_plus_plus(key, points, model.num_components, weight)
        by_chance = _random_rows(jax.random.fold_in(key, 1), len(x), model.num_components, weight)
        seeds = jnp.where(random, by_chance, by_distance)
        label = jnp.where(taken, label, _nearest(points, seeds, active))
        seeds = jnp.where(taken, _representatives(points, label, seeds, weight), seeds)
        return _params_at(model, x, *_by_size(x, seeds, label, weight))

    return each(one, (keys, num_active, *given, at_random), numbers=x.size * model.num_components)


def _random_rows(key: jax.Array, num_rows: int, num_seeds: int, weight: Float[Array, " N"] | None) -> Int[Array, " K"]:
    """Numbers of different rows, drawn by weight."""
    noise = jax.random.gumbel(key, (num_rows,))
    return jax.lax.top_k(noise if weight is None else noise + jnp.log(weight), num_seeds)[1]


def _representatives(
    points: Float[Array, "N D"], label: Int[Array, " N"], otherwise: Int[Array, " K"], weight: Float[Array, " N"] | None
) -> Int[Array, " K"]:
    """The row nearest to the mean of each group; ``otherwise`` where a group has no row that counts."""
    member = jax.nn.one_hot(label, len(otherwise), dtype=points.dtype)
    if weight is not None:
        member = jnp.where(weight[:, None] > 0, member, 0)
    count = jnp.sum(member, axis=0)
    mean = jnp.matmul(member.T, points, precision="highest") / jnp.maximum(count, 1)[:, None]
    square = (
        jnp.sum(mean**2, -1) - 2 * jnp.matmul(points, mean.T, precision="highest") + jnp.sum(points**2, -1)[:, None]
    )
    nearest = jnp.argmin(jnp.where(member > 0, square, jnp.inf), axis=0)
    return jnp.where(count > 0, nearest, otherwise)


def _typical(law: Distribution, shared: bool, num_components: int) -> jax.Array:
    """The mean of a prior, or the centre of its unconstrained coordinates where it has none."""
    try:
        value = jnp.asarray(law.mean)
    except NotImplementedError:
        transform = biject_to(law.support)
        value = transform(jnp.zeros(transform.inverse_shape(law.event_shape)))
    return value if shared else jnp.broadcast_to(value, (num_components, *law.event_shape))
