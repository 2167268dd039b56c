r"""The information that complete data (assignments and all) hold on the parameters, and the mass of a mode.

.. math:: I_c = -\nabla^2_\theta \, Q(\theta \mid r)

at the responsibilities r of the point itself, in unconstrained coordinates. Memories do not interact in Q, so that
:math:`I_c` is one block for each memory and one for the weights with what memories share; what lies between these is
left out.

*The mass of a mode* is its share of the evidence by Laplace's approximation,

.. math:: \log m = \log p(x, \hat\theta) + \tfrac P2 \log 2\pi - \tfrac12 \log\det I_c .

It has the price of a memory that the height of a mode lacks: an empty memory is as wide as the prior, and each that
holds data is narrow. Information of complete data is more than that of the data where memories overlap, as in the
integrated completed likelihood of Biernacki, Celeux & Govaert (2000, doi:10.1109/34.865189), so that it costs more to
explain one group by two memories than the evidence itself says.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from probam.compiled import compiled_by_size, is_small
from probam.distributions.likelihood import shares
from probam.family import Model, Params
from probam.inference.common.coordinates import Coordinates
from probam.placement import each

__all__ = ["complete_information", "expected_log_joint", "log_volumes", "positions"]

_LEAST_EIGENVALUE = 1e-8
"""Of a block of the information in units of its diagonal."""


def expected_log_joint(
    coordinates: Coordinates,
    free: Params,
    responsibilities: Float[Array, "N K"],
    x: Float[Array, "N D"],
) -> Float[Array, ""]:
    """Q(free | responsibilities), nats, with the log prior in unconstrained coordinates."""
    params = coordinates.constrain(free)
    mixture = coordinates.model.mixture(params)
    return jnp.sum(responsibilities * mixture.log_joint(x)) + coordinates.log_prior(free, params)


def positions(coordinates: Coordinates) -> tuple[Int[np.ndarray, "K M"], Int[np.ndarray, " S"]]:
    """Where in the flat vector each memory's own coordinates are, and where all others."""
    model, own, rest, begin = coordinates.model, [], [], 0
    for site, shape in coordinates.shapes.items():
        index = np.arange(begin, begin + math.prod(shape))
        begin += len(index)
        if site in model.prior and site not in model.family.shared:
            own.append(index.reshape(model.num_components, -1))
        else:
            rest.append(index)
    return (
        np.concatenate(own, axis=1) if own else np.zeros((model.num_components, 0), int),
        np.concatenate(rest) if rest else np.zeros(0, int),
    )


def complete_information(
    coordinates: Coordinates, z: Float[Array, " P"], x: Float[Array, "N D"]
) -> tuple[Float[Array, "K M M"], Float[Array, "S S"]]:
    """Minus the Hessian of Q at its own responsibilities: a block for each memory, and one for the rest.

    Costs M + S products of the Hessian with a vector, whatever K: one direction serves all memories.
    """
    own, rest = positions(coordinates)
    mixture = coordinates.model.mixture(coordinates.constrain(coordinates.unflatten(z)))
    _, responsibilities = shares(mixture.log_joint(x), coordinates.model.row_weight)

    def minus_q(z: jax.Array) -> jax.Array:
        return -expected_log_joint(coordinates, coordinates.unflatten(z), responsibilities, x)

    directions = np.zeros((own.shape[1] + len(rest), z.size))
    for j in range(own.shape[1]):
        directions[j, own[:, j]] = 1
    directions[own.shape[1] + np.arange(len(rest)), rest] = 1

    def product(direction: jax.Array) -> jax.Array:  # linearising the gradient first takes half as long again to trace
        return jax.jvp(jax.grad(minus_q), (z,), (direction,))[1]

    products = each(product, jnp.asarray(directions, z.dtype), numbers=x.size * len(own))
    blocks = jnp.moveaxis(products[: own.shape[1], own], 0, -1)  # (K, M, M)
    return _symmetric(blocks), _symmetric(products[own.shape[1] :, rest])


def _symmetric(matrix: Float[Array, "*batch M M"]) -> Float[Array, "*batch M M"]:
    return 0.5 * (matrix + jnp.swapaxes(matrix, -1, -2))


@compiled_by_size(lambda model, _, x: is_small(x, model.num_components))
def log_volumes(model: Model, params: Params, x: Float[Array, "N D"]) -> Float[Array, " R"]:
    r"""Log of :math:`(2\pi)^{P/2} \det(I_c)^{-1/2}` at several points: what the mass of a mode has beside its height.

    Args:
        model: the mixture; where ``x`` is a sample, the weights of its rows say for how many each stands.
        params: site values; leaves lead with the axis of the R points.
        x: rows in units of the model.
    """
    coordinates = Coordinates(model)

    def one(params: Params) -> jax.Array:
        z = coordinates.flatten(coordinates.unconstrain(params))
        blocks = complete_information(coordinates, z, x)
        information = sum(jnp.sum(_log_determinants(block)) for block in blocks if block.size)
        return 0.5 * (z.size * np.log(2 * np.pi) - information)

    return jnp.asarray(each(one, params, numbers=x.size * model.num_components))


def _log_determinants(information: Float[Array, "*batch M M"]) -> Float[Array, "*batch"]:
    """Of blocks whose eigenvalues, in units of the diagonal, are made positive."""
    diagonal = jnp.abs(jnp.diagonal(information, axis1=-2, axis2=-1))
    scale = jnp.sqrt(jnp.maximum(diagonal, np.finfo(information.dtype).tiny))
    values = jnp.linalg.eigvalsh(information / (scale[..., :, None] * scale[..., None, :]))
    least = jnp.maximum(jnp.abs(values), _LEAST_EIGENVALUE)
    return 2 * jnp.sum(jnp.log(scale), axis=-1) + jnp.sum(jnp.log(least), axis=-1)
