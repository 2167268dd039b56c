"""The constraints file is what ``.ci/check_constraints.py`` wants, and the check notices what it should."""

import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHECK = ROOT / ".ci" / "check_constraints.py"

PROJECT = """
[project]
classifiers = ["Programming Language :: Python :: 3.11", "Programming Language :: Python :: 3.13"]
dependencies = ["alpha>=1", "Beta_Two>=2,<3"]
[project.optional-dependencies]
dev = ["gamma"]
"""
GOOD = """# versions

alpha==1.5
beta-two==2.0 ; python_version < "3.12"
beta-two==2.1 ; python_version >= "3.12"
gamma==0.1rc1  # a candidate
zeta==9
"""


def _check(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, CHECK, *arguments], capture_output=True, text=True, cwd=ROOT)


def test_the_constraints_of_this_repository_are_in_order() -> None:
    run = _check()
    assert run.stderr == ""
    assert run.returncode == 0


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("project") / "pyproject.toml"
    path.write_text(PROJECT)
    return path


def test_a_good_file_passes(project: Path) -> None:
    good = project.with_name("good.txt")
    good.write_text(GOOD)
    run = _check(good, project)
    assert (run.returncode, run.stderr) == (0, "")


def test_every_kind_of_fault_is_named() -> None:
    faults = [
        ("alpha==1.5", "--pre", "is an option; expected name==version"),
        ("alpha==1.5", "alpha @ https://packages.example/alpha.whl", "is an address"),
        ("alpha==1.5", "https://packages.example/alpha.whl", "is an address"),
        ("alpha==1.5", "alpha>=1.5", "is no exact version"),
        ("alpha==1.5", "alpha==1.*", "is no exact version"),
        ("alpha==1.5", "", "'alpha' is a direct dependency and not pinned on Python 3.11"),
        ("alpha==1.5", "Alpha==1.5", "'Alpha' is spelled 'alpha' when normalised"),
        ("alpha==1.5", "alpha==1.5\nalpha==1.6", "lines 3, 4: 'alpha' is pinned more than once on Python 3.11"),
        ("alpha==1.5", "alpha==0.9", "'alpha' is pinned to 0.9 on Python 3.11; pyproject.toml wants >=1"),
        ("alpha==1.5", "alpha==one", "Invalid version"),
        ("zeta==9", "zeta==9\nbeta==1", "'beta' stands after 'zeta'"),
        ('"3.12"\nb', '"3.13"\nb', ""),
        ('< "3.12"', '<= "3.13"', "'beta-two' is pinned more than once on Python 3.13"),
        ('beta-two==2.1 ; python_version >= "3.12"', "", "direct dependency and not pinned on Python 3.13"),
        ("beta-two==2.1 ;", "beta-two==3.0 ;", "'beta-two' is pinned to 3.0 on Python 3.13"),
        ("gamma==0.1rc1", "gamma==0.1 ; 'linux' == sys_platform", "asks for more than python_version"),
        ("gamma==0.1rc1", "gamma==0.1 ; python >< 3", "line 6: "),
    ]  # fmt: skip
    problems = runpy.run_path(str(CHECK))["problems"]
    for old, new, words in faults:
        assert old in GOOD
        reported = problems(GOOD.replace(old, new, 1), tomllib.loads(PROJECT))
        if words:
            assert any(words in problem for problem in reported), (old, new, reported)
        else:
            assert reported == [], (old, new, reported)


def test_a_bad_file_is_refused_with_exit_code_1(project: Path) -> None:
    bad = project.with_name("bad.txt")
    bad.write_text(GOOD + "--pre\n")
    run = _check(bad, project)
    assert run.returncode == 1
    assert run.stderr == "bad.txt: line 8: '--pre' is an option; expected name==version\n"
