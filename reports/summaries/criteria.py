r"""Criteria for choosing a model that need nothing but a saved fit.

With :math:`\ell_{sn} = \log p(x_n \mid \theta_s)` (nats, data units) for S posterior draws and N data, all on the scale
of the log density, larger is better, except the information criteria, where smaller is better (as Schwarz and Akaike
wrote them; mclust prints minus BIC and minus ICL):

.. math::
    \mathrm{elpd}_{loo} &= \sum_n \log p(x_n \mid x_{-n}), \qquad
    \mathrm{elpd}_{waic} = \sum_n \Big( \log \tfrac1S \sum_s e^{\ell_{sn}} - \mathrm{Var}_s \, \ell_{sn} \Big) \\
    \mathrm{AIC} &= 2 d - 2 \log L, \qquad \mathrm{BIC} = d \log N - 2 \log L, \qquad
    \mathrm{ICL} = \mathrm{BIC} - 2 \sum_n \log \max_k r_{nk}

Sources: Vehtari, Gelman & Gabry (2017, doi:10.1007/s11222-016-9696-4); Watanabe (2010, JMLR 11); Schwarz (1978); Akaike
(1974); Biernacki, Celeux & Govaert (2000, doi:10.1109/34.865189). Leave-one-out is ArviZ's Pareto-smoothed importance
sampling. All depend on a draw only through the density of the data, so renumbering memories changes nothing.

There are two errors: ``se`` is the sampling error of N data, ``mcse`` the Monte Carlo error of S draws, which longer
chains reduce.
"""

import warnings
from typing import Any, NamedTuple

import arviz_stats
import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy.special import logsumexp

from probam.errors import InputError
from probam.reports.summaries.estimate import data_weights, estimate_in_words, total_log_likelihood, total_weight
from probam.reports.summaries.quantities import engine_kind, evenly, options
from probam.reports.tree import has, variable

__all__ = ["Expected", "Information", "expected_loo", "expected_waic", "information", "log_mean_exp_error"]

_FEWEST = 25
"""Draws: a fifth of them is the tail that is smoothed, of which five are needed."""

_arviz: Any = arviz_stats  # it has no types

_WAIC_LIMIT = 0.4
"""Posterior variance of a datum's log density above which WAIC is not to be trusted (Vehtari et al. 2017)."""

_WATCHED = 200
"""Data whose effective sample sizes give the relative efficiency of the draws."""


class Expected(NamedTuple):
    """Expected log density of new data, in nats for as many data as were fitted."""

    elpd: float
    se: float  # over data
    mcse: float  # over draws
    p: float  # effective number of parameters
    pointwise: Float[np.ndarray, " N"]
    pareto_k: Float[np.ndarray, " N"] | None  # WAIC has none
    num_bad: int  # data at which the estimate is not to be trusted
    limit: float  # pareto_k, or the variance for WAIC, above which a datum counts as bad


class Information(NamedTuple):
    """Information criteria of a point estimate, nats times two, smaller is better."""

    estimate: str  # where they are taken: they are meant for the maximum of the likelihood
    log_lik: float  # nats, data units
    num_free: int
    aic: float
    bic: float
    icl: float


def _log_lik(tree: xr.DataTree, what: str) -> xr.DataArray:
    """The densities (chain, draw, datum) of the data at several draws."""
    if engine_kind(tree) == "point":
        raise InputError(f"{what}: a point estimate has no posterior draws; use BIC, held-out data, or engine 'nuts'")
    if has(tree, "all_rows"):
        raise InputError(f"{what}: this fit holds a sample of the rows that it was fitted to; use held-out data")
    if not has(tree, "log_likelihood", "x"):
        raise InputError(
            f"{what}: the log density of each datum is not stored ({options(tree, 'left_out').get('log_likelihood')}); "
            "fit with fewer draws, or use held-out data"
        )
    values = variable(tree, "log_likelihood", "x").transpose("chain", "draw", "datum").astype(np.float64)
    if not np.isfinite(values.values).all():
        raise InputError(
            f"{what}: some data have density zero under some draws, so that it is minus infinity; use held-out data"
        )
    if (num_draws := values.sizes["chain"] * values.sizes["draw"]) < _FEWEST:
        raise InputError(f"{what}: expected at least {_FEWEST} draws; got {num_draws}")
    return values


def expected_loo(tree: xr.DataTree) -> Expected:
    """Leave-one-out log density by Pareto-smoothed importance sampling.

    Raises :class:`probam.errors.InputError` for a point estimate, or a fit that was too large to hold densities.
    """
    values = _log_lik(tree, "loo")
    reff = _relative_efficiency(values.values)
    small = xr.DataTree.from_dict({"log_likelihood": xr.Dataset({"x": values}), "posterior": xr.Dataset()})
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        # high Pareto k, and none where the largest weights of few draws are equal: counted below
        warnings.simplefilter("ignore", UserWarning)
        estimate = _arviz.loo(small, var_name="x", pointwise=True, reff=reff)
    k = np.asarray(estimate.pareto_k.values, np.float64)
    log_weights = estimate.log_weights.transpose("chain", "draw", "datum").values
    unsmoothed = ~np.isfinite(estimate.elpd_i.values)  # the tail of these weights has no spread, and so no k
    k[unsmoothed] = np.inf
    log_weights[..., unsmoothed] = -values.values[..., unsmoothed]
    log_weights -= logsumexp(log_weights, axis=(0, 1), keepdims=True)
    pointwise = logsumexp(log_weights + values.values, axis=(0, 1)).astype(np.float64)
    weights = np.exp(log_weights)
    # log E_n = log (sum_s w_s p_s), a ratio of sums: a draw moves it by S w_s (p_s / E_n - 1)
    moved = weights * weights[..., 0].size * np.expm1(values.values - pointwise)
    limit = float(estimate.good_k)
    return Expected(
        float(pointwise.sum()),
        _over_data(pointwise),
        _over_draws(moved.sum(axis=-1), own_chains=engine_kind(tree) == "chains"),
        float((logsumexp(values.values, axis=(0, 1)) - np.log(weights[..., 0].size) - pointwise).sum()),
        pointwise,
        k,
        int(np.sum(~(k <= limit))),
        limit,
    )


def expected_waic(tree: xr.DataTree) -> Expected:
    """The widely applicable information criterion, on the scale of the log density.

    Raises as :func:`expected_loo` does. ``num_bad`` counts data whose log density varies by more than 0.4 over the
    draws; with any of them leave-one-out is the better estimate.
    """
    values = _log_lik(tree, "waic").values
    count = values.shape[0] * values.shape[1]
    log_mean = logsumexp(values, axis=(0, 1)) - np.log(count)
    mean, variance = values.mean(axis=(0, 1)), values.var(axis=(0, 1))
    pointwise = log_mean - variance
    moved = np.expm1(values - log_mean) - ((values - mean) ** 2 - variance)
    return Expected(
        float(pointwise.sum()),
        _over_data(pointwise),
        _over_draws(moved.sum(axis=-1), own_chains=engine_kind(tree) == "chains"),
        float(variance.sum()),
        pointwise,
        None,
        int(np.sum(variance > _WAIC_LIMIT)),
        _WAIC_LIMIT,
    )


def information(tree: xr.DataTree, num_free: int, *, confidence: Float[np.ndarray, " N"] | None = None) -> Information:
    """AIC, BIC and ICL of a point estimate.

    They are meant for maximum likelihood. At a maximum a posteriori the log likelihood is lower, and the criteria are
    larger by twice the difference.

    Args:
        tree: a fit with one draw.
        num_free: number of free parameters (:func:`probam.inference.common.coordinates.free_parameters`).
        confidence: the largest responsibility of each datum; None reads it from the group ``partition``.

    Raises:
        InputError: for a fit with several draws, or Dirichlet-process or Pitman-Yor weights: their number of
            parameters is the truncation, which says nothing of how many the data use.
    """
    if engine_kind(tree) != "point":
        raise InputError(
            "bic: expected a point estimate; this fit has several draws; use leave-one-out, or engine 'em'"
        )
    if tree.attrs.get("weights") in ("dp", "pyp"):
        raise InputError(
            "bic: with Dirichlet-process and Pitman-Yor weights the truncation sets the number of parameters, however "
            "few memories the data use; compare on held-out data, or use weights 'dirichlet' or 'uniform'"
        )
    if num_free < 0:
        raise InputError(f"num_free: expected at least 0; got {num_free}")
    total = total_log_likelihood(tree)
    if total is None:
        raise InputError("bic: this fit has no log likelihood; fit again with this version of probam")
    log_lik = float(total.item())
    if has(tree, "all_rows"):
        log_confidence = float(variable(tree, "all_rows", "log_confidence").values.item())
    else:
        if confidence is None:
            confidence = variable(tree, "partition", "confidence").values.astype(np.float64)
        log_confidence = float(data_weights(tree) @ np.log(confidence))
    bic = num_free * np.log(total_weight(tree)) - 2 * log_lik
    return Information(
        estimate_in_words(tree),
        log_lik,
        num_free,
        2.0 * num_free - 2 * log_lik,
        float(bic),
        float(bic - 2 * log_confidence),
    )


def log_mean_exp_error(log_density: Float[np.ndarray, "C S N"]) -> float:
    """Monte Carlo standard error of the mean over data of log (1/S) sum_s p(x_n | draw s), nats per datum."""
    log_mean = logsumexp(log_density, axis=(0, 1)) - np.log(log_density[..., 0].size)
    return _over_draws(np.expm1(log_density - log_mean).mean(axis=-1), own_chains=True)


def _over_data(pointwise: Float[np.ndarray, " N"]) -> float:
    """Standard error of a sum over N independent data."""
    return float(np.sqrt(len(pointwise)) * pointwise.std())


def _over_draws(moved: Float[np.ndarray, "C S"], *, own_chains: bool) -> float:
    """Monte Carlo standard error of an estimate, from how far each draw moves it (times the number of draws)."""
    if np.ptp(moved) == 0:
        return 0.0
    if not own_chains:  # draws of an approximation are independent
        return float(moved.std() / np.sqrt(moved.size))
    return float(_arviz.mcse(moved, method="mean"))


def _relative_efficiency(values: Float[np.ndarray, "C S N"]) -> float:
    """Effective draws of the data's densities, averaged over some data, by their number."""
    chosen = evenly(values.shape[2], _WATCHED)
    density = np.exp(values[..., chosen] - values[..., chosen].max(axis=(0, 1)))
    density = density[..., np.ptp(density, axis=(0, 1)) > 0]
    if density.shape[2] == 0:
        return 1.0
    effective = [float(_arviz.ess(density[..., n], method="mean")) for n in range(density.shape[2])]
    return float(min(np.nanmean(effective) / density[..., 0].size, 1.0))
