"""A file is what was saved, in this version's layout or an older one; anything else is refused in one sentence."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from h5netcdf.core import File

import probam
from probam.cli.main import main
from probam.data.rotation import seal
from probam.data.schema import SCHEMA
from probam.errors import InputError
from probam.fits.fitted import Fit
from probam.fits.migration import migrated
from probam.fits.opened import model_of_tree
from probam.inference.common.checkpoint import Saves
from probam.reports.tree import read_tree
from probam.streams.stream import Stream
from tests.fits.corruptions import corruptions
from tests.hostile.watched import Watched

OLD_FIT, OLD_STREAM = (Path(__file__).parent / "files" / f"{kind}_schema_0.nc" for kind in ("fit", "stream"))
ROWS = np.array([[-3.0, -3.0], [3.0, 3.0], [-2.0, -4.0]])


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    return migrated(read_tree(OLD_FIT), "fit.nc")


@pytest.fixture
def new_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of this version, in the working directory."""
    monkeypatch.chdir(tmp_path)
    probam.load(OLD_FIT).save("fit.nc")
    return Path("fit.nc")


class TestOlderFiles:
    """The files were written before files had a version."""

    def test_a_fit_answers_as_it_did(self, tmp_path: Path) -> None:
        fit = probam.load(OLD_FIT)
        assert "schema" not in read_tree(OLD_FIT).attrs
        assert fit.tree.attrs["schema"] == SCHEMA
        assert repr(fit).startswith("<probam.Fit: Maximum a posteriori under the default prior, log likelihood -39.23 ")
        labels = fit.predict(ROWS)["label"].values
        assert labels[0] == labels[2] != labels[1]
        fit.save(tmp_path / "fit.nc")
        again = probam.load(tmp_path / "fit.nc")
        xr.testing.assert_identical(again.tree, fit.tree)

    def test_a_stream_goes_on_as_it_did(self, tmp_path: Path) -> None:
        stream = Stream.load(OLD_STREAM)
        assert stream.num_memories == 4
        assert stream.log_predictive == pytest.approx(-48.38378760748788, rel=1e-12)
        assert "layout" in read_tree(OLD_STREAM, groups=("stream",))["stream"].attrs
        stream.save(tmp_path / "stream.nc")
        written = read_tree(tmp_path / "stream.nc", groups=("stream",))
        assert written.attrs["schema"] == SCHEMA
        assert "layout" not in written["stream"].attrs
        again = Stream.load(tmp_path / "stream.nc")
        one, other = stream.partial_fit(ROWS).log_predictive, again.partial_fit(ROWS).log_predictive
        assert one == other

    def test_a_stream_of_directions_goes_on_with_its_one_concentration(self) -> None:
        """What the version that wrote the file said of the rows in it and of ten more."""
        stream = Stream.load(OLD_STREAM.with_name("stream_vmf_schema_1.nc"))
        assert stream.log_predictive == pytest.approx(-55.49509650693203, rel=1e-12)
        rng = np.random.default_rng(4)
        rows = np.eye(3)[rng.integers(0, 3, 60)] + 0.2 * rng.normal(size=(60, 3))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        assert stream.partial_fit(rows[50:]).log_predictive == pytest.approx(-65.73773295240498, rel=1e-12)

    def test_what_the_first_files_left_unsaid_is_filled_in(self) -> None:
        first = read_tree(OLD_FIT)
        del first.attrs["normalised"], first.attrs["sampler"]
        attributes = migrated(first, "fit.nc").attrs
        assert (attributes["normalised"], attributes["sampler"]) == (0, "nuts")
        assert "normalised" not in first.attrs


class TestNewerFiles:
    def test_a_fit_is_refused(self, new_fit: Path) -> None:
        with File(new_fit, "r+") as file:
            file.attrs["schema"] = SCHEMA + 1
        with pytest.raises(InputError, match=r"a newer version of probam saved this file .*; update probam to read it"):
            probam.load(new_fit)

    def test_a_stream_is_refused(self, tmp_path: Path) -> None:
        Stream().save(tmp_path / "stream.nc")
        with File(tmp_path / "stream.nc", "r+") as file:
            file.attrs["schema"] = 99
        with pytest.raises(InputError, match=r"\(schema 99, this one reads up to \d+\); update probam"):
            Stream.load(tmp_path / "stream.nc")

    def test_a_checkpoint_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "run.npz"
        with Saves(path, {"key": "0"}) as saves:
            saves.phase("chains").save(1, np.zeros(2), [{"x": np.zeros((1, 1))}])
        with np.load(path) as file:
            arrays = dict(file)
        head = json.loads(str(arrays.pop("head")))
        assert head["schema"] == SCHEMA
        np.savez(path, head=np.array(json.dumps(head | {"schema": 99})), **arrays)
        seal(path)
        with pytest.raises(InputError, match=r"run.npz: a newer version of probam .*schema 99"):
            Saves(path, {"key": "0"})

    def test_parameters_say_their_version(self, tmp_path: Path) -> None:
        probam.load(OLD_FIT).parameters().save(tmp_path / "numbers.json")
        assert json.loads((tmp_path / "numbers.json").read_text())["schema"] == SCHEMA


def refusal(ask: Callable[[], object]) -> str:
    """What was said where something was refused; empty where nothing was."""
    try:
        ask()
    except InputError as error:
        return str(error)
    return ""


def test_a_fault_of_a_fit_is_named_or_does_no_harm(tree: xr.DataTree) -> None:
    """One fault at a time, in every group, attribute and array.

    What is let through leaves draws, data and the numbers of memories as they were; where draws or data are other
    numbers of the same kind, the digest of the file tells.
    """
    every = dict(corruptions(tree))
    said = {what: refusal(partial(model_of_tree, faulty, "fit.nc", None)) for what, faulty in every.items()}
    assert not [what for what, sentence in said.items() if "\n" in sentence]
    allowed = {what for what, sentence in said.items() if not sentence}
    assert len(said) - len(allowed) > 300
    assert 30 < len(allowed) < 100
    for what in allowed - {"-1e6 in /posterior/loc", "-1e6 in /constant_data/center"}:
        for name in ("posterior", "observed_data", "constant_data"):
            xr.testing.assert_equal(every[what][name].to_dataset(), tree[name].to_dataset())
        xr.testing.assert_equal(every[what]["memory"]["permutation"], tree["memory"]["permutation"])


def test_what_is_let_through_is_read_by_every_question(tree: xr.DataTree, tmp_path: Path) -> None:
    """All that may be absent is absent at once, and every text says something else."""
    groups = {name: node.to_dataset() for name, node in tree.children.items() if name in _NEEDED}
    root = tree.to_dataset().assign_attrs(dict.fromkeys(("engine", "status", "estimate", "sampler", "model"), "?"))
    root.attrs = {name: value for name, value in root.attrs.items() if name not in ("given_prior", "prior")}
    bare = xr.DataTree.from_dict({"/": root, **groups})
    fit, whole = Fit(bare, model_of_tree(bare, "fit.nc", None)), Fit(tree, model_of_tree(tree, "fit.nc", None))
    xr.testing.assert_equal(fit.predict(ROWS), whole.predict(ROWS))
    assert "log likelihood -39.23" in fit.summary_text()
    fit.report(tmp_path / "report.html")
    assert "\N{MINUS SIGN}39.2" in (tmp_path / "report.html").read_text()


_NEEDED = ("posterior", "sample_stats", "invariant", "observed_data", "constant_data", "memory")


@pytest.mark.slow
@pytest.mark.timeout(1800)  # some eighty reports
def test_every_question_takes_each_fault_that_is_let_through(tree: xr.DataTree, tmp_path: Path) -> None:
    expected = Fit(tree, model_of_tree(tree, "fit.nc", None)).predict(ROWS)["label"].values

    def ask(what: str, faulty: xr.DataTree) -> None:
        fit = Fit(faulty, model_of_tree(faulty, "fit.nc", None))
        if not what.startswith("-1e6 in"):
            np.testing.assert_array_equal(fit.predict(ROWS)["label"].values, expected, what)
        fit.summary_text()
        fit.verify()
        fit.report(tmp_path / "report.html")

    for what, faulty in corruptions(tree):
        assert "\n" not in refusal(partial(ask, what, faulty)), what


def _without(name: str) -> Callable[[File], None]:
    def change(file: File) -> None:
        group, _, array = name.partition("/")
        del (file.groups[group]._h5group if array else file._h5file)[array or group]

    return change


def _filled(name: str, value: float) -> Callable[[File], None]:
    def change(file: File) -> None:
        file[name][...] = np.full(file[name].shape, value)

    return change


def _said(name: str, value: Any) -> Callable[[File], None]:
    def change(file: File) -> None:
        file.attrs[name] = value

    return change


FAULTS: dict[str, tuple[Callable[[File], None], str]] = {
    "a group is gone": (_without("posterior"), "lacks the group posterior"),
    "a group of answers is gone": (_without("memory"), "the group memory is not what was saved"),
    "a site is gone": (_without("posterior/loc"), "the group posterior is not what was saved"),
    "the posterior has NaN": (_filled("posterior/loc", np.nan), "the group posterior is not what was saved"),
    "other draws": (_filled("posterior/loc", 0.5), "the group posterior is not what was saved"),
    "memories have other numbers": (_filled("memory/permutation", 7), "the group memory is not what was saved"),
    "the family is another": (_said("family_options", '{"covariance": "full"}'), "lacks precision_cholesky"),
    "options are junk": (_said("weights_options", "{junk"), "the attribute weights_options is '{junk'"),
    "a number is text": (_said("num_components", "two"), "expected a whole number from 1"),
    "the number of memories is another": (_said("num_components", 3), "has 2 entries along memory; expected 3"),
    "the precision is junk": (_said("dtype", "float12"), "expected float32 or float64"),
    "the digest is junk": (_said("digest", "?"), "the digest of its numbers is not what was saved"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_with_a_fault_ends_every_command_in_one_line(
    fault: str, new_fit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, said = FAULTS[fault]
    with File(new_fit, "r+") as file:
        change(file)
    np.savetxt("rows.csv", ROWS, delimiter=",", header="x0,x1", comments="")
    for words in (["predict", "fit.nc", "rows.csv", "-o", "labels.csv"], ["report", "fit.nc"], ["verify", "fit.nc"]):
        assert main(words) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("probam: fit.nc: ")
        assert printed.err.count("\n") == 1
        assert said in printed.err
    assert {path.name for path in Path().iterdir()} == {"fit.nc", "rows.csv"}


def test_a_fault_of_a_stream_is_named_or_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    """One fault at a time, in every attribute and array; the digest, which would tell of each array, is left aside."""
    stream = migrated(read_tree(OLD_STREAM, groups=("stream",)), "stream.nc")
    expected = Stream.load(OLD_STREAM).num_memories
    for what, faulty in corruptions(stream):
        if "stream" in faulty.children and not what.endswith("/@schema"):
            monkeypatch.setattr("probam.streams.storage.read_tree", partial(_given, faulty))
            numbers: list[int] = []
            said = refusal(partial(_count_memories, numbers))
            assert "\n" not in said, what
            assert numbers == ([] if said else [expected]), what


def _count_memories(numbers: list[int]) -> None:
    numbers.append(Stream.load("stream.nc").num_memories)


def _given(tree: xr.DataTree, path: str, groups: tuple[str, ...]) -> xr.DataTree:
    del path, groups
    return tree


@pytest.fixture(scope="module")
def watched() -> Watched:
    return Watched()


@pytest.mark.parametrize("named", ["evil.py:Evil", "evil:Evil", "evil", "sub/evil.py:Evil", "this:Evil", "evil.py"])
def test_no_code_is_opened_because_a_file_names_it(named: str, new_fit: Path, watched: Watched) -> None:
    """Not by its family, nor where any other text of the file is a path of code."""
    Path("sub").mkdir()
    for code in ("evil.py", "sub/evil.py"):
        Path(code).write_text("raise AssertionError('executed')\n")
    shutil.copy(OLD_STREAM, "stream.nc")
    with File(new_fit, "r+") as file, File("stream.nc", "r+") as other:
        file.attrs["family"] = named
        attributes = other.groups["stream"].attrs
        attributes["options"] = str(attributes["options"]).replace('"gaussian"', json.dumps(named))
    probam.load(OLD_FIT)  # what a load needs is imported
    for load, path in ((probam.load, new_fit), (Stream.load, Path("stream.nc"))):
        with watched, pytest.raises(InputError, match=r"name it if you trust that code|expected one of"):
            load(path)
    with watched:
        Path("sub/evil.py").read_text()
    assert [each for each in watched.seen if "evil" in each] == ["open sub/evil.py"]  # by the test: the hook works
    assert "import this" not in watched.seen
    watched.seen.clear()
