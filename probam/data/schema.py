"""The version of the files that probam writes and reads again: fits, streams, checkpoints, parameters.

A file says its version in the attribute (or key) ``schema``. One that says nothing has version 0. A file of a newer
version is refused; one of an older version is brought up to date as it is read (:mod:`probam.fits.migration`).
"""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from probam.errors import InputError

__all__ = ["SCHEMA", "check_schema"]

SCHEMA = 2
"""The version that is written: a number higher whenever a reader would have to know that a file's layout changed."""


def check_schema(attributes: Mapping[Any, Any], path: str | os.PathLike[str]) -> int:
    """The version that a file has.

    Args:
        attributes: of the file.
        path: what the file is called in messages.

    Raises :class:`probam.errors.InputError` for a newer version than :data:`SCHEMA`, and for one that is no number.

    >>> check_schema({"schema": 1}, "fit.nc"), check_schema({}, "fit.nc")
    (1, 0)
    """
    found = attributes.get("schema", 0)
    if isinstance(found, bool) or not isinstance(found, int | np.integer) or found < 0:
        raise InputError(
            f"{os.fspath(path)}: its attribute 'schema' is {found!r}, not the version of a file of probam; use another "
            "copy of the file"
        )
    if found > SCHEMA:
        raise InputError(
            f"{os.fspath(path)}: a newer version of probam saved this file (schema {found}, this one reads up to "
            f"{SCHEMA}); update probam to read it"
        )
    return int(found)
