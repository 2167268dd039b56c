"""What both estimators have in common: their answers about rows, given as arrays."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, DensityMixin, TransformerMixin
from sklearn.utils import Tags, TransformerTags, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from probam.data.columns import counted
from probam.data.table import Table
from probam.errors import InputError, shown
from probam.fits.choices import double_precision, precision
from probam.fits.conditional import ConditionalDistribution
from probam.fits.fitted import Fit
from probam.options import whole_number

__all__ = ["MemoryEstimator", "covariance_of", "seed_of", "with_further"]

_OF_SKLEARN = {"diag": "diagonal"}
"""Covariance structures that scikit-learn calls by another name."""


def covariance_of(covariance_type: Any) -> Any:
    """The name that probam gives a covariance structure."""
    return _OF_SKLEARN.get(covariance_type, covariance_type) if isinstance(covariance_type, str) else covariance_type


def seed_of(random_state: Any) -> Any:
    """A seed of probam: a whole number is one; None and a ``RandomState`` draw one."""
    if random_state is None or isinstance(random_state, np.random.RandomState):
        return int(check_random_state(random_state).randint(2**32, dtype=np.uint32))
    return random_state


def with_further(own: dict[str, Any], further: Any, name: str, estimator: str) -> dict[str, Any]:
    """The options that parameters of an estimator set, and further ones, which may not set them too.

    Args:
        own: options that are parameters.
        further: a mapping, or None.
        name: of the parameter that holds it.
        estimator: the name of the class.
    """
    if not isinstance(further, Mapping | None):
        raise InputError(f"{name}: expected a mapping from names of options to values; got {shown(further)}")
    added = dict(further or {})
    twice = sorted(added.keys() & own.keys())
    if twice:
        raise InputError(f"{name}: {twice[0]!r} is set by a parameter of {estimator}; use the parameter")
    return own | added


class MemoryEstimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, DensityMixin, BaseEstimator):
    """A mixture of memories as an estimator: density, clustering, features, recall.

    A subclass fits, and answers by the abstract methods.
    """

    n_features_in_: int
    random_state: Any

    @abstractmethod
    def fit(self, X: Any, y: Any = None) -> "MemoryEstimator":
        """Learn from rows; returns the estimator itself."""

    @abstractmethod
    def _responsibilities(self, rows: Table) -> Float[np.ndarray, "N K"]:
        """Probability of each memory for each row."""

    @abstractmethod
    def _log_density(self, rows: Table) -> Float[np.ndarray, " N"]:
        """Log density of each row in nats, in the units of the data."""

    @abstractmethod
    def _as_fit(self) -> Fit:
        """The fit that answers all other questions."""

    @property
    @abstractmethod
    def _dtype(self) -> np.dtype[Any]:
        """Precision of what was learned."""

    @property
    @abstractmethod
    def _n_features_out(self) -> int:
        """Number of columns of :meth:`transform`."""

    # --- rows --------------------------------------------------------------------------------------------------

    def __sklearn_tags__(self) -> Tags:
        """Missing entries are allowed where they are integrated out, and float32 stays float32."""
        parent: Any = super()
        tags: Tags = parent.__sklearn_tags__()
        tags.input_tags.allow_nan = self._takes_missing()
        tags.transformer_tags = TransformerTags(preserves_dtype=["float64", "float32"])
        return tags

    def _takes_missing(self) -> bool:
        return False

    def _table(self, X: Any, *, reset: bool, minimum: int = 1) -> Table:
        """Rows, checked as scikit-learn does; ``reset`` where they say what the features are, and are kept."""
        values = validate_data(
            self,
            X,
            reset=reset,
            copy=reset,
            dtype=[np.float64, np.float32],
            ensure_all_finite="allow-nan" if self._takes_missing() else True,
            ensure_min_samples=minimum,
        )
        return Table(values, self._columns, "X", missing=True)

    @property
    def _columns(self) -> tuple[str, ...]:
        """Names of the features."""
        names = getattr(self, "feature_names_in_", None)
        return counted(self.n_features_in_) if names is None else tuple(map(str, names))

    def _question(self, X: Any) -> Table:
        check_is_fitted(self)
        return self._table(X, reset=False)

    # --- answers -----------------------------------------------------------------------------------------------

    def predict_proba(self, X: Any) -> Float[np.ndarray, "N K"]:
        """Probability of each memory for each row; rows sum to one."""
        rows = self._question(X)
        with precision(self._dtype):
            return self._responsibilities(rows)

    def predict(self, X: Any) -> Int[np.ndarray, " N"]:
        """The memory of largest probability of each row: a column of :meth:`predict_proba`."""
        return np.asarray(self.predict_proba(X).argmax(axis=1))

    def fit_predict(self, X: Any, y: Any = None, **fit_params: Any) -> Int[np.ndarray, " N"]:
        """Fit, and the memory of each row."""
        return self.fit(X, y, **fit_params).predict(X)

    def transform(self, X: Any) -> Float[np.ndarray, "N K"]:
        """Rows as features: the probability of each memory."""
        return self.predict_proba(X)

    def score_samples(self, X: Any) -> Float[np.ndarray, " N"]:
        """Log density of each row in nats, in the units of the data: of the posterior predictive distribution."""
        rows = self._question(X)
        with precision(self._dtype):
            return self._log_density(rows)

    def score(self, X: Any, y: Any = None) -> float:  # noqa: ARG002
        """Mean log density of the rows: what grid search maximises."""
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1) -> tuple[Float[np.ndarray, "N D"], Int[np.ndarray, " N"]]:
        """New rows, and the memory that each was drawn from.

        Args:
            n_samples: how many rows.
        """
        check_is_fitted(self)
        whole_number(least=1)("n_samples", n_samples)
        with precision(self._dtype):
            return self._as_fit().sample_with_labels(n_samples, seed=seed_of(self.random_state))

    def recall(self, X: Any, *, max_iter: int = 1000) -> Float[np.ndarray, "N D"]:
        """Where the memory's dynamics end from each row, in the units of the data.

        Args:
            X: queries.
            max_iter: most steps of a query.
        """
        rows = self._question(X)
        with precision(self._dtype):
            return np.asarray(self._as_fit().recall(rows, max_steps=max_iter)["state"].values)

    def conditional(self, target: str | Sequence[str] | None, given: Any) -> ConditionalDistribution:
        """Distribution of some features given the others; see :meth:`probam.fits.fitted.Fit.conditional`.

        Args:
            target: names of features (``x0``, ``x1``, ... where the rows came without names); None: what rows lack.
            given: rows of the other features: an array in the order of the fit, a data frame, or a dictionary.
        """
        check_is_fitted(self)
        with precision(self._dtype):
            return self._as_fit().conditional(target, given)

    def to_fit(self) -> Fit:
        """The :class:`probam.fits.fitted.Fit`, with everything that it can do: report, verify, save.

        Raises:
            InputError: where rows were fitted in double precision and JAX has it turned off.
        """
        check_is_fitted(self)
        if self._dtype == np.float64 and not double_precision():
            raise InputError(
                "to_fit: this estimator computed in double precision; turn it on before: "
                "jax.config.update('jax_enable_x64', True)"
            )
        return self._as_fit()
