"""Experiments: what they are, how they are found by name, run, and stored as numbers, figures and a page.

An experiment has four functions: ``run`` computes a DataTree; ``figures``, ``findings`` and ``tables`` only read one.
So a stored ``NAME.nc`` reproduces its page, and every sentence of the page is computed from its numbers. A module of
this folder makes one :class:`Experiment` and passes it to :func:`register`; ``probam experiment NAME`` then runs it.
What it finds is a :class:`~probam.experiments.finding.Finding`, which judges a paper only with a number, its error and
a sentence on what would have shown the opposite.

Computations run in float64, whatever the precision of the process.
"""

import importlib
import io
import json
import os
import pkgutil
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import jax
import xarray as xr
from matplotlib.figure import Figure

import probam.experiments
from probam.claims.entries import ENTRIES
from probam.data.pieces import cause
from probam.data.writing import write_atomically
from probam.errors import InputError
from probam.experiments.finding import Finding
from probam.experiments.spreadsheet import findings_csv, table_csv
from probam.experiments.words import WORDS
from probam.inference.common.progress import Listener, Reporter, silent
from probam.reports.figures.style import PAPER, inline_svg
from probam.reports.page import Section, escape, figure, number, page, spelled
from probam.reports.tree import tree_bytes

__all__ = [
    "CHECKPOINTS",
    "Drawing",
    "Experiment",
    "Settings",
    "experiments",
    "find",
    "html",
    "perform",
    "prepare",
    "prepared",
    "register",
    "write",
]

CHECKPOINTS = "checkpoints"
"""Folder, inside that of an experiment, for what a run that was interrupted goes on from."""

_PACKAGES = ("probam", "jax", "equinox", "numpyro", "optax", "numpy", "scikit-learn", "xarray")

_LABELS = {
    "agrees": ("good", "Agrees"),
    "differs": ("warning", "Differs"),
    "undecided": ("note", "Undecided"),
    "note": ("note", "Note"),
}

_FILE_NAMES = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")


class Settings(NamedTuple):
    """The settings of a run.

    ``full`` is for the paper's size; without it a run takes less than two minutes on two cores. ``data`` is a folder
    with more data sets (``NAME/data.npz`` each), None for the sets of the package only. ``progress`` reports to
    the caller: it is called with (done, total, text). ``keep`` is a folder for the checkpoints of an experiment that
    resumes, None for none.
    """

    seed: int = 0
    full: bool = False
    data: Path | None = None
    progress: Reporter = silent
    keep: Path | None = None


class Drawing(NamedTuple):
    """A figure, the stem of its file name, and its caption, which is also the text for screen readers."""

    name: str
    figure: Figure
    caption: str


@dataclass(frozen=True)
class Experiment:
    """An experiment: its name on the command line, its title, its question, and its functions.

    ``run`` returns a DataTree of arrays that NetCDF can store; the other functions read such a tree, new or stored.
    ``tables`` returns HTML made by :func:`probam.reports.page.table`. ``source`` names the paper and section,
    ``claims`` the entries of the list of claims that are illustrated. ``data`` says which sets a folder of more data
    can add; empty where the experiment has no use for one. ``words`` are those of
    :data:`probam.experiments.words.WORDS` that the page uses and a newcomer may not know. ``resumes`` says that a run
    writes checkpoints to ``Settings.keep`` and goes on from those that it finds there. ``sections`` stand after the
    findings, for what else a reader must know. ``tested`` is what its findings judge, one of them and several.
    """

    name: str
    title: str
    question: str
    source: str
    run: Callable[[Settings], xr.DataTree]
    figures: Callable[[xr.DataTree], Sequence[Drawing]]
    findings: Callable[[xr.DataTree], Sequence[Finding]]
    tables: Callable[[xr.DataTree], Sequence[str]] = lambda _: ()
    claims: tuple[str, ...] = ()
    data: str = ""
    words: tuple[str, ...] = ()
    resumes: bool = False
    sections: Callable[[xr.DataTree], Sequence[Section]] = lambda _: ()
    tested: tuple[str, str] = ("statement of the paper", "statements of the paper")

    def __post_init__(self) -> None:
        if not self.name or not set(self.name) <= _FILE_NAMES:
            raise InputError(f"name: expected lower-case letters, digits and _; got {self.name!r}")
        for kind, names, known in (("claims", self.claims, ENTRIES), ("words", self.words, WORDS)):
            unknown = [name for name in names if name not in known]
            if unknown:
                raise InputError(f"{kind}: {unknown[0]!r} of the experiment {self.name!r} is not in the list of {kind}")


_REGISTRY: dict[str, Experiment] = {}


def register(experiment: Experiment) -> Experiment:
    """Register an experiment under its name; returns it.

    Raises:
        InputError: where another experiment has that name.
    """
    known = _REGISTRY.get(experiment.name)
    if known is not None and known.run.__module__ != experiment.run.__module__:
        raise InputError(f"name: the experiment {experiment.name!r} is already registered; choose another name")
    _REGISTRY[experiment.name] = experiment
    return experiment


def experiments() -> dict[str, Experiment]:
    """All experiments by name, in alphabetical order; imports the modules of this folder."""
    for module in pkgutil.iter_modules(probam.experiments.__path__, "probam.experiments."):
        importlib.import_module(module.name)
    return dict(sorted(_REGISTRY.items()))


def find(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        InputError: where there is none.
    """
    known = experiments()
    if name not in known:
        close = get_close_matches(name, known, n=1)
        mean = f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(known)}"
        raise InputError(f"{name}: no such experiment; {mean}")
    return known[name]


# --- running --------------------------------------------------------------------------------------------------


def perform(
    experiment: Experiment,
    seed: int = 0,
    *,
    full: bool = False,
    data: str | os.PathLike[str] | None = None,
    progress: Listener | None = None,
    keep: str | os.PathLike[str] | None = None,
) -> xr.DataTree:
    """Run an experiment; the root attributes of its tree hold the settings, versions and seconds.

    Args:
        seed: a whole number from 0 to 2^32 - 1.
        full: the paper's size instead of the small one.
        data: a folder with more data sets (``NAME/data.npz`` each).
        progress: called with a ``probam.Progress``. Where it raises ``probam.Stop``, nothing is kept but checkpoints.
        keep: a folder for the checkpoints of an experiment that resumes, made if it is missing; others ignore it.

    Raises:
        InputError: for a seed out of range, for ``data`` that is not a folder or that the experiment cannot use, and
            where ``keep`` cannot be made.
    """
    if isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise InputError(f"seed: expected a whole number from 0 to 2^32 - 1; got {seed!r}")
    folder = None if data is None else Path(data)
    if folder is not None and not experiment.data:
        raise InputError(f"data: the experiment {experiment.name!r} uses no further data sets; leave this option out")
    if folder is not None and not folder.is_dir():
        raise InputError(f"data: expected a folder of data sets; {os.fspath(folder)} is not one")
    place = None if keep is None or not experiment.resumes else _made(Path(keep))
    lost = "an experiment keeps nothing before its end" if place is None else "the same command goes on from here"
    began = time.perf_counter()
    with jax.enable_x64(True):
        report = Reporter(progress, nothing_kept=f"{experiment.name}: stopped; {lost}")
        tree = experiment.run(Settings(int(seed), full, folder, report, place))
    versions = {name: version(name) for name in _PACKAGES} | {"python": sys.version.split()[0]}
    tree.attrs |= {
        "experiment": experiment.name,
        "title": experiment.title,
        "source": experiment.source,
        "seed": int(seed),
        "full": int(full),
        "with_data": int(folder is not None),
        "seconds": time.perf_counter() - began,
        "probam_version": version("probam"),
        "versions": json.dumps(versions, sort_keys=True),
    }
    return tree


# --- storing --------------------------------------------------------------------------------------------------


def prepare(experiment: Experiment, folder: str | os.PathLike[str]) -> Path:
    """The folder ``folder/NAME``, created if it is missing. Call it before any long work.

    Raises:
        InputError: where the folder cannot be created or written to.
    """
    return _made(Path(folder) / experiment.name)


def _made(place: Path) -> Path:
    """A folder, created if it is missing."""
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{place}: this folder cannot be created ({cause(error)}); choose another place") from error
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"{place}: this folder cannot be written to; choose another place")
    return place


@contextmanager
def prepared(experiment: Experiment, folder: str | os.PathLike[str]) -> Iterator[Path]:
    """The folder of :func:`prepare`, for work in a ``with`` block; where it fails, folders that were made go again."""
    place = Path(folder) / experiment.name
    made = [each for each in (place, *place.parents) if not each.exists()]
    try:
        yield prepare(experiment, folder)
    except BaseException:
        with suppress(OSError):  # a folder that is not empty stays
            for each in made:
                each.rmdir()
        raise


def write(experiment: Experiment, tree: xr.DataTree, folder: str | os.PathLike[str]) -> list[Path]:
    """Store ``NAME.nc``, the figures, CSV files and ``index.html`` in ``folder/NAME``; the paths, the page last.

    ``findings.csv`` has what was found, ``table_1.csv`` and so on the tables of the page.

    All files are made before one is replaced, and each is replaced atomically. Other files in the folder are kept, but
    for the checkpoints of a run, which are of no more use.

    Raises:
        InputError: where the files cannot be written.
    """
    place = prepare(experiment, folder)
    drawings = list(experiment.figures(tree))
    text = html(experiment, tree, drawings).encode()  # before the PNGs: drawing again moves a layout by a hair
    contents = {f"{drawing.name}.png": _png(drawing.figure) for drawing in drawings}
    contents["findings.csv"] = findings_csv(experiment.findings(tree)).encode()
    contents |= {f"table_{i}.csv": table_csv(made).encode() for i, made in enumerate(experiment.tables(tree), start=1)}
    contents = {f"{experiment.name}.nc": tree_bytes(tree), **contents, "index.html": text}
    for name, content in contents.items():
        with write_atomically(place / name) as temporary:
            temporary.write_bytes(content)
    if experiment.resumes:
        shutil.rmtree(place / CHECKPOINTS, ignore_errors=True)
    return [place / name for name in contents]


def _png(drawn: Figure) -> bytes:
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="png", dpi=160, facecolor=PAPER, metadata={"Software": None})
    return buffer.getvalue()


def html(experiment: Experiment, tree: xr.DataTree, drawings: Sequence[Drawing] | None = None) -> str:
    """The page of an experiment: findings, figures, tables, and how to repeat it.

    Args:
        tree: what its ``run`` returned, or :func:`perform`, or a stored file.
        drawings: its figures, where they were already made.
    """
    drawings = list(experiment.figures(tree)) if drawings is None else drawings
    findings = list(experiment.findings(tree))
    tables = list(experiment.tables(tree))
    drawn = "".join(
        figure(inline_svg(drawing.figure, drawing.name, drawing.caption), escape(drawing.caption))
        for drawing in drawings
    )
    sections = [Section("findings", "What agrees with the paper, and what does not", _findings(findings))]
    sections += experiment.sections(tree)
    if drawn:
        sections.append(Section("figures", "Figures" if len(drawings) > 1 else "Figure", drawn))
    if tables:
        files = ", ".join(f"<code>table_{i}.csv</code>" for i in range(1, len(tables) + 1))
        body = "".join(tables) + f"<p>The same as {files}, beside this page.</p>"
        sections.append(Section("numbers", "Numbers", body))
    if experiment.words or experiment.claims:
        sections.append(_vocabulary(experiment))
    sections.append(_repeat(experiment, tree))
    lead = f'<p class="lead">{escape(experiment.question)}</p>'
    return page(
        experiment.title,
        lead=lead,
        verdict=_verdict(findings, *experiment.tested),
        sections=sections,
        kicker="probam experiment",
    )


def _findings(findings: Sequence[Finding]) -> str:
    items = "".join(
        f'<li class="{_LABELS[finding.verdict][0]}"><span class="level">{_LABELS[finding.verdict][1]}</span>'
        f"<span>{escape(finding.text)}{_carried(finding)}</span></li>"
        for finding in findings
    )
    rule = (
        "A statement is judged only by a number with its error: it agrees or differs where two standard errors on "
        "either side do not change the answer, and is undecided otherwise. Everything else is a note. "
        "<code>findings.csv</code> has the numbers."
    )
    return f'<p>{rule}</p><ul class="advice">{items}</ul>'


def _carried(finding: Finding) -> str:
    """The number that a verdict rests on, and what would have shown the opposite, on a line of its own."""
    if finding.measured is None:
        return ""
    return f"<br><small>{escape(finding.measured.sentence())} {escape(finding.opposite)}</small>"


def _vocabulary(experiment: Experiment) -> Section:
    """Words that a newcomer may not know, and the claims by their own titles."""
    entries = {word: WORDS[word] for word in experiment.words}
    entries |= {
        f"claim {claim}": f"{ENTRIES[claim]} (probam verify --claim {claim} tests it)" for claim in experiment.claims
    }
    items = "".join(f"<dt>{escape(word)}</dt><dd>{escape(text)}</dd>" for word, text in entries.items())
    return Section("words", "Words and claims", f'<dl class="words">{items}</dl>')


def _verdict(findings: Sequence[Finding], one: str, several: str) -> str:
    """One paragraph: how many of what is tested (one, or several) agree with the measurements."""
    counts = {kind: sum(finding.verdict == kind for finding in findings) for kind in _LABELS}
    agree, differ, open_ = (counts[kind] for kind in ("agrees", "differs", "undecided"))
    level = "warning" if differ else "good" if agree else "note"
    if not agree + differ + open_:
        text = f"No {one} can be judged by this run."
    elif agree + differ + open_ == 1:
        what = "agrees with what was measured" if agree else "does not agree with what was measured"
        text = f"The one {one} that was tested {'is undecided' if open_ else what}."
    else:
        parts = [
            f"{spelled(agree) if agree else 'none'} {'agrees' if agree == 1 else 'agree'} with what was measured",
            f"{spelled(differ) if differ else 'none'} {'does' if differ == 1 else 'do'} not",
            *([f"{spelled(open_)} {'is' if open_ == 1 else 'are'} undecided"] if open_ else []),
        ]
        text = f"Of {spelled(agree + differ + open_, one, several)} {', '.join(parts)}."
    return f'<div class="verdict {level}"><p><strong>{escape(text)}</strong></p></div>'


def _repeat(experiment: Experiment, tree: xr.DataTree) -> Section:
    attributes = tree.attrs
    words = ["probam", "experiment", experiment.name, "--seed", str(attributes["seed"])]
    words += ["--full"] if attributes["full"] else []
    words += ["--data", "DIR"] if attributes["with_data"] else []
    versions = ", ".join(f"{name} {number}" for name, number in json.loads(attributes["versions"]).items())
    size = "the paper’s size" if attributes["full"] else "the small size (--full runs the paper’s)"
    body = (
        f"<pre>{escape(shlex.join(words))}</pre>"
        f"<p>This was {escape(size)}, in {number(float(attributes['seconds']), 3)} seconds. "
        f"Source: {escape(experiment.source)}. "
        f"All numbers are in <code>{escape(experiment.name)}.nc</code>, which xarray.open_datatree reads.</p>"
        f"<p>Versions: {escape(versions)}. The same seed gives the same numbers on the same machine and versions.</p>"
    )
    return Section("repeat", "How can I repeat this?", body)
