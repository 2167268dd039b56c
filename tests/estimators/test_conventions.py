"""The conventions of scikit-learn, by its own checks: the defaults pass all, several memories all but one."""

from collections.abc import Callable
from typing import Any

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator

from probam.estimators.mixture import ProbamMixture
from probam.estimators.stream import ProbamStream

DEFAULTS = [ProbamMixture(), ProbamStream()]
OTHERS = [
    ProbamMixture(n_components=2, covariance_type="diag"),
    ProbamMixture(n_components=2, covariance_type="isotropic", engine="cavi", fit_options={"num_draws": 20}),
]

WEIGHTS = (
    "the starts of EM and the default prior are taken from the rows, whatever their weights, so that weighted rows and "
    "repeated rows lead to other estimates where there are several memories"
)
EXPECTED = {"check_sample_weight_equivalence_on_dense_data": WEIGHTS}
"""Checks that several memories fail, each with its reason."""

LONG = {
    "check_estimators_dtypes",
    "check_fit_check_is_fitted",
    "check_fit_idempotent",
    "check_sample_weight_equivalence_on_dense_data",
    "check_transformer_preserve_dtypes",
}
"""Checks that fit rows of shapes or precisions of their own, each of which compiles programs of its own."""


def name_of(check: Any) -> str:
    name: str = getattr(check, "func", check).__name__
    return name


def expected_failures(estimator: Any) -> dict[str, str]:
    several = isinstance(estimator, ProbamMixture) and estimator.n_components != 1
    return EXPECTED if several else {}


def cases(estimators: list[Any], *, are_long: bool) -> list[Any]:
    """Every estimator with each of scikit-learn's checks, those that take long marked."""
    found = []
    for estimator in estimators:
        reasons = expected_failures(estimator)
        for number, (_, check) in enumerate(estimator_checks_generator(estimator, mark=None)):
            name = name_of(check)
            marks = [pytest.mark.xfail(reason=reasons[name])] if name in reasons else []
            marks += [pytest.mark.slow] if are_long or name in LONG else []
            found.append(pytest.param(estimator, check, marks=marks, id=f"{type(estimator).__name__}-{number}-{name}"))
    return found


@pytest.mark.parametrize(("estimator", "check"), cases(DEFAULTS, are_long=False))
def test_the_default_estimators_pass_every_check(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)


@pytest.mark.parametrize(("estimator", "check"), cases(OTHERS, are_long=True))
def test_estimators_with_several_memories_pass_the_checks(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)


def test_no_default_fails_a_check_and_one_check_fails_where_there_are_several_memories() -> None:
    assert [len(expected_failures(estimator)) for estimator in DEFAULTS] == [0, 0]
    assert [len(expected_failures(estimator)) for estimator in OTHERS] == [1, 1]
    names = {name_of(check) for _, check in estimator_checks_generator(OTHERS[0], mark=None)}
    assert {*EXPECTED, *LONG} <= names
    assert len(names) > 40
