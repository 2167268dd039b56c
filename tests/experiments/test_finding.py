"""A verdict has a number, an error and a sentence on the opposite; figures have no raw TeX on their axes."""

import ast
import math
from pathlib import Path

import numpy as np
import pytest

import probam.experiments
from probam.errors import InputError
from probam.experiments.experiment import experiments
from probam.experiments.finding import Finding, Measured, judged, over_repeats
from probam.reports.figures.style import inline_svg, log_axis, new_figure, styled

FOLDER = Path(probam.experiments.__file__).parent
SCALES = ("set_xscale", "set_yscale", "semilogx", "semilogy", "loglog", "xscale", "yscale")


def test_a_verdict_without_a_number_or_the_opposite_is_refused() -> None:
    measured = Measured(1.0, 0.1, "number", "3 seeds")
    assert Finding("A note.", "note").record()["value"] is None
    with pytest.raises(InputError, match="needs a number with its error"):
        Finding("It is so.", "agrees")
    with pytest.raises(InputError, match="what would have shown the opposite"):
        Finding("It is so.", "differs", measured)
    with pytest.raises(InputError, match="needs a finite number"):
        Finding("It is so.", "agrees", measured._replace(error=math.nan), "Another number.")


@pytest.mark.parametrize(
    ("value", "error", "verdict"),
    [
        (0.5, 0.2, "agrees"),
        (0.5, 0.3, "undecided"),
        (1.5, 0.3, "undecided"),
        (1.5, 0.2, "differs"),
        (-0.5, 0.2, "differs"),
        (0.5, math.nan, "undecided"),
        (1.0, 0.0, "agrees"),
    ],
)
def test_two_standard_errors_decide(value: float, error: float, verdict: str) -> None:
    finding = judged("It is between 0 and 1.", Measured(value, error, "number", "3 seeds"), (0.0, 1.0), "Above 1.")
    assert finding.verdict == verdict


def test_the_error_over_repeats_is_that_of_a_mean_and_one_repeat_has_none() -> None:
    values = np.array([1.0, 4.0, 2.0, 5.0])
    at = over_repeats(values, "number", "seeds")
    assert at.value == 3
    assert at.error == pytest.approx(math.sqrt(sum((v - 3) ** 2 for v in values) / 3 / 4))
    assert at.sentence() == "number: 3.00 ± 0.91 (4 seeds)."
    assert math.isnan(over_repeats([2.0], "number", "seeds").error)


@pytest.mark.parametrize("top", [3.0, 1e3, 1e9])
def test_log_axes_have_plain_numbers(top: float) -> None:
    @styled
    def draw() -> str:
        figure = new_figure(4, 3)
        left, right = figure.subplots(1, 2)
        left.plot([0.5, top], [2.0, top])
        log_axis(left, "x")
        log_axis(left, "y")
        right.plot([-3.0, 20.0], [1.0, top])
        log_axis(right, "x", [-10, -1, 0, 1, 10], linear_within=1.0)
        log_axis(right, "y", [1.0, top])
        return inline_svg(figure, "log", "two panels")

    text = draw()
    assert "$" not in text
    assert "mathdefault" not in text
    assert ">−10</text>" in text


def test_every_log_axis_of_an_experiment_is_made_by_the_one_helper() -> None:
    """Matplotlib's own log axes print TeX, which the figures do not parse."""
    called = []
    for path in sorted(FOLDER.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(node, "attr", None) or getattr(node, "arg", None)
            if isinstance(node, ast.Attribute | ast.keyword) and name in SCALES:
                called.append(f"{path.name}: {name}")
    assert called == []


def test_words_and_claims_stand_in_their_own_place_and_not_in_the_source() -> None:
    for experiment in experiments().values():
        assert "claim" not in experiment.source.lower()
        assert experiment.claims
        assert experiment.words
