"""A release has the same bits each time, says what it needs, and its dependencies are audited where that can be."""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def script(name: str) -> ModuleType:
    """A script of ``.ci``, as a module."""
    spec = importlib.util.spec_from_file_location(f"ci_{name}", ROOT / ".ci" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def released(folder: Path, *options: str) -> dict[str, str]:
    """File -> hash, as the release says; each is checked."""
    command = [sys.executable, str(ROOT / ".ci" / "release.py"), str(folder), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.split("  ") for line in (folder / "SHA256SUMS").read_text().splitlines()]
    sums = {name: digest for digest, name in lines}
    assert sums == {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in sums}
    assert {path.name for path in folder.iterdir()} == {*sums, "SHA256SUMS"}
    return sums


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="a release is made of a commit, and this is no checkout")
class TestRelease:
    def test_the_same_commit_gives_the_same_bits(self, tmp_path: Path) -> None:
        first, again = (released(tmp_path / name, "--without-sbom") for name in ("first", "again"))
        assert first == again
        (wheel,) = (tmp_path / "first").glob("*.whl")
        (sdist,) = (tmp_path / "first").glob("*.tar.gz")
        with zipfile.ZipFile(wheel) as archive:
            code = {name for name in archive.namelist() if name.endswith(".py")}
        with tarfile.open(sdist) as archive:
            members = archive.getmembers()
            (top,) = {member.name.split("/")[0] for member in members}
            names = {member.name.removeprefix(f"{top}/") for member in members}
            assert {member.mtime for member in members} == {members[0].mtime}
            assert {(member.uid, member.uname) for member in members} == {(0, "")}
        assert len(code) > 300
        assert {name.removeprefix("probam/") for name in code} <= {name.removeprefix("probam/") for name in names}

    @pytest.mark.slow
    def test_it_lists_what_the_program_needs_and_nothing_that_only_tests_need(self, tmp_path: Path) -> None:
        assert "sbom.json" in released(tmp_path)
        bill = json.loads((tmp_path / "sbom.json").read_text())
        assert bill["bomFormat"] == "CycloneDX"
        assert bill["metadata"]["component"]["name"] == "probam"
        versions = {each["name"].lower(): each["version"] for each in bill["components"]}
        pins = dict(
            line.split(" ")[0].split("==")
            for line in (ROOT / "constraints.txt").read_text().splitlines()
            if "==" in line
        )
        assert {"numpy", "jax", "jaxlib", "numpyro", "xarray", "h5py", "pyarrow"} <= versions.keys()
        assert versions["jax"] == pins["jax"]
        assert versions["numpy"] == pins["numpy"]
        assert not {"pytest", "mypy", "hypothesis", "pip-audit"} & versions.keys()


class TestAudit:
    def test_an_index_that_does_not_answer_is_said_in_a_line(self) -> None:
        away = dict.fromkeys(("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY"), "http://127.0.0.1:9")
        command = [sys.executable, str(ROOT / ".ci" / "audit.py")]
        run = subprocess.run(command, capture_output=True, text=True, env=os.environ | away, timeout=250)
        assert run.returncode == 0, run.stderr
        assert run.stdout.startswith("audit: skipped, since the index does not answer about advisories (")
        assert run.stdout.count("\n") == 1

    def test_an_advisory_is_a_line_with_its_remedy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        audit = script("audit")
        found = [
            {"name": "one", "version": "1.0", "vulns": []},
            {"name": "two", "version": "2.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"], "aliases": []}]},
            {"name": "three", "skip_reason": "not there"},
        ]
        assert audit.vulnerable(found) == ["two 2.0: PYSEC-1, fixed in 2.1"]
        monkeypatch.setitem(audit.IGNORED, "PYSEC-1", "we do not call it")
        assert audit.vulnerable(found) == []

    def test_what_is_ignored_has_a_reason(self) -> None:
        assert all(script("audit").IGNORED.values())
