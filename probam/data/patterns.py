"""Patterns of an associative memory: rows of a table, images of an IDX file, or a folder of PNG images.

:func:`read_patterns` makes one row of each. IDX is the format of MNIST: four bytes of magic number, the sizes as
big-endian integers, and the entries. A PNG image is grey (the mean of its colours), from 0 to 1.
"""

import gzip
import struct
import zlib
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probam.data.columns import counted
from probam.data.pieces import cause
from probam.data.reading import read
from probam.data.table import as_table
from probam.errors import InputError

__all__ = ["Patterns", "read_patterns"]

_IDX_ENDS = (".idx", "-ubyte", ".idx.gz", "-ubyte.gz")

_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
"""Third byte of the magic number -> type of an entry."""

_BROKEN = (OSError, ValueError, EOFError, SyntaxError, zlib.error)
"""What libraries raise for a damaged file."""


@dataclass(frozen=True, eq=False)
class Patterns:
    """K patterns as rows, the names of their entries, and the shape of one where it is an image."""

    values: NDArray[np.float64]  # (K, D)
    columns: tuple[str, ...]
    source: str
    shape: tuple[int, ...] | None = None


def read_patterns(source: str) -> Patterns:
    """Patterns from a file or a folder.

    Args:
        source: a table (CSV, TSV, Parquet, NPY, NPZ, NetCDF), an IDX file (``.idx``, ``...-ubyte``, also with
            ``.gz``), or a folder of PNG images, read in the order of their names. An NPY array of more axes than two
            has one pattern for each entry of the first.

    Raises:
        InputError: for a file or folder that is missing or damaged, images of different sizes, and one number for each
            pattern only (as a file of labels has).
    """
    path = Path(source)
    if path.is_dir():
        return _read_images(path)
    if source.lower().endswith(_IDX_ENDS):
        return _of_images(_read_idx(path), source)
    if source.lower().endswith(".npy") and path.is_file():
        array = np.asarray(read(source))
        if array.ndim > 2 and array.dtype.kind in "fiub":
            return _of_images(array, source)
    table = as_table(source, missing=True)
    if table.has_gaps:
        row, column = np.argwhere(np.isnan(table.values))[0]
        raise InputError(
            f"{source}: column {table.columns[column]!r} has a missing value in {table.row_words(int(row))}; a "
            "memory stores and recalls whole patterns: drop those rows or impute the values first"
        )
    return Patterns(table.values.astype(np.float64), table.columns, source)


def _of_images(images: NDArray[np.generic], source: str) -> Patterns:
    """Images, one row each."""
    if images.ndim < 2 or 0 in images.shape:
        raise InputError(
            f"{source}: expected images, an array of at least two axes; got shape {images.shape}; "
            "it may be the file of labels: name the one of images"
        )
    rows = images.reshape(len(images), -1).astype(np.float64)
    if not np.isfinite(rows).all():
        raise InputError(f"{source}: it has values that are not finite; drop those images")
    return Patterns(rows, tuple(counted(rows.shape[1])), source, images.shape[1:])


def _read_idx(path: Path) -> NDArray[np.generic]:
    """The array of an IDX file."""
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.name.endswith(".gz") else content
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; check the path") from error
    except _BROKEN as error:
        raise InputError(f"{path}: it cannot be read ({cause(error)})") from error
    kind = _IDX_TYPES.get(content[2]) if len(content) >= 4 and content[:2] == b"\0\0" else None
    if kind is None:
        raise InputError(f"{path}: it is not an IDX file, which begins with two zero bytes and a type; check the file")
    ndim = content[3]
    start = 4 + 4 * ndim
    shape = struct.unpack(f">{ndim}I", content[4:start]) if len(content) >= start else (0,)
    expected = start + prod(shape) * np.dtype(kind).itemsize
    if len(content) != expected:
        raise InputError(
            f"{path}: expected {expected} bytes for shape {shape}; got {len(content)}; it may be truncated"
        )
    return np.frombuffer(content, kind, offset=start).reshape(shape)


def _read_images(folder: Path) -> Patterns:
    """The PNG images of a folder as grey values, one row each."""
    from matplotlib.image import imread  # half a second to import, and only images need it

    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".png")
    if not paths:
        raise InputError(f"{folder}: this folder has no PNG images; expected one image for each pattern")
    images: list[NDArray[np.generic]] = []
    for path in paths:
        try:
            pixels = np.asarray(imread(path))
        except _BROKEN as error:
            raise InputError(f"{path}: it cannot be read as a PNG image ({cause(error)})") from error
        images.append(pixels if pixels.ndim == 2 else pixels[..., : min(3, pixels.shape[2])].mean(axis=2))
        if images[-1].shape != images[0].shape:
            sizes = " and ".join(f"{shape[1]} x {shape[0]}" for shape in (images[0].shape, images[-1].shape))
            raise InputError(f"{path}: images of one size are needed; got {sizes}; resize them to one")
    return _of_images(np.stack(images), str(folder))
