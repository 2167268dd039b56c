r"""The model of a fit as the text of a NumPyro program that needs NumPyro and JAX alone.

The program has the sites of ours, so that draws of one are draws of the other:

.. math::
    w \sim \text{weights}, \qquad \theta_k \sim \text{base measure}, \qquad
    x_n \sim \sum_k w_k \, p(\cdot \mid \theta_k)

Numbers are written to the last bit. Text of the file that is fitted enters by ``repr`` alone.
"""

from collections.abc import Callable
from textwrap import indent
from typing import Any, NamedTuple

import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import Distribution

from probam.data.standardise import Standardiser
from probam.distributions.direction import FreeDirection
from probam.distributions.supports import innermost
from probam.errors import InputError
from probam.models.bernoulli import Bernoulli
from probam.models.dirichlet import DirichletMemory
from probam.models.gaussian import Gaussian
from probam.models.laplace import Laplace
from probam.models.mixture import Mixture
from probam.models.multinomial import Multinomial
from probam.models.student_t import StudentT
from probam.models.von_mises_fisher import VonMisesFisherMemory
from probam.models.weights import Dirichlet, Fixed, StickBreaking, Uniform

__all__ = ["program_text"]


def program_text(
    model: Mixture, columns: tuple[str, ...], units: Standardiser, *, normalised: bool, is_double: bool
) -> str:
    """The text of a Python module with a function ``model``, the NumPyro program.

    Args:
        model: the program that was fitted.
        columns: names of the features.
        units: between the units of the data and those of the model.
        normalised: whether each row is divided by its length.
        is_double: whether the fit is in double precision.

    Raises:
        InputError: for a family, a prior or data that plain NumPyro has no words for; it says which.
    """
    if model.missing:
        raise InputError(
            "to_numpyro: entries of the data are missing, and NumPyro's mixtures do not integrate them out; fit whole "
            "rows"
        )
    memories, priors = _memories(model), _priors(model)
    divided = "    rows = rows / jnp.linalg.norm(rows, axis=1, keepdims=True)\n" if normalised else ""
    parts = [
        _HEAD.format(
            special=_SPECIAL * bool(memories.helpers),
            precision='jax.config.update("jax_enable_x64", True)  # before the first array\n' * is_double,
        ),
        f"COLUMNS = {list(columns)!r}\n"
        f"CENTER = {_array(units.center)}  # the units of the model: x = (row - CENTER) / SCALE\n"
        f"SCALE = {_array(units.scale)}\n"
        f"NUM_MEMORIES = {model.num_components}\n\n{_constants(model)}",
        f'def in_model_units(rows):\n    """Rows of COLUMNS as the model takes them."""\n'
        f"    rows = jnp.asarray(rows)\n{divided}    return (rows - CENTER) / SCALE\n",
        *memories.helpers,
        f'def log_weights():\n    """Logs of the mixing weights: {_weights_in_words(model)}."""\n{_log_weights(model)}',
        f'def memories():\n    """The memories: {memories.words}."""\n{priors}    return {memories.bank}\n',
        _MODEL,
    ]
    return "\n\n".join(part.strip("\n") + "\n" for part in parts)


_HEAD = '''"""A Bayesian mixture as a NumPyro program, written by probam; it needs NumPyro and JAX alone.

    from numpyro.infer import MCMC, NUTS

    mcmc = MCMC(NUTS(model), num_warmup=1000, num_samples=1000)
    mcmc.run(jax.random.key(0), in_model_units(rows))
"""

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
{special}
{precision}'''

_SPECIAL = "from jax.scipy.special import gammaln, logsumexp\n"

_MODEL = '''def model(x, row_weight=1.0):
    """Weights, memories, and the rows x (N, D) in the units of the model.

    row_weight (N,), above 0, says how often each row counts.
    """
    logs = log_weights()
    numpyro.deterministic("weights", jnp.exp(logs))
    mixture = dist.MixtureSameFamily(dist.CategoricalLogits(logs), memories(), validate_args=False)
    with numpyro.plate("data", len(x)), numpyro.handlers.scale(scale=row_weight):
        numpyro.sample("x", mixture, obs=x)
'''


# --- numbers ------------------------------------------------------------------------------------------------------


def _number(value: Any) -> str:
    return repr(float(value))


def _array(values: Any) -> str:
    """A number, or the text of an array, to the last bit."""
    array = np.asarray(values, float)
    return _number(array) if array.ndim == 0 else f"jnp.array({array.tolist()})"


def _law(law: Distribution, site: str) -> str:
    """A prior as a call of NumPyro."""
    inner = innermost(law)
    kind = dist.WishartCholesky if isinstance(inner, dist.WishartCholesky) else type(inner)
    if getattr(dist, kind.__name__, None) is not kind:
        raise InputError(f"to_numpyro: the prior of {site!r} is {kind.__name__}, which NumPyro does not have")
    arguments = ", ".join(
        f"{name}={_constant(site, name) if values.ndim else _number(values)}"
        for name, values in _arguments(law).items()
    )
    if isinstance(inner, dist.LKJCholesky):
        arguments = f"{inner.dimension}, {arguments}"
    text = f"dist.{kind.__name__}({arguments})"
    batch = law.shape()[: len(law.shape()) - inner.event_dim]
    text += f".expand({list(batch)})" if batch != inner.batch_shape else ""
    between = law.event_dim - inner.event_dim
    return text + (f".to_event({between})" if between else "")


def _arguments(law: Distribution) -> dict[str, np.ndarray]:
    """The numbers of a law, by the arguments that NumPyro takes them as."""
    inner = innermost(law)
    if isinstance(inner, FreeDirection):
        return {}
    if isinstance(inner, dist.WishartCholesky):
        names: tuple[str, ...] = ("concentration", "rate_matrix")
    elif isinstance(inner, dist.MultivariateNormal):
        names = ("loc", "scale_tril")
    else:
        names = tuple(name for name in inner.arg_constraints if inner.__dict__.get(name) is not None)
    return {name: np.asarray(getattr(inner, name), float) for name in names}


def _constant(site: str, argument: str) -> str:
    return f"{site}_{argument}".upper()


def _constants(model: Mixture) -> str:
    """Lines that name the arrays of the priors."""
    lines = [
        f"{_constant(site, name)} = {_array(values)}"
        for site, law in {**model.prior, **model.weights.hyper_priors()}.items()
        for name, values in _arguments(law).items()
        if values.ndim
    ]
    return "\n".join(["# The priors, in the units of the model.", *lines]) + "\n" if lines else ""


# --- weights ------------------------------------------------------------------------------------------------------


def _weights_in_words(model: Mixture) -> str:
    weights = model.weights
    if isinstance(weights, StickBreaking):
        process = "Dirichlet" if weights.is_dirichlet_process else "Pitman-Yor"
        return f"a {process} process, truncated"
    return {Uniform: "all equal", Fixed: "given numbers", Dirichlet: "a symmetric Dirichlet law"}.get(
        type(weights), weights.name
    )


def _log_weights(model: Mixture) -> str:
    """The lines that draw the weights and return their logs."""
    weights, num_components = model.weights, model.num_components
    if isinstance(weights, Uniform):
        return "    return jnp.full(NUM_MEMORIES, -jnp.log(NUM_MEMORIES))\n"
    if isinstance(weights, Fixed):
        return f"    given = {_array(weights.weights)}\n    return jnp.log(given / given.sum())\n"
    if isinstance(weights, Dirichlet):
        concentration = _number(weights.concentration)
        return (
            f"    law = dist.Dirichlet(jnp.full(NUM_MEMORIES, {concentration}))\n"
            '    return jnp.log(numpyro.sample("proportions", law))\n'
        )
    if isinstance(weights, StickBreaking):
        return _sticks(weights, num_components)
    raise InputError(f"to_numpyro: weights of kind {type(weights).__name__} are your own; write their program by hand")


def _sticks(weights: StickBreaking, num_components: int) -> str:
    lines = []
    for name in ("alpha", "discount"):
        value = getattr(weights, name)
        drawn = f'numpyro.sample("{name}", {_law(value, name)})' if isinstance(value, Distribution) else _array(value)
        lines.append(f"    {name} = {drawn}\n")
    if num_components == 1:
        return "".join([*lines, "    return jnp.zeros(1)\n"])
    return "".join(
        [
            *lines,
            "    later = alpha + discount * jnp.arange(1, NUM_MEMORIES)\n",
            '    sticks = numpyro.sample("sticks", dist.Beta(1 - discount, later).to_event(1))\n',
            "    left = jnp.concatenate([jnp.zeros(1), jnp.cumsum(jnp.log1p(-sticks))])\n",
            "    return jnp.concatenate([jnp.log(sticks), jnp.zeros(1)]) + left\n",
        ]
    )


# --- memories -----------------------------------------------------------------------------------------------------


_FREE_DIRECTION = '''class FreeDirection(dist.Distribution):
    """A vector whose direction is uniform and whose length is near one."""

    support = dist.constraints.real_vector

    def __init__(self, size):
        self.size, self.rate = size, max(1.0, size / 2)
        super().__init__((), (size,))

    def sample(self, key, sample_shape=()):
        key_direction, key_length = jax.random.split(key)
        normal = jax.random.normal(key_direction, (*sample_shape, self.size))
        square = jax.random.gamma(key_length, self.rate + self.size / 2, sample_shape) / self.rate
        return normal / jnp.linalg.norm(normal, axis=-1, keepdims=True) * jnp.sqrt(square)[..., None]

    def log_prob(self, value):
        half, square = self.size / 2, jnp.sum(value**2, axis=-1)
        constant = gammaln(half) - half * jnp.log(jnp.pi) - gammaln(self.rate + half)
        return constant + (self.rate + half) * jnp.log(self.rate) + self.rate * (jnp.log(square) - square)
'''

_VON_MISES_FISHER = '''def log_bessel(order, x):
    """log I_order(x): its power series up to 400, an expansion in 1 / sqrt(order^2 + x^2) beyond."""
    terms = jnp.arange(700.0)
    size = jnp.sqrt(order**2 + x**2)
    small = jnp.where(size < 400, x, 1.0)[..., None]
    series = logsumexp(
        (2 * terms + order) * jnp.log(small / 2) - gammaln(terms + 1) - gammaln(terms + order + 1), axis=-1
    )
    p, t = jnp.maximum(size, 400), (order / jnp.maximum(size, 400)) ** 2
    inner = 1 + (3 - 5 * t) / (24 * p) + (81 - 462 * t + 385 * t**2) / (1152 * p**2)
    inner += (30375 - 369603 * t + 765765 * t**2 - 425425 * t**3) / (414720 * p**3)
    expansion = p + order * jnp.log(x / (order + p)) - 0.5 * jnp.log(2 * jnp.pi * p) + jnp.log(inner)
    return jnp.where(size < 400, series, expansion)


class VonMisesFisher(dist.Distribution):
    """Directions around a mean direction: density C exp(concentration * cosine) on the unit sphere."""

    support = dist.constraints.sphere

    def __init__(self, mean_direction, concentration):
        self.mean_direction, self.concentration = mean_direction, concentration
        super().__init__(mean_direction.shape[:-1], mean_direction.shape[-1:])

    def log_prob(self, value):
        half, kappa = self.event_shape[0] / 2, self.concentration
        log_c = (half - 1) * jnp.log(kappa) - half * jnp.log(2 * jnp.pi) - log_bessel(half - 1, kappa)
        return log_c + kappa * jnp.sum(value * self.mean_direction, axis=-1)
'''


class _Memories(NamedTuple):
    """How the memories of a family are written.

    Attributes:
        words: what they are.
        bank: the expression of K memories, by the names of the sites.
        helpers: definitions that the expression needs.
    """

    words: str
    bank: str
    helpers: tuple[str, ...] = ()


_PRECISION = "precision_cholesky @ jnp.swapaxes(precision_cholesky, -1, -2)"


def _memories(model: Mixture) -> _Memories:
    for kind, write in _FAMILIES.items():
        if isinstance(model.family, kind):
            return write(model)
    raise InputError(
        f"to_numpyro: memories of family {model.family.signature!r} have a distribution of probam's or of your own, "
        f"which a program without it cannot name; families that can be written are "
        f"{', '.join(sorted(kind.name for kind in _FAMILIES))}"
    )


def _gaussian(model: Mixture) -> _Memories:
    family = model.family
    assert isinstance(family, Gaussian), "by the table"
    is_one = model.prior["loc"].shape() == (1,)
    banks = {
        "isotropic": "dist.Normal(loc, jnp.sqrt(0.5 / beta)).to_event(1)",
        "spherical": "dist.Normal(loc, jnp.sqrt(0.5 / beta)[:, None]).to_event(1)",
        "diagonal": "dist.Normal(loc, 1 / jnp.sqrt(precision)).to_event(1)",
        "lkj": "dist.Normal(loc, scale).to_event(1)"
        if is_one
        else "dist.MultivariateNormal(loc, scale_tril=scale[..., None] * corr_cholesky)",
    }
    full = f"dist.MultivariateNormal(loc, precision_matrix={_PRECISION})"
    return _Memories(f"Gaussians, {family.covariance} covariance", banks.get(family.covariance, full))


def _student_t(model: Mixture) -> _Memories:
    family = model.family
    assert isinstance(family, StudentT), "by the table"
    freedom = _number(family.df) if family.df else "df"
    if family.covariance == "full":
        factor = f"jnp.linalg.cholesky(jnp.linalg.inv({_PRECISION}))"
    else:
        factor = "jax.vmap(jnp.diag)(1 / jnp.sqrt(precision))"
    return _Memories(
        f"Student's t, {family.covariance} covariance", f"dist.MultivariateStudentT({freedom}, loc, {factor})"
    )


def _bernoulli(model: Mixture) -> _Memories:
    family = model.family
    assert isinstance(family, Bernoulli), "by the table"
    if family.values == "spin":
        raise InputError("to_numpyro: NumPyro's Bernoulli law has the values 0 and 1, not -1 and 1; fit bits")
    return _Memories("independent bits", "dist.BernoulliProbs(prob).to_event(1)")


_FAMILIES: dict[type[Any], Callable[[Mixture], _Memories]] = {
    Gaussian: _gaussian,
    StudentT: _student_t,
    Bernoulli: _bernoulli,
    Laplace: lambda _: _Memories("independent Laplace features", "dist.Laplace(loc, scale).to_event(1)"),
    DirichletMemory: lambda _: _Memories("Dirichlet laws of compositions", "dist.Dirichlet(concentration)"),
    Multinomial: lambda _: _Memories("independent counts", "dist.Poisson(total[..., None] * prob).to_event(1)"),
    VonMisesFisherMemory: lambda _: _Memories(
        "von Mises-Fisher laws of directions",
        "VonMisesFisher(direction / jnp.linalg.norm(direction, axis=-1, keepdims=True), concentration)",
        (_FREE_DIRECTION, _VON_MISES_FISHER),
    ),
}


def _priors(model: Mixture) -> str:
    """The lines that draw the sites of the memories."""
    lines, own = "", ""
    for site, law in model.prior.items():
        text = "FreeDirection(len(COLUMNS))" if isinstance(law, FreeDirection) else _law(law, site)
        line = f'{site} = numpyro.sample("{site}", {text})\n'
        if site in model.family.shared:
            lines += f"    {line}"
        else:
            own += indent(line, "        ")
    return f'{lines}    with numpyro.plate("memory", NUM_MEMORIES):\n{own}' if own else lines
