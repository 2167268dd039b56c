"""Every public function of ArviZ, called on the tree of a fit (``Fit.to_arviz``), and those that cannot be.

``t`` is the tree of a fit of two memories with the feature ``x0`` of two; its parameters are ``beta``, ``loc`` and
``weights``. The tables are of ArviZ for Python 3.11: arviz 0.23, arviz-stats and arviz-plots 0.8.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import arviz
import arviz_plots
import arviz_stats
import numpy as np
import xarray as xr

from probam.reports.tree import variable

legacy: Any = arviz  # they have no types
plots: Any = arviz_plots
stats: Any = arviz_stats

Calls = dict[str, Callable[[xr.DataTree], Any]]


def _log_q(t: xr.DataTree) -> xr.DataArray:
    """Log density of what draws came from: the posterior itself, where an engine gives no other."""
    group = t["sample_stats"].to_dataset()
    return group["log_q"] if "log_q" in group else group["lp"]


def _few(call: Callable[..., Any]) -> Callable[[xr.DataTree], Any]:
    return lambda t: call(t, t, num_samples=50)


_BY_THE_TREE = (
    "bfmi ess eti get_log_likelihood hdi histogram kde loo loo_expectations loo_metrics loo_pit loo_score mcse mean "
    "median metrics mode psense psense_summary qds rhat summary thin"
)

STATS: Calls = {name: getattr(stats, name) for name in _BY_THE_TREE.split()} | {
    "bayes_factor": lambda t: stats.bayes_factor(t, "beta", ref_vals=0.5),
    "bayesian_r2": lambda t: stats.bayesian_r2(t, pred_mean="x", group="posterior_predictive"),
    "ci_in_rope": lambda t: stats.ci_in_rope(t, rope=[0.3, 0.6], var_names=["beta"]),
    "compare": lambda t: stats.compare({"one": t, "two": t}),
    "ecdf": lambda t: stats.ecdf(t["posterior"].dataset),
    "generate_survival_curves": lambda t: stats.generate_survival_curves(t, "x", num_samples=20),
    "kaplan_meier": lambda t: stats.kaplan_meier(t, "x"),
    "kl_divergence": _few(stats.kl_divergence),
    "loo_approximate_posterior": lambda t: stats.loo_approximate_posterior(
        t, variable(t, "sample_stats", "lp"), _log_q(t)
    ),
    "loo_i": lambda t: stats.loo_i(3, t),
    "loo_r2": lambda t: stats.loo_r2(t, "x"),
    "loo_subsample": lambda t: stats.loo_subsample(t, observations=20),
    "residual_r2": lambda t: stats.residual_r2(t, pred_mean="x", obs_name="x", group="posterior_predictive"),
    "rhat_nested": lambda t: stats.rhat_nested(t, superchain_ids=np.arange(t["posterior"].sizes["chain"])),
    "update_subsample": lambda t: stats.update_subsample(
        stats.loo_subsample(t, observations=20, pointwise=True), t, observations=10
    ),
    "wasserstein": _few(stats.wasserstein),
    "weight_predictions": lambda t: stats.weight_predictions([t, t], weights=[0.5, 0.5]),
}

_PLOTS_BY_THE_TREE = (
    "autocorr convergence_dist dgof dgof_dist dist energy ess ess_evolution forest lm loo_pit mcse parallel "
    "ppc_censored ppc_dist ppc_interval ppc_pava ppc_pit ppc_rootogram ppc_tstat prior_posterior psense_dist "
    "psense_quantities rank rank_dist ridge trace trace_dist"
)

PLOTS: Calls = {f"plot_{name}": getattr(plots, f"plot_{name}") for name in _PLOTS_BY_THE_TREE.split()} | {
    "add_bands": lambda t: plots.add_bands(plots.plot_dist(t, var_names="beta"), values=[(0.5, 0.6)]),
    "add_lines": lambda t: plots.add_lines(plots.plot_dist(t, var_names="beta"), values=[0.5]),
    "combine_plots": lambda t: plots.combine_plots(
        t, [(plots.plot_trace, {}), (plots.plot_rank, {})], var_names=["beta"]
    ),
    "plot_bf": lambda t: plots.plot_bf(t, "beta", ref_val=0.5),
    "plot_compare": lambda t: plots.plot_compare(stats.compare({"one": t, "two": t})),
    "plot_ecdf_pit": lambda t: plots.plot_ecdf_pit(t, group="posterior"),
    "plot_khat": lambda t: plots.plot_khat(stats.loo(t, pointwise=True)),
    "plot_pair": lambda t: plots.plot_pair(t, var_names=["beta", "weights"]),
    "plot_pair_focus": lambda t: plots.plot_pair_focus(t, "beta"),
    "plot_ppc_pava_residuals": lambda t: plots.plot_ppc_pava_residuals(t, x_var="x1"),
}


def _on_inference_data(name: str, *arguments: Any, **options: Any) -> Callable[[xr.DataTree], Any]:
    return lambda t: getattr(legacy, name)(legacy.from_datatree(t), *arguments, **options)


def _both(t: xr.DataTree) -> dict[str, Any]:
    return {name: legacy.from_datatree(t) for name in ("one", "two")}


def _beta(t: xr.DataTree) -> np.ndarray:
    return np.asarray(variable(t, "posterior", "beta").values)


def _replicates(t: xr.DataTree) -> np.ndarray:
    values = variable(t, "posterior_predictive", "x").values
    return np.asarray(values.reshape(-1, values.shape[-1]))


def _written_and_read(write: str, read: str) -> Callable[[xr.DataTree], Any]:
    def call(t: xr.DataTree) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "fit")
            getattr(legacy, write)(legacy.from_datatree(t), path)
            return getattr(legacy, read)(path).load()

    return call


_BY_INFERENCE_DATA = (
    "bfmi convert_to_dataset convert_to_inference_data ess extract extract_dataset hdi loo mcse rhat summary "
    "to_datatree waic plot_autocorr plot_bpv plot_density plot_dist_comparison plot_energy plot_ess plot_forest "
    "plot_mcse plot_pair plot_parallel plot_posterior plot_ppc plot_rank plot_trace plot_violin"
)

LEGACY: Calls = {name: _on_inference_data(name) for name in _BY_INFERENCE_DATA.split()} | {
    "apply_test_function": _on_inference_data("apply_test_function", lambda y, theta: y.mean()),
    "autocorr": lambda t: legacy.autocorr(_beta(t)),
    "autocov": lambda t: legacy.autocov(_beta(t)),
    "bayes_factor": _on_inference_data("bayes_factor", "beta", ref_val=0.5),
    "compare": lambda t: legacy.compare(_both(t)),
    "concat": lambda t: legacy.concat(*_both(t).values(), dim="draw"),
    "dict_to_dataset": lambda t: legacy.dict_to_dataset({"beta": _beta(t)}),
    "from_datatree": lambda t: legacy.from_datatree(t),
    "from_dict": lambda t: legacy.from_dict({"beta": _beta(t)}),
    "from_json": _written_and_read("to_json", "from_json"),
    "from_netcdf": _written_and_read("to_netcdf", "from_netcdf"),
    "from_pytree": lambda t: legacy.from_pytree(posterior={"beta": _beta(t)}),
    "kde": lambda t: legacy.kde(_beta(t).ravel()),
    "loo_pit": lambda t: legacy.loo_pit(idata=legacy.from_datatree(t), y="x"),
    "make_ufunc": lambda t: legacy.make_ufunc(np.mean)(_beta(t)),
    "numpy_to_data_array": lambda t: legacy.numpy_to_data_array(_beta(t)),
    "plot_bf": _on_inference_data("plot_bf", "beta", ref_val=0.5),
    "plot_compare": lambda t: legacy.plot_compare(legacy.compare(_both(t))),
    "plot_dist": lambda t: legacy.plot_dist(_beta(t)),
    "plot_dot": lambda t: legacy.plot_dot(_beta(t)),
    "plot_ecdf": lambda t: legacy.plot_ecdf(_beta(t).ravel()),
    "plot_elpd": lambda t: legacy.plot_elpd(_both(t)),
    "plot_hdi": lambda t: legacy.plot_hdi(
        np.arange(t["observed_data"].sizes["datum"]), variable(t, "posterior_predictive", "x").values
    ),
    "plot_kde": lambda t: legacy.plot_kde(_beta(t)),
    "plot_khat": lambda t: legacy.plot_khat(legacy.loo(legacy.from_datatree(t), pointwise=True)),
    "plot_lm": lambda t: legacy.plot_lm("x", legacy.from_datatree(t)),
    "plot_loo_pit": _on_inference_data("plot_loo_pit", y="x"),
    "plot_separation": _on_inference_data("plot_separation", y="x"),
    "plot_ts": _on_inference_data("plot_ts", y="x"),
    "psens": _on_inference_data("psens", component="prior"),
    "psislw": lambda t: legacy.psislw(-variable(t, "log_likelihood", "x").stack(__sample__=("chain", "draw"))),
    "pytree_to_dataset": lambda t: legacy.pytree_to_dataset({"beta": _beta(t)}),
    "r2_samples": lambda t: legacy.r2_samples(variable(t, "observed_data", "x").values, _replicates(t)),
    "r2_score": lambda t: legacy.r2_score(variable(t, "observed_data", "x").values, _replicates(t)),
    "smooth_data": lambda t: legacy.smooth_data(
        variable(t, "observed_data", "x").values, variable(t, "posterior_predictive", "x").values
    ),
    "to_json": _written_and_read("to_json", "from_json"),
    "to_netcdf": _written_and_read("to_netcdf", "from_netcdf"),
    "weight_predictions": lambda t: legacy.weight_predictions(list(_both(t).values()), weights=[0.5, 0.5]),
    "wrap_xarray_ufunc": lambda t: legacy.wrap_xarray_ufunc(np.mean, variable(t, "posterior", "beta")),
}

TABLES: dict[str, Calls] = {"arviz_stats": STATS, "arviz_plots": PLOTS, "arviz": LEGACY}

NO_FIT: dict[str, dict[str, str]] = {
    "arviz_stats": dict.fromkeys(("loo_kfold", "loo_moment_match", "reloo"), "takes the code that fits again")
    | {"get_function": "finds a function by its name"},
    "arviz_plots": {},
    "arviz": {"reloo": "takes the code that fits again"}
    | dict.fromkeys(("to_zarr", "from_zarr"), "needs Zarr below 3, which probam does not install")
    | dict.fromkeys(
        ("to_cds", "create_layout", "output_file", "output_notebook", "show_layout", "ColumnDataSource"),
        "needs Bokeh, which probam does not install",
    )
    | dict.fromkeys(("clear_data_home", "list_datasets", "load_arviz_data"), "is about ArviZ's own data sets")
    | dict.fromkeys(
        (
            "from_beanmachine",
            "from_cmdstan",
            "from_cmdstanpy",
            "from_emcee",
            "from_numpyro",
            "from_pyjags",
            "from_pyro",
            "from_pystan",
        ),
        "reads what another library returns",
    ),
}
"""Public functions that are not about a fit, and why."""

HAMILTONIAN = ("nuts",)

REFUSED: dict[tuple[str, str], tuple[tuple[str, ...], str]] = {
    ("arviz_stats", "bfmi"): (HAMILTONIAN, "raise KeyError(msg) from err"),
    ("arviz", "bfmi"): (HAMILTONIAN, 'raise TypeError("Energy variable was not found.")'),
    ("arviz_plots", "plot_energy"): (HAMILTONIAN, 'energy = dt["sample_stats"].energy.values'),
    ("arviz", "plot_energy"): (
        HAMILTONIAN,
        'energy = convert_to_dataset(data, group="sample_stats").energy.transpose("chain", "draw").values',
    ),
    ("arviz", "plot_parallel"): (HAMILTONIAN, "data0 = data_to_sel[vars_and_sel[0][0]].sel(**vars_and_sel[0][1])"),
    ("arviz_plots", "plot_ppc_rootogram"): ((), "raise ValueError("),
}
"""Functions that refuse a fit: the engines whose fits they take, and the line of ArviZ that refuses the others.

Energy and divergences are those of Hamiltonian trajectories. A rootogram is of counts, and the data here are not.
"""

BROKEN = (
    "combine_plots",
    "plot_dgof_dist",
    "plot_psense_dist",
    "plot_psense_quantities",
    "plot_rank_dist",
    "plot_trace_dist",
)
BROKEN_LINE = "viz_dict = {key: xr.Dataset(value, coords=coords) for key, value in viz_dict.items()}"
"""Plots of several columns: arviz-plots 0.8 makes a Dataset of a Dataset, which xarray refuses from 2026.4 on."""

SEVERAL_DRAWS = {
    "compare",
    "generate_survival_curves",
    "histogram",
    "kl_divergence",
    "loo",
    "loo_approximate_posterior",
    "loo_expectations",
    "loo_i",
    "loo_metrics",
    "loo_pit",
    "loo_r2",
    "loo_score",
    "loo_subsample",
    "psense",
    "psense_summary",
    "thin",
    "update_subsample",
    "wasserstein",
}
"""Functions of arviz-stats that fail on a point estimate, which has one draw."""

ENDLESS = "qds"
"""With one draw it appends to a list without end (arviz_stats/base/density.py), so that it is not called."""
