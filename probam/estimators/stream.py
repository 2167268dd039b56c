"""A stream of memories as an estimator of scikit-learn."""

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from sklearn.utils.validation import check_is_fitted

from probam.data.table import Table
from probam.estimators.base import MemoryEstimator, covariance_of, seed_of, with_further
from probam.fits.choices import precision
from probam.fits.fitted import Fit
from probam.streams.stream import Stream

__all__ = ["ProbamStream"]


class ProbamStream(MemoryEstimator):
    """Memories that are made as rows arrive, with the interface of scikit-learn.

    It does what ``probam.Stream`` does. :meth:`fit` learns from rows alone, :meth:`partial_fit` goes on with more; how
    rows are divided into parts does not change what is learned. The number of memories is found, so there is no
    ``n_components``. The first ``warm`` rows set the prior: rows are held back until so many have come, or until a
    question is asked.

    Args:
        family: What a memory is: "gaussian", "vmf", "bernoulli", "multinomial", "laplace", or a family of your own.
        covariance_type: Of Gaussian memories: "isotropic", "spherical", "diag" or "full"; None is the default of
            ``probam.Stream``.
        alpha: Strength of the process: a larger one makes more memories.
        discount: 0 is the Dirichlet process; nearer to 1 there is a longer tail of small memories.
        particles: Partitions that are carried along.
        warm: Number of first rows that set the prior and the units.
        standardise: Use (x - mean) / sd of the first rows; results stay in the units of the data.
        normalise: Divide each row by its length, for family "vmf".
        stream_options: Further options of ``probam.Stream``, such as ``{"half_life": 5000}``.
        random_state: Seed; a whole number gives the bits of ``probam.Stream(seed=...)``.

    Attributes:
        stream_: The stream, for everything else that it can do.
        memory_ids_: (n_memories,) the stream's numbers of the memories, in order of creation: the columns of
            :meth:`predict_proba`.
        weights_: (n_memories,) probability of each memory before the next row is seen; a new memory has the rest.
        means_: (n_memories, n_features) mean of the next row of each memory, in the units of the data.
        n_features_in_: Number of features.
        feature_names_in_: ``(n_features_in_,)`` names of the features, where the rows had names.

    >>> import numpy as np
    >>> from probam import ProbamStream
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(-5, 1, (60, 2)), rng.normal(5, 1, (60, 2))])
    >>> stream = ProbamStream(covariance_type="diag", random_state=0)
    >>> for part in np.array_split(rng.permutation(X), 4):
    ...     stream = stream.partial_fit(part)
    >>> stream.means_.shape, len(set(stream.predict([[5.0, 5.0], [-5.0, -5.0]])))
    ((2, 2), 2)
    """

    def __init__(  # takes anything, as scikit-learn wants it: `fit` says what is wrong
        self,
        family: Any = "gaussian",
        *,
        covariance_type: Any = None,
        alpha: Any = 1.0,
        discount: Any = 0.0,
        particles: Any = 1,
        warm: Any = 1000,
        standardise: Any = False,
        normalise: Any = False,
        stream_options: Any = None,
        random_state: Any = 0,
    ) -> None:
        self.family = family
        self.covariance_type = covariance_type
        self.alpha = alpha
        self.discount = discount
        self.particles = particles
        self.warm = warm
        self.standardise = standardise
        self.normalise = normalise
        self.stream_options = stream_options
        self.random_state = random_state

    # --- learning ----------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None) -> "ProbamStream":  # noqa: ARG002
        """Learn from rows, one after the other, and forget all others.

        Args:
            X: (N, D) rows.
            y: ignored.
        """
        rows = self._table(X, reset=True, minimum=2)
        stream = Stream(**self._options())
        with precision(rows.values.dtype):
            stream.partial_fit(rows).flush()
        self._learned(stream)
        return self

    def partial_fit(self, X: Any, y: Any = None) -> "ProbamStream":  # noqa: ARG002
        """Learn from more rows, one after the other.

        Args:
            X: (N, D) rows.
            y: ignored.
        """
        begun: Stream | None = getattr(self, "stream_", None)
        rows = self._table(X, reset=begun is None)
        stream = Stream(**self._options()) if begun is None else begun
        with precision(rows.values.dtype if begun is None else self._dtype):
            stream.partial_fit(rows)
        self._learned(stream)
        return self

    def _options(self) -> dict[str, Any]:
        """The options of ``probam.Stream``."""
        own = {
            "family": self.family,
            "covariance": covariance_of(self.covariance_type),
            "alpha": self.alpha,
            "discount": self.discount,
            "particles": self.particles,
            "warm": self.warm,
            "standardise": self.standardise,
            "normalise": self.normalise,
            "seed": seed_of(self.random_state),
        }
        return with_further(own, self.stream_options, "stream_options", "ProbamStream")

    def _learned(self, stream: Stream) -> None:
        self.stream_ = stream
        self._fit: Fit | None = None

    # --- what was learned --------------------------------------------------------------------------------------

    @property
    def memory_ids_(self) -> Int[np.ndarray, " K"]:
        """Numbers of the memories, in order of creation."""
        return self._memories.index.to_numpy()

    @property
    def weights_(self) -> Float[np.ndarray, " K"]:
        """Probability of each memory before the next row is seen."""
        return self._memories["weight"].to_numpy()

    @property
    def means_(self) -> Float[np.ndarray, "K D"]:
        """Mean of the next row of each memory, in the units of the data."""
        frame = self._memories
        if not set(self._columns) <= set(frame.columns):
            raise AttributeError(f"means_: memories of family {self.family!r} have no mean")
        return frame[list(self._columns)].to_numpy()

    @property
    def _memories(self) -> pd.DataFrame:
        check_is_fitted(self)
        with precision(self._dtype):
            return self.stream_.memories().sort_index()

    @property
    def _dtype(self) -> np.dtype[Any]:
        schema = self.stream_.schema
        assert schema is not None, "rows have come"
        return schema.dtype

    @property
    def _n_features_out(self) -> int:
        return len(self._memories)

    def __sklearn_is_fitted__(self) -> bool:
        """Whether any rows have come."""
        return hasattr(self, "stream_")

    def predict_new(self, X: Any) -> Float[np.ndarray, " N"]:
        """Probability of each row to be of none of the memories: a measure of novelty."""
        rows = self._question(X)
        with precision(self._dtype):
            return np.asarray(self.stream_.predict(rows)["probability_new"].values)

    def _responsibilities(self, rows: Table) -> Float[np.ndarray, "N K"]:
        return np.asarray(self.stream_.responsibilities(rows).values)

    def _log_density(self, rows: Table) -> Float[np.ndarray, " N"]:
        return np.asarray(self.stream_.predict(rows)["log_predictive"].values)

    def _as_fit(self) -> Fit:
        """Draws of all sites given the partition, made once for what was learned so far."""
        if self._fit is None:
            self._fit = self.stream_.to_fit()
        return self._fit
