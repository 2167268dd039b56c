"""Files of older versions, brought up to date as they are read; the file on disk stays as it is.

Version by version, what changed (:data:`probam.data.schema.SCHEMA` is the version that is written):

====  ==================================================================================================================
0     Files without the attribute ``schema``: all that were written before it existed.
1     Every file says its version in ``schema``. Fits say whether rows were divided by their length (``normalised``) and
      which engine samples their model (``sampler``), which the first fits did not. The group ``stream`` has no version
      of its own (``layout``), and its options name the base measure.
2     Streams of von Mises-Fisher memories learn their concentrations. Those of version 1 had one for all; it goes on as
      one that is known.
====  ==================================================================================================================

A step is a function from one version to the next, and stays for good: any file can be read as long as its steps are
here. A file of a newer version is refused as it is read.
"""

import json
from collections.abc import Callable

import xarray as xr

from probam.data.schema import SCHEMA, check_schema
from probam.errors import InputError
from probam.reports.tree import has, variable

__all__ = ["STEPS", "migrated"]

_LAYOUT = 2
"""The one layout of the group ``stream`` in version 0 that can be read; the one before it kept other numbers."""


def migrated(tree: xr.DataTree, source: str) -> xr.DataTree:
    """The tree of a fit or of a stream in the layout of this version; it is not changed itself.

    Args:
        tree: what was read of the file.
        source: what the file is called in messages.
    """
    found = check_schema(tree.attrs, source)
    if found == SCHEMA:
        return tree
    copied = tree.copy()
    for version in range(found, SCHEMA):
        STEPS[version](copied, source)
        copied.attrs["schema"] = version + 1
    return copied


def _from_0_to_1(tree: xr.DataTree, source: str) -> None:
    """What the first files left unsaid; a stream's own version goes."""
    if has(tree, "posterior"):
        for name, unsaid in {"normalised": 0, "sampler": "nuts"}.items():
            tree.attrs.setdefault(name, unsaid)
    if has(tree, "stream"):
        attributes = dict(tree.children["stream"].attrs)
        if attributes.pop("layout", None) != _LAYOUT:
            raise InputError(
                f"{source}: this stream keeps its memories in another layout; it was saved by another version of "
                "probam, learn it again"
            )
        options = json.loads(attributes["options"])
        attributes["options"] = json.dumps({"base": "prior"} | options)
        tree.children["stream"].attrs = attributes


def _from_1_to_2(tree: xr.DataTree, source: str) -> None:
    """The one concentration of a stream of directions is known."""
    del source
    if not has(tree, "stream", "pair_1"):
        return
    group = tree.children["stream"]
    if json.loads(group.attrs["options"]).get("family") == "vmf" and "known_concentration" not in group:
        group["known_concentration"] = xr.DataArray(variable(tree, "stream", "pair_1").item())


STEPS: dict[int, Callable[[xr.DataTree, str], None]] = {0: _from_0_to_1, 1: _from_1_to_2}
"""By the version that a file has: what brings its tree, in place, to the next one."""
