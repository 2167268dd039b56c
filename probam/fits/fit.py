"""Fit a memory to data, and load a fit that was saved."""

import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr

from probam.data.rotation import SavedIfCutOff
from probam.data.writing import check_writable
from probam.errors import InputError, NumericalError
from probam.family import Family
from probam.fits.assemble import essential_tree, fit_tree
from probam.fits.attributes import fit_attributes
from probam.fits.choices import find_engine, find_family, precision, sampler_of
from probam.fits.derived import with_groups
from probam.fits.fitted import Fit
from probam.fits.migration import migrated
from probam.fits.opened import model_of_tree
from probam.fits.options import FitOptions
from probam.fits.pending import completed, is_pending, keys_of, pending_tree
from probam.fits.prepared import Prepared, prepare
from probam.fits.size import check_size
from probam.inference.common.processes import check_alike, check_connected, is_first
from probam.inference.common.progress import Reporter
from probam.inference.common.result import EngineResult
from probam.inference.common.rows import check_labels
from probam.models.mixture import Mixture, mixture
from probam.models.weights import weight_prior
from probam.options import file_path, takes_open
from probam.reports.tree import read_tree, write_tree

__all__ = ["fit", "fit_essentials", "load"]

_DEFAULT_TRUNCATION = 20

_SOON_AGAIN = 10.0
"""Seconds up to which a run is made again as soon as it was killed while its result was read."""


@takes_open(FitOptions)
def fit(data: Any, options: FitOptions, engine_options: dict[str, Any]) -> Fit:
    """Fit a memory to data and return its posterior.

    Other keywords are options of the engine: those of ``probam.inference.ENGINE.engine.run``.

    Args:
        data: path (CSV, TSV, Parquet, NPY, NPZ, NetCDF, Zarr), array (N, D), pandas DataFrame, xarray object or
            ``Table``.

    Raises:
        InputError: naming the argument, what was expected, what came and what to do.
        NumericalError: when the computation leaves the finite numbers.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> x = np.concatenate([rng.normal(-3, 1, (40, 2)), rng.normal(3, 1, (60, 2))])
    >>> fitted = fit(x, covariance="isotropic", weights="dirichlet", components=2, engine="em")
    >>> fitted.predict(np.array([[3.0, 3.0]]))["label"].values
    array([0])
    """
    return _fitted(data, options, engine_options, fit_tree)


@takes_open(FitOptions)
def fit_essentials(data: Any, options: FitOptions, engine_options: dict[str, Any]) -> Fit:
    """:func:`fit` with what questions to a fit need and no more; ``Fit.tree`` makes the other groups when it is read.

    Args:
        data: as for :func:`fit`.
    """
    return _fitted(data, options, engine_options, essential_tree)


def _fitted(data: Any, options: FitOptions, engine_options: dict[str, Any], tree_of: Callable[..., xr.DataTree]) -> Fit:
    """A fit whose tree is made by ``tree_of``."""
    began = time.perf_counter()
    if options.distributed:
        check_connected()
        options = options if is_first() else replace(options, output=None)
    if options.output is not None:
        check_writable(options.output)
        if options.checkpoint is not None and Path(options.checkpoint).resolve() == Path(options.output).resolve():
            raise InputError(f"checkpoint: {options.checkpoint} is the output too; give it a name of its own")
    engine_options = options.of_engine | engine_options
    if options.engine is not None:
        find_engine(options.engine, engine_options)  # a wrong name is told before the data are read
    family = find_family(options.family, options.covariance)
    if options.distributed:
        said = replace(options, progress=None, output=None, sample_weight=None)
        own = (options.sample_weight is not None, sorted(engine_options.items()))
        check_alike((said, own), "the options", "start all processes with the same command")
    prepared = prepare(data, options, family)
    given = None if options.given_weights is None else tuple(options.given_weights)
    weights = weight_prior(options.weights, alpha=options.alpha, discount=options.discount, given=given)
    num_components = _num_components(options, prepared.table.num_data)
    if options.labels is not None:
        allowed = check_labels(options.labels, prepared.table.num_data, num_components)
        prepared = replace(prepared, allowed=allowed)
    kept = find_engine(options.engine, engine_options) if options.engine is not None else None
    check_size(family, (num_components, prepared.table.num_features), prepared.dtype, kept, engine_options)
    with precision(prepared.dtype):  # in this block and thread: float32 data are fitted in float32
        model = mixture(prepared.x, family=family, weights=weights, num_components=num_components, prior=options.prior)
        engine = options.engine or sampler_of(model, has_row_weights=prepared.weight is not None)
        options, run = replace(options, engine=engine), find_engine(engine, engine_options)
        key_run, keys = keys_of(np.uint32(options.seed))
        result = _run(run, key_run, model, prepared, options, engine_options)
        attributes = fit_attributes(options, engine_options, prepared, model, result)
        seconds = time.perf_counter() - began
        with _kept(partial(pending_tree, model, prepared, result), attributes, seconds, options.output) as is_kept:
            tree = tree_of(model, prepared, result, keys, attributes, Reporter(options.progress))
            tree = with_groups(tree, model) if options.complete else tree
    tree.attrs["seconds"] = time.perf_counter() - began
    if options.output is not None:
        _save(tree, options.output, is_kept=is_kept)
    return Fit(tree, model)


@contextmanager
def _kept(
    make: Callable[[dict[str, Any]], xr.DataTree],
    attributes: dict[str, Any],
    seconds: float,
    path: str | os.PathLike[str] | None,
) -> Iterator[bool]:
    """While the result of an engine is read it is in the file; of a short run only where reading is cut off.

    Args:
        make: the tree of what the engine returned, from its root attributes.
        attributes: those of the fit.
        seconds: how long the run took.
        path: of the file, if there is one.
    """

    if path is None:
        yield False
        return

    def save() -> None:
        with precision(np.dtype(attributes["dtype"])):  # the thread may be another one
            _save_or_rescue(make(attributes | {"seconds": seconds}), path)

    if seconds > _SOON_AGAIN:
        save()
        yield True
        return
    with SavedIfCutOff(save):
        yield False


def _save(tree: xr.DataTree, path: str | os.PathLike[str], *, is_kept: bool) -> None:
    """Save a fit, in the file that may hold what the engine returned."""
    if not is_kept:
        _save_or_rescue(tree, path)
        return
    try:
        write_tree(tree, path)
    except InputError as error:
        raise InputError(
            f"{error}. {path} holds what the engine returned; the rest is computed when it is read"
        ) from error


def _save_or_rescue(tree: xr.DataTree, path: str | os.PathLike[str]) -> None:
    """Save a fit; where that cannot be written, in the system's temporary folder, and raise."""
    try:
        write_tree(tree, path)
    except InputError as error:
        rescued = Path(tempfile.gettempdir()) / f"probam-{secrets.token_hex(4)}.nc"
        try:
            write_tree(tree, rescued)
        except InputError:
            raise error from None
        raise InputError(f"{error}. The fit was saved as {rescued} instead") from error


def _num_components(options: FitOptions, num_data: int) -> int:
    """Number of memories, where none is given the default of a process."""
    if options.components is None:
        if options.weights not in ("dp", "pyp"):
            raise InputError(
                f"components: weights {options.weights!r} need a number of memories; give one, or use weights 'dp' or "
                "'pyp'"
            )
        return min(_DEFAULT_TRUNCATION, num_data)
    if options.components > num_data:
        raise InputError(
            f"components: {options.components} memories for {num_data} data; expected at most one memory for each datum"
        )
    return int(options.components)


def _run(
    run: Any, key: jax.Array, model: Mixture, prepared: Prepared, options: FitOptions, engine_options: dict[str, Any]
) -> EngineResult:
    """What the engine returns, all of it finite."""
    known = {"sample_weight": prepared.weight, "labels": prepared.allowed, "blocks": prepared.blocks}
    result: EngineResult = run(
        key,
        model,
        jax.device_put(prepared.x),
        progress=options.progress,
        **{name: value for name, value in known.items() if value is not None},
        **engine_options,
    )
    for site, values in result.sites.items():
        if not np.isfinite(values).all():
            raise NumericalError(
                f"{options.engine}: site {site!r} left the finite numbers; standardise the data or use fewer components"
            )
    return result


def load(path: str | os.PathLike[str], *, family: str | Family | None = None) -> Fit:
    """A fit that was saved, with its model rebuilt.

    What the file holds is checked first, and a file of an older version is brought up to date. Where a fit was cut off
    after its engine had ended, the groups that follow from the posterior are made now.

    Args:
        path: the file.
        family: the family of your own that it was fitted with, ``FILE.py:Name``, ``package.module:Name`` or a Family.
            Its code is run because you name it here; a file never chooses that.

    Raises:
        InputError: for a file that is missing, truncated, damaged, not a fit, or saved by a newer version of probam.
    """
    file_path("path", path)
    tree = migrated(read_tree(path), str(path))
    model = model_of_tree(tree, str(path), family)
    return Fit(completed(tree, model) if is_pending(tree) else tree, model)
