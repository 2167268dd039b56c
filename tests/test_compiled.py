"""A second process uses what the first one compiled; where nothing can or may be kept, work goes on."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from probam import compiled
from probam.compiled import SWITCH, drop_oldest

PROGRAM = """
import logging, sys
import jax, jax.numpy as jnp
from probam.compiled import keep_compiled
print(keep_compiled())
jax.monitoring.register_event_listener(lambda event, **_: print(event) if "cache_hit" in event else None)
print(float(jax.jit(lambda x: jnp.cumsum(x * x)[-1])(jnp.arange(5.0))))
"""


def _run(folder: str | None, home: Path) -> list[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", SWITCH))}
    environment = kept | {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "TF_CPP_MIN_LOG_LEVEL": "3"}
    if folder is not None:
        environment[SWITCH] = folder
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_a_second_process_compiles_nothing_anew(tmp_path: Path) -> None:
    first = _run(None, tmp_path)
    kept = Path(first[0])
    assert kept.is_relative_to(tmp_path)
    programs = sorted(kept.glob("*-cache"))
    assert programs
    second = _run(None, tmp_path)
    assert sorted(kept.glob("*-cache")) == programs
    assert sum("cache_hit" in line for line in second) >= len(programs)
    assert not any("cache_hit" in line for line in first)
    assert second[-1] == first[-1] == "30.0"


def test_the_options_are_known_while_a_program_is_traced() -> None:
    known = compiled._known_options()
    compiled._known_options.cache_clear()
    jax.eval_shape(lambda x: (x, compiled._known_options())[0], 1.0)
    assert compiled._known_options() == known
    assert compiled._known_options.cache_info().misses == 1


def test_the_switch_names_a_folder_or_turns_it_off(tmp_path: Path) -> None:
    assert _run("off", tmp_path)[0] == "None"
    assert not list(tmp_path.iterdir())
    named = _run(str(tmp_path / "mine"), tmp_path)
    assert Path(named[0]).is_relative_to(tmp_path / "mine")


def test_a_home_that_cannot_be_written_to_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder would be")
    assert _run(None, tmp_path) == ["None", "30.0"]


def test_the_folder_is_held_to_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probam.compiled._LARGEST", 1000)
    for age, name in enumerate("abcde"):
        (tmp_path / name).write_bytes(np.zeros(300, np.uint8).tobytes())
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    drop_oldest(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"a"}
