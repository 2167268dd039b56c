r"""Inverse temperatures by their kernels: conversion between the conventions of the papers.

Each paper measures the closeness of a query v to a memory mu by a parameter of its own. The kernels show how these
parameters correspond:

=================  ==================================================  =================================
convention         kernel                                              beta of ``clam``
=================  ==================================================  =================================
``clam``           :math:`e^{-\beta\lVert v-\mu\rVert^2}`              :math:`\beta`
``precision``      :math:`e^{-\lambda\lVert v-\mu\rVert^2/2}`          :math:`\lambda/2`
``sd``             :math:`e^{-\lVert v-\mu\rVert^2/(2\sigma^2)}`       :math:`1/(2\sigma^2)`
``dot``            :math:`e^{\beta\,\mu\cdot v}`                       :math:`\beta/2`
``concentration``  :math:`e^{\kappa\,m\cdot x}`, :math:`|m|=|x|=1`     :math:`\kappa/2`
=================  ==================================================  =================================

``clam`` is the convention of the CLAM energy (Schaeffer et al., Eq. 1) and of every ``beta`` in
:mod:`probam.energies` unless its docstring names another; its Gaussian has covariance :math:`I/(2\beta)` (CLAIMS A2).
``dot`` is that of the modern continuous Hopfield network and of attention; its kernel and that of ``clam`` differ by
a factor that depends on v alone and one that depends on the memory alone, a prior weight (CLAIMS B11). ``sd`` is also
the noise level of a diffusion (CLAIMS D1).
"""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import ArrayLike, Float

from probam.errors import InputError

__all__ = ["CONVENTIONS", "Convention", "convert"]

Scale = Callable[[ArrayLike], ArrayLike]


@dataclass(frozen=True)
class Convention:
    """One way to write the width of a kernel.

    ``latex`` is the kernel. ``beta`` maps the convention's parameter to the beta of the CLAM kernel, ``of_beta`` maps
    back.
    """

    name: str
    latex: str
    beta: Scale
    of_beta: Scale


def _half(value: ArrayLike) -> ArrayLike:
    return value / 2


def _double(value: ArrayLike) -> ArrayLike:
    return 2 * value


def _half_inverse_square(value: ArrayLike) -> ArrayLike:
    return 1 / (2 * value**2)


def _inverse_root_of_double(value: ArrayLike) -> ArrayLike:
    return (2 * value) ** -0.5


def _same(value: ArrayLike) -> ArrayLike:
    return value


CONVENTIONS: dict[str, Convention] = {
    one.name: one
    for one in (
        Convention("clam", r"\exp(-\beta\lVert v-\mu\rVert^2)", _same, _same),
        Convention("precision", r"\exp(-\lambda\lVert v-\mu\rVert^2/2)", _half, _double),
        Convention("sd", r"\exp(-\lVert v-\mu\rVert^2/(2\sigma^2))", _half_inverse_square, _inverse_root_of_double),
        Convention("dot", r"\exp(\beta\,\mu\cdot v)", _half, _double),
        Convention("concentration", r"\exp(\kappa\,m\cdot x)", _half, _double),
    )
}
"""The known conventions by name."""


def convert(value: Float[ArrayLike, "..."], source: str, target: str) -> Float[ArrayLike, "..."]:
    """The parameter in the convention ``target`` of the kernel whose parameter in ``source`` is ``value``.

    >>> convert(0.5, "sd", "clam")
    2.0
    >>> convert(2.0, "clam", "dot")
    4.0

    Args:
        value: a positive number, or an array of them.
        source, target: names from :data:`CONVENTIONS`.

    Raises:
        InputError: for an unknown name.
    """
    for argument, name in (("source", source), ("target", target)):
        if name not in CONVENTIONS:
            raise InputError(f"{argument}: expected one of {', '.join(CONVENTIONS)}; got {name!r}")
    return CONVENTIONS[target].of_beta(CONVENTIONS[source].beta(value))
