"""The façade: fit, load, verify, report. With the command line, the only file that knows every room."""

import inspect
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike
from numpyro.distributions import Distribution

from probam.data.standardise import Standardiser, identity, standardiser
from probam.data.table import Table, as_table, check_rows
from probam.distributions.stick_breaking import expected_num_components, truncation_error
from probam.errors import InputError, NumericalError
from probam.family import Family, innermost
from probam.fits.assemble import fit_tree
from probam.fits.choices import _TAKE_MISSING, double_precision, find_engine, find_family
from probam.fits.fitted import Fit
from probam.inference.common.result import EngineResult, Progress, silent
from probam.models.mixture import Mixture, mixture
from probam.models.weights import StickBreaking, weight_prior
from probam.reports.tree import read_tree

__all__ = ["describe", "fit", "load"]


def fit(
    data: Any,
    *,
    family: str | Family = "gaussian",
    covariance: str | None = None,
    weights: str = "dp",
    components: int | None = None,
    alpha: float | Distribution | None = None,
    discount: float | Distribution | None = None,
    given_weights: Sequence[float] | None = None,
    engine: str = "nuts",
    seed: int = 0,
    standardise: bool = False,
    columns: Sequence[str] | None = None,
    variable: str | None = None,
    prior: Mapping[str, Distribution] | None = None,
    missing: bool = False,
    sample_weight: ArrayLike | None = None,
    progress: Progress | None = None,
    **engine_options: Any,
) -> Fit:
    """Fit a memory to data and return its posterior.

    Args:
        data: path (CSV, TSV, Parquet, NPY, NPZ, NetCDF), array (N, D), pandas DataFrame, xarray object or ``Table``.
        family: a name ("gaussian", "vmf", "laplace", ...) with options where it has some ("student_t,df=4"),
            ``"file.py:Name"``, ``"package.module:Name"`` or a Family.
        covariance: for Gaussian memories "isotropic" (the CLAM energy), "spherical", "diagonal", "tied" (one full
            covariance for all), "full" or "lkj".
        weights: "uniform", "fixed", "dirichlet", "dp" (Dirichlet process) or "pyp" (Pitman-Yor).
        components: K; the truncation for "dp" and "pyp" (default 20 there), needed for the others.
        alpha: DP / Pitman-Yor strength or Dirichlet concentration; a number fixes it, a distribution is a prior.
        discount: Pitman-Yor discount in [0, 1), a number or a prior.
        given_weights: the K numbers of weights "fixed".
        engine: "nuts", "gibbs", "smc", "svi", "cavi", "em", "gradient_em" or "clam".
        seed: the same seed gives the same bits on the same machine.
        standardise: fit (x - mean) / sd; results are given in the data's units.
        columns: which columns to use.
        variable: which array of an NPZ or NetCDF file to use.
        prior: NumPyro distributions that replace the default priors of the family's sites.
        missing: allow missing entries (NaN); a row then counts with the density of its other entries (families
            gaussian and bernoulli, all engines but clam; entries missing at random).
        sample_weight: how often each datum counts (N,), at least 0: the log likelihood is sum_n w_n log p(x_n). Not
            the weights of the memories. Engine em.
        progress: called with (done, total, text); None is silent.
        engine_options: options of the engine (``num_draws``, ``restarts``, ...; see ``probam.inference``).

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
    began = time.perf_counter()
    run = find_engine(engine, engine_options)
    weighted = {} if sample_weight is None else {"sample_weight": sample_weight}
    if weighted and "sample_weight" not in inspect.signature(run).parameters:
        raise InputError(f"sample_weight: engine {engine!r} has none; use engine 'em', or repeat the rows")
    if missing and engine not in _TAKE_MISSING:
        raise InputError(
            f"missing: engine {engine!r} does not integrate missing entries out; use one of {', '.join(_TAKE_MISSING)}"
        )
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise InputError(f"seed: expected a whole number from 0 to 2^32 - 1; got {seed!r}")
    table = as_table(data, columns=columns, variable=variable, missing=missing)
    check_rows(table)
    memory_family = find_family(family, covariance)
    dtype = np.dtype(np.float64 if double_precision() and table.values.dtype != np.float32 else np.float32)
    table = table.astype(dtype)
    memory_family.check_data(table.values, table.columns)
    if standardise and memory_family.as_they_are:
        raise InputError(f"standardise: family {memory_family.name!r} takes the data as they are; leave it out")
    units = standardiser(table) if standardise else identity(table.num_features, dtype)
    x = np.asarray(units.apply(table.values), dtype)
    memory_family.check_support(x, table.columns)

    weight_law = weight_prior(
        weights, alpha=alpha, discount=discount, given=None if given_weights is None else tuple(given_weights)
    )
    num_components = _num_components(components, weights, table.num_data)
    with jax.enable_x64(dtype == np.float64):  # in this block and thread alone: float32 data are fitted in float32
        model = mixture(x, family=memory_family, weights=weight_law, num_components=num_components, prior=prior)
        key_run, key_read = jax.random.split(jax.random.key(int(seed)))
        result = run(key_run, model, jnp.asarray(x), progress=progress or silent, **weighted, **engine_options)
        for site, values in result.sites.items():
            if not np.isfinite(values).all():
                raise NumericalError(
                    f"{engine}: site {site!r} left the finite numbers; standardise the data or use fewer components"
                )
        gone = int(np.isnan(x).sum())
        gaps = f"{gone} of {x.size} entries missing and integrated out" if gone else ""
        if weighted:
            gaps += ("; " if gaps else "") + "data weighted"
        attributes = {
            "probam_version": version("probam"),
            "family": family if isinstance(family, str) else memory_family.signature,
            "family_options": {"covariance": covariance} if covariance else {},
            "weights": weights,
            "weights_options": _weights_options(alpha, discount, given_weights),
            "num_components": num_components,
            "engine": engine,
            "engine_options": {name: value for name, value in engine_options.items() if name != "checkpoint"},
            "status": result.status,
            "seed": int(seed),
            "dtype": dtype.name,
            "source": table.source,
            "standardised": int(standardise),
            "prior": {site: _described(law) for site, law in model.prior.items()},
            "model": "; ".join(filter(None, (describe(model, table, weights, alpha, discount), gaps, result.note))),
            "truncation": _truncation(weight_law, result, num_components, table.num_data),
            "versions": {name: version(name) for name in ("probam", "jax", "numpyro", "optax", "numpy", "xarray")}
            | {"python": sys.version.split()[0]},
        }
        tree = fit_tree(model, table, units, result, key_read, attributes, progress or silent)
    tree.attrs["seconds"] = time.perf_counter() - began
    return Fit(tree, model)


def load(path: str | os.PathLike[str]) -> Fit:
    """A fit that was saved, with its model rebuilt.

    Raises :class:`probam.errors.InputError` for a file that is missing, truncated or no fit of probam.
    """
    tree = read_tree(path)
    said = tree.attrs
    try:
        options = json.loads(said["family_options"])
        weights_options = json.loads(said["weights_options"])
        memory_family = find_family(said["family"], options.get("covariance"))
        dtype = np.dtype(said["dtype"])
        if dtype == np.float64 and not double_precision():
            raise InputError(
                f"{path}: this fit is in double precision; turn it on before loading: "
                "jax.config.update('jax_enable_x64', True)"
            )
        constants = tree["constant_data"].to_dataset()
        x = Standardiser(constants["center"].values, constants["scale"].values).apply(
            tree["observed_data"].to_dataset()["x"].values
        )
        law = weight_prior(
            said["weights"],
            alpha=_revived(weights_options.get("alpha"), tree, "alpha"),
            discount=_revived(weights_options.get("discount"), tree, "discount"),
            given=tuple(weights_options["given"]) if "given" in weights_options else None,
        )
        model = mixture(x.astype(dtype), family=memory_family, weights=law, num_components=int(said["num_components"]))
    except KeyError as error:
        raise InputError(
            f"{path}: this fit lacks {error}; it was saved by another version of probam, fit again"
        ) from error
    return Fit(tree, model)


# --- choosing the parts ---------------------------------------------------------------------------------------


def _num_components(components: int | None, weights: str, num_data: int) -> int:
    if components is None:
        if weights not in ("dp", "pyp"):
            raise InputError(
                f"components: weights {weights!r} need a number of memories; give one, or use weights 'dp' or 'pyp'"
            )
        return min(20, num_data)
    if isinstance(components, bool) or not isinstance(components, int | np.integer) or components < 1:
        raise InputError(f"components: expected a whole number of at least 1; got {components!r}")
    if components > num_data:
        raise InputError(
            f"components: {components} memories for {num_data} data; expected at most one memory for each datum"
        )
    return int(components)


def _described(law: Distribution) -> str:
    inner = innermost(law)
    said = {}
    for argument in inner.arg_constraints:
        value = inner.__dict__.get(argument)
        if value is not None:
            said[argument] = np.round(np.asarray(value, float), 6).tolist() if np.size(value) <= 16 else "..."
    return f"{type(inner).__name__}({', '.join(f'{k}={v}' for k, v in said.items())})"


def _weights_options(alpha: Any, discount: Any, given: Sequence[float] | None) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for name, value in (("alpha", alpha), ("discount", discount)):
        if isinstance(value, Distribution):
            said[name] = _described(value)
        elif value is not None:
            said[name] = float(value)
    if given is not None:
        said["given"] = [float(weight) for weight in given]
    return said


def _revived(said: Any, tree: Any, site: str) -> float | Distribution | None:
    """A fixed value as it was; a prior of the user's own is replaced by the default one (draws do not depend on it)."""
    return None if isinstance(said, str) or (said is None and site in tree["posterior"]) else said


def describe(
    model: Mixture, table: Table, weights: str, alpha: Any, discount: Any, *, streamed: int | None = None
) -> str:
    """The model in words; ``streamed`` data made the memories of a stream, which has no truncation."""
    kind = {
        "uniform": "equal weights",
        "fixed": "fixed weights",
        "dirichlet": "Dirichlet weights",
        "dp": "Dirichlet-process weights",
        "pyp": "Pitman-Yor weights",
    }[weights]
    said = []
    if weights in ("dp", "pyp"):
        said.append("alpha with a prior" if alpha is None or isinstance(alpha, Distribution) else f"alpha {alpha:g}")
    if weights == "pyp":
        free = discount is None or isinstance(discount, Distribution)
        said.append("discount with a prior" if free else f"discount {discount:g}")
    covariance = getattr(model.family, "covariance", None)
    named = {"gaussian": "Gaussian", "vmf": "von Mises-Fisher", "bernoulli": "Bernoulli", "dirichlet": "Dirichlet"}
    what = named.get(model.family.name, model.family.name)
    if covariance:
        what += f" ({covariance} covariance)"
    size = f"truncated at {model.num_components}" if weights in ("dp", "pyp") else f"{model.num_components} memories"
    extra = f", {', '.join(said)}" if said else ""
    features = f"{table.num_features} feature{'s' if table.num_features > 1 else ''}"
    if streamed is not None:
        how = f"made on demand by a stream of {streamed} data of {features}"
        return f"A mixture of {what} memories with {kind}{extra}, {how}"
    return f"A mixture of {what} memories with {kind}{extra}, {size}, fitted to {table.num_data} data of {features}"


def _truncation(law: Any, result: EngineResult, num_components: int, num_data: int) -> dict[str, float] | None:
    """What the truncation of stick-breaking costs at the posterior mean of (alpha, discount): CLAIMS A20."""
    if not isinstance(law, StickBreaking):
        return None
    values = {}
    for name, fixed in (("alpha", law.alpha), ("discount", law.discount)):
        values[name] = float(np.mean(result.sites[name])) if name in result.sites else float(fixed)  # type: ignore[arg-type]
    found = truncation_error(values["alpha"], values["discount"], num_components, num_data)
    return {
        **values,
        "num_components": num_components,
        "expected_remaining": float(found.expected_remaining),
        "tv_bound": float(found.tv_bound),
        "tv_bound_common": float(found.tv_bound_common),
        "prior_expected_memories": float(expected_num_components(values["alpha"], values["discount"], num_data)),
    }
