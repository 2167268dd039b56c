"""The façade: fit, load, verify, report. With the command line, the only file that knows every room."""

import importlib
import importlib.util
import inspect
import json
import os
import pkgutil
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import Distribution

import probam.models
import probam.posterior as posterior
from probam.data.standardise import Standardiser, identity, standardiser
from probam.data.table import Table, as_table, check_rows
from probam.distributions.stick_breaking import expected_num_components, truncation_error
from probam.equivalence.claim import Certificate
from probam.errors import InputError, NumericalError
from probam.family import Family, Params, families, family
from probam.fitted import Fit, verify_draws
from probam.inference.coordinates import Coordinates
from probam.inference.result import EngineResult, Progress, silent
from probam.landscape import Landscape, basins, bounded, plane, survey
from probam.models.mixture import Mixture, mixture
from probam.models.weights import StickBreaking, weight_prior
from probam.reports.partition import coclustering, point_partition, relabel
from probam.reports.tree import build_tree, read_tree

__all__ = ["ENGINES", "find_family", "fit", "load", "verify"]

ENGINES = ("em", "gradient_em", "svi", "nuts", "gibbs")

_LARGEST_LOG_LIKELIHOOD = 20_000_000
_READING = 300_000_000
"""Most responsibilities (draws x data x memories) that reading a posterior computes; more draws are thinned."""
_MOST_READ = 4000
_REPLICATED = 2_000_000
_PARTITION_ROWS = 400
_QUERIES = 12
_TRAJECTORY = 60
_PROBES = 5
_BASIN_DATA = 1000
_RECALL_STEPS = 500


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
    progress: Progress | None = None,
    **engine_options: Any,
) -> Fit:
    """Fit a memory to data and return its posterior.

    Args:
        data: path (CSV, TSV, Parquet, NPY, NPZ, NetCDF), array (N, D), pandas DataFrame, xarray object or ``Table``.
        family: a name ("gaussian", "vmf", "laplace", ...) with options where it has some ("student_t,df=4"),
            ``"file.py:Name"``, ``"package.module:Name"`` or a Family.
        covariance: for Gaussian memories "isotropic" (the CLAM energy), "spherical", "diagonal", "full" or "lkj".
        weights: "uniform", "fixed", "dirichlet", "dp" (Dirichlet process) or "pyp" (Pitman-Yor).
        components: K; the truncation for "dp" and "pyp" (default 20 there), needed for the others.
        alpha: DP / Pitman-Yor strength or Dirichlet concentration; a number fixes it, a distribution is a prior.
        discount: Pitman-Yor discount in [0, 1), a number or a prior.
        given_weights: the K numbers of weights "fixed".
        engine: "nuts", "gibbs", "svi", "em" or "gradient_em".
        seed: the same seed gives the same bits on the same machine.
        standardise: fit (x - mean) / sd; results are given in the data's units.
        columns: which columns to use.
        variable: which array of an NPZ or NetCDF file to use.
        prior: NumPyro distributions that replace the default priors of the family's sites.
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
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise InputError(f"seed: expected a whole number from 0 to 2^32 - 1; got {seed!r}")
    table = as_table(data, columns=columns, variable=variable) if variable else as_table(data, columns=columns)
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
        result = run(key_run, model, jnp.asarray(x), progress=progress or silent, **engine_options)
        for site, values in result.sites.items():
            if not np.isfinite(values).all():
                raise NumericalError(
                    f"{engine}: site {site!r} left the finite numbers; standardise the data or use fewer components"
                )
        attributes = {
            "probam_version": version("probam"),
            "family": family if isinstance(family, str) else memory_family.signature,
            "family_options": {"covariance": covariance} if covariance else {},
            "weights": weights,
            "weights_options": _weights_options(alpha, discount, given_weights),
            "num_components": num_components,
            "engine": engine,
            "engine_options": engine_options,
            "status": result.status,
            "seed": int(seed),
            "dtype": dtype.name,
            "source": table.source,
            "standardised": int(standardise),
            "prior": {site: _described(law) for site, law in model.prior.items()},
            "model": describe(model, table, weights, alpha, discount) + (f"; {result.note}" if result.note else ""),
            "truncation": _truncation(weight_law, result, num_components, table.num_data),
            "versions": {name: version(name) for name in ("probam", "jax", "numpyro", "optax", "numpy", "xarray")}
            | {"python": sys.version.split()[0]},
        }
        tree = _tree(model, table, units, result, key_read, attributes, progress or silent)
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


def verify(claims: Sequence[str] | None = None, *, seed: int = 0) -> list[Certificate]:
    """Run the court: is each energy the likelihood that it is said to be? (:mod:`probam.equivalence`)."""
    from probam.equivalence.verify import verify as run_court

    return run_court(claims, seed=seed)


def double_precision() -> bool:
    """Whether JAX computes in float64 where it is given float64."""
    return bool(jnp.zeros(()).dtype == jnp.float64)


# --- choosing the parts ---------------------------------------------------------------------------------------


def find_family(name: str | Family, covariance: str | None = None) -> Family:
    """The family called ``name``; ``file.py:Name`` and ``package.module:Name`` bring their own.

    Raises :class:`probam.errors.InputError` where nothing of that name can be found.
    """
    if isinstance(name, Family):
        if covariance is not None:
            raise InputError("covariance: a Family object says its own covariance; leave the argument out")
        return name
    for module in pkgutil.iter_modules(probam.models.__path__, "probam.models."):
        importlib.import_module(module.name)
    options = {} if covariance is None else {"covariance": covariance}
    if ":" in name:
        place, attribute = name.rsplit(":", 1)
        found = getattr(_module(place), attribute, None)
        if not (isinstance(found, type) and issubclass(found, Family)):
            raise InputError(f"family: {place} has no Family called {attribute!r}")
        name = found.name
        if families().get(name) is not found:
            raise InputError(f"family: {place}:{attribute} is not registered; decorate it with probam.family.register")
    return family(name, **options)


def _module(place: str) -> ModuleType:
    try:
        if not place.endswith(".py"):
            return importlib.import_module(place)
        path = Path(place)
        if not path.is_file():
            raise InputError(f"family: no such file: {place}")
        name = f"probam_family_{path.stem}"
        if name in sys.modules and getattr(sys.modules[name], "__file__", None) == str(path.resolve()):
            return sys.modules[name]
        spec = importlib.util.spec_from_file_location(name, path.resolve())
        if spec is None or spec.loader is None:
            raise InputError(f"family: {place} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module
    except (ImportError, SyntaxError) as error:
        raise InputError(f"family: {place} cannot be imported ({error})") from error


def find_engine(name: str, options: Mapping[str, Any]) -> Any:
    """The engine's ``run``, after its options were checked by name."""
    if name not in ENGINES:
        raise InputError(f"engine: expected one of {', '.join(ENGINES)}; got {name!r}")
    run = importlib.import_module(f"probam.inference.{name}").run
    known = {
        parameter.name: parameter
        for parameter in inspect.signature(run).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.name != "progress"
    }
    for option, value in options.items():
        if option not in known:
            raise InputError(f"{option}: engine {name!r} has no such option; it has {', '.join(known)}")
        wanted = known[option].annotation
        fits = {
            int: isinstance(value, int | np.integer) and not isinstance(value, bool),
            float: isinstance(value, int | float | np.number) and not isinstance(value, bool),
            bool: isinstance(value, bool),
            str: isinstance(value, str),
        }
        kinds = [kind for kind in fits if kind in (get_args(wanted) or (wanted,))]
        if not any(fits[kind] for kind in kinds) and not (value is None and type(None) in get_args(wanted)):
            words = {int: "a whole number", float: "a number", bool: "True or False", str: "a word"}
            said = " or ".join(words[kind] for kind in kinds)
            raise InputError(f"{option}: expected {said}; got {value!r}")
    return run


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
    inner = getattr(law, "base_dist", law)
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


def describe(model: Mixture, table: Table, weights: str, alpha: Any, discount: Any) -> str:
    """The model in words."""
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
    return (
        f"A mixture of {what} memories with {kind}{extra}, {size}, "
        f"fitted to {table.num_data} data of {table.num_features} feature{'s' if table.num_features > 1 else ''}"
    )


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


# --- building the tree ----------------------------------------------------------------------------------------


def _tree(
    model: Mixture,
    table: Table,
    units: Any,
    result: EngineResult,
    key: jax.Array,
    attributes: dict[str, Any],
    progress: Progress,
) -> Any:
    """The DataTree of a fit: the draws, and what follows from them for the data."""
    x_np = np.asarray(units.apply(table.values), table.values.dtype)
    x = jnp.asarray(x_np)
    num_chains, num_draws = next(iter(result.sites.values())).shape[:2]
    num_data, num_components = len(x), model.num_components
    key_labels, key_predictive, key_probe = jax.random.split(key, 3)

    most = max(1, min(_MOST_READ, _READING // (num_data * num_components)) // num_chains)
    kept = np.unique(np.linspace(0, num_draws - 1, min(most, num_draws)).round().astype(int))
    shape = (num_chains, len(kept))
    named = Coordinates(model).transforms
    sites: Params = {
        name: jnp.asarray(values[:, kept].reshape(-1, *values.shape[2:]))
        for name, values in result.sites.items()
        if name in named
    }
    lp = result.stats["lp"][:, kept].reshape(-1)
    progress(0, 4, "reading the posterior")
    probes = np.asarray(jax.random.permutation(key_probe, num_data)[: min(_PROBES, num_data)])
    pairs = np.stack([probes, np.roll(probes, 1)], axis=1)
    reading = posterior.read(model, sites, key_labels, x, jnp.asarray(pairs)).on_host()

    best = int(np.argmax(lp))
    reference = {name: value[best] for name, value in sites.items()}
    reference_resp = model.mixture(reference).responsibilities(x)
    hard = jax.nn.one_hot(jnp.argmax(reference_resp, axis=-1), num_components, dtype=x.dtype)
    permutation = relabel(np.asarray(posterior.overlap(model, sites, x, hard)))
    weights = np.take_along_axis(reading.weights, permutation, axis=1)
    order = np.argsort(-weights.mean(axis=0), kind="stable")
    permutation, weights = permutation[:, order], weights[:, order]
    progress(1, 4, "reading the posterior")

    groups: dict[str, Any] = {
        "posterior": _posterior_variables(model, result),
        "sample_stats": {name: (values, ("chain", "draw")) for name, values in result.stats.items()},
        "invariant": _invariant_variables(reading, shape),
        "memory": _memory_variables(reading, permutation, weights, units),
    }
    memory_attributes: dict[str, Any] = {"reference": best}
    left_out = {}
    group_attributes: dict[str, dict[str, Any]] = {"memory": memory_attributes}
    if result.objective is not None:
        groups["optimisation"] = {"objective": (result.objective, ("restart", "iteration"))}
        group_attributes["optimisation"] = {"status": result.status, "what": result.objective_name}
    if reading.log_lik.size <= _LARGEST_LOG_LIKELIHOOD:
        log_lik = reading.log_lik + np.asarray(units.log_jacobian(), x_np.dtype)
        groups["log_likelihood"] = {"x": (log_lik.reshape(*shape, num_data), ("chain", "draw", "datum"))}
    else:
        left_out["log_likelihood"] = f"more than {_LARGEST_LOG_LIKELIHOOD} values"

    rows = np.sort(np.random.default_rng(0).permutation(num_data)[:_PARTITION_ROWS])
    labels = reading.labels
    resp, _ = posterior.responsibilities(model, sites, jnp.asarray(permutation), x)
    together = coclustering(labels[:, rows])
    groups["partition"] = {
        "coclustering": (together.astype(np.float32), ("row", "row_bis")),
        "point": (point_partition(together), ("row",)),
        "label": (np.asarray(resp).argmax(axis=1), ("datum",)),
        "confidence": (np.asarray(resp).max(axis=1), ("datum",)),
    }
    progress(2, 4, "reading the posterior")

    num_replicates = int(np.clip(_REPLICATED // x.size, 2, 50))
    chosen = (
        np.unique(np.linspace(0, len(lp) - 1, num_replicates).round().astype(int)) if len(lp) > 1 else np.zeros(8, int)
    )
    replicated = np.asarray(
        posterior.replicate(model, {name: value[chosen] for name, value in sites.items()}, key_predictive, num_data)
    )
    groups["posterior_predictive"] = {
        "x": (units.invert(replicated).astype(np.float32)[None], ("chain", "draw", "datum", "feature"))
    }
    progress(3, 4, "reading the posterior")

    inverse = np.argsort(permutation[best])
    landscape = survey(model.mixture(reference))
    if landscape.still:
        left_out["recall"] = landscape.still
    else:
        groups["recall"], group_attributes["recall"] = _recall_variables(
            landscape, model.family.memories(reference), x_np, inverse, resp, units
        )
    checks = verify_draws(model, sites, x[:200])
    groups["verification"] = {
        "relation": ([check.relation for check in checks], ("check",)),
        "witnesses": ([check.witnesses for check in checks], ("check",)),
        "error": ([float(check.error) for check in checks], ("check",)),
        "tolerance": ([float(check.tolerance) for check in checks], ("check",)),
        "passed": ([bool(check.passed) for check in checks], ("check",)),
    }
    progress(4, 4, "reading the posterior")
    if left_out:
        attributes = attributes | {"left_out": left_out}
    return build_tree(
        attributes=attributes,
        data=table.values,
        columns=table.columns,
        center=np.asarray(units.center),
        scale=np.asarray(units.scale),
        coordinates={
            "invariant/draw": kept,
            "log_likelihood/draw": kept,
            "partition/row": rows,
            "verification/check": [check.name for check in checks],
        },
        group_attributes=group_attributes,
        **groups,
    )


def _posterior_variables(model: Mixture, result: EngineResult) -> dict[str, Any]:
    """Dimension names by shape: what a memory owns leads with ``memory``, vectors of D are features."""
    num_components = model.num_components
    num_features = int(model.mixture({k: jnp.asarray(v[0, 0]) for k, v in result.sites.items()}).event_shape[0])
    variables = {}
    for name, values in result.sites.items():
        rest: list[str] = []
        owned = (name in model.prior and name not in model.family.shared) or name in ("weights", "proportions")
        owned = owned or (name not in model.prior and values.shape[2:] == (num_components, num_features))
        sizes = list(values.shape[2:])
        if owned:
            rest.append("memory")
            sizes = sizes[1:]
        elif name == "sticks":
            rest.append("stick")
            sizes = sizes[1:]
        for axis, size in enumerate(sizes):
            if size == num_features:
                rest.append("feature" if "feature" not in rest else "feature_bis")
            else:
                rest.append(f"{name}_{axis}")
        variables[name] = (values, ("chain", "draw", *rest))
    return variables


def _invariant_variables(reading: posterior.HostReading, shape: tuple[int, int]) -> dict[str, Any]:
    """What does not change when memories are renumbered."""
    occupied = np.array([len(np.unique(labels)) for labels in reading.labels])
    weights = reading.weights
    entropy = -np.sum(weights * np.log(np.where(weights > 0, weights, 1)), axis=1)
    num_probes = reading.together.shape[1]
    return {
        "log_lik": (reading.log_lik.sum(axis=1).reshape(shape), ("chain", "draw")),
        "num_occupied": (occupied.reshape(shape), ("chain", "draw")),
        "weight_entropy": (entropy.reshape(shape), ("chain", "draw")),
        "largest_weight": (weights.max(axis=1).reshape(shape), ("chain", "draw")),
        "together": (reading.together.reshape(*shape, num_probes), ("chain", "draw", "pair")),
    }


def _memory_variables(
    reading: posterior.HostReading, permutation: np.ndarray, weights: np.ndarray, units: Any
) -> dict[str, Any]:
    """Relabelled memories in data units, averaged over the draws in which they hold data (over all, if none)."""
    memories = units.invert(np.take_along_axis(reading.memories, permutation[..., None], axis=1))
    spread = np.take_along_axis(reading.spread, permutation[..., None], axis=1) * np.asarray(units.scale)
    num_draws, num_components = permutation.shape
    sizes = np.zeros((num_draws, num_components))
    for draw, labels in enumerate(reading.labels):
        sizes[draw] = np.bincount(labels, minlength=num_components)[permutation[draw]]
    holds = sizes > 0
    used = np.where(holds.any(axis=0), holds, True)[..., None]
    count = used.sum(axis=0)
    mean = np.where(used, memories, 0).sum(axis=0) / count
    masked = np.where(used, memories, np.nan)
    low, high = np.nanquantile(masked, [0.05, 0.95], axis=0)
    variance = np.where(used, (memories - mean) ** 2, 0).sum(axis=0) / count
    by_feature = ("memory", "feature")
    return {
        "mean": (mean, by_feature),
        "mean_sd": (np.sqrt(variance), by_feature),
        "mean_q05": (low, by_feature),
        "mean_q95": (high, by_feature),
        "sd": (np.where(used, spread, 0).sum(axis=0) / count, by_feature),
        "weight": (weights.mean(axis=0), ("memory",)),
        "weight_sd": (weights.std(axis=0), ("memory",)),
        "occupied": (holds.mean(axis=0), ("memory",)),
        "size": (sizes.mean(axis=0), ("memory",)),
        "permutation": (permutation.astype(np.int32), ("sample", "memory")),
    }


def _recall_variables(
    landscape: Landscape,
    locations: jax.Array,
    x: np.ndarray,
    inverse: np.ndarray,
    resp: Any,
    units: Any,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Recall at the reference draw: trajectories of the least certain data, and basins on the data and on a plane."""
    spherical = landscape.retract is not None
    extent = float(np.sqrt(x.var(axis=0).sum())) or 1.0
    rng = np.random.default_rng(0)
    some = np.sort(rng.permutation(len(x))[:_BASIN_DATA])
    confidence = np.asarray(resp).max(axis=1)
    doubtful = np.argsort(confidence)[: _QUERIES // 2]
    others = rng.permutation(len(x))[: _QUERIES - len(doubtful)]
    rows = np.unique(np.concatenate([doubtful, others]))
    grid = bounded(plane(x, spherical=spherical), landscape, x)

    # data, queries and grid in one run: one program
    everywhere = np.concatenate([x[some], x[rows], grid.points.reshape(-1, x.shape[1]).astype(x.dtype)])
    cuts = np.cumsum([len(some), len(rows)])
    found = basins(landscape, jnp.asarray(everywhere), extent, max_steps=_RECALL_STEPS)
    basin, query_basin, grid_basin = np.split(inverse[found.memory], cuts)
    responsible, query_responsible, grid_responsible = np.split(
        inverse[landscape.memory_of(jnp.asarray(everywhere))], cuts
    )
    _, _, grid_energy = np.split(np.asarray(landscape.energies(jnp.asarray(everywhere))), cuts)
    _, converged, _ = np.split(np.asarray(found.recall.converged), cuts)
    of_data = np.unique(found.attractor[: cuts[0]])

    paths = landscape.run(jnp.asarray(x[rows]), max_steps=_TRAJECTORY, record=_TRAJECTORY)
    if paths.trajectory is None or paths.energies is None:
        raise AssertionError("recall was asked to record and did not")
    nearest = inverse[((x[rows][:, None] - np.asarray(locations)) ** 2).sum(-1).argmin(axis=1)]
    shape = grid.valid.shape
    invalid = ~grid.valid | ~np.isfinite(grid_energy).reshape(shape)  # off the sphere, or outside every support

    def masked(values: Any) -> np.ndarray:
        values = np.asarray(values, np.float32).reshape(shape)
        return np.where(invalid, np.nan, values)

    on_plane = ("grid_y", "grid_x")
    variables = {
        "query": (units.invert(x[rows]), ("query", "feature")),
        "trajectory": (np.swapaxes(units.invert(np.asarray(paths.trajectory)), 0, 1), ("query", "step", "feature")),
        "energy": (np.swapaxes(np.asarray(paths.energies), 0, 1), ("query", "step")),
        "converged": (converged, ("query",)),
        "basin": (query_basin, ("query",)),
        "responsible": (query_responsible, ("query",)),
        "nearest": (nearest, ("query",)),
        "attractor": (units.invert(found.positions[of_data].astype(x.dtype)), ("attractor", "feature")),
        "datum_basin": (basin, ("row",)),
        "datum_responsible": (responsible, ("row",)),
        "datum_row": (some, ("row",)),
        "axis": (grid.axis, ("axis", "feature")),
        "plane_origin": (grid.origin, ("feature",)),
        "grid_x": (grid.x, ("grid_x",)),
        "grid_y": (grid.y, ("grid_y",)),
        "grid_energy": (masked(grid_energy), on_plane),
        "grid_basin": (masked(grid_basin), on_plane),
        "grid_responsible": (masked(grid_responsible), on_plane),
    }
    attributes = {
        "disagreement": float(np.mean(basin != responsible)),
        "spherical": int(spherical),
        "twin": landscape.twin or "negative log density (no physical twin written)",
        "units": "axis, plane_origin, grid_x and grid_y are in model units",
    }
    return variables, attributes
