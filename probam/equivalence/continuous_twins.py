r"""Physical twins of the other continuous families: Laplace, generalised normal, Student-t, Levy and uniform.

========================= ============================================ ===========================================
bank                      energy, with scale 1                         constant
========================= ============================================ ===========================================
Laplace                   Laplace wells, beta = 1 / scale,             D log 2
                          log w = log weights + sum_d log beta
GeneralizedNormal         power wells, log w = log weights +           D log(2 Gamma(1 + 1/p))
                          sum_d log(beta) / p
RadialLaplace             radial power wells, p = 1,                   log(2 pi^(D/2) Gamma(D) / Gamma(D/2))
                          log w = log weights + D log beta
EllipticalStudentT        Student-t wells, A = precision, log w = log  (D/2) log pi
                          weights + (1/2) log det A + log Gamma((nu +
                          D)/2) - log Gamma(nu/2) - (D/2) log nu
Levy                      one-sided wells, log w = log weights +       (D/2) log(2 pi)
                          (1/2) sum_d log c
UniformBox, UniformBall   flat wells, log w = log weights - log        0
                          volume; no recall
========================= ============================================ ===========================================
"""

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.special import gammaln
from numpyro.distributions import Distribution

from probam.distributions.generalized_normal import GeneralizedNormal, RadialLaplace
from probam.distributions.levy import Levy
from probam.distributions.student_t import EllipticalStudentT
from probam.distributions.uniform import UniformBall, UniformBox
from probam.energies import generalized_normal, laplace, student_t, supports
from probam.energies.arguments import Logs
from probam.equivalence.twin import Twin, bank_twin, independent_twin, recall_functions, with_parameters
from probam.numerics.log_gamma import log_gamma_ratio

__all__: list[str] = []


@independent_twin.register
def _(base: dist.Laplace, bank: Distribution, log_weights: jax.Array) -> Twin:
    loc, beta = (jnp.broadcast_to(value, bank.shape()) for value in (base.loc, 1 / base.scale))
    parameters = {"memories": loc, "beta": beta, "weights": Logs(log_weights + jnp.sum(jnp.log(beta), axis=-1))}
    one = jnp.ones((), loc.dtype)
    functions = recall_functions(laplace.energy, laplace.update, laplace.responsibilities, **parameters)
    return Twin("Laplace wells", *functions, one, loc.shape[-1] * jnp.log(2 * one))


@independent_twin.register
def _(base: GeneralizedNormal, bank: Distribution, log_weights: jax.Array) -> Twin:
    loc, beta = (jnp.broadcast_to(value, bank.shape()) for value in (base.loc, base.beta))
    log_w = log_weights + jnp.sum(jnp.log(beta), axis=-1) / base.power
    parameters = {"memories": loc, "beta": beta, "power": jnp.asarray(base.power, loc.dtype), "weights": Logs(log_w)}
    one = jnp.ones((), loc.dtype)
    functions = (
        with_parameters(generalized_normal.energy, **parameters),
        None,
        with_parameters(generalized_normal.responsibilities, **parameters),
    )
    return Twin("power wells", *functions, one, loc.shape[-1] * (jnp.log(2 * one) + gammaln(one + 1 / base.power)))


@independent_twin.register
def _(base: Levy, bank: Distribution, log_weights: jax.Array) -> Twin:
    loc, scales = (jnp.broadcast_to(value, bank.shape()) for value in (base.loc, base.scale))
    parameters = {
        "memories": loc,
        "scales": scales,
        "weights": Logs(log_weights + 0.5 * jnp.sum(jnp.log(scales), axis=-1)),
    }
    one = jnp.ones((), loc.dtype)
    energy = with_parameters(supports.levy_energy, **parameters)
    return Twin("one-sided wells", energy, None, None, one, 0.5 * loc.shape[-1] * jnp.log(2 * jnp.pi * one))


@bank_twin.register
def _(bank: RadialLaplace, log_weights: jax.Array) -> Twin:
    dim, one = bank.event_shape[0], jnp.ones((), bank.loc.dtype)
    parameters = {"memories": bank.loc, "beta": bank.beta, "weights": Logs(log_weights + dim * jnp.log(bank.beta))}
    constant = jnp.log(2 * one) + 0.5 * dim * jnp.log(jnp.pi * one) + gammaln(dim * one) - gammaln(0.5 * dim * one)
    energy = with_parameters(generalized_normal.radial_energy, **parameters)
    return Twin(
        "radial wells",
        energy,
        None,
        with_parameters(generalized_normal.radial_responsibilities, **parameters),
        one,
        constant,
    )


@bank_twin.register
def _(bank: EllipticalStudentT, log_weights: jax.Array) -> Twin:
    dim, one = bank.event_shape[0], jnp.ones((), bank.loc.dtype)
    stiffness, log_det = bank.precision, jnp.sum(jnp.log(bank.precision), axis=-1)
    if bank.is_full:
        stiffness = bank.precision @ jnp.swapaxes(bank.precision, -1, -2)
        log_det = 2 * jnp.sum(jnp.log(jnp.diagonal(bank.precision, axis1=-2, axis2=-1)), axis=-1)
    half = 0.5 * bank.df
    log_w = log_weights + 0.5 * log_det + log_gamma_ratio(half, 0.5 * dim) - 0.5 * dim * jnp.log(bank.df)
    parameters = {"memories": bank.loc, "stiffness": stiffness, "df": bank.df, "weights": Logs(log_w)}
    functions = recall_functions(student_t.energy, student_t.update, student_t.responsibilities, **parameters)
    return Twin("Student-t wells", *functions, one, 0.5 * dim * jnp.log(jnp.pi * one))


_FLAT = (
    "uniform memories have no retrieval dynamics: the energy is flat inside a support and infinite outside all of "
    "them, where responsibilities are 0 / 0; use predict, which gives the memory whose support contains a datum, or "
    "another family"
)


@bank_twin.register
def _(bank: UniformBox, log_weights: jax.Array) -> Twin:
    log_w = Logs(log_weights - jnp.sum(jnp.log(2 * bank.reach), axis=-1))
    one = jnp.ones((), bank.loc.dtype)
    energy = with_parameters(supports.box_energy, memories=bank.loc, half_widths=bank.reach, weights=log_w)
    return Twin("flat boxes", energy, None, None, one, 0 * one, still=_FLAT)


@bank_twin.register
def _(bank: UniformBall, log_weights: jax.Array) -> Twin:
    dim, one = bank.event_shape[0], jnp.ones((), bank.loc.dtype)
    log_volume = 0.5 * dim * jnp.log(jnp.pi * one) - gammaln(0.5 * dim * one + 1) + dim * jnp.log(bank.reach)
    energy = with_parameters(
        supports.ball_energy, memories=bank.loc, radii=bank.reach, weights=Logs(log_weights - log_volume)
    )
    return Twin("flat balls", energy, None, None, one, 0 * one, still=_FLAT)
