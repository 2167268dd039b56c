"""How cost grows: slopes of known powers, and the table that shows them."""

import json
from pathlib import Path

import pytest

from benchmarks.scale import SIZES, exponent, main, table


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_exponent_is_that_of_the_large_sizes(power: float) -> None:
    sizes = SIZES["rows"]
    seconds = [max(0.01, 1e-6 * size**power) if size < 100_000 else 1e-6 * size**power for size in sizes]
    assert exponent(sizes, seconds) == pytest.approx(power)


def test_the_table_has_a_line_for_each_task_and_what_varies() -> None:
    def one(task: str, rows: int) -> dict[str, object]:
        sizes = {"rows": rows, "memories": 16, "features": 8}
        return {"task": task, "varies": "rows", **sizes, "cpu_seconds": 1e-6 * rows, "peak_mib": 300}

    lines = table([one(task, rows) for task in ("em", "predict") for rows in (10_000, 100_000)]).splitlines()
    assert lines[2:] == [
        f"| `{task}` | rows 10,000 to 100,000 | 0.01 / 0.1 | 1.00 | 300 to 300 |" for task in ("em", "predict")
    ]


def test_sizes_above_the_limit_are_left_out_and_an_unknown_task_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    output = tmp_path / "scale.json"
    assert main(["recall", "--most", "1000", "--output", str(output)]) == 0  # no size is so small
    assert json.loads(output.read_text()) == []
    with pytest.raises(SystemExit):
        main(["remember"])
    assert "unknown task 'remember'" in capsys.readouterr().err
