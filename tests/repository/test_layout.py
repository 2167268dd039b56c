"""The arrangement of folders: top-level rooms outside, one import namespace inside."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("models", "inference", "reports")


@pytest.mark.parametrize("folder", FOLDERS)
def test_link_points_at_the_top_level_folder(folder: str) -> None:
    assert (ROOT / "probam" / folder).resolve() == ROOT / folder


@pytest.mark.parametrize("folder", FOLDERS)
def test_bare_import_is_refused(folder: str) -> None:
    run = subprocess.run([sys.executable, "-c", f"import {folder}"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode != 0
    assert f"probam.{folder}" in run.stderr


def test_every_package_is_listed_for_the_wheel() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    core = {
        ".".join(init.parent.relative_to(ROOT).parts)
        for init in (ROOT / "probam").rglob("__init__.py")
        if init.parent.relative_to(ROOT / "probam").parts[:1] not in [(f,) for f in FOLDERS]
    }
    rooms = {
        ".".join(("probam", *init.parent.relative_to(ROOT).parts))
        for folder in FOLDERS
        for init in (ROOT / folder).rglob("__init__.py")
    }
    assert listed == core | rooms
