"""Families found by name, whatever was imported before."""

import pkgutil
import subprocess
import sys

import probam
import probam.models
from probam.family import registered


def _in_a_fresh_process(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_families_lists_all_families_in_a_process_that_imported_no_model() -> None:
    listed = _in_a_fresh_process("import probam; print(*probam.families())").split()
    assert listed == sorted(listed)
    modules = {module.name for module in pkgutil.iter_modules(probam.models.__path__)}
    assert {"bernoulli", "gaussian", "laplace", "student_t", "uniform"} <= set(listed) & modules
    assert set(listed) == {
        name for name, family in probam.families().items() if family.__module__.startswith("probam.models.")
    }


def test_a_family_registered_elsewhere_is_listed_too() -> None:
    import tests.models.logistic  # noqa: F401

    assert "logistic" in probam.families()
    assert probam.families() == registered()
