r"""Parts of Gibbs sweeps that every kernel shares: labels, hyper-parameters, the order of memories, slices.

Labels z_n in {0, ..., K - 1} are drawn by inverting the distribution function (one uniform a datum).
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from numpyro.distributions import Distribution, biject_to

from probam.distributions.pairwise import linear_form, pairwise_log_prob
from probam.family import ExchangeableWeights, Model, Moments, Params
from probam.family.capabilities import Absent, Conditionals, Statistics
from probam.numerics.slice_sampling import slice_update

__all__ = [
    "Law",
    "ModelLaw",
    "OrderedLaw",
    "allowed_only",
    "count",
    "draw_labels",
    "draw_memories",
    "exchangeable_weights",
    "group",
    "invert",
    "law_of",
    "log_densities",
    "reorder",
    "slice_hyper_parameters",
    "slice_memories",
    "statistics_of",
]

_DIRECTIONS = 12
"""Most random directions along which a memory without full conditionals is moved in a sweep."""


@runtime_checkable
class Law(Protocol):
    """A law of labels that is exchangeable over the data."""

    def log_predictive(self, counts: Float[Array, " K"]) -> Float[Array, " K"]:
        """Log probability (up to a constant) of one label given the counts of all others."""

    def log_marginal(self, counts: Float[Array, " K"]) -> Float[Array, ""]:
        """Log probability of labels with these counts."""


@runtime_checkable
class OrderedLaw(Law, Protocol):
    """A law of labels that knows the order of the memories."""

    def terms(self, counts: Float[Array, " K"]) -> Any:
        """What the law needs of the count of each memory, wherever it stands; leaves lead with the memories."""

    def log_marginal_of(self, terms: Any) -> Float[Array, ""]:
        """``log_marginal`` of memories in the order of these terms."""


class ModelLaw(NamedTuple):
    """The law of labels of the model itself, its weights integrated out."""

    model: Model
    params: Params

    def log_predictive(self, counts: Float[Array, " K"]) -> Float[Array, " K"]:
        """Log probability of the next label."""
        return self.model.weights.log_predictive(counts, self.params)

    def log_marginal(self, counts: Float[Array, " K"]) -> Float[Array, ""]:
        """Log probability of labels with these counts."""
        return self.model.weights.log_marginal(counts, self.params)

    def terms(self, counts: Float[Array, " K"]) -> Any:
        """Of each memory."""
        return self.model.weights.marginal_terms(counts, self.params)

    def log_marginal_of(self, terms: Any) -> Float[Array, ""]:
        """In the order of these terms."""
        return self.model.weights.log_marginal_of(terms, self.params)


def law_of(model: Model, params: Params, num_data: int | jax.Array, *, exchangeable: bool) -> Law:
    """The law of labels: the model's own, or the exchangeable one with a free number of memories."""
    if not exchangeable:
        return ModelLaw(model, params)
    return exchangeable_weights(model).partition_law(params, model.num_components, num_data)


def exchangeable_weights(model: Model) -> ExchangeableWeights:
    """The weights of a model that is sampled with a free number of memories."""
    assert isinstance(model.weights, ExchangeableWeights), "checked before compiling"
    return model.weights


def allowed_only(model: Model, log_joint: Float[Array, "N K"]) -> Float[Array, "N K"]:
    """-inf for the memories to which a row is known not to belong."""
    weight = model.row_weight
    return log_joint if weight is None else jnp.where(weight > 0, log_joint, -jnp.inf)


def draw_labels(
    key: jax.Array, logits: Float[Array, "N K"], *, masked: bool = False
) -> tuple[Int[Array, " N"], Float[Array, " N"]]:
    """Labels drawn in proportion to exp(logits), and the log of the sum over memories.

    ``masked``: some logits are -inf, and not even rounding may choose such a memory.
    """
    top = jnp.max(logits, axis=-1, keepdims=True)
    mass = jnp.exp(logits - top)
    labels, total = invert(mass, jax.random.uniform(key, (len(mass), 1), mass.dtype))
    if masked:
        hit = jnp.take_along_axis(mass, labels[:, None], axis=-1)[:, 0] > 0
        labels = jnp.where(hit, labels, jnp.argmax(mass, axis=-1).astype(jnp.int32))
    return labels, (top + jnp.log(total))[:, 0]


def invert(mass: Float[Array, "N K"], uniform: Float[Array, "N 1"]) -> tuple[Int[Array, " N"], Float[Array, "N 1"]]:
    """Labels in proportion to ``mass`` by inverting the distribution function, and the mass of all memories."""
    num_components = mass.shape[-1]
    below = jnp.matmul(mass, jnp.triu(jnp.ones((num_components, num_components), mass.dtype)), precision="highest")
    total = below[:, -1:]
    return jnp.sum(below[:, :-1] <= uniform * total, axis=-1, dtype=jnp.int32), total


def group(
    labels: Int[Array, " N"], statistics: Float[Array, "N F"], num_components: int
) -> tuple[jax.Array, jax.Array]:
    """Counts (K,) and sums of the statistics (K, F) of the data of each memory."""
    return count(labels, num_components, statistics.dtype), jax.ops.segment_sum(statistics, labels, num_components)


def count(labels: Int[Array, " N"], num_components: int, dtype: Any) -> Float[Array, " K"]:
    """How many data each memory has."""
    return jax.ops.segment_sum(jnp.ones(labels.shape, dtype), labels, num_components)


def statistics_of(model: Model, x: Float[Array, "N D"]) -> Float[Array, "N F"] | None:
    """The family's statistics relative to its frame, made once for all sweeps; None where no sweep needs them."""
    sums = Statistics.ask(model.family)
    if isinstance(sums, Absent) or not (sums.linear or conditionals_of(model)):
        return None
    return sums.statistics(x - sums.frame(x)[0])


def conditionals_of(model: Model) -> Conditionals | Absent:
    """The family's exact draws of its memories, absent where it has none under the priors of this model."""
    conditionals = Conditionals.ask(model.family)
    if conditionals and not conditionals.can_draw(model.prior):
        return Absent("it has no full conditionals under these priors")
    return conditionals


def log_densities(
    model: Model, params: Params, x: Float[Array, "N D"], statistics: Float[Array, "N F"] | None
) -> Float[Array, "N K"]:
    """Log density of each datum under each memory (nats): one matrix product where ``statistics_of`` serves it."""
    bank = model.family.bank(params)
    sums = Statistics.ask(model.family)
    form = linear_form(bank, x[:1], sums.frame(x)[0]) if sums and sums.linear else None
    if form is None or statistics is None:
        return pairwise_log_prob(bank, x)
    return jnp.matmul(statistics, form.matrix.T, precision="highest") + form.constant


def reorder(key: jax.Array, law: OrderedLaw, counts: Float[Array, " K"]) -> Int[Array, " K"]:
    """The order of the memories after Metropolis swaps of two of them, with the weights integrated out.

    Labels carry the order of the sticks, which single-datum updates mix badly (Papaspiliopoulos and Roberts 2008,
    section 3.4). Swapping memories changes no density of the data; the acceptance ratio is that of the labels' law.
    """
    num_components = len(counts)
    if num_components == 1:
        return jnp.zeros(1, jnp.int32)
    num_swaps = num_components
    key_place, key_step, key_accept = jax.random.split(key, 3)
    first = jax.random.randint(key_place, (num_swaps,), 0, num_components - 1)
    far = 1 + jax.random.randint(key_step, (num_swaps,), 0, num_components - 1 - first)
    second = first + jnp.where(jnp.arange(num_swaps) % 2, far, 1)  # neighbours and any two in turn
    log_uniform = -jax.random.exponential(key_accept, (num_swaps,), counts.dtype)

    def swap(carry: tuple[Any, jax.Array], move: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[Any, None]:
        standing, present = carry
        i, j, log_u = move
        swapped = jax.tree.map(lambda leaf: _swapped(leaf, place == i, place == j), standing)
        proposed = law.log_marginal_of(swapped[1])
        accept = log_u < proposed - present
        standing = jax.tree.map(lambda new, old: jnp.where(accept, new, old), swapped, standing)
        return (standing, jnp.where(accept, proposed, present)), None

    terms = law.terms(counts)
    place = jnp.arange(len(jax.tree.leaves(terms)[0]), dtype=jnp.int32)
    (standing, _), _ = jax.lax.scan(swap, ((place, terms), law.log_marginal_of(terms)), (first, second, log_uniform))
    return jnp.asarray(standing[0][:num_components])


def _swapped(values: jax.Array, one: jax.Array, other: jax.Array) -> jax.Array:
    """Values at two places, each in the place of the other; sums cost less here than reading and writing by number."""
    first, second = (jnp.sum(jnp.where(at, values, 0), dtype=values.dtype) for at in (one, other))
    return jnp.where(one, second, jnp.where(other, first, values))


def slice_hyper_parameters(
    key: jax.Array, model: Model, counts: Float[Array, " K"], params: Params, *, exchangeable: bool, extra: bool = False
) -> Params:
    """alpha and discount (where they have priors) given the labels, weights integrated out.

    ``extra`` counts one more slot, which is empty.
    """
    num_data = jnp.sum(counts)
    if extra:
        counts = jnp.append(counts, 0)
    for i, (name, prior) in enumerate(model.weights.hyper_priors().items()):
        transform: Any = biject_to(prior.support)

        def log_density(
            free: jax.Array,
            name: str = name,
            prior: Distribution = prior,
            transform: Any = transform,
            params: Params = params,
        ) -> jax.Array:
            value = transform(free)
            law = law_of(model, params | {name: value}, num_data, exchangeable=exchangeable)
            here = prior.log_prob(value) + transform.log_abs_det_jacobian(free, value)
            return law.log_marginal(counts) + here

        free = jnp.asarray(transform.inv(params[name]))
        moved = slice_update(jax.random.fold_in(key, i), log_density, free, jnp.ones((), free.dtype))
        params = params | {name: jnp.asarray(transform(moved), counts.dtype)}
    return params


def draw_memories(
    key: jax.Array,
    model: Model,
    x: Float[Array, "N D"],
    labels: Int[Array, " N"],
    params: Params,
    statistics: Float[Array, "N F"] | None,
) -> Params:
    """Memory sites given the labels: the family's full conditionals, or slice updates where it has none.

    ``statistics`` are those of :func:`statistics_of`.
    """
    conditionals = conditionals_of(model)
    if statistics is None or isinstance(conditionals, Absent):
        return slice_memories(key, model, x, labels, params)
    counts, sums = group(labels, statistics, model.num_components)
    sites = {name: params[name] for name in model.prior}
    return params | conditionals.draw(key, Moments(counts, sums, conditionals.frame(x)[0]), sites, model.prior)


def slice_memories(
    key: jax.Array, model: Model, x: Float[Array, "N D"], labels: Int[Array, " N"], params: Params
) -> Params:
    """Slice updates of all memories at once along random directions of their unconstrained coordinates."""
    num_components = model.num_components
    member = jax.nn.one_hot(labels, num_components, dtype=x.dtype)
    counts = jnp.sum(member, axis=0)
    transforms = {name: biject_to(prior.support) for name, prior in model.prior.items()}
    spread = {name: _spread(prior, transforms[name]) for name, prior in model.prior.items()}
    free = {name: transforms[name].inv(params[name]) for name in model.prior}
    owned = [name for name in model.prior if name not in model.family.shared]
    shared = [name for name in model.prior if name in model.family.shared]

    def log_densities(free: Params) -> tuple[jax.Array, jax.Array]:
        """Of each memory's data and own sites, and of the shared sites."""
        sites = {name: transforms[name](value) for name, value in free.items()}
        log_lik = pairwise_log_prob(model.family.bank(sites), x)
        each = jnp.sum(jnp.where(member > 0, log_lik, 0), axis=0)
        common = jnp.zeros((), x.dtype)
        for name, prior in model.prior.items():
            here = prior.log_prob(sites[name])
            volume = transforms[name].log_abs_det_jacobian(free[name], sites[name])
            if name in model.family.shared:
                common = common + jnp.sum(here) + jnp.sum(volume)
            else:
                each = each + here + jnp.sum(volume.reshape(num_components, -1), axis=-1)
        return each, common

    def along(free: Params, direction: Params, step: jax.Array) -> Params:
        moved = {
            name: free[name] + step.reshape(step.shape + (1,) * (free[name].ndim - step.ndim)) * direction[name]
            for name in direction
        }
        return free | moved

    def update(free: Params, key: jax.Array) -> tuple[Params, None]:
        for names, shape in ((owned, (num_components,)), (shared, ())):
            if not names:
                continue
            key, key_direction, key_slice = jax.random.split(key, 3)
            direction = {
                name: spread[name] * jax.random.normal(jax.random.fold_in(key_direction, i), free[name].shape, x.dtype)
                for i, name in enumerate(names)
            }

            def log_density(step: jax.Array, free: Params = free, direction: Params = direction) -> jax.Array:
                each, common = log_densities(along(free, direction, step))
                return each if step.ndim else jnp.sum(each) + common

            data = counts if shape else jnp.sum(counts)
            step = slice_update(key_slice, log_density, jnp.zeros(shape, x.dtype), 2 / jnp.sqrt(1 + data))
            free = along(free, direction, step)
        return free, None

    size = sum(int(np.prod(free[name].shape[1:])) for name in owned) + sum(free[name].size for name in shared)
    free, _ = jax.lax.scan(update, free, jax.random.split(key, min(_DIRECTIONS, 1 + size)))
    return params | {name: jnp.asarray(transforms[name](value), x.dtype) for name, value in free.items()}


def _spread(prior: Distribution, transform: Any) -> jax.Array:
    """A scale for steps in unconstrained coordinates: the prior's own on the real line, one elsewhere."""
    domain = getattr(transform, "codomain", None)
    base = getattr(domain, "base_constraint", domain)
    if type(base).__name__ != "_Real":
        return jnp.ones(())
    try:
        return jnp.sqrt(jnp.asarray(prior.variance))
    except NotImplementedError:
        return jnp.ones(())
