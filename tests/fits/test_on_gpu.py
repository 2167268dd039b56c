"""Where there is a GPU: it does what the CPU does."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probam.cli.main import main
from probam.energies.large_bank import step
from probam.placement import device

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(900)]

DETERMINISTIC = ("em", "em across devices", "gradient_em ecg", "gradient_em natural", "cavi from a start")
"""Work whose results do not follow the last digits of a sum, as those of samplers may."""


def test_work_is_laid_out_for_the_gpu() -> None:
    assert device().platform == "gpu"
    assert device().memory > 2**30


def test_every_engine_runs_and_what_follows_no_last_digit_ends_as_on_the_cpu() -> None:
    from tests.fits.little_work import little_work  # which computes when it is imported

    there = {name: work() for name, work in little_work()}
    for name, numbers in there.items():
        assert all(np.isfinite(values).any() for values in numbers.values() if values.size), name
    with jax.default_device(jax.devices("cpu")[0]):
        for name, work in little_work():
            for quantity, values in work().items() if name in DETERMINISTIC else ():
                np.testing.assert_allclose(
                    there[name][quantity], values, rtol=1e-6, atol=1e-8, err_msg=f"{name}: {quantity}"
                )


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-4), (np.float64, 1e-11)])
def test_a_step_of_recall_is_that_of_the_formula(dtype: type, tolerance: float) -> None:
    """Single precision is single precision: products are not rounded to TF32."""
    rng = np.random.default_rng(0)
    queries, memories = rng.normal(size=(3000, 16)), rng.normal(size=(2500, 16))
    found = step(jnp.asarray(queries, dtype), jnp.asarray(memories, dtype), 0.5)
    square = np.sum((queries[:, None] - memories) ** 2, axis=-1)
    share = np.exp(-0.5 * (square - square.min(axis=1, keepdims=True)))
    share /= share.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.update, share @ memories, rtol=tolerance, atol=tolerance)


def test_the_command_line_takes_the_gpu_that_there_is(tmp_path: Path) -> None:
    words = ["fit", "faithful", "--engine", "em", "--components", "2", "-o", f"{tmp_path}/fit.nc"]
    assert main([*words, "--device", "gpu"]) == 0
