r"""The NumPyro program of a mixture of memories, finite or stick-breaking, for any family.

.. math::
    w \sim \text{weights}, \qquad \theta_k \sim \text{base measure}, \qquad
    x_n \sim \sum_k w_k \, p(\cdot \mid \theta_k)

Assignments are summed out; ``MemoryMixture.responsibilities`` recovers them. A :class:`Mixture` is a plain NumPyro
program: give it to ``numpyro.infer.NUTS`` or ``SVI`` and pass the data to ``run``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jaxtyping import Array, Float
from numpyro.distributions import Distribution

from probam.data.table import has_gaps
from probam.distributions.likelihood import log_likelihood_of
from probam.distributions.mixture import MemoryMixture
from probam.errors import InputError
from probam.family import Family, Prior, WeightPrior
from probam.family.capabilities import Absent, DataSpace, MissingEntries
from probam.family.own import check_own_bank, check_prior, default_prior
from probam.numerics.steady import restored, steady

__all__ = ["Mixture", "mixture"]


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True, eq=False)
class Mixture:
    """K memories of one family under one weight prior; callable as a NumPyro program.

    A pytree whose leaves are the numbers of the priors: programs compiled for one data set serve the next one of the
    same shape.
    """

    family: Family
    weights: WeightPrior
    num_components: int
    prior: Prior = field(repr=False)
    missing: bool = False
    """Whether entries of the data may be missing (NaN): a row then counts with the density of the observed ones."""
    row_weight: jax.Array | None = field(default=None, repr=False)
    """How often each row of the data counts, (N,) or (N, K) with 0 for memories that a row cannot belong to."""

    @cached_property
    def _laws(self) -> tuple[list[Any], jax.tree_util.PyTreeDef]:
        """The priors flattened, once: a program is often called with the same model."""
        return jax.tree.flatten(steady((dict(self.prior), self.weights)))

    def tree_flatten(self) -> tuple[tuple[Any, ...], tuple[Family, int, bool, jax.tree_util.PyTreeDef]]:
        """Numbers of the priors and weights of the rows; family, K, ``missing`` and kinds of the priors are static."""
        numbers, laws = self._laws
        return (self.row_weight, *numbers), (self.family, self.num_components, self.missing, laws)

    @classmethod
    def tree_unflatten(
        cls, static: tuple[Family, int, bool, jax.tree_util.PyTreeDef], leaves: tuple[Any, ...]
    ) -> "Mixture":
        """Inverse of :meth:`tree_flatten`."""
        family, num_components, missing, laws = static
        prior, weights = restored(jax.tree.unflatten(laws, leaves[1:]))
        return cls(family, weights, num_components, prior, missing, leaves[0])

    def with_row_weight(self, weight: jax.Array | None) -> "Mixture":
        """The same model for rows that count so often."""
        return replace(self, row_weight=weight)

    def sites(self) -> tuple[Float[Array, " K"], dict[str, jax.Array]]:
        """NumPyro program of the parameters alone: log weights and the sites of the memories."""
        log_weights = self.weights.sample(self.num_components)
        params: dict[str, jax.Array] = {}
        for site, prior in self.prior.items():
            if site in self.family.shared:
                params[site] = jnp.asarray(numpyro.sample(site, prior))
            else:
                with numpyro.plate("memory", self.num_components):
                    params[site] = jnp.asarray(numpyro.sample(site, prior))
        return log_weights, params

    def parameters(self) -> tuple[Float[Array, " K"], Distribution]:
        """NumPyro program of the parameters alone: log weights and the bank."""
        log_weights, params = self.sites()
        return log_weights, self.family.bank(params)

    def __call__(self, x: Float[Array, "N D"] | None = None, num_data: int | None = None) -> Float[Array, "N D"]:
        """NumPyro program: the parameters, then the data site ``x``.

        Args:
            x: observed rows, or None to draw ``num_data`` of them.
            num_data: how many data the rows stand for; their log density is scaled by ``num_data / N``.
        """
        log_weights, bank = self.parameters()
        numpyro.deterministic("weights", jnp.exp(log_weights))
        if x is not None and self.row_weight is not None:
            return self._weighted(x, log_weights, bank)
        rows = len(x) if x is not None else (num_data or 1)
        size = num_data or rows
        law = MemoryMixture(log_weights.astype(bank.mean.dtype), bank, missing=self.missing, validate_args=False)
        with numpyro.plate("data", rows), numpyro.handlers.scale(scale=size / rows):
            draws = numpyro.sample("x", law, obs=x)
        return jnp.asarray(draws)

    def _weighted(self, x: Float[Array, "N D"], log_weights: jax.Array, bank: Distribution) -> Float[Array, "N D"]:
        """The log likelihood of weighted rows as a factor of the program."""
        law = MemoryMixture(log_weights.astype(bank.mean.dtype), bank, missing=self.missing, validate_args=False)
        numpyro.factor("x", log_likelihood_of(law, x, self.row_weight)(law))
        return x

    def mixture(self, params: Mapping[str, jax.Array]) -> MemoryMixture:
        """The mixture distribution at given site values."""
        bank = self.family.bank(params)
        log_weights = self.weights.log_weights(params, self.num_components)
        return MemoryMixture(log_weights.astype(bank.mean.dtype), bank, missing=self.missing, validate_args=False)

    def deterministics(self, params: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """``weights`` and what else the family derives from its sites."""
        log_weights = self.weights.log_weights(params, self.num_components)
        return {"weights": jnp.exp(log_weights)} | DataSpace.of(self.family).deterministics(params)


def mixture(
    x: np.ndarray,
    *,
    family: Family,
    weights: WeightPrior,
    num_components: int,
    prior: Prior | None = None,
) -> Mixture:
    """A mixture program whose default priors are scaled to the data.

    Args:
        x: (N, D) data that the default priors look at (means and spreads only).
        family: for example ``Gaussian("diagonal")``.
        weights: for example ``StickBreaking(alpha=1.0)``.
        num_components: K, the truncation for stick-breaking weights.
        prior: NumPyro distributions that replace the defaults, by site. One of a single number stands for every entry
            of a site, independently.

    Raises:
        InputError: for K < 1, a prior that its site or the family does not have, a family without the site of its
            ``location``, one of your own that does not work, or missing entries (NaN) where the family cannot
            integrate them out.
    """
    if num_components < 1:
        raise InputError(f"components: expected at least 1 memory; got {num_components}")
    missing = has_gaps(x)
    if missing and isinstance(entries := MissingEntries.ask(family), Absent):
        raise InputError(
            f"data: entries are missing, and family {family.name!r} cannot integrate them out: {entries.reason}; "
            "leave those rows out or impute the values first"
        )
    laws = default_prior(family, x.astype(jax.dtypes.canonicalize_dtype(x.dtype)))  # in the precision of JAX
    defaults = {site: _of_jax_arrays(law) for site, law in laws.items()}
    if family.location not in defaults:
        raise InputError(
            f"family: the prior of {family.name!r} has no site {family.location!r}, the place of a memory in space; "
            f"it has {', '.join(defaults)}; set `location` of the family to one of them"
        )
    unknown = sorted(map(str, set(prior or {}) - set(defaults)))
    if unknown:
        raise InputError(f"prior: family {family.name!r} has no site {unknown[0]!r}; it has {', '.join(defaults)}")
    given = {site: _of_shape(site, law, defaults[site].shape()) for site, law in (prior or {}).items()}
    for site, law in given.items():
        check_prior(site, law, defaults[site])
    model = Mixture(family, weights, num_components, defaults | given, missing)
    check_own_bank(model, x.shape[1])
    return model


def _of_jax_arrays(law: Distribution) -> Distribution:
    """The same prior with its NumPy arrays as JAX has them, by no program of XLA."""
    moved: Distribution = jax.tree.map(
        lambda leaf: jax.device_put(leaf) if isinstance(leaf, np.ndarray | np.generic) else leaf, law
    )
    return moved


def _of_shape(site: str, law: Distribution, shape: tuple[int, ...]) -> Distribution:
    """A prior of one memory's site: entries that the law does not span are independent."""
    if law.shape() == shape and not law.batch_shape:
        return law
    between = len(shape) - len(law.event_shape)
    if between >= 0 and law.event_shape == shape[between:] and _spans(law.batch_shape, shape[:between]):
        return law.expand(shape[:between]).to_event(between)
    raise InputError(
        f"prior: site {site!r} of one memory has shape {shape}; got {law.shape()}; give a distribution of one number, "
        "which then stands for every entry, or one of that shape"
    )


def _spans(batch: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether a law of this batch shape can be expanded to the shape."""
    try:
        return np.broadcast_shapes(batch, shape) == shape
    except ValueError:
        return False
