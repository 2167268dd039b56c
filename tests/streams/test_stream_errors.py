"""After any error a stream is what it was before the call; numbers of rows held back are those after a flush."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from probam.errors import InputError, NumericalError, ProbamError
from probam.inference.common.progress import Progress
from probam.streams.learning import Learning
from probam.streams.stream import Stream

OPTIONS: dict[str, Any] = {"covariance": "isotropic", "known": {"beta": 2.0}, "warm": 40, "capacity": 16}

BAD_DATA: dict[str, Any] = {
    "one column": np.ones((40, 1)),
    "a gap": np.full((40, 2), np.nan),
    "infinite": np.full((40, 2), np.inf),
    "no rows": np.zeros((0, 2)),
    "text": pd.DataFrame({"a": ["x"] * 40, "b": ["y"] * 40}),
    "a missing file": "no/such/file.csv",
    "three axes": np.zeros((40, 2, 2)),
}


def learn(data: Any, stream: Stream, folder: Path) -> None:
    del folder
    stream.partial_fit(data)


def learn_until_interrupted(stream: Stream, folder: Path) -> None:
    del folder
    stream.partial_fit(rows(40, seed=5), progress=interrupt)


def fit_until_interrupted(stream: Stream, folder: Path) -> None:
    del folder
    stream.to_fit(num_draws=2, progress=interrupt)


def ask(data: Any, stream: Stream, folder: Path) -> None:
    del folder
    stream.predict(data)


CALLS: dict[str, Callable[[Stream, Path], Any]] = {
    **{f"partial_fit, {name}": partial(learn, data) for name, data in BAD_DATA.items()},
    **{f"predict, {name}": partial(ask, data) for name, data in BAD_DATA.items()},
    "partial_fit, interrupted": learn_until_interrupted,
    "to_fit, no draws": lambda stream, _: stream.to_fit(num_draws=0),
    "to_fit, interrupted": fit_until_interrupted,
    "save, no such folder": lambda stream, folder: stream.save(folder / "none" / "stream.nc"),
}
QUESTIONS: dict[str, Callable[[Stream], Any]] = {
    "flush": Stream.flush,
    "memories": Stream.memories,
    "warnings": Stream.warnings,
    "growth": lambda stream: stream.growth,
    "number_of_memories": Stream.number_of_memories,
    "predict": lambda stream: stream.predict(rows(3)),
    "to_fit": lambda stream: stream.to_fit(num_draws=2),
}
NUMBERS: dict[str, Callable[[Stream], Any]] = {
    "num_memories": lambda stream: stream.num_memories,
    "log_predictive": lambda stream: stream.log_predictive,
}


class InterruptionError(Exception):
    """Raised by a caller's own progress function."""


def interrupt(step: Progress) -> None:
    raise InterruptionError(step.line)


def rows(num_data: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.asarray(4.0 * rng.integers(0, 2, (num_data, 2)) + 0.5 * rng.normal(size=(num_data, 2)))


def stream_in(state: str, folder: Path, **options: Any) -> Stream:
    stream = Stream(**(OPTIONS | options))
    if state != "empty":
        stream.partial_fit(rows(30))
    if "learning" in state:
        stream.partial_fit(rows(30, seed=1))
    if "loaded" in state:
        stream.save(folder / "state.nc")
        stream = Stream.load(folder / "state.nc")
    return stream


def state_of(stream: Stream) -> tuple[Any, ...]:
    group = stream._group(stream._life)
    arrays = {name: (values.dtype, values.values.tobytes()) for name, values in group.data_vars.items()}
    return type(stream._life), stream._life.schema, stream.recent, stream.seconds, group.attrs, arrays


STATES = ["empty", "waiting", "learning", "loaded waiting", "loaded learning"]


class TestAnErrorLeavesNoTrace:
    """Every method, in every state, with every kind of bad input."""

    @pytest.mark.parametrize("state", STATES)
    @pytest.mark.parametrize("call", CALLS)
    def test_of_calls_with_bad_input(self, call: str, state: str, tmp_path: Path) -> None:
        if state == "empty" and call == "partial_fit, one column":
            pytest.skip("the first rows may have any number of columns")
        stream = stream_in(state, tmp_path)
        if call == "partial_fit, interrupted" and state == "empty":
            stream = Stream(**(OPTIONS | {"warm": 10}))
        before = state_of(stream)
        with pytest.raises((ProbamError, InterruptionError)):
            CALLS[call](stream, tmp_path)
        assert state_of(stream) == before

    @pytest.mark.parametrize("question", QUESTIONS)
    def test_of_questions_without_data(self, question: str, tmp_path: Path) -> None:
        stream = stream_in("empty", tmp_path)
        before = state_of(stream)
        with pytest.raises(InputError, match="no data have come yet"):
            QUESTIONS[question](stream)
        assert state_of(stream) == before

    @pytest.mark.parametrize("question", [*QUESTIONS, *NUMBERS])
    def test_of_questions_about_rows_that_set_no_prior(self, question: str) -> None:
        """One column is constant so far; once it varies the stream learns from all rows."""
        x = rows(60)
        stream = Stream(covariance="diagonal", warm=40).partial_fit(x[:30] * [1.0, 0.0])
        before = state_of(stream)
        with pytest.raises(InputError, match="constant"):
            (QUESTIONS | NUMBERS)[question](stream)
        assert state_of(stream) == before
        assert "30 data, from which no memory can be made yet" in repr(stream)
        assert stream.partial_fit(x[30:]).memories()["count"].sum() == 60

    def test_of_rows_that_complete_the_warm_ones(self) -> None:
        stream = Stream(covariance="diagonal", warm=40).partial_fit(rows(30) * [1.0, 0.0])
        before = state_of(stream)
        with pytest.raises(InputError, match="constant"):
            stream.partial_fit(rows(30, seed=1) * [1.0, 0.0])
        assert state_of(stream) == before

    @pytest.mark.parametrize("state", ["waiting", "learning", "loaded learning"])
    def test_of_a_density_that_is_not_finite(self, state: str, tmp_path: Path) -> None:
        stream = stream_in(state, tmp_path)
        before = state_of(stream)
        with pytest.raises(NumericalError):
            stream.partial_fit(np.r_[rows(30), np.full((1, 2), 1e200)])
        assert state_of(stream) == before

    def test_of_a_first_chunk(self) -> None:
        """Neither its precision nor its columns are kept."""
        u = rows(40) @ np.eye(2, 4) + 0.1
        u /= np.linalg.norm(u, axis=1, keepdims=True)
        stream = Stream(family="vmf", warm=20)
        for refused in ((2 * u).astype(np.float32), np.ones((3, 3))):
            with pytest.raises(InputError, match="not of unit length"):
                stream.partial_fit(refused)
        stream.partial_fit(u)
        assert stream.to_fit(num_draws=2).dtype == np.float64
        assert stream.num_data == 40


class TestNumbersOfRowsThatAreHeldBack:
    """They are those after a flush, and asking for them changes nothing."""

    @pytest.mark.parametrize("state", STATES[1:])
    def test_are_those_after_a_flush(self, state: str, tmp_path: Path) -> None:
        stream = stream_in(state, tmp_path, rule="sample", learn_alpha=True, learn_every=10)
        before = state_of(stream)
        asked = (stream.num_memories, stream.log_predictive, stream.log_evidence, stream.alpha, repr(stream))
        assert state_of(stream) == before
        stream.flush()
        after = (stream.num_memories, stream.log_predictive, stream.log_evidence, stream.alpha, repr(stream))
        assert isinstance(stream._life, Learning)
        assert asked == after
        assert stream.num_memories > 0

    def test_are_nothing_before_the_first_data(self) -> None:
        stream = Stream(rule="sample", alpha=2.0)
        assert (stream.num_memories, stream.log_predictive, stream.log_evidence, stream.alpha) == (0, 0.0, 0.0, 2.0)
        assert repr(stream) == "<probam.Stream: gaussian, 0 data, 0 memories>"

    def test_do_not_change_what_is_learned_later(self) -> None:
        asked, quiet = (Stream(covariance="diagonal", warm=40) for _ in range(2))
        asked.partial_fit(rows(30))
        assert asked.num_memories > 0
        asked.partial_fit(rows(30, seed=1))
        quiet.partial_fit(np.r_[rows(30), rows(30, seed=1)])
        assert asked.log_predictive == quiet.log_predictive


def test_predictions_name_the_memory_as_those_of_a_fit_do(tmp_path: Path) -> None:
    stream = stream_in("learning", tmp_path)
    predicted = stream.predict(rows(5))
    assert "label" in stream.to_fit(num_draws=2).predict(rows(5))
    np.testing.assert_array_equal(predicted["label"], predicted["memory"])
