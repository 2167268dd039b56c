"""One process of several: what the rows of all of them come to. Run by ``test_processes.py``.

Arguments: port, number of processes, number of this one (-1: one process that reads all rows), folder.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

PORT, COUNT, PROCESS, FOLDER = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
jax.config.update("jax_enable_x64", True)
if PROCESS >= 0:
    jax.distributed.initialize(f"127.0.0.1:{PORT}", COUNT, PROCESS, initialization_timeout=120)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

from probam.data.source import drawn_rows  # noqa: E402
from probam.errors import ProbamError  # noqa: E402
from probam.fits.options import FitOptions  # noqa: E402
from probam.fits.spread import spread_rows  # noqa: E402
from probam.inference.cavi import engine as cavi  # noqa: E402
from probam.inference.cavi.blocks import converge_in_blocks  # noqa: E402
from probam.inference.common.blocks import RowBlocks, surveyed  # noqa: E402
from probam.inference.common.kinds import run_of  # noqa: E402
from probam.inference.common.processes import check_alike, totalled  # noqa: E402
from probam.inference.em import engine as em  # noqa: E402
from probam.inference.gradient_em.blocks import climb_in_blocks  # noqa: E402
from probam.models.gaussian import Gaussian  # noqa: E402
from probam.models.mixture import Mixture, mixture  # noqa: E402
from probam.models.weights import weight_prior  # noqa: E402

KEY = jax.random.key(0)


def blocks_of(x: np.ndarray, size: int, weight: np.ndarray | None = None) -> RowBlocks:
    """The rows of this process; processes have different numbers of them."""
    bounds = (0, *np.cumsum([len(x) // COUNT + 3 * i for i in range(COUNT - 1)]).tolist(), len(x))
    mine = slice(None) if PROCESS < 0 else slice(bounds[PROCESS], bounds[PROCESS + 1])
    own, counts = x[mine], None if weight is None else weight[mine]

    def read() -> Iterator[np.ndarray]:
        return (own[begin : begin + 11].copy() for begin in range(0, len(own), 11))

    return RowBlocks(len(x), size, x.dtype, read, counts, None if PROCESS < 0 else bounds)


def results() -> dict[str, Any]:
    x = np.load(FOLDER / "x.npy")
    model = mixture(x, family=Gaussian("diagonal"), weights=weight_prior("dirichlet"), num_components=3)
    blocks = blocks_of(x, 32)
    found = em.fit_params(KEY, model, jnp.asarray(x), restarts=1, max_iterations=1).ends[0]
    start = run_of(found.params, 0)
    states, trace = em.in_blocks(model, start, jnp.asarray(x[:50]), blocks, max_iterations=20, tolerance=-np.inf)
    climbed = climb_in_blocks(model, start, jnp.asarray(x[:50]), blocks, max_iterations=6, tolerance=0.0)
    survey = surveyed(model, states.params, blocks)
    search = cavi.Search(max_iterations=2, moves=False, restarts=1)
    parts, state, _, _ = cavi.fit_factors(KEY, model, jnp.asarray(x), search)
    cavi_state, bounds = converge_in_blocks(parts, blocks.agreed(state), blocks, 0.0, 10)
    told: dict[str, Any] = {f"em_{name}": value for name, value in states.params.items()}
    told |= {"em_trace": trace, "gradient_em_trace": climbed.trace, "size": survey.size, "log_lik": survey.log_lik}
    told |= {"cavi_bounds": bounds, "cavi_counts": cavi_state.seen.counts}
    told |= {"drawn": blocks.drawn(np.random.default_rng(1), 500)}
    told |= weighted(x, model, start)
    if PROCESS >= 0:
        options = FitOptions(engine="em", distributed=True)
        told |= {"sample": spread_rows(FOLDER / "x.npy", options).sample(40, seed=3)[0].values}
        told |= {"parts": spread_rows(str(FOLDER / "part-{process}.npy"), options).sample(40, seed=3)[0].values}
    else:
        from probam.data.source import row_source

        told |= {name: row_source(FOLDER / "x.npy").sample(40, seed=3)[0].values for name in ("sample", "parts")}
    told |= {"apart": _refused(lambda: check_alike(("em", PROCESS), "the options", "use the same"))}
    told |= {"unlike": _refused(lambda: totalled([np.ones(3)], given=np.asarray(PROCESS)))}
    return {name: np.asarray(value) for name, value in told.items()}


def weighted(x: np.ndarray, model: Mixture, start: dict[str, jax.Array]) -> dict[str, Any]:
    """What rows come to that count from none to three times; of four processes the first has only rows of none."""
    weight = np.random.default_rng(5).integers(0, 4, len(x)).astype(float)
    weight[:99] = 0
    blocks = blocks_of(x, 32, weight)
    states, trace = em.in_blocks(model, start, jnp.asarray(x[:50]), blocks, max_iterations=20, tolerance=-np.inf)
    climbed = climb_in_blocks(model, start, jnp.asarray(x[:50]), blocks, max_iterations=4, tolerance=0.0)
    told = {"total": blocks.total_weight, "weighted_trace": trace, "weighted_climb": climbed.trace}
    told |= {"weighted_size": surveyed(model, states.params, blocks).size}
    told |= {"weighted_drawn": blocks.drawn(np.random.default_rng(1), 500)}
    if PROCESS >= 0:
        options = FitOptions(engine="em", distributed=True)
        spread = spread_rows(FOLDER / "x.npy", options)
        drawn = spread.sample(40, seed=3)[1]
        told |= {"weight_of_sample": spread.at(drawn, spread.own(weight, x.dtype))}
    else:
        told |= {"weight_of_sample": weight[drawn_rows(len(x), 40, 3)]}
    return told


def _refused(work: Callable[[], Any]) -> bool:
    """Whether processes that were not given the same are told so; of one alone nothing can be."""
    if PROCESS < 0:
        return True
    with pytest.raises(ProbamError, match=r"the (options|numbers) of process 1 differ from those of process 0; "):
        work()
    return True


np.savez(FOLDER / f"told{PROCESS}.npz", **results())
