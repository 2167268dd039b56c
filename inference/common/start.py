r"""Where optimisers and chains begin: k-means++ seeds made into parameters.

Arthur & Vassilvitskii (2007): the next seed is a datum drawn with probability proportional to its squared distance
from the seeds so far. Distances are taken in the family's own frame (each feature in units of its spread; on the
sphere as they are).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from numpyro.distributions import Distribution, biject_to

from probam.errors import InputError
from probam.family import Model, Params
from probam.family.capabilities import Absent, DataSpace, Gradients, Guide, Start
from probam.inference.common.rows import without_missing

__all__ = [
    "check_gradient",
    "check_guide",
    "hard_assignment",
    "kmeans_plus_plus",
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
    key: jax.Array, x: Float[Array, "N D"], weight: Float[Array, " N"] | None, num_seeds: int
) -> tuple[Float[Array, "M D"], Float[Array, " M"] | None]:
    """Enough rows to draw seeds from: all of few data, else one row from each of equally long stretches of rows."""
    enough = max(_ENOUGH, _ENOUGH_PER_MEMORY * num_seeds)
    if len(x) <= 2 * enough:
        return x, weight
    stretch = len(x) / enough
    within = jax.random.uniform(jax.random.fold_in(key, 1), (enough,))
    rows = jnp.minimum(((jnp.arange(enough) + within) * stretch).astype(jnp.int32), len(x) - 1)
    return x[rows], None if weight is None else weight[rows]


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
    num_components = model.num_components
    origin, unit = DataSpace.of(model.family).frame(x)
    points = (x - origin) / unit
    seeds, label = kmeans_plus_plus(key, points, num_components, weight)
    if num_active is not None:  # a point whose seed is not active goes to the nearest active one
        centres = points[seeds]
        square = jnp.sum(centres**2, -1) - 2 * jnp.matmul(points, centres.T, precision="highest")
        label = jnp.argmin(jnp.where(jnp.arange(num_components) < num_active, square, jnp.inf), axis=-1)
    hard = jax.nn.one_hot(label, num_components, dtype=x.dtype)
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
    num_components = model.num_components
    if model.missing:
        x = without_missing(x)
    x, weight = systematic_sample(key, x, weight, num_components)
    hard, seeds = hard_assignment(key, model, x, num_active, weight)
    counts = jnp.sum(hard, axis=0)

    params = {site: _typical(law, site in model.family.shared, num_components) for site, law in model.prior.items()}
    location = model.family.location
    params[location] = x[seeds]
    params = Start.of(model.family).start(x, hard, params, model.prior)
    weights = model.weights.start(num_components)
    weights = model.weights.maximize(counts, weights, likelihood_only=False)
    return {name: jnp.asarray(value, x.dtype) for name, value in (params | weights).items()}


@jax.jit
def starts(
    keys: jax.Array,
    model: Model,
    x: Float[Array, "N D"],
    num_active: Int[Array, " R"],
    weight: Float[Array, " N"] | None = None,
) -> Params:
    """:func:`starting_params` of every key; leaves lead with that axis."""
    return jax.vmap(lambda key, active: starting_params(key, model, x, active, weight))(keys, num_active)


def _typical(law: Distribution, shared: bool, num_components: int) -> jax.Array:
    """The mean of a prior, or the centre of its unconstrained coordinates where it has none."""
    try:
        value = jnp.asarray(law.mean)
    except NotImplementedError:
        transform = biject_to(law.support)
        value = transform(jnp.zeros(transform.inverse_shape(law.event_shape)))
    return value if shared else jnp.broadcast_to(value, (num_components, *law.event_shape))
