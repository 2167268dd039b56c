"""Every outcome of a run has a name, and what is not ``converged`` has a remedy."""

from collections.abc import Callable

import pytest
import xarray as xr

from probam.reports.schema import ATTRIBUTES
from probam.reports.summaries.outcome import OUTCOMES, Outcome, outcome_of
from tests.reports.summaries.test_diagnostics import fit, noise
from tests.reports.summaries.test_rules import POINT, climb, disagreeing, point

CASES: list[tuple[str, str, Callable[[], xr.DataTree]]] = [
    ("converged", "", lambda: point(-5, -5, status="converged")),
    ("converged", "", lambda: climb(rising=False, engine="svi")),
    ("converged", "", lambda: fit(noise(4, 500), status="sampled")),
    ("max_steps", "option max_iterations", lambda: point(-5, -5, status="max_steps")),
    ("max_steps", "option num_steps", lambda: climb(rising=True, engine="svi")),
    ("max_steps", "option num_epochs", lambda: climb(rising=True, engine="clam")),
    ("max_steps", "option num_draws", lambda: disagreeing(2.0)),
    ("non_finite", "learning_rate", lambda: point(-5, status="non_finite")),
    ("stopped", "let it end", lambda: fit(POINT, engine="em", status="stopped")),
    ("stopped", "let it end", lambda: fit(noise(4, 500), status="stopped")),
]


@pytest.mark.parametrize(("name", "remedy", "tree"), CASES)
def test_a_run_has_the_outcome_that_its_file_tells(name: str, remedy: str, tree: Callable[[], xr.DataTree]) -> None:
    found = outcome_of(tree())
    assert found.name == name
    assert remedy in found.remedy
    assert (found.remedy == "") is (name == "converged")


def test_a_memory_at_its_least_width_is_degenerate_whatever_the_search_says() -> None:
    found = outcome_of(point(-5, status="converged"), is_narrow=True)
    assert found == Outcome("degenerate", found.remedy)
    assert "fewer memories" in found.remedy


def test_files_may_have_these_outcomes_and_no_others() -> None:
    attribute = ATTRIBUTES["/"]["outcome"]
    assert all(attribute.holds(name) for name in OUTCOMES)
    assert not attribute.holds("fine")
    assert {name for name, _, _ in CASES} | {"degenerate"} == set(OUTCOMES)
