"""Experiments: what they are, how they are found by name, run, and stored as numbers, figures and a page.

An experiment has four functions: ``run`` computes a DataTree; ``figures``, ``findings`` and ``tables`` only read one.
So a stored ``NAME.nc`` reproduces its page, and every sentence of the page is computed from its numbers. A module of
this folder makes one :class:`Experiment` and passes it to :func:`register`; ``probam experiment NAME`` then runs it.

Computations run in float64, whatever the precision of the process.
"""

import importlib
import io
import json
import os
import pkgutil
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import xarray as xr
from matplotlib.figure import Figure

import probam.experiments
from probam.data.reading import cause
from probam.data.writing import write_atomically
from probam.errors import InputError
from probam.inference.common.result import Progress, silent
from probam.reports.figures.style import PAPER, inline_svg
from probam.reports.page import Section, escape, figure, number, page, spelled
from probam.reports.tree import write_tree

__all__ = [
    "Drawing",
    "Experiment",
    "Finding",
    "Settings",
    "experiments",
    "find",
    "html",
    "perform",
    "prepare",
    "register",
    "write",
]

_PACKAGES = ("probam", "jax", "numpyro", "optax", "numpy", "scikit-learn", "xarray")

_LABELS = {"agrees": ("good", "Agrees"), "differs": ("warning", "Differs"), "note": ("note", "Note")}

_FILE_NAMES = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")


class Settings(NamedTuple):
    """The settings of a run.

    ``full`` is for the paper's size; without it a run takes well under a minute. ``data`` is a folder with more data
    sets (``NAME/data.npz`` each), None for the sets of the package only. ``progress`` is called with (done, total,
    text).
    """

    seed: int = 0
    full: bool = False
    data: Path | None = None
    progress: Progress = silent


class Finding(NamedTuple):
    """A sentence about the result, and whether the paper ``agrees`` with it, ``differs``, or neither (``note``)."""

    text: str
    verdict: Literal["agrees", "differs", "note"]


class Drawing(NamedTuple):
    """A figure, the stem of its file name, and its caption, which is also the text for screen readers."""

    name: str
    figure: Figure
    caption: str


@dataclass(frozen=True)
class Experiment:
    """An experiment: its name on the command line, its title, its question, and its functions.

    ``run`` returns a DataTree of arrays that NetCDF can store; the other functions read such a tree, new or stored.
    ``tables`` returns HTML made by :func:`probam.reports.page.table`. ``source`` names the paper and section.
    """

    name: str
    title: str
    question: str
    source: str
    run: Callable[[Settings], xr.DataTree]
    figures: Callable[[xr.DataTree], Sequence[Drawing]]
    findings: Callable[[xr.DataTree], Sequence[Finding]]
    tables: Callable[[xr.DataTree], Sequence[str]] = lambda _: ()

    def __post_init__(self) -> None:
        if not self.name or not set(self.name) <= _FILE_NAMES:
            raise InputError(f"name: expected lower-case letters, digits and _; got {self.name!r}")


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
    progress: Progress = silent,
) -> xr.DataTree:
    """Run an experiment; the root attributes of its tree hold the settings, versions and seconds.

    Args:
        seed: a whole number from 0 to 2^32 - 1.
        full: the paper's size instead of the small one.
        data: a folder with more data sets (``NAME/data.npz`` each).
        progress: called with (done, total, text).

    Raises:
        InputError: for a seed out of range, and for ``data`` that is not a folder.
    """
    if isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise InputError(f"seed: expected a whole number from 0 to 2^32 - 1; got {seed!r}")
    folder = None if data is None else Path(data)
    if folder is not None and not folder.is_dir():
        raise InputError(f"data: expected a folder of data sets; {os.fspath(folder)} is not one")
    began = time.perf_counter()
    with jax.enable_x64(True):
        tree = experiment.run(Settings(int(seed), full, folder, progress))
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
    place = Path(folder) / experiment.name
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{place}: this folder cannot be created ({cause(error)}); choose another place") from error
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"{place}: this folder cannot be written to; choose another place")
    return place


def write(experiment: Experiment, tree: xr.DataTree, folder: str | os.PathLike[str]) -> list[Path]:
    """Store ``NAME.nc``, the figures and ``index.html`` in ``folder/NAME``; the paths written, the page last.

    All files are made before one is replaced, and each is replaced atomically. Other files in the folder are kept.

    Raises:
        InputError: where the files cannot be written.
    """
    place = prepare(experiment, folder)
    drawings = list(experiment.figures(tree))
    text = html(experiment, tree, drawings).encode()  # before the PNGs: drawing again moves a layout by a hair
    contents = {f"{drawing.name}.png": _png(drawing.figure) for drawing in drawings}
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "tree.nc"
        write_tree(tree, file)
        contents = {f"{experiment.name}.nc": file.read_bytes(), **contents, "index.html": text}
    for name, content in contents.items():
        with write_atomically(place / name) as temporary:
            temporary.write_bytes(content)
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
    tables = "".join(experiment.tables(tree))
    drawn = "".join(
        figure(inline_svg(drawing.figure, drawing.name, drawing.caption), escape(drawing.caption))
        for drawing in drawings
    )
    sections = [Section("findings", "What agrees with the paper, and what does not", _findings(findings))]
    if drawn:
        sections.append(Section("figures", "Figures" if len(drawings) > 1 else "Figure", drawn))
    if tables:
        sections.append(Section("numbers", "Numbers", tables))
    sections.append(_repeat(experiment, tree))
    lead = f'<p class="lead">{escape(experiment.question)}</p>'
    return page(experiment.title, lead=lead, verdict=_verdict(findings), sections=sections, kicker="probam experiment")


def _findings(findings: Sequence[Finding]) -> str:
    items = "".join(
        f'<li class="{_LABELS[finding.verdict][0]}"><span class="level">{_LABELS[finding.verdict][1]}</span>'
        f"<span>{escape(finding.text)}</span></li>"
        for finding in findings
    )
    return f'<ul class="advice">{items}</ul>'


def _verdict(findings: Sequence[Finding]) -> str:
    """One paragraph: how many statements of the paper agree with the measurements."""
    agree = sum(finding.verdict == "agrees" for finding in findings)
    differ = sum(finding.verdict == "differs" for finding in findings)
    level = "warning" if differ else "good" if agree else "note"
    if not agree and not differ:
        text = "The paper makes no statement that can be tested here."
        return f'<div class="verdict note"><p><strong>{escape(text)}</strong></p></div>'
    if not agree:
        text = f"{spelled(differ, 'statement', 'statements')} of the paper {'does' if differ == 1 else 'do'} not agree"
        text = f"{text[0].upper()}{text[1:]} with what was measured."
        return f'<div class="verdict {level}"><p><strong>{escape(text)}</strong></p></div>'
    first = f"{spelled(agree, 'statement', 'statements').capitalize()} of the paper "
    first += f"{'agrees' if agree == 1 else 'agree'} with what was measured"
    second = f", {spelled(differ) if differ else 'none'} {'does' if differ == 1 else 'do'} not."
    return f'<div class="verdict {level}"><p><strong>{escape(first + second)}</strong></p></div>'


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
