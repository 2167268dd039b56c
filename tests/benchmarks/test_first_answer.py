"""The table of what the first answer costs: the commands, and how their processes are summed up."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.first_answer import COMMANDS, Figures, cpu_and_peak, main, record, table
from probam.cli.main import app


def test_the_words_of_every_command_begin_with_a_command_of_the_program() -> None:
    known = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    assert {command.words.split()[0] for command in COMMANDS} <= known


def test_ratios_are_taken_round_by_round_and_above_one_where_ours_is_shorter() -> None:
    figures = [Figures(2.0, 500, 20, 20, 6.0), Figures(4.0, 510, 20, 20, 6.0), Figures(3.0, 505, 21, 20, 12.0)]
    summed = record("fit --engine em", "cold", figures)
    assert (summed["ratio"], summed["low"], summed["high"]) == (3.0, 1.5, 4.0)
    assert (summed["cpu_seconds"], summed["programs"], summed["rounds"]) == (3.0, 21, 3)


def test_the_table_has_a_line_for_each_command_and_its_states_in_order() -> None:
    states = {"warm": 1.0, "cold": 3.0, "new N": 2.0}
    records = [record("predict", state, [Figures(seconds, 400, 9, 0, 6.0)]) for state, seconds in states.items()]
    assert table(records).splitlines()[-1] == (
        "| `predict` | 3.0 / 2.0 / 1.0 | 2.00 / 3.00 / 6.00 | 9 / 9 / 9 | 0 / 0 / 0 | 400 / 400 / 400 |"
    )


def test_what_a_process_is_charged_with_is_its_own() -> None:
    """This process has had 400 MB; one that adds 100 MB is charged with more than these and less than those."""
    del [bytearray(400_000_000)][0]
    words = [sys.executable, "-S", "-c", "x = bytearray(100_000_000); sum(i * i for i in range(3_000_000))"]
    cpu, peak = cpu_and_peak(words, dict(os.environ))
    assert 95 < peak < 300
    assert 0.05 < cpu < 20


def test_an_unknown_command_is_refused_before_anything_runs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["predikt"])
    assert "unknown command 'predikt'" in capsys.readouterr().err


def test_a_command_that_needs_no_arithmetic_asks_for_no_program(tmp_path: Path) -> None:
    counts = tmp_path / "counts.json"
    words = [sys.executable, "-m", "benchmarks.counted", str(counts), "data"]
    subprocess.run(words, check=True, capture_output=True, cwd=Path(__file__).parents[2])
    assert counts.read_text(encoding="utf-8") == '{"programs": 0, "misses": 0}'
