"""Small real data sets that are shipped with the package, each with its provenance."""

import gzip
import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probam.data.table import Table
from probam.errors import InputError

__all__ = ["Shipped", "load_labels", "load_shipped", "load_text", "load_texts", "provenance", "shipped"]

_Arrays = dict[str, NDArray[Any]]


def _X(arrays: _Arrays) -> NDArray[Any]:  # noqa: N802
    return arrays["X"]


def _classes(arrays: _Arrays) -> NDArray[Any]:
    return arrays["classes"].astype(str)[arrays["y"]]


def _unit(x: NDArray[Any]) -> NDArray[Any]:
    """Rows scaled to length one."""
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))


@dataclass(frozen=True)
class Shipped:
    """The record of a shipped data set."""

    name: str
    shape: tuple[int, int]
    columns: tuple[str, ...] = field(repr=False)
    licence: str
    summary: str
    source: str
    file: str
    """The archive beside this module; two sets may share one. Its provenance is in the file with the suffix .md."""
    sha256: str = field(repr=False)
    classes: int = 0
    """Number of known classes; 0 where the set has no labels."""
    values: Callable[[_Arrays], NDArray[Any]] = field(default=_X, repr=False)
    labels: Callable[[_Arrays], NDArray[Any]] = field(default=_classes, repr=False)
    texts: str = field(default="", repr=False)
    """The file with the text of each row; empty where rows have no texts."""
    texts_sha256: str = field(default="", repr=False)


_LETTER = "x_box y_box width high onpix x_bar y_bar x2bar y2bar xybar x2ybr xy2br x_ege xegvy y_ege yegvx"
_GALAXY: dict[str, Any] = {
    "columns": ("velocity",),
    "licence": "facts (Roeder 1990)",
    "file": "galaxy82.npz",
    "sha256": "e57bac0f9adda33b67c294e944dfba4e46bc1447905be94cf1f3316f84ecf872",
}
_COMETS: dict[str, Any] = {
    "columns": ("x", "y", "z"),
    "licence": "public data (JPL)",
    "source": "JPL Small-Body Database, as compiled in the R package sphunif",
    "file": "comets.npz",
    "sha256": "830dd1f6d8628963f62b3ef58a872289b86734fc9b321b0eda88d26a5b532960",
    "classes": 8,
}
_HOUSEHOLD: dict[str, Any] = {
    "licence": "facts",
    "source": "R package HSAUR3, household",
    "file": "household.npz",
    "sha256": "56785a7dd813c6b20f23364e2ff99784c10e221c06ba6ab24e04bfb4af848457",
    "classes": 2,
}

_SETS = {
    record.name: record
    for record in (
        Shipped(
            name="faithful",
            shape=(272, 2),
            columns=("eruptions", "waiting"),
            licence="public",
            summary="Old Faithful geyser: length of an eruption and waiting time to the next, minutes",
            source="R datasets::faithful (Azzalini and Bowman 1990)",
            file="faithful.npz",
            sha256="e2425e36f6e6f0b9474a5a2592765655b176de601a4250e40492b9a4acedc7de",
        ),
        Shipped(
            name="galaxy82",
            shape=(82, 1),
            summary="velocities of 82 galaxies, 1000 km/s; value 78 is 26.690, as measured",
            source="MASS::galaxies / 1000",
            values=lambda arrays: arrays["mass"][:, None],
            **_GALAXY,
        ),
        Shipped(
            name="galaxy82_richardson_green",
            shape=(82, 1),
            summary="the same with value 78 as 26.960, the slip kept in most papers on mixtures",
            source="input of Richardson and Green (1997), from BayesianMixtures.jl",
            values=lambda arrays: arrays["richardson_green"][:, None],
            **_GALAXY,
        ),
        Shipped(
            name="iris",
            shape=(150, 4),
            columns=("sepal_length", "sepal_width", "petal_length", "petal_width"),
            licence="public",
            summary="sepals and petals of three species of iris, cm",
            source="R datasets::iris (Anderson 1935, Fisher 1936)",
            file="iris.npz",
            sha256="9f69260fcd31ed4bd4320c1a5fa7bf2b6b2aaef37a28123f93031d2a720abb7a",
            classes=3,
        ),
        Shipped(
            name="letter20k",
            shape=(20000, 16),
            columns=tuple(_LETTER.split()),
            licence="CC BY 4.0",
            summary="16 integer features of 20000 printed capital letters",
            source="UCI Machine Learning Repository, Letter Recognition (Slate 1991)",
            file="letter20k.npz",
            sha256="0d035dab54231d3872ff57b891f0c2dd99e047f4f69e8a56af17e793295e29ef",
            classes=26,
            values=lambda arrays: arrays["X"].astype(np.float64),
        ),
        Shipped(
            name="comets",
            shape=(3642, 3),
            summary="unit normals of comets' orbits, fragments of broken comets left out",
            values=lambda arrays: arrays["X"][~arrays["frag"]],
            labels=lambda arrays: arrays["cls"][~arrays["frag"]].astype(str),
            **_COMETS,
        ),
        Shipped(
            name="comets_with_fragments",
            shape=(3798, 3),
            summary="the same with 156 fragments, near copies of one another",
            labels=lambda arrays: arrays["cls"].astype(str),
            **_COMETS,
        ),
        Shipped(
            name="household",
            shape=(40, 4),
            columns=("housing", "food", "goods", "service"),
            summary="what 20 women and 20 men living alone spend on four groups of goods",
            **_HOUSEHOLD,
        ),
        Shipped(
            name="household_directions",
            shape=(40, 3),
            columns=("housing", "food", "service"),
            summary="household without goods, each row scaled to length one: proportions on the sphere",
            values=lambda arrays: _unit(arrays["X"][:, [0, 1, 3]]),
            **_HOUSEHOLD,
        ),
        Shipped(
            name="banking77",
            shape=(3000, 384),
            columns=tuple(f"e{i}" for i in range(384)),
            licence="CC BY 4.0",
            summary="unit embeddings of 3000 questions to a bank, 77 intents",
            source="BANKING77 (PolyAI, Casanueva et al. 2020), embedded with all-MiniLM-L6-v2",
            file="banking77.npz",
            sha256="00d6e2f3a66393fe880307c5a6865402b04f47945c6b9556e76afdaafca7faf9",
            classes=77,
            values=lambda arrays: _unit(arrays["X"].astype(np.float32)),
            texts="banking77.txt.gz",
            texts_sha256="7ae57a30448eb4a3d3c356131e086cf75a6dd96b16a7e7e0e3ee28bb1959112e",
        ),
    )
}


_TEXTS = {"tinyshakespeare": "bed00f18e91cda6838950656f0a95e07e0f4dbe8649a4b959f7602a7e53fbc6e"}
"""Checksums of the compressed texts, by name."""


def shipped() -> list[Shipped]:
    """The records of all shipped data sets."""
    return list(_SETS.values())


def load_shipped(name: str) -> Table:
    """A shipped data set as a table.

    Raises :class:`probam.errors.InputError` for an unknown name and for an archive that is damaged.

    >>> load_shipped("faithful").columns
    ('eruptions', 'waiting')
    """
    record = _record(name)
    return Table(record.values(_arrays(record)), record.columns, name)


def load_labels(name: str) -> np.ndarray:
    """The name of the known class of each row (N,).

    Raises :class:`probam.errors.InputError` for an unknown name and for a set without classes.
    """
    record = _record(name)
    if not record.classes:
        known = ", ".join(other.name for other in shipped() if other.classes)
        raise InputError(f"{name}: it has no labels; data sets with labels are {known}")
    return record.labels(_arrays(record))


def load_texts(name: str) -> list[str]:
    """The texts whose embeddings are the rows of a data set.

    Raises :class:`probam.errors.InputError` for an unknown name, a set without texts and a damaged file.
    """
    record = _record(name)
    if not record.texts:
        known = ", ".join(other.name for other in shipped() if other.texts)
        raise InputError(f"{name}: it has no texts; data sets with texts are {known}")
    return _unpacked(name, record.texts, record.texts_sha256).splitlines()


def load_text(name: str) -> str:
    """A shipped text, for models of language; ``tinyshakespeare`` is the only one: plays, 1.1 million characters.

    Raises :class:`probam.errors.InputError` for an unknown name and for a damaged file.
    """
    if name not in _TEXTS:
        raise InputError(f"unknown text {name!r}; the shipped texts are {', '.join(_TEXTS)}")
    return _unpacked(name, f"{name}.txt.gz", _TEXTS[name])


def provenance(name: str) -> str:
    """Source and licence of a shipped data set or text, as Markdown."""
    file = f"{name}.md" if name in _TEXTS else _record(name).file.replace(".npz", ".md")
    return (files(__name__) / file).read_text(encoding="utf-8")


def _record(name: str) -> Shipped:
    if name not in _SETS:
        close = get_close_matches(name, _SETS, n=1)
        mean = f" (did you mean {close[0]!r}?)" if close else ""
        raise InputError(f"unknown data set {name!r}; the shipped data sets are {', '.join(_SETS)}{mean}")
    return _SETS[name]


def _unpacked(name: str, file: str, sha256: str) -> str:
    """The text of a compressed file; raises where its checksum is wrong."""
    content = (files(__name__) / file).read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise InputError(f"{name}: {file} is damaged; install the package again")
    return gzip.decompress(content).decode()


def _arrays(record: Shipped) -> _Arrays:
    """The arrays of the archive; raises where its checksum is wrong."""
    raw = (files(__name__) / record.file).read_bytes()
    if hashlib.sha256(raw).hexdigest() != record.sha256:
        raise InputError(f"{record.name}: the file {record.file} inside the package is damaged; install probam again")
    with np.load(io.BytesIO(raw), allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}
