"""What an experiment is, how it is found by name, run, and stored as numbers, figures and a page.

An experiment is three functions: ``run`` computes and returns a DataTree; ``figures``, ``findings`` and ``tables`` only
read one. So a stored ``NAME.nc`` gives its page again, and every sentence of the page is computed from its numbers.
A module of this folder makes one :class:`Experiment` and hands it to :func:`register`; its name then is a command.

Computations run in float64, whatever the process around them has chosen.
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
    """What a run is given.

    ``full`` asks for the paper's size, otherwise a run takes well under a minute. ``data`` is a folder with more sets
    (``NAME/data.npz`` each), None where there are only the sets that travel with the package. ``progress`` is called
    with (done, total, text).
    """

    seed: int = 0
    full: bool = False
    data: Path | None = None
    progress: Progress = silent


class Finding(NamedTuple):
    """A sentence on what was found; whether the paper's statement ``agrees`` with it, ``differs``, or neither."""

    text: str
    verdict: Literal["agrees", "differs", "note"]


class Drawing(NamedTuple):
    """A figure, the stem of its file, and its caption in plain words (which a screen reader says too)."""

    name: str
    figure: Figure
    caption: str


@dataclass(frozen=True)
class Experiment:
    """An experiment: its name on the command line, its title, the question it asks, and its functions.

    ``run`` returns a DataTree of arrays that NetCDF can hold; the other functions read such a tree, also one that was
    stored. ``tables`` returns HTML made by :func:`probam.reports.page.table`. ``source`` names the paper and section.
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
            raise InputError(f"name: expected small letters, digits and _; got {self.name!r}")


_REGISTRY: dict[str, Experiment] = {}


def register(experiment: Experiment) -> Experiment:
    """Make an experiment known by its name; returns it. A name that is taken raises :class:`InputError`."""
    known = _REGISTRY.get(experiment.name)
    if known is not None and known.run.__module__ != experiment.run.__module__:
        raise InputError(f"name: the experiment {experiment.name!r} is registered already; choose another name")
    _REGISTRY[experiment.name] = experiment
    return experiment


def experiments() -> dict[str, Experiment]:
    """Every experiment by name, in alphabetical order; the modules of this folder are imported."""
    for module in pkgutil.iter_modules(probam.experiments.__path__, "probam.experiments."):
        importlib.import_module(module.name)
    return dict(sorted(_REGISTRY.items()))


def find(name: str) -> Experiment:
    """The experiment of that name. Raises :class:`probam.errors.InputError` where there is none."""
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
    """Run an experiment; the root attributes of its tree say what was run, with what, and how long it took.

    Raises :class:`probam.errors.InputError` for a seed outside 0 .. 2^32 - 1, and for ``data`` that is no folder.
    """
    if isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise InputError(f"seed: expected a whole number from 0 to 2^32 - 1; got {seed!r}")
    folder = None if data is None else Path(data)
    if folder is not None and not folder.is_dir():
        raise InputError(f"data: expected a folder of data sets; {os.fspath(folder)} is none")
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
    """The folder ``folder/NAME``, made where it was missing; asked before any long work.

    Raises :class:`probam.errors.InputError` where it cannot be made or takes no files.
    """
    place = Path(folder) / experiment.name
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{place}: this folder cannot be made ({cause(error)}); choose another place") from error
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"{place}: this folder takes no files; choose another place")
    return place


def write(experiment: Experiment, tree: xr.DataTree, folder: str | os.PathLike[str]) -> list[Path]:
    """Store ``NAME.nc``, the figures and ``index.html`` in ``folder/NAME``; the paths written, the page last.

    Everything is made before anything is replaced, and every file appears whole or not at all; other files in the
    folder stay. Raises :class:`probam.errors.InputError` where the place or the disk refuses.
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
    """The page of an experiment: what agrees with the paper and what does not, figures, tables, how to repeat it."""
    drawings = list(experiment.figures(tree)) if drawings is None else drawings
    said = list(experiment.findings(tree))
    tables = "".join(experiment.tables(tree))
    drawn = "".join(
        figure(inline_svg(drawing.figure, drawing.name, drawing.caption), escape(drawing.caption))
        for drawing in drawings
    )
    sections = [Section("findings", "What agrees with the paper, and what does not", _findings(said))]
    if drawn:
        sections.append(Section("figures", "Figures" if len(drawings) > 1 else "Figure", drawn))
    if tables:
        sections.append(Section("numbers", "Numbers", tables))
    sections.append(_repeat(experiment, tree))
    lead = f'<p class="lead">{escape(experiment.question)}</p>'
    return page(experiment.title, lead=lead, verdict=_verdict(said), sections=sections, kicker="probam experiment")


def _findings(said: Sequence[Finding]) -> str:
    items = "".join(
        f'<li class="{_LABELS[finding.verdict][0]}"><span class="level">{_LABELS[finding.verdict][1]}</span>'
        f"<span>{escape(finding.text)}</span></li>"
        for finding in said
    )
    return f'<ul class="advice">{items}</ul>'


def _verdict(said: Sequence[Finding]) -> str:
    """One paragraph: how many statements of the paper agree with what was measured."""
    agree = sum(finding.verdict == "agrees" for finding in said)
    differ = sum(finding.verdict == "differs" for finding in said)
    level = "warning" if differ else "good" if agree else "note"
    if not agree and not differ:
        text = "The paper makes no statement that can be tested here; what was found stands by itself."
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
    said = tree.attrs
    words = ["probam", "experiment", experiment.name, "--seed", str(said["seed"])]
    words += ["--full"] if said["full"] else []
    words += ["--data", "DIR"] if said["with_data"] else []
    versions = ", ".join(f"{name} {number}" for name, number in json.loads(said["versions"]).items())
    size = "the paper’s size" if said["full"] else "the small size (--full runs the paper’s)"
    body = (
        f"<pre>{escape(shlex.join(words))}</pre>"
        f"<p>This was {escape(size)}, in {number(float(said['seconds']), 3)} seconds. "
        f"Source: {escape(experiment.source)}. "
        f"All numbers are in <code>{escape(experiment.name)}.nc</code>, which xarray.open_datatree reads.</p>"
        f"<p>Versions: {escape(versions)}. The same seed gives the same numbers on the same machine and versions.</p>"
    )
    return Section("repeat", "How can I repeat this?", body)
