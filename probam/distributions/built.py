"""Distributions whose constructors compute, made by one compiled program.

NumPyro's constructors of a multivariate normal, a Wishart or a Beta distribution run up to a dozen operations, and
outside of ``jit`` each is a program of its own that XLA compiles. Those of most other distributions only keep what they
are given, so NumPy arrays are enough there.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from numpyro.distributions import Distribution

from probam.compiled import compiled_quickly
from probam.numerics.steady import restored, steady

__all__ = ["built"]

Laws = tuple[Distribution, ...]


def built(make: Callable[..., Laws], *numbers: np.ndarray | jax.Array) -> Laws:
    """``make(*numbers)``, its arithmetic compiled as one program for all numbers of these shapes.

    Args:
        make: a function of a module, so that it is the same one at each call.
        numbers: its arguments. ``make`` should say ``validate_args=False``: NumPyro cannot check traced values, and
            what it computes on the way to finding that out is compiled one by one.
    """
    laws: Laws = restored(_built(make, *numbers))
    return laws


@compiled_quickly(static_argnums=0)
def _built(make: Callable[..., Laws], *numbers: np.ndarray | jax.Array) -> Any:
    return steady(make(*numbers))
