"""Several processes, each with its own rows, come to what one process comes to that reads all of them."""

import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from probam.errors import InputError
from probam.inference.common.processes import agreed, check_alike, check_connected, everywhere, joined, totalled

EXACT = ("drawn", "sample", "parts", "apart", "unlike", "total", "weighted_drawn", "weight_of_sample")

PROGRAM = Path(__file__).with_name("several_processes.py")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, and what one process says of them."""
    folder = tmp_path_factory.mktemp("rows")
    rng = np.random.default_rng(3)
    centres = np.array([[0.0, 0, 3], [4, 1, 0], [-3, 2, -2]])
    x = centres[np.sort(rng.integers(3, size=397))] + rng.normal(size=(397, 3))  # no process sees the whole picture
    np.save(folder / "x.npy", x)
    _run(folder, 1, alone=True)
    return folder


def _run(folder: Path, count: int, *, alone: bool = False) -> None:
    port, numbers = str(free_port()), [-1] if alone else range(count)
    command = [sys.executable, str(PROGRAM), port, str(count)]
    root = PROGRAM.parents[2]
    runs = [
        subprocess.Popen([*command, str(number), str(folder)], stderr=subprocess.PIPE, text=True, cwd=root)
        for number in numbers
    ]
    try:
        errors = [run.communicate(timeout=240)[1] for run in runs]
    finally:
        for run in runs:
            run.kill()
    assert all(run.returncode == 0 for run in runs), errors


@pytest.mark.parametrize("count", [2, 4])
def test_processes_with_their_own_rows_find_what_one_finds_with_all(count: int, folder: Path) -> None:
    x = np.load(folder / "x.npy")
    ends = [0, *np.sort(np.random.default_rng(count).integers(20, 380, size=count - 1)), len(x)]
    for process in range(count):
        np.save(folder / f"part-{process}.npy", x[ends[process] : ends[process + 1]])
    _run(folder, count)
    alone = np.load(folder / "told-1.npz")
    for process in range(count):
        told = np.load(folder / f"told{process}.npz")
        first = np.load(folder / "told0.npz")
        assert sorted(told) == sorted(alone)
        for name in alone:
            np.testing.assert_array_equal(told[name], first[name], err_msg=name)  # of all processes, to the bit
            if name in EXACT:
                np.testing.assert_array_equal(told[name], alone[name], err_msg=name)
            else:
                np.testing.assert_allclose(told[name], alone[name], rtol=1e-10, atol=1e-10, err_msg=name)


def test_a_process_alone_has_what_it_gives() -> None:
    tree = {"a": np.arange(6.0).reshape(2, 3), "b": np.asarray(-0.5)}
    for made in (totalled(tree, given=tree), agreed(tree)):
        for name, value in tree.items():
            np.testing.assert_array_equal(made[name], value)
    np.testing.assert_array_equal(everywhere(np.ones((1, 2), np.float32)), np.ones((1, 1, 2), np.float32))
    np.testing.assert_array_equal(joined(tree["a"], [2]), tree["a"])
    check_alike(tree, "the options", "use the same")


def test_a_process_that_is_not_connected_is_told_how() -> None:
    assert not jax.distributed.is_initialized()
    with pytest.raises(InputError, match=r"call jax\.distributed\.initialize\(\) before anything else of JAX"):
        check_connected()
