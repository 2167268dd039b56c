r"""A NumPyro program as a log density on R^n: the coordinates in which samplers walk.

Each site's support is mapped to R^m by NumPyro's own bijection; log densities include its Jacobian, so that
``log_joint`` is minus the potential energy of NUTS, and a maximum of it is a stationary point of that potential.

A model whose memories are in order (:mod:`probam.inference.common.ordering`) has coordinates that cover one labelling,
where its density is K! times that of the unordered model.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpyro import handlers
from numpyro.distributions import biject_to
from numpyro.infer.util import log_density

from probam.compiled import compiled_by_work
from probam.distributions.direction import FreeDirection
from probam.distributions.likelihood import log_likelihood_of
from probam.family import Model, Params
from probam.inference.common.ordering import OrderedModel
from probam.placement import each

__all__ = [
    "Coordinates",
    "arranged",
    "constrained",
    "flattened",
    "free_parameters",
    "log_joints",
    "log_priors",
    "sites_of",
    "unconstrained",
]


class Coordinates:
    """Maps between the sites of a model and unconstrained values, and the log densities there."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.transforms: dict[str, Any] = {}
        shapes: dict[str, tuple[int, ...]] = {}

        def look() -> None:
            trace = handlers.trace(handlers.substitute(model.sites, substitute_fn=_zeros_of)).get_trace()
            for name, site in trace.items():
                if site["type"] == "sample":
                    transform: Any = biject_to(site["fn"].support)
                    if isinstance(model, OrderedModel) and name == model.site:
                        transform = model.transform(transform)
                    self.transforms[name] = transform
                    shapes[name] = self.transforms[name].inverse_shape(jnp.shape(site["value"]))

        jax.eval_shape(look)  # supports and shapes are all that is needed: nothing is drawn or compiled
        self.shapes = {name: shapes[name] for name in sorted(shapes)}
        """Of the unconstrained values: names and shapes in one place, and one order of them.

        The order of the program will not do: JAX sorts the priors of a model that enters a compiled function.
        """

    @property
    def zeros(self) -> Params:
        """Unconstrained zero at every site, in the order of ``shapes``."""
        return {name: jnp.zeros(shape) for name, shape in self.shapes.items()}

    def unconstrain(self, params: Params) -> Params:
        """Site values to unconstrained values."""
        return {name: transform.inv(params[name]) for name, transform in self.transforms.items()}

    def constrain(self, free: Params) -> Params:
        """Unconstrained values to site values."""
        return {name: transform(free[name]) for name, transform in self.transforms.items()}

    def arranged(self, params: Params) -> Params:
        """Site values with the memories numbered as the model has them, ready for ``unconstrain``: for starts."""
        if not isinstance(self.model, OrderedModel):
            return params
        return self.model.arranged(self.transforms[self.model.site], params)

    def flatten(self, free: Params) -> Float[Array, " P"]:
        """One vector, sites in alphabetical order."""
        return jnp.concatenate([jnp.ravel(free[name]) for name in self.shapes])

    def unflatten(self, vector: Float[Array, " P"]) -> Params:
        """Inverse of :meth:`flatten`."""
        ends = np.cumsum([math.prod(shape) for shape in self.shapes.values()])
        parts = jnp.split(vector, ends[:-1])
        return {name: jnp.reshape(part, shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def log_prior(self, free: Params, params: Params | None = None) -> Float[Array, ""]:
        """Log prior density with the Jacobian, nats; ``params`` are the site values at ``free``, where known."""
        params = self.constrain(free) if params is None else params
        total, _ = log_density(self.model.sites, (), {}, params)
        for name, transform in self.transforms.items():
            total = total + jnp.sum(transform.log_abs_det_jacobian(free[name], params[name]))
        if isinstance(self.model, OrderedModel):
            total = total + self.model.log_labellings
        return jnp.asarray(total)

    def log_prior_of_weights(self, params: Params) -> Float[Array, ""]:
        """The part of ``log_prior`` that depends on the sites of the weights alone, at site values, nats."""
        total, _ = log_density(self.model.weights.sample, (self.model.num_components,), {}, params)
        for name in sorted(set(self.transforms) - set(self.model.prior)):  # the same program in every process
            transform = self.transforms[name]
            total = total + jnp.sum(transform.log_abs_det_jacobian(transform.inv(params[name]), params[name]))
        return jnp.asarray(total)

    def log_likelihood(self, params: Params, x: Float[Array, "N D"]) -> Float[Array, ""]:
        """Log density of the data at site values, nats."""
        mixture = self.model.mixture(params)
        return log_likelihood_of(mixture, x, self.model.row_weight)(mixture)

    def log_joint(self, free: Params, x: Float[Array, "N D"]) -> Float[Array, ""]:
        """Log prior plus log likelihood: minus the potential energy of NUTS."""
        params = self.constrain(free)
        return self.log_prior(free, params) + self.log_likelihood(params, x)

    def log_joint_given(self, x: Float[Array, "N D"]) -> Callable[[Params], Float[Array, ""]]:
        """``log_joint`` of fixed data: what depends on them alone is computed here, so call it outside a loop."""
        log_likelihood = log_likelihood_of(self.model.mixture(self.constrain(self.zeros)), x, self.model.row_weight)

        def log_joint(free: Params) -> Float[Array, ""]:
            params = self.constrain(free)
            return self.log_prior(free, params) + log_likelihood(self.model.mixture(params))

        return log_joint


def _zeros_of(site: dict[str, Any]) -> jax.Array | None:
    """A value of the shape of a site's draws, which costs less to trace than a draw."""
    return jnp.zeros(site["fn"].shape()) if site["type"] == "sample" else None


@compiled_by_work(lambda _, params: (params, 1))
def unconstrained(model: Model, params: Params) -> Params:
    """Unconstrained values of many site values (leaves lead with their axis)."""
    return jax.vmap(Coordinates(model).unconstrain)(params)


@compiled_by_work(lambda _, params: (params, 1))
def arranged(model: Model, params: Params) -> Params:
    """Many site values (leaves lead with their axis) with the memories numbered as the model has them."""
    return jax.vmap(Coordinates(model).arranged)(params)


@compiled_by_work(lambda _, free: (free, 1))
def flattened(model: Model, free: Params) -> Float[Array, "S P"]:
    """Many unconstrained values (leaves lead with their axis) as vectors, sites in alphabetical order."""
    return jax.vmap(Coordinates(model).flatten)(free)


@compiled_by_work(lambda _, free: (free, 1))
def constrained(model: Model, free: Params) -> Params:
    """Site values of many unconstrained values (leaves lead with their axis)."""
    return jax.vmap(Coordinates(model).constrain)(free)


@compiled_by_work(lambda _, free, x: (free, len(x)))
def log_joints(model: Model, free: Params, x: Float[Array, "N D"]) -> Float[Array, " S"]:
    """Log joint density at many unconstrained values (leaves lead with their axis)."""
    numbers = x.size * model.num_components
    return jnp.asarray(each(lambda one: Coordinates(model).log_joint(one, x), free, numbers=numbers))


@compiled_by_work(lambda _, free: (free, 1))
def log_priors(model: Model, free: Params) -> Float[Array, " S"]:
    """Log prior density, with the Jacobian, at many unconstrained values (leaves lead with their axis)."""
    return jax.vmap(Coordinates(model).log_prior)(free)


@jax.jit
def sites_of(model: Model, free: Params) -> Params:
    """Site values and deterministics of chains of draws (leaves lead with chain and draw)."""

    def one(free: Params) -> Params:
        sites = Coordinates(model).constrain(free)
        return sites | model.deterministics(sites)

    return jax.vmap(jax.vmap(one))(free)


def free_parameters(model: Model) -> int:
    """Number of free parameters: unconstrained coordinates, without the arbitrary length of each direction."""
    total = sum(math.prod(shape) for shape in Coordinates(model).shapes.values())
    lengths = sum(isinstance(law, FreeDirection) for law in model.prior.values())
    return total - lengths * model.num_components
