"""Chains on one device or several: the same program for every stretch of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probam.inference.common.devices import devices_for, over_chains, spread
from probam.inference.gibbs import engine as gibbs
from probam.inference.nuts import engine as nuts
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
    made: list[str] = []

    def listen(event: str, duration_secs: float, **about: str | int) -> None:  # noqa: ARG001 (asked for by name)
        if event == "/jax/core/compile/backend_compile_duration":
            made.append(str(about["fun_name"]))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        if engine == "nuts":
            nuts.run(key, MODEL, x, num_warmup=110, num_draws=101)
        elif engine == "smc":
            smc.run(key, MODEL, x, num_particles=30)
        else:
            gibbs.run(key, MODEL, x, num_warmup=300, num_draws=300)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert made.count("jit(_advance)" if engine == "gibbs" else "jit(advance)") == 1
