"""What one device and several come to. Run by ``test_many_devices.py`` with eight virtual devices of a CPU.

Work is laid out as for an accelerator with little memory, for which nearly all work is worth several devices.
"""

import sys
from collections.abc import Iterator
from typing import Any

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from probam import placement  # noqa: E402
from probam.energies.large_bank import step  # noqa: E402
from probam.fits.answers import begin  # noqa: E402
from probam.inference.cavi import engine as cavi  # noqa: E402
from probam.inference.cavi.blocks import converge_in_blocks  # noqa: E402
from probam.inference.common.blocks import RowBlocks, surveyed  # noqa: E402
from probam.inference.common.coordinates import Coordinates  # noqa: E402
from probam.inference.em import engine as em  # noqa: E402
from probam.inference.gradient_em import engine as gradient_em  # noqa: E402
from probam.inference.gradient_em.blocks import climb_in_blocks  # noqa: E402
from probam.inference.svi import engine as svi  # noqa: E402
from probam.models.gaussian import Gaussian  # noqa: E402
from probam.models.mixture import mixture  # noqa: E402
from probam.models.weights import weight_prior  # noqa: E402

KEY = jax.random.key(0)


def rows() -> np.ndarray:
    rng = np.random.default_rng(3)
    centres = np.array([[0.0, 0, 3], [4, 1, 0], [-3, 2, -2]])
    return centres[rng.integers(3, size=803)] + rng.normal(size=(803, 3))


def results(x: np.ndarray) -> dict[str, Any]:
    model = mixture(x, family=Gaussian("diagonal"), weights=weight_prior("dirichlet"), num_components=3)
    coordinates, data = Coordinates(model), jnp.asarray(x)

    def read() -> Iterator[np.ndarray]:
        return (x[begin : begin + 64].copy() for begin in range(0, len(x), 64))

    blocks = RowBlocks(len(x), 64, x.dtype, read)
    found = em.fit_params(KEY, model, data, restarts=1, max_iterations=4, tolerance=0.0).ends[0]
    params = {name: value[0] for name, value in found.params.items()}
    in_blocks = em.in_blocks(model, params, data[:50], blocks, max_iterations=3, tolerance=0.0)[0]
    search = cavi.Search(max_iterations=2, moves=False, restarts=1)
    parts, state, trace, _ = cavi.fit_factors(KEY, model, data, search)
    z = coordinates.flatten(coordinates.unconstrain(params)) + 0.05
    log_joint = lambda z: coordinates.log_joint_given(data)(coordinates.unflatten(z))  # noqa: E731
    value, gradient = jax.jit(jax.value_and_grad(log_joint))(z)  # of NUTS
    climbed = gradient_em.run(KEY, model, data, max_iterations=15, restarts=1)
    guided = svi.run(KEY, model, data, num_steps=40, restarts=1, num_draws=10, batch_size=len(x))
    sites = {name: value[None] for name, value in params.items()}
    said = begin(model, sites, np.arange(3)[None], x, each=True)()
    recalled = step(data[:100], data, 2.0, block_size=16)
    return {
        "em": found.params,
        "em in blocks": in_blocks.params,
        "survey": surveyed(model, sites, blocks),
        "cavi": (state.bound, state.seen.counts, trace),
        "cavi in blocks": converge_in_blocks(parts, state, blocks, 0.0, 5)[1],
        "log joint": (value, gradient, jax.jit(jax.hessian(log_joint))(z)),
        "gradient_em": climbed.stats["lp"],
        "gradient_em in blocks": climb_in_blocks(model, params, data, blocks, max_iterations=3, tolerance=0.0).trace,
        "svi": guided.objective,
        "prediction": (said.log_density, said.responsibilities),
        "recall": recalled,
    }


assert len(jax.local_devices()) == 8
with placement.laid_out_for(placement.Device("gpu", memory=2**16)):
    assert len(placement.devices_within(1000)) == 8
    assert len(placement.devices_worth(1000)) == 8
    several = jax.tree.map(np.asarray, results(rows()))
jax.local_devices = lambda *_, **__: jax.devices()[:1]
with placement.laid_out_for(placement.Device("gpu", memory=2**16)):
    assert len(placement.devices_within(1000)) == 1
    one = jax.tree.map(np.asarray, results(rows()))
for name in one:
    tolerance = 1e-6 if name in ("svi", "gradient_em") else 1e-10  # steps that follow each other
    jax.tree.map(
        lambda a, b, name=name, rtol=tolerance: np.testing.assert_allclose(a, b, rtol, rtol, err_msg=name),
        several[name],
        one[name],
    )
sys.exit(0)
