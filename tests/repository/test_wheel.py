"""The wheel: built from this tree, installed in an environment of its own, at work outside the checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

ROOT = Path(__file__).resolve().parents[2]
BUILT_FROM = ("pyproject.toml", "README.md", "LICENSE", "probam", "models", "inference", "reports")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")


WITHOUT_CHECKOUT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def _run(*command: str | Path, cwd: Path) -> str:
    """What the command prints, without sight of the checkout."""
    run = subprocess.run(command, cwd=cwd, env=WITHOUT_CHECKOUT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of what the build reads, so that no older build is swept in."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in BUILT_FROM:
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, source / name)
        else:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
    subprocess.run([*PIP, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, source], check=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_every_package_and_nothing_beside_probam(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (top,) = (name for name in names if name.endswith("top_level.txt"))
        assert archive.read(top).decode().split() == ["probam"]
    information = top.rsplit("/", 1)[0]
    assert {name.split("/")[0] for name in names} == {"probam", information}
    code = {name for name in names if name.endswith(".py")}
    files = {path.relative_to(ROOT / "probam").as_posix() for path in (ROOT / "probam").rglob("*.py")}
    outside = {
        f"{folder}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder in ("models", "inference", "reports")
        for path in (ROOT / folder).rglob("*.py")
    }
    assert {name.removeprefix("probam/") for name in code} == files | outside
    assert {"probam/py.typed", "probam/data/shipped/faithful.npz", "probam/reports/script/start.js"} <= names


def _programs(environment: Path) -> Path:
    return environment / ("Scripts" if os.name == "nt" else "bin")


def _with_dependencies_of_this_one(environment: Path, wheel: Path) -> None:
    """Install the wheel alone; its dependencies are those that run the tests."""
    venv.create(environment, with_pip=False)
    python = _programs(environment) / "python"
    subprocess.run([*PIP, "--python", python, "install", "--no-deps", wheel], check=True, env=WITHOUT_CHECKOUT)
    (site,) = environment.rglob("site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"])


def _with_dependencies_from_the_index(environment: Path, wheel: Path) -> None:
    """Install the wheel as a user does, with the versions that it was tested with."""
    venv.create(environment, with_pip=True)
    install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", ROOT / "constraints.txt")
    _run(_programs(environment) / "python", *install, wheel, cwd=environment)


@pytest.mark.parametrize(
    "install",
    [
        pytest.param(_with_dependencies_of_this_one, id="dependencies of this environment"),
        pytest.param(_with_dependencies_from_the_index, id="dependencies from the index", marks=pytest.mark.slow),
    ],
)
def test_the_installed_wheel_fits_outside_the_checkout(
    install: Callable[[Path, Path], None], wheel: Path, tmp_path: Path
) -> None:
    environment, folder = tmp_path / "environment", tmp_path / "folder"
    folder.mkdir()
    install(environment, wheel)
    python, program = _programs(environment) / "python", _programs(environment) / "probam"
    assert Path(_run(python, "-c", "import probam; print(probam.__file__)", cwd=folder)).is_relative_to(environment)

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert _run(program, "--version", cwd=folder).startswith(f"probam {declared} (Python ")
    assert "fit" in _run(program, "--help", cwd=folder)

    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(-4, 1, (30, 2)), rng.normal(4, 1, (50, 2))])
    np.savetxt(folder / "rows.csv", rows, delimiter=",", header="east,north", comments="")
    model = ("--covariance", "isotropic", "--weights", "dirichlet", "--components", "2")
    _run(program, "fit", "rows.csv", *model, "--engine", "em", "-o", "fit.nc", cwd=folder)
    with xr.open_datatree(folder / "fit.nc") as tree:
        assert np.round(tree["memory"].to_dataset()["size"].values).tolist() == [50, 30]
