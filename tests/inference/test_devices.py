"""Chains on one device or several: the same program for every stretch of them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probam.inference.common.devices import devices_for, over_chains, spread
from probam.inference.gibbs import engine as gibbs
from probam.inference.nuts import chains as nuts_chains
from probam.inference.nuts import engine as nuts
from probam.inference.smc import cloud
from probam.inference.smc import engine as smc
from probam.models.gaussian import Gaussian
from probam.models.mixture import mixture
from probam.models.weights import weight_prior

X = np.random.default_rng(0).normal(size=(31, 1))
MODEL = mixture(X, family=Gaussian("isotropic"), weights=weight_prior("dirichlet"), num_components=2)


def test_chains_keep_their_numbers_on_every_number_of_devices() -> None:
    chains = jnp.arange(8.0).reshape(4, 2)
    for num_devices in {1, devices_for(4)}:
        run = over_chains(lambda shift, own: own + shift, num_devices, num_shared=1)
        np.testing.assert_array_equal(run(jnp.asarray(3.0), spread(chains, num_devices)), chains + 3)


@pytest.mark.parametrize("engine", ["nuts", "smc", "gibbs"])
def test_all_stretches_of_a_run_are_one_program(engine: str) -> None:
    """The chains begin where the program leaves them, so that it is compiled once."""
    key, x = jax.random.key(0), jnp.asarray(X)
    program: Any
    run: Callable[[], object]
    if engine == "nuts":
        program, run = nuts_chains.advance, lambda: nuts.run(key, MODEL, x, num_warmup=110, num_draws=101)
    elif engine == "smc":
        program, run = cloud.advance, lambda: smc.run(key, MODEL, x, num_particles=30)
    else:
        program, run = gibbs._advance, lambda: gibbs.run(key, MODEL, x, num_warmup=300, num_draws=300)
    before = program._cache_size()
    run()
    assert program._cache_size() == before + 1
