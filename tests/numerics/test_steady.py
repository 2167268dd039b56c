"""Distributions go through compiled programs in an order that no process chooses for itself."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from probam.numerics.steady import restored, steady

_LOWERED = """
import jax, numpy as np, numpyro.distributions as dist
from probam.numerics.steady import restored, steady
from probam.models.gaussian import Gaussian
from probam.models.mixture import mixture
from probam.models.weights import weight_prior
x = np.random.default_rng(0).normal(size=(9, 2))
model = mixture(x, family=Gaussian("full"), weights=weight_prior("pyp"), num_components=3)
law = dist.Normal(np.zeros((3, 2)), np.ones((3, 2))).to_event(1)
leaves = [np.shape(leaf) for leaf in jax.tree.leaves((model, steady(law)))]
print(leaves, [float(np.sum(leaf)) for leaf in jax.tree.leaves(model)])
"""


def test_every_process_flattens_a_model_in_the_same_order() -> None:
    outputs = {
        subprocess.run(
            [sys.executable, "-c", _LOWERED],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("0", "1", "7")
    }
    assert len(outputs) == 1


def test_what_was_wrapped_comes_out_as_it_went_in_through_compiled_and_mapped_functions() -> None:
    laws = {"a": dist.Gamma(jnp.arange(1.0, 4.0), 2.0), "b": (dist.Normal(jnp.zeros((3, 2)), 1.5).to_event(1), 4.0)}
    again = restored(steady(laws))
    assert again["a"] is laws["a"]
    assert again["b"][1] == 4.0

    @jax.jit
    def density(wrapped: object, x: jax.Array) -> jax.Array:
        law: dist.Distribution = restored(wrapped)
        return jnp.asarray(law.log_prob(x))

    density_value = density(steady(laws["b"][0]), jnp.ones(2))  # type: ignore[index]
    np.testing.assert_allclose(density_value, laws["b"][0].log_prob(jnp.ones(2)))  # type: ignore[index]
    mapped = jax.vmap(lambda wrapped: restored(wrapped).log_prob(1.0))(
        steady(dist.Gamma(jnp.arange(1.0, 4.0), jnp.ones(3)))
    )
    np.testing.assert_allclose(mapped, dist.Gamma(jnp.arange(1.0, 4.0), jnp.ones(3)).log_prob(1.0))
