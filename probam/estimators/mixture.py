"""A mixture of memories as an estimator of scikit-learn."""

from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.utils.validation import check_is_fitted

from probam.data.table import Table
from probam.errors import InputError
from probam.estimators.base import MemoryEstimator, covariance_of, seed_of, with_further
from probam.family.capabilities import Absent, MissingEntries
from probam.fits.choices import find_family, precision
from probam.fits.fit import fit_essentials
from probam.fits.fitted import Fit
from probam.fits.options import TAKE_MISSING
from probam.inference.common.coordinates import free_parameters
from probam.reports.summaries.agreement import worth_of_ends
from probam.reports.summaries.estimate import data_weights, total_log_likelihood
from probam.reports.summaries.quantities import engine_kind, last_values
from probam.reports.tree import has, variable

__all__ = ["ProbamMixture"]


class ProbamMixture(MemoryEstimator):
    """A Bayesian mixture of memories with the interface of scikit-learn.

    It does what ``probam.fit`` does, with the same bits for the same seed, and stands where ``GaussianMixture`` or
    ``BayesianGaussianMixture`` does. The default is EM under a weak prior (the maximum a posteriori), which a memory on
    one row cannot break; ``estimate="ml"`` maximises the likelihood, as ``GaussianMixture`` does. float64 rows are
    fitted in double precision and float32 rows in single precision.

    Args:
        n_components: Number of memories; for weights "dp" and "pyp" the largest number, and None is 20.
        covariance_type: Of Gaussian memories: "full", "tied", "diag", "spherical", "isotropic" (one width for all) or
            "lkj"; None is "full" for Gaussian memories. Other families have none.
        family: What a memory is, as for ``probam.fit``: "gaussian", "vmf", "student_t,df=4", "bernoulli", ...
        weights: Prior of the mixing weights: "dirichlet", "uniform", "fixed", "dp" or "pyp".
        engine: "em", "gradient_em", "svi", "cavi", "nuts", "gibbs", "smc" or "clam"; None is the engine that samples
            best.
        estimate: What "em" maximises: "map" (the default) or "ml".
        n_init: Independent starts, of which the best is kept; None is the engine's default.
        alpha: Strength of "dp" and "pyp", concentration of "dirichlet"; None is the default of ``probam.fit``.
        discount: Discount of "pyp".
        prior: NumPyro distributions by site that replace default priors.
        standardise: Fit (x - mean) / sd; results stay in the units of the data.
        normalise: Divide each row by its length, for family "vmf".
        fit_options: Further options of ``probam.fit`` and of the engine, such as ``{"num_draws": 500}``.
        random_state: Seed; a whole number gives the bits of ``probam.fit(seed=...)``.

    Attributes:
        weights_: (n_components,) mixing weights, the largest first. Of draws, their posterior mean after relabelling.
        means_: (n_components, n_features) stored patterns, in the units of the data. Of draws, the mean over those in
            which the memory holds data.
        covariances_: Of Gaussian memories, in the units of the data; the shape is that of ``GaussianMixture``. Of
            draws, those of the most probable one.
        converged_: Whether the engine ended by its own rule. Only of engines that optimise.
        n_iter_: Iterations of the best start. Only of engines that optimise.
        lower_bound_: Of "em" and "gradient_em" the mean log density of the fitted rows, of "svi" and "cavi" the
            evidence lower bound.
        n_features_in_: Number of features.
        feature_names_in_: ``(n_features_in_,)`` names of the features, where the rows had names.

    >>> import numpy as np
    >>> from probam import ProbamMixture
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(-3, 1, (40, 2)), rng.normal(3, 1, (60, 2))])
    >>> mixture = ProbamMixture(n_components=2, covariance_type="spherical").fit(X)
    >>> mixture.predict(np.array([[3.0, 3.0], [-3.0, -3.0]]))
    array([0, 1])
    >>> mixture.weights_.round(1)
    array([0.6, 0.4])
    """

    def __init__(  # takes anything, as scikit-learn wants it: `fit` says what is wrong
        self,
        n_components: Any = 1,
        *,
        covariance_type: Any = None,
        family: Any = "gaussian",
        weights: Any = "dirichlet",
        engine: Any = "em",
        estimate: Any = None,
        n_init: Any = None,
        alpha: Any = None,
        discount: Any = None,
        prior: Any = None,
        standardise: Any = False,
        normalise: Any = False,
        fit_options: Any = None,
        random_state: Any = 0,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.family = family
        self.weights = weights
        self.engine = engine
        self.estimate = estimate
        self.n_init = n_init
        self.alpha = alpha
        self.discount = discount
        self.prior = prior
        self.standardise = standardise
        self.normalise = normalise
        self.fit_options = fit_options
        self.random_state = random_state

    # --- fitting -----------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> "ProbamMixture":  # noqa: ARG002
        """Fit the memories to rows.

        Args:
            X: (N, D) rows; entries may be missing (NaN) where family and engine integrate them out.
            y: ignored.
            sample_weight: (N,) how often each row counts.
        """
        rows = self._table(X, reset=True, minimum=2)
        with precision(rows.values.dtype):
            self._fit = fit_essentials(rows, **self._options(rows, sample_weight))
        self._describe()
        return self

    def _options(self, rows: Table, sample_weight: Any) -> dict[str, Any]:
        """The options of ``probam.fit``."""
        own = {
            "family": self.family,
            "covariance": covariance_of(self.covariance_type),
            "weights": self.weights,
            "components": self.n_components,
            "alpha": self.alpha,
            "discount": self.discount,
            "engine": self.engine,
            "estimate": self.estimate,
            "restarts": self.n_init,
            "seed": seed_of(self.random_state),
            "standardise": self.standardise,
            "normalise": self.normalise,
            "prior": self.prior,
            "missing": rows.has_gaps,
            "sample_weight": sample_weight,
        }
        return with_further(own, self.fit_options, "fit_options", "ProbamMixture")

    def _describe(self) -> None:
        """Set the attributes that say what was found, and no others of an earlier fit."""
        for name in ("converged_", "n_iter_", "lower_bound_"):
            self.__dict__.pop(name, None)
        tree = self._fit.made
        self.weights_: np.ndarray = variable(tree, "memory", "weight").values
        self.means_: np.ndarray = variable(tree, "memory", "mean").values
        if not has(tree, "optimisation"):
            return
        objective = variable(tree, "optimisation", "objective").transpose("restart", "iteration").values
        best = objective[np.nanargmax(worth_of_ends(tree))]
        self.converged_ = tree["optimisation"].attrs["status"] == "converged"
        self.n_iter_ = int(np.isfinite(best).sum())
        engine = tree.attrs["engine"]
        if engine in ("em", "gradient_em"):
            total = total_log_likelihood(tree)
            assert total is not None
            self.lower_bound_ = float(total.item() / data_weights(tree).sum())
        elif engine in ("svi", "cavi"):
            self.lower_bound_ = float(last_values(best[None])[0]) + self._fit.total_log_jacobian()

    # --- what was found ----------------------------------------------------------------------------------------

    @property
    def covariances_(self) -> np.ndarray:
        """Covariances of Gaussian memories, shaped as in ``GaussianMixture``; of several draws the most probable's."""
        check_is_fitted(self)
        with precision(self._dtype):
            covariances = self._fit.parameters().covariances
        if covariances is None:
            raise AttributeError(f"covariances_: memories of family {self.family!r} have no covariances")
        return covariances

    @property
    def _dtype(self) -> np.dtype[Any]:
        return self._fit.dtype

    @property
    def _n_features_out(self) -> int:
        return len(self.weights_)

    def __sklearn_is_fitted__(self) -> bool:
        """Whether :meth:`fit` has ended."""
        return hasattr(self, "_fit")

    def _takes_missing(self) -> bool:
        """Whether engine and family integrate missing entries out; a family that does not exist takes none."""
        try:
            family = find_family(self.family)
        except (InputError, AttributeError, TypeError):
            return False
        takes = self.engine is None or self.engine in TAKE_MISSING
        return takes and not self.normalise and not isinstance(MissingEntries.ask(family), Absent)

    def _responsibilities(self, rows: Table) -> Float[np.ndarray, "N K"]:
        return self._fit.responsibilities(rows)

    def _log_density(self, rows: Table) -> Float[np.ndarray, " N"]:
        return self._fit.log_prob(rows)

    def _as_fit(self) -> Fit:
        return self._fit

    def to_sklearn(self) -> Any:
        """The estimate as a fitted ``GaussianMixture``; see :meth:`probam.fits.fitted.Fit.to_sklearn`."""
        check_is_fitted(self)
        with precision(self._dtype):
            return self._fit.to_sklearn()

    # --- criteria ----------------------------------------------------------------------------------------------

    def aic(self, X: Any) -> float:
        """Akaike's information criterion of the estimate on rows; the lower, the better."""
        return 2 * self._num_free("aic") - 2 * float(self.score_samples(X).sum())

    def bic(self, X: Any) -> float:
        """Schwarz's information criterion of the estimate on rows; the lower, the better."""
        log_density = self.score_samples(X)
        return float(self._num_free("bic") * np.log(len(log_density)) - 2 * log_density.sum())

    def _num_free(self, criterion: str) -> int:
        """Free parameters of the model, where a criterion may count them."""
        check_is_fitted(self)
        tree = self._fit.made
        if engine_kind(tree) != "point":
            raise InputError(
                f"{criterion}: engine {tree.attrs['engine']!r} gives several draws, not one estimate; use engine 'em', "
                "or probam.compare for leave-one-out"
            )
        if tree.attrs["weights"] in ("dp", "pyp"):
            raise InputError(
                f"{criterion}: with weights {tree.attrs['weights']!r} the truncation sets the number of parameters, "
                "however few memories the data use; use weights 'dirichlet', or score held-out rows"
            )
        return free_parameters(self._fit.model)
