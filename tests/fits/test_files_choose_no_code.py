"""Opening a file runs nothing that the file names; the person names the code of a family of their own."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from h5netcdf.core import File

import probam
from probam.errors import InputError
from probam.streams.stream import Stream

OWN = Path(__file__).parents[1] / "models" / "known_precision.py"
X = np.concatenate([np.random.default_rng(0).normal(c, 0.7, (30, 2)) for c in (-3, 3)])
QUICK: dict[str, Any] = {"engine": "em", "weights": "dirichlet", "components": 2, "restarts": 1}
X64 = "import jax; jax.config.update('jax_enable_x64', True); import probam; "


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def renamed(path: Path, recorded: str) -> Path:
    """The fit with another family in its attributes."""
    with File(path, "r+") as file:
        file.attrs["family"] = recorded
    return path


@pytest.mark.parametrize("recorded", ["evil.py:X", "evil:X"])
def test_a_file_that_names_code_does_not_run_it(here: Path, recorded: str) -> None:
    (here / "evil.py").write_text("open('executed', 'w').write('yes')\n")
    probam.fit(X, covariance="diagonal", **QUICK).save(here / "fit.nc")
    renamed(here / "fit.nc", recorded)
    with pytest.raises(InputError, match="a file does not choose the code that is run; name it") as refused:
        probam.load(here / "fit.nc")
    assert f"--family {recorded}" in str(refused.value)
    assert f"family={recorded!r}" in str(refused.value)
    assert not (here / "executed").exists()


def test_a_fit_of_ones_own_family_is_loaded_by_another_process_that_names_it(here: Path) -> None:
    shutil.copy(OWN, here / "mine.py")
    shutil.copy(OWN, here / "other.py")
    made = "import numpy as np; probam.fit(np.load('x.npy'), family='mine.py:KnownPrecision', engine='em', restarts=1, "
    made += "weights='dirichlet', components=2).save('fit.nc')"
    np.save(here / "x.npy", X)

    def run(code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", X64 + code], capture_output=True, text=True, cwd=here)

    assert run(made + "; probam.load('fit.nc')").returncode == 0  # the process has loaded the family already
    silent = run("probam.load('fit.nc')")
    assert "name it if you trust that code: --family mine.py:KnownPrecision" in silent.stderr
    named = run("print(probam.load('fit.nc', family='mine.py:KnownPrecision').model.family.name)")
    assert named.stdout.strip() == "known_precision"
    command = [sys.executable, "-m", "probam.cli.main"]
    words = ["predict", "fit.nc", "x.npy", "-o", "labels.csv"]
    refused = subprocess.run([*command, *words], capture_output=True, text=True, cwd=here)
    assert refused.returncode == 2
    assert "--family mine.py:KnownPrecision" in refused.stderr
    assert not (here / "labels.csv").exists()
    answered = subprocess.run([*command, *words, "--family", "mine.py:KnownPrecision"], cwd=here, capture_output=True)
    assert answered.returncode == 0
    assert (here / "labels.csv").exists()


@pytest.mark.parametrize(
    "load", [lambda path: probam.load(path, family="vmf"), lambda path: probam.load(path, family="laplace")]
)
def test_another_family_than_that_of_the_fit_is_refused(here: Path, load: Callable[[Path], object]) -> None:
    probam.fit(X, covariance="diagonal", **QUICK).save(here / "fit.nc")
    with pytest.raises(InputError, match=r"fit.nc was fitted with 'gaussian'; got (vmf|laplace)"):
        load(here / "fit.nc")
    assert probam.load(here / "fit.nc", family="gaussian").model.family.name == "gaussian"


def test_a_stream_that_names_code_does_not_run_it(here: Path) -> None:
    (here / "evil.py").write_text("open('executed', 'w').write('yes')\n")
    stream = Stream(covariance="diagonal")
    stream.save(here / "stream.nc")
    with File(here / "stream.nc", "r+") as file:
        attributes = file.groups["stream"].attrs
        attributes["options"] = str(attributes["options"]).replace('"gaussian"', '"evil.py:X"')
    with pytest.raises(InputError, match="a file does not choose the code that is run"):
        Stream.load(here / "stream.nc")
    assert not (here / "executed").exists()
