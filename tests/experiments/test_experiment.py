"""Experiments: found by name, run in float64 under a seed, stored whole, told on a page that needs nothing else."""

import re
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from probam.cli.main import main
from probam.errors import InputError, Stop
from probam.experiments.experiment import (
    CHECKPOINTS,
    Drawing,
    Experiment,
    Settings,
    experiments,
    find,
    html,
    perform,
    prepare,
    register,
    write,
)
from probam.experiments.finding import Finding, Measured, judged
from probam.inference.common.progress import Progress
from probam.reports.figures.style import new_figure
from probam.reports.page import Section, table


def _run(settings: Settings) -> xr.DataTree:
    settings.progress(1, 2, "half way")
    drawn = jax.random.normal(jax.random.key(settings.seed), (3,))
    return xr.DataTree.from_dict(
        {"numbers": xr.Dataset({"drawn": ("draw", np.asarray(drawn)), "bits": jnp.finfo(drawn.dtype).bits})}
    )


def _figures(tree: xr.DataTree) -> list[Drawing]:
    figure = new_figure(3, 2)
    figure.subplots().plot(tree["numbers"].to_dataset()["drawn"])
    return [Drawing("path", figure, "A path of <three> numbers.")]


def _findings(tree: xr.DataTree) -> list[Finding]:
    largest = float(tree["numbers"].to_dataset()["drawn"].max())
    measured = Measured(largest, 0.25, "Largest of three", "3 draws")
    return [
        judged(f"The largest is {largest:.3f} & no more.", measured, (-np.inf, 9.0), "A number above 9 would have."),
        judged("It is below −9.", measured, (-np.inf, -9.0), "A number below −9 would have."),
        Finding("There are <three>.", "note"),
    ]


TINY = Experiment(
    name="tiny_test",
    title="Three numbers",
    question="Are they <numbers>?",
    source="none",
    run=_run,
    figures=_figures,
    findings=_findings,
    tables=lambda _: [table(["draw", "value"], [["first", "−1.5 ± 0.2"]], caption="Numbers")],
    claims=("B8",),
    words=("load",),
)


def test_a_run_is_in_float64_and_the_same_for_the_same_seed() -> None:
    with jax.enable_x64(False):
        one, same, other = (perform(TINY, seed) for seed in (5, 5, 6))
    drawn = [tree["numbers"].to_dataset()["drawn"].values for tree in (one, same, other)]
    assert one["numbers"].to_dataset()["bits"] == 64
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
    assert (one.attrs["seed"], one.attrs["full"], one.attrs["experiment"]) == (5, 0, "tiny_test")


def test_results_are_stored_whole_and_read_without_probam(tmp_path: Path) -> None:
    tree = perform(TINY, 1)
    kept = prepare(TINY, tmp_path) / "notes.txt"
    kept.write_text("mine")
    paths = write(TINY, tree, tmp_path)
    assert [path.name for path in paths] == ["tiny_test.nc", "path.png", "findings.csv", "table_1.csv", "index.html"]
    assert {path.name for path in kept.parent.iterdir()} == {"notes.txt", *(path.name for path in paths)}
    with xr.open_datatree(paths[0]) as read:
        xr.testing.assert_identical(read["numbers"].to_dataset(), tree["numbers"].to_dataset())
        assert read.attrs["title"] == "Three numbers"
    assert paths[1].read_bytes().startswith(b"\x89PNG")


def test_the_page_follows_from_the_stored_numbers_and_needs_no_network(tmp_path: Path) -> None:
    paths = write(TINY, perform(TINY, 1), tmp_path)
    text = paths[-1].read_text()
    with xr.open_datatree(paths[0]) as read:
        assert html(TINY, read.load()) == text
    assert "Of two statements of the paper one agrees with what was measured, one does not." in text
    assert "± 0.25 (3 draws). A number above 9 would have." in text
    assert "<dt>load</dt>" in text
    assert "<dt>claim B8</dt><dd>XOR (" in text
    assert "Are they &lt;numbers&gt;?" in text
    assert "&amp; no more." in text
    assert not re.search(r"(src|href)=\"(?!#|data:)", text)


def test_findings_and_tables_are_csv_files_that_a_program_reads(tmp_path: Path) -> None:
    tree = perform(TINY, 1)
    place = write(TINY, tree, tmp_path)[-1].parent
    findings = pd.read_csv(place / "findings.csv")
    largest = float(tree["numbers"].to_dataset()["drawn"].max())
    assert list(findings["verdict"]) == ["agrees", "differs", "note"]
    np.testing.assert_allclose(findings["value"], [largest, largest, np.nan])
    np.testing.assert_allclose(findings["error"], [0.25, 0.25, np.nan])
    read = pd.read_csv(place / "table_1.csv")
    assert read.to_dict("list") == {"draw": ["first"], "value": [-1.5], "value, error": [0.2]}


def _resuming(settings: Settings) -> xr.DataTree:
    """Leaves a checkpoint at its first step, and says in its tree whether it found one."""
    assert settings.keep is not None
    file = settings.keep / "step.eqx"
    went_on = file.exists()
    file.write_text("half")
    settings.progress(1, 2, "half way")
    return xr.DataTree.from_dict({"numbers": xr.Dataset({"drawn": ("draw", [0.0]), "went_on": int(went_on)})})


def test_a_run_that_resumes_goes_on_from_its_checkpoints_which_go_with_its_end(tmp_path: Path) -> None:
    resuming = replace(TINY, run=_resuming, resumes=True)
    keep = prepare(resuming, tmp_path) / CHECKPOINTS

    def stop(_: Progress) -> None:
        raise Stop("enough")

    with pytest.raises(Stop, match="the same command goes on from here"):
        perform(resuming, 1, keep=keep, progress=stop)
    tree = perform(resuming, 1, keep=keep)
    assert tree["numbers"].to_dataset()["went_on"] == 1
    write(resuming, tree, tmp_path)
    assert not keep.exists()
    perform(TINY, 1, keep=keep)
    assert not keep.exists()  # an experiment that does not resume has no checkpoints
    with pytest.raises(Stop, match="an experiment keeps nothing before its end"):
        perform(TINY, 1, keep=keep, progress=stop)


def test_further_sections_stand_after_the_findings() -> None:
    told = replace(TINY, sections=lambda _: [Section("setup", "Set-up", "<p>Three draws.</p>")])
    text = html(told, perform(told, 1))
    assert text.index("What agrees with the paper") < text.index("<p>Three draws.</p>") < text.index("<svg")


def test_a_failing_figure_leaves_the_former_results(tmp_path: Path) -> None:
    tree = perform(TINY, 1)
    paths = write(TINY, tree, tmp_path)
    before = [path.read_bytes() for path in paths]

    def broken(_: xr.DataTree) -> list[Drawing]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write(Experiment("tiny_test", "t", "q", "s", _run, broken, _findings), perform(TINY, 2), tmp_path)
    assert [path.read_bytes() for path in paths] == before


def test_wrong_requests_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="xo: no such experiment; did you mean 'xor'"):
        find("xo")
    with pytest.raises(InputError, match="seed: expected"):
        perform(TINY, -1)
    with pytest.raises(InputError, match="data: expected a folder"):
        perform(replace(TINY, data="sets"), data=tmp_path / "none")
    with pytest.raises(InputError, match="data: the experiment 'tiny_test' uses no further data sets; leave"):
        perform(TINY, data=tmp_path)
    with pytest.raises(InputError, match="claims: 'Z9' of the experiment"):
        replace(TINY, claims=("Z9",))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="this folder cannot be created"):
        prepare(TINY, tmp_path / "file")
    with pytest.raises(InputError, match="name: expected lower-case letters"):
        Experiment("Bad name", "t", "q", "s", _run, _figures, _findings)
    with pytest.raises(InputError, match="already registered"):
        register(Experiment("xor", "t", "q", "s", _run, _figures, _findings))


def test_every_experiment_says_its_title_question_and_source() -> None:
    known = experiments()
    assert {"attractors", "capacity", "clustering", "dense_capacity", "xor"} <= set(known)
    for name, experiment in known.items():
        assert experiment.name == name
        assert experiment.title
        assert experiment.question.endswith("?")
        assert experiment.source


def test_the_command_runs_an_experiment_and_says_what_was_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["experiment"]) == 0
    assert "xor" in capsys.readouterr().out
    assert main(["experiment", "xor", "-o", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "agrees" in out
    assert "differs" in out
    assert "<svg" in (tmp_path / "xor" / "index.html").read_text()
    assert main(["experiment", "xor", "--data", str(tmp_path), "-o", str(tmp_path)]) == 2
    assert "leave this option out" in capsys.readouterr().err
    assert main(["experiment", "xo", "-o", str(tmp_path)]) == 2
    assert "did you mean 'xor'?" in capsys.readouterr().err
