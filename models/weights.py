r"""Priors of the mixing weights: uniform, fixed, Dirichlet, and stick-breaking (DP and Pitman-Yor).

============= ================================================= ====================================
prior         weights                                           sites
============= ================================================= ====================================
``uniform``   1 / K each                                        none
``fixed``     as given                                          none
``dirichlet`` Dirichlet(concentration, ..., concentration)      ``proportions``
``dp``        sticks V_k ~ Beta(1, alpha), V_K = 1              ``sticks``, ``alpha``
``pyp``       sticks V_k ~ Beta(1 - d, alpha + k d), V_K = 1    ``sticks``, ``alpha``, ``discount``
============= ================================================= ====================================

``alpha`` and ``discount`` are numbers (fixed) or NumPyro distributions (priors). Stick-breaking is truncated at K
memories; :func:`probam.distributions.stick_breaking.truncation_error` says what that costs (CLAIMS A20).

M-steps maximise in the unconstrained coordinates of NumPyro's samplers, where Beta(a, b) has its mode at a / (a + b)
and Dirichlet(a) at a / sum(a): always inside, whatever a.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.scipy.special import xlogy
from jaxtyping import Array, Float, Int
from numpyro.distributions import Distribution, biject_to
from numpyro.distributions.transforms import Transform
from typing_extensions import override

from probam.conjugacy.mean_field import HyperField, KnownHyper
from probam.conjugacy.mean_field_sticks import GammaAlpha, lattice
from probam.distributions.partitions import (
    GibbsTypePartition,
    chinese_restaurant,
    finite_mixtures,
    log_finite_terms,
)
from probam.distributions.stick_breaking import StickBreakingSticks, check_parameters, sticks_to_log_weights
from probam.errors import InputError
from probam.family import ExchangeableWeights, Params, WeightPrior
from probam.numerics.bisection import turning_point
from probam.numerics.log_gamma import log_gamma_ratio

__all__ = ["WEIGHTS", "Dirichlet", "Fixed", "StickBreaking", "Uniform", "weight_prior"]

WEIGHTS = ("uniform", "fixed", "dirichlet", "dp", "pyp")

_REACH = 15.0
"""Hyper-parameters are looked for within +- this in unconstrained coordinates (alpha from 3e-7 to 3e6)."""


class _Known(WeightPrior):
    """Weights without sites."""

    @override
    def start(self, num_components: int) -> Params:
        """No site."""
        return {}

    @override
    def maximize(self, counts: Float[Array, " K"], params: Params, *, likelihood_only: bool) -> Params:
        """No site."""
        return {}

    @override
    def draw(self, key: jax.Array, counts: Float[Array, " K"], params: Params) -> Params:
        """No site."""
        return {}

    def log_marginal(self, counts: Float[Array, " K"], params: Params) -> Float[Array, ""]:
        """Independent assignments."""
        return jnp.sum(xlogy(counts, jnp.exp(self.log_weights(params, len(counts)))))

    def log_predictive(self, counts: Float[Array, " K"], params: Params) -> Float[Array, " K"]:
        """The weights, whatever the counts."""
        return self.log_weights(params, len(counts))


@jax.tree_util.register_static
@dataclass(frozen=True)
class Uniform(_Known):
    """Every memory weighs the same, as in the CLAM energy."""

    name: ClassVar[str] = "uniform"

    def sample(self, num_components: int) -> Float[Array, " K"]:
        """Log of 1 / K; no site."""
        return self.log_weights({}, num_components)

    @override
    def log_weights(self, params: Mapping[str, jax.Array], num_components: int) -> Float[Array, " K"]:
        """Log of 1 / K."""
        return jnp.full(num_components, -jnp.log(1.0 * num_components))


@jax.tree_util.register_static
@dataclass(frozen=True)
class Fixed(_Known):
    """Weights that the user gives; they are normalised to sum to one."""

    weights: tuple[float, ...]

    name: ClassVar[str] = "fixed"

    def __post_init__(self) -> None:
        if not self.weights or min(self.weights) < 0 or not 0 < sum(self.weights) < float("inf"):
            raise InputError(
                f"given_weights: expected non-negative numbers, at least one of them positive; got {self.weights}"
            )

    def sample(self, num_components: int) -> Float[Array, " K"]:
        """Logs of the given weights; no site."""
        return self.log_weights({}, num_components)

    @override
    def log_weights(self, params: Mapping[str, jax.Array], num_components: int) -> Float[Array, " K"]:
        """Logs of the given weights."""
        if len(self.weights) != num_components:
            raise InputError(
                f"given_weights: expected one for each of {num_components} memories; got {len(self.weights)}"
            )
        weights = jnp.asarray(self.weights)
        return jnp.log(weights / jnp.sum(weights))

    @override
    def orders_by_size(self, counts: Float[Array, " K"]) -> Int[Array, "1 K"]:
        """The more data, the larger the weight."""
        rank = jnp.argsort(jnp.argsort(-jnp.asarray(self.weights)))
        return jnp.argsort(-counts).astype(jnp.int32)[rank][None]


@jax.tree_util.register_static
@dataclass(frozen=True)
class Dirichlet(ExchangeableWeights):
    """Symmetric Dirichlet weights of a finite mixture."""

    concentration: float = 1.0

    name: ClassVar[str] = "dirichlet"

    def __post_init__(self) -> None:
        if not 0 < self.concentration < np.inf:
            raise InputError(f"alpha: expected a positive Dirichlet concentration; got {self.concentration}")

    def sample(self, num_components: int) -> Float[Array, " K"]:
        """Site ``proportions``."""
        proportions = numpyro.sample("proportions", dist.Dirichlet(jnp.full(num_components, self.concentration)))
        return jnp.log(proportions)

    @override
    def log_weights(self, params: Mapping[str, jax.Array], num_components: int) -> Float[Array, " K"]:
        """Logs of the proportions."""
        return jnp.log(params["proportions"])

    def start(self, num_components: int) -> Params:
        """Equal proportions."""
        return {"proportions": jnp.full(num_components, 1.0 / num_components)}

    @override
    def maximize(self, counts: Float[Array, " K"], params: Params, *, likelihood_only: bool) -> Params:
        """Relative counts; with the prior, relative counts plus concentration."""
        raised = counts if likelihood_only else counts + self.concentration
        return {"proportions": raised / jnp.sum(raised)}

    @override
    def draw(self, key: jax.Array, counts: Float[Array, " K"], params: Params) -> Params:
        """Dirichlet(counts + concentration), kept off zero by one rounding."""
        proportions = jax.random.dirichlet(key, counts + self.concentration)
        return {"proportions": jnp.maximum(proportions, np.finfo(proportions.dtype).tiny)}

    @override
    def log_marginal(self, counts: Float[Array, " K"], params: Params) -> Float[Array, ""]:
        """The Dirichlet-multinomial law of labelled assignments."""
        total = len(counts) * self.concentration
        each = jnp.sum(log_gamma_ratio(self.concentration, counts))
        return each - log_gamma_ratio(total, jnp.sum(counts))

    @override
    def log_predictive(self, counts: Float[Array, " K"], params: Params) -> Float[Array, " K"]:
        """(n_k + a) / (n + K a)."""
        raised = counts + self.concentration
        return jnp.log(raised) - jnp.log(jnp.sum(raised))

    @override
    def partition_law(self, params: Params, num_slots: int, num_data: int | jax.Array) -> GibbsTypePartition:
        """Mixture of finite mixtures: the number of memories uniform on 1, ..., ``num_slots``."""
        return finite_mixtures(self.concentration, num_slots, num_data)

    @override
    def draw_given_partition(self, key: jax.Array, counts: Float[Array, " K"], params: Params) -> Params:
        """The number of memories given how many hold data, then their proportions; the others weigh nothing."""
        key_size, key_proportions = jax.random.split(key)
        num_slots = len(counts)
        terms = log_finite_terms(self.concentration, jnp.sum(counts > 0), num_slots, jnp.sum(counts))
        size = 1 + jax.random.categorical(key_size, terms)
        logs = jax.random.loggamma(key_proportions, counts + self.concentration, dtype=counts.dtype)
        return {"proportions": jax.nn.softmax(jnp.where(jnp.arange(num_slots) < size, logs, -jnp.inf))}


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True, eq=False)
class StickBreaking(ExchangeableWeights):
    """Dirichlet-process (discount 0) or Pitman-Yor weights, truncated at K memories.

    A pytree: alpha and discount, or the numbers of their priors, may be traced. A discount of 0 is part of the program.
    """

    alpha: float | Distribution
    discount: float | Distribution = 0.0

    name: ClassVar[str] = "stick-breaking"

    def __post_init__(self) -> None:
        fixed_alpha = None if isinstance(self.alpha, Distribution) else self.alpha
        fixed_discount = None if isinstance(self.discount, Distribution) else self.discount
        # a prior on alpha must live on the positive axis; then any discount in [0, 1) is allowed
        check_parameters(1.0 if fixed_alpha is None else fixed_alpha, 0.0 if fixed_discount is None else fixed_discount)
        for argument, prior, support in (
            ("alpha", self.alpha, dist.constraints.positive),
            ("discount", self.discount, dist.constraints.unit_interval),
        ):
            if isinstance(prior, Distribution) and prior.support is not support:
                raise InputError(
                    f"{argument}: a prior must live on {'(0, inf)' if argument == 'alpha' else '(0, 1)'}; "
                    f"got {type(prior).__name__}"
                )

    def tree_flatten(self) -> tuple[tuple[Any, Any], None]:
        """Alpha and discount, None for the 0 of a Dirichlet process."""
        return (self.alpha, None if self.is_dirichlet_process else self.discount), None

    @classmethod
    def tree_unflatten(
        cls,
        _: None,
        leaves: tuple[Any, Any],
    ) -> "StickBreaking":
        """Inverse of :meth:`tree_flatten`; values were checked when they were given."""
        prior = object.__new__(cls)
        object.__setattr__(prior, "alpha", leaves[0])
        object.__setattr__(prior, "discount", 0.0 if leaves[1] is None else leaves[1])
        return prior

    @property
    def is_dirichlet_process(self) -> bool:
        """Whether the discount is known to be 0."""
        return isinstance(self.discount, int | float) and self.discount == 0

    def hyper_priors(self) -> dict[str, Distribution]:
        """Sites that are sampled: ``alpha`` and ``discount`` where they have priors."""
        return {
            name: value
            for name, value in (("alpha", self.alpha), ("discount", self.discount))
            if isinstance(value, Distribution)
        }

    def parameters(self, params: Mapping[str, jax.Array]) -> tuple[Float[Array, ""], Float[Array, ""] | float]:
        """(alpha, discount): sampled where they are sites, fixed otherwise; 0.0 of a Dirichlet process."""
        alpha = jnp.asarray(params.get("alpha", self.alpha))
        return alpha, 0.0 if self.is_dirichlet_process else jnp.asarray(params.get("discount", self.discount))

    def sample(self, num_components: int) -> Float[Array, " K"]:
        """Sites ``alpha`` and ``discount`` (where they have priors) and ``sticks`` (K - 1,)."""
        hyper = {name: jnp.asarray(numpyro.sample(name, prior)) for name, prior in self.hyper_priors().items()}
        if num_components == 1:
            return jnp.zeros(1)
        sticks = numpyro.sample("sticks", StickBreakingSticks(*self.parameters(hyper), num_components))
        return sticks_to_log_weights(jnp.asarray(sticks))

    def log_weights(self, params: Mapping[str, jax.Array], num_components: int) -> Float[Array, " K"]:
        """Logs of V_k prod_{j<k} (1 - V_j)."""
        return jnp.zeros(1) if num_components == 1 else sticks_to_log_weights(params["sticks"])

    def start(self, num_components: int) -> Params:
        """Prior means of alpha and discount; sticks that make all weights equal."""
        params = {name: jnp.asarray(prior.mean) for name, prior in self.hyper_priors().items()}
        if num_components > 1:
            params["sticks"] = 1.0 / jnp.arange(num_components, 1, -1)
        return params

    def maximize(self, counts: Float[Array, " K"], params: Params, *, likelihood_only: bool) -> Params:
        """Sticks given (alpha, discount) in closed form, then alpha and discount given the sticks, one at a time."""
        if likelihood_only:
            raise InputError(
                "estimate: maximum likelihood has no use for a DP or Pitman-Yor prior on the weights; "
                "use estimate='map', or weights 'dirichlet' or 'uniform'"
            )
        num_components = counts.shape[0]
        params = dict(params)
        log_left = jnp.zeros((), counts.dtype)
        if num_components > 1:
            alpha, discount = self.parameters(params)
            behind = jnp.cumsum(counts[::-1])[::-1][1:]  # data in the memories after k
            first = 1 - discount + counts[:-1]
            second = alpha + discount * jnp.arange(1, num_components) + behind
            params["sticks"] = first / (first + second)
            log_left = jnp.sum(jnp.log(second / (first + second)))  # of what all sticks leave
        priors = self.hyper_priors()
        if not priors:
            return params
        if isinstance(self.alpha, dist.Gamma) and self.is_dirichlet_process:
            # the density of log(alpha) is proportional to alpha^(a + K - 1) exp(-alpha (b - log_left))
            shape = jnp.asarray(self.alpha.concentration) + num_components - 1
            return params | {"alpha": jnp.asarray(shape / (self.alpha.rate - log_left), counts.dtype)}
        return self._climbed(params, priors, num_components)

    def _climbed(self, params: Params, priors: Mapping[str, Distribution], num_components: int) -> Params:
        """The most probable alpha and discount given the sticks, one at a time, by bisection."""

        def log_density(hyper: Params) -> jax.Array:
            """Of the hyper-parameters and the sticks, in the unconstrained coordinates of the former."""
            total = jnp.zeros(())
            for name, prior in priors.items():
                transform = biject_to(prior.support)
                free = transform.inv(hyper[name])
                total = total + prior.log_prob(hyper[name]) + transform.log_abs_det_jacobian(free, hyper[name])
            if num_components > 1:
                law = StickBreakingSticks(*self.parameters(hyper), num_components, validate_args=False)
                total = total + law.log_prob(params["sticks"])
            return total

        for name, prior in priors.items():  # one at a time: each step can only raise the density
            params |= _climb(log_density, name, biject_to(prior.support), {site: params[site] for site in priors})
        return params

    def _raised(self, counts: jax.Array, params: Params) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """Beta parameters of the K - 1 sticks: before the data, then given the counts."""
        alpha, discount = self.parameters(params)
        first = jnp.broadcast_to(1 - discount, (len(counts) - 1,)).astype(counts.dtype)
        second = (alpha + discount * jnp.arange(1, len(counts))).astype(counts.dtype)
        behind = jnp.sum(counts) - jnp.cumsum(counts)[:-1]  # data in the memories after k
        return first, second, first + counts[:-1], second + behind

    def draw(self, key: jax.Array, counts: Float[Array, " K"], params: Params) -> Params:
        """Independent sticks V_k ~ Beta(1 - d + n_k, alpha + k d + n_{>k})."""
        _, _, first, second = self._raised(counts, params)
        return _draw_sticks(key, first, second)

    def hyper_field(self, num_components: int) -> HyperField:
        """A Gamma factor for alpha under a Gamma prior where the discount is 0; else a lattice."""
        if not self.hyper_priors():
            return KnownHyper()
        if isinstance(self.alpha, dist.Gamma) and self.is_dirichlet_process:
            return GammaAlpha(*jax.device_put((self.alpha.concentration, self.alpha.rate)))
        return lattice(self.alpha, self.discount, num_components)

    def partition_law(self, params: Params, num_slots: int, num_data: int | jax.Array) -> GibbsTypePartition:
        """The Chinese restaurant process, without truncation."""
        alpha, discount = self.parameters(params)
        return chinese_restaurant(alpha, jnp.asarray(discount), num_slots, num_data)

    def draw_given_partition(self, key: jax.Array, counts: Float[Array, " K"], params: Params) -> Params:
        """V_k ~ Beta(n_k - d, alpha + k d + n_{>k}) for memories with data, from the prior for the others.

        That is (Pitman 1996) the weights of the blocks and of all that is not seen; the last slot takes what is left.
        """
        first, _, raised, second = self._raised(counts, params)
        return _draw_sticks(key, jnp.where(counts[:-1] > 0, raised - 1, first), second)

    def log_marginal(self, counts: Float[Array, " K"], params: Params) -> Float[Array, ""]:
        r"""Of labelled assignments: product over k < K of B(1 - d + n_k, alpha + k d + n_{>k}) / B(1 - d, alpha + k d).

        As n_k + n_{>k} = n_{>k-1}, the Gamma functions of the tails cancel from stick to stick, and what is left is

        .. math:: \frac{(\alpha + (K-1) d)_{n_K}}{(\alpha + 1)_N} \prod_{k=1}^{K-1} (1 - d)_{n_k}
            \prod_{k=1}^{K-2} \frac{\alpha + k d}{\alpha + k d + n_{>k}}

        with rising factorials :math:`(a)_n = \Gamma(a + n) / \Gamma(a)`.
        """
        own, last = self._log_rising(counts, params), self._log_rising_of_last(counts[-1], counts, params)
        return self._log_marginal(counts, own, last, params)

    def marginal_terms(self, counts: Float[Array, " K"], params: Params) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Counts, and the rising factorials of each memory: those of a stick, and those of the last memory."""
        return counts, self._log_rising(counts, params), self._log_rising_of_last(counts, counts, params)

    def log_marginal_of(self, terms: tuple[jax.Array, jax.Array, jax.Array], params: Params) -> Float[Array, ""]:
        """Without Gamma functions."""
        counts, own, last = terms
        return self._log_marginal(counts, own, last[-1], params)

    def _log_rising(self, counts: jax.Array, params: Params) -> jax.Array:
        return log_gamma_ratio(1 - self.parameters(params)[1], counts)

    def _log_rising_of_last(self, count: jax.Array, counts: jax.Array, params: Params) -> jax.Array:
        """Less that of all data."""
        alpha, discount = self.parameters(params)
        each = log_gamma_ratio(alpha + (len(counts) - 1) * discount, count)
        return each - log_gamma_ratio(alpha + 1, jnp.sum(counts))

    def _log_marginal(self, counts: jax.Array, own: jax.Array, last: jax.Array, params: Params) -> jax.Array:
        """From the logs of the rising factorials: ``own`` of every memory, ``last`` of the last."""
        num_components = len(counts)
        if num_components == 1:
            return jnp.zeros((), counts.dtype)
        alpha, discount = self.parameters(params)
        left = alpha + discount * jnp.arange(1, num_components - 1)
        after = jnp.arange(num_components) > jnp.arange(num_components - 2)[:, None]
        behind = jnp.sum(jnp.where(after, counts, 0), axis=-1)  # data in the memories after k
        return last + jnp.sum(own[:-1]) - jnp.sum(jnp.log1p(behind / left))

    @override
    def orders_by_size(self, counts: Float[Array, " K"]) -> Int[Array, "K K"]:
        """Large memories first, but for the last one, which takes what the sticks leave: each memory may be that one.

        Two neighbours before the last are likelier in falling order, whatever alpha and discount: all of the ratio that
        depends on their order is 1 / (alpha + k d + n_{>k}). For alpha above 1 the last one is often not the smallest.
        """
        num_components = len(counts)
        place, last = jnp.arange(num_components), jnp.arange(num_components)[:, None]
        rank = jnp.where(place == num_components - 1, last, place + (place >= last))
        return jnp.argsort(-counts).astype(jnp.int32)[rank]

    def log_predictive(self, counts: Float[Array, " K"], params: Params) -> Float[Array, " K"]:
        """E V_k times the product of E(1 - V_j), j < k, under the posterior of the sticks."""
        _, _, first, second = self._raised(counts, params)
        total, nothing = jnp.log(first + second), jnp.zeros(1, counts.dtype)
        here = jnp.concatenate([jnp.log(first) - total, nothing])
        return here + jnp.concatenate([nothing, jnp.cumsum(jnp.log(second) - total)])


def _draw_sticks(key: jax.Array, first: jax.Array, second: jax.Array) -> Params:
    """Site ``sticks``: Beta(first, second), kept off 0 and 1 by one rounding; no site where there are none."""
    if not len(first):
        return {}
    taken, left = jax.random.loggamma(key, jnp.stack([first, second]), dtype=first.dtype)
    limits = np.finfo(first.dtype)
    return {"sticks": jnp.clip(jnp.exp(taken - jnp.logaddexp(taken, left)), limits.tiny, 1 - limits.epsneg)}


def _climb(log_density: Callable[[Params], jax.Array], name: str, transform: Transform[Any], hyper: Params) -> Params:
    """The hyper-parameters with ``name`` moved to where the slope changes sign, if the density is higher there.

    A proper density rises at the far left and falls at the far right of an unconstrained coordinate, so bisection
    on the slope ends at a maximum.
    """

    def along(free: jax.Array) -> jax.Array:
        return log_density(hyper | {name: jnp.asarray(transform(free))})

    slope = jax.grad(along)
    here = jnp.asarray(transform.inv(hyper[name]))
    peak = turning_point(lambda free: slope(free) > 0, jnp.full_like(here, -_REACH), jnp.full_like(here, _REACH))
    better = along(peak) > along(here)
    return hyper | {name: jnp.where(better, transform(peak), hyper[name])}


def weight_prior(
    kind: str,
    *,
    alpha: float | Distribution | None = None,
    discount: float | Distribution | None = None,
    given: tuple[float, ...] | None = None,
) -> WeightPrior:
    """The weight prior called ``kind``.

    Defaults: Dirichlet concentration 1; DP and Pitman-Yor alpha ~ Gamma(1, 1), and discount ~ Beta(1, 3) (mean 1/4).
    Raises :class:`probam.errors.InputError` for an unknown kind or an argument that the kind does not have.
    """
    if kind not in WEIGHTS:
        raise InputError(f"weights: expected one of {', '.join(WEIGHTS)}; got {kind!r}")
    if discount is not None and kind != "pyp":
        raise InputError(f"discount: only weights 'pyp' have one; got it with {kind!r}")
    if alpha is not None and kind in ("uniform", "fixed"):
        raise InputError(f"alpha: weights {kind!r} have none; leave it out or use 'dirichlet', 'dp' or 'pyp'")
    if (given is not None) != (kind == "fixed"):
        raise InputError("given_weights: give a number for each memory with weights 'fixed', and only then")
    if kind == "uniform":
        return Uniform()
    if kind == "fixed":
        return Fixed(tuple(given or ()))
    if kind == "dirichlet":
        if isinstance(alpha, Distribution):
            raise InputError("alpha: the Dirichlet concentration is a number; a prior on it is for 'dp' and 'pyp'")
        return Dirichlet(1.0 if alpha is None else float(alpha))
    alpha = dist.Gamma(1.0, 1.0) if alpha is None else alpha
    if kind == "dp":
        return StickBreaking(alpha)
    return StickBreaking(alpha, dist.Beta(1.0, 3.0) if discount is None else discount)
