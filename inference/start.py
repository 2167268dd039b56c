r"""Where optimisers and chains begin: k-means++ seeds made into parameters.

Arthur & Vassilvitskii (2007): the next seed is a datum drawn with probability proportional to its squared distance
from the seeds so far. Distances are taken in the family's own frame (each feature in units of its spread; on the
sphere as they are).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from numpyro import handlers

from probam.family import Model, Moments, Params

__all__ = ["kmeans_plus_plus", "starting_params"]


def kmeans_plus_plus(
    key: jax.Array, points: Float[Array, "N D"], num_seeds: int
) -> tuple[Int[Array, " K"], Int[Array, " N"]]:
    """Row numbers of the seeds, and for each point the seed that it is nearest to."""
    key_first, key_rest = jax.random.split(key)
    first = jax.random.randint(key_first, (), 0, len(points))
    square = jnp.sum(points**2, axis=-1)

    def distance(row: jax.Array) -> jax.Array:
        cross = jnp.matmul(points, points[row], precision="highest")
        return jnp.maximum(square - 2 * cross + square[row], 0)

    nearest = distance(first)
    label = jnp.zeros(len(points), jnp.int32)
    seeds = jnp.zeros(num_seeds, jnp.int32).at[0].set(first.astype(jnp.int32))

    def add(k: jax.Array, carry: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        seeds, nearest, label = carry
        total = jnp.cumsum(nearest)
        uniform = jax.random.uniform(jax.random.fold_in(key_rest, k), dtype=points.dtype)
        row = jnp.minimum(jnp.searchsorted(total, uniform * total[-1], side="right"), len(points) - 1)
        fresh = distance(row)
        closer = fresh < nearest
        label = jnp.where(closer, k.astype(jnp.int32), label)
        return seeds.at[k].set(row.astype(jnp.int32)), jnp.minimum(nearest, fresh), label

    seeds, _, label = jax.lax.fori_loop(1, num_seeds, add, (seeds, nearest, label))
    return seeds, label


def starting_params(
    key: jax.Array, model: Model, x: Float[Array, "N D"], num_active: jax.Array | int | None = None
) -> Params:
    """Site values that put memories at k-means++ seeds.

    Families with a closed-form M-step get one M-step from the hard assignment to the nearest seed; others get
    a draw from their prior with the location site moved to the seeds.

    Args:
        num_active: how many memories may own data (default all); the rest start where the prior alone puts them.
    """
    num_components = model.num_components
    origin, unit = model.family.frame(x)
    key_seeds, key_prior = jax.random.split(key)
    points = (x - origin) / unit
    seeds, label = kmeans_plus_plus(key_seeds, points, num_components)
    active = num_components if num_active is None else num_active
    if num_active is not None:  # a point whose seed is not active goes to the nearest active one
        centres = points[seeds]
        square = jnp.sum(centres**2, -1) - 2 * jnp.matmul(points, centres.T, precision="highest")
        label = jnp.argmin(jnp.where(jnp.arange(num_components) < active, square, jnp.inf), axis=-1)
    hard = jax.nn.one_hot(label, num_components, dtype=x.dtype)
    counts = jnp.sum(hard, axis=0)
    order = jnp.argsort(-counts)  # large memories first: the size-biased order of stick-breaking
    hard, counts, seeds = hard[:, order], counts[order], seeds[order]

    trace = handlers.trace(handlers.seed(model.parameters, key_prior)).get_trace()
    drawn = {name: site["value"] for name, site in trace.items() if site["type"] == "sample"}
    params = {site: drawn[site] for site in model.prior}
    if model.family.closed_form:
        sums = jnp.matmul(hard.T, model.family.statistics(x - origin), precision="highest")
        moments = Moments(counts, sums, origin)
        for _ in range(2):  # the first pass still mixes in the drawn precisions
            params = model.family.maximize(moments, params, model.prior)
    else:
        occupied = (counts > 0)[:, None]
        location = model.family.location
        params[location] = jnp.where(occupied, x[seeds], params[location])
    weights = model.weights.start(num_components)
    weights = model.weights.maximize(counts, weights, likelihood_only=False)
    return _cast(params | weights, x.dtype)


def _cast(params: Params, dtype: jnp.dtype) -> Params:
    return {name: jnp.asarray(value, dtype) for name, value in params.items()}
