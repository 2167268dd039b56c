"""A fit: the model, the draws and everything a user asks of them."""

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

import probam.fits.posterior as posterior
from probam.errors import InputError
from probam.fits.annealed import WAYS, from_noise
from probam.fits.asked import Asked
from probam.fits.conditional import ConditionalDistribution, rows_given
from probam.fits.derived import REPORTED, is_shipped
from probam.fits.in_words import memories, summary_text
from probam.fits.options import SEEDS
from probam.fits.parameters import Parameters, as_gaussian_mixture, check_one_mixture, parameters_of
from probam.fits.program_text import program_text
from probam.fits.questions import NO_LENGTH
from probam.options import boolean, file_path, one_of, whole_number
from probam.reports.summaries.convergence import invariant_summary
from probam.reports.summaries.quantities import evenly
from probam.reports.tree import write_tree

if TYPE_CHECKING:
    from probam.equivalence.check import Check

__all__ = ["Fit"]

_CHECKED_DATA = 200


class Fit(Asked):
    """A fitted memory: draws of its parameters and what follows from them.

    ``probam.fit`` and ``probam.load`` make one. Data and results are in the units of the data; standardisation happens
    inside. ``tree`` is the fit as a DataTree, ``model`` the NumPyro program that was fitted.
    """

    def conditional(
        self, target: str | Sequence[str] | None, given: Any, *, num_draws: int = 200
    ) -> ConditionalDistribution:
        """Distribution of some features given others, for each row: regression, classification, imputation.

        Its mean, standard deviation, log density and draws are exact, its quantiles are found by inverting its
        distribution function; ``to_dataset`` has them with the memory's own recall beside them. Given entries that are
        missing (NaN) are integrated out, and so are features that a table with names of columns does not have.

        Args:
            target: name of a feature, or several names for their joint distribution. None: what each row lacks.
            given: rows of the other features: an array in the order of the fit, a table with their names, or a
                dictionary of names and values. With target None: rows of all features.
            num_draws: most posterior draws to use, evenly spaced. A draw is weighted by the density of what is given.

        Raises:
            InputError: for features that the fit does not have, rows of density 0, families without an exact
                conditional, and fits of normalised rows: what is given has no length without its target.

        >>> import probam
        >>> line = np.linspace(0, 1, 50)
        >>> rows = pd.DataFrame({"x": line, "y": 3 * line + 0.01 * np.cos(40 * line)})
        >>> fitted = probam.fit(rows, covariance="full", weights="uniform", components=1, engine="em")
        >>> law = fitted.conditional("y", given={"x": [0.2, 0.8]})
        >>> law.mean.values.round(1).ravel()
        array([0.6, 2.4])
        """
        whole_number(least=1)("num_draws", num_draws)
        if self.is_normalised:
            raise InputError(f"given: a row without its target has gaps; {NO_LENGTH}")
        x = self.standardiser.apply(self._positions).astype(self.dtype)
        return ConditionalDistribution.of(
            rows_given(target, given, self.columns, self.dtype),
            self.model,
            self._chosen(evenly(len(self._permutations), num_draws)),
            self.standardiser,
            np.stack([x.min(axis=0), x.max(axis=0)]),
        )

    def sample(self, num_data: int, *, seed: int = 0, by: str = "draws") -> np.ndarray:
        """New data (num_data, D) from the posterior predictive, in data units; the same seed gives the same bits.

        Args:
            num_data: how many.
            seed: of the draws.
            by: "draws" draws a memory and then from it. "ode" and "sde" reach the same law by annealed recall from
                pure noise, under at most 50 draws of the posterior (:meth:`anneal`).
        """
        one_of("draws", *WAYS)("by", by)
        if by == "draws":
            return self.sample_with_labels(num_data, seed=seed)[0]
        _, key_data = _keys_of_sample(num_data, seed)
        rows = from_noise(self.model, self.draws(), key_data, num_data, by=by)
        return np.asarray(self.standardiser.invert(rows))

    def sample_with_labels(self, num_data: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """What :meth:`sample` returns, and the relabelled memory (num_data,) that each row was drawn from."""
        key_draw, key_data = _keys_of_sample(num_data, seed)
        which = np.asarray(jax.random.randint(key_draw, (num_data,), 0, len(self._permutations)))
        rows, memories = posterior.replicate_with_memory(self.model, self._chosen(which), key_data, 1)
        relabelled = np.argsort(np.asarray(self._permutations)[which], axis=1)
        labels = np.take_along_axis(relabelled, np.asarray(memories), axis=1)[:, 0]
        return np.asarray(self.standardiser.invert(np.asarray(rows)[:, 0])), labels

    # --- numbers for other programs -----------------------------------------------------------------------------

    def parameters(self, *, draw: int | None = None) -> Parameters:
        """The numbers of the mixture at one draw, in the units of the data; memories are numbered as everywhere.

        Args:
            draw: number of a thinned draw; None for the reference draw, the one of highest log joint density.
        """
        params, permutation = self._sites_of(draw), self._permutation_of(draw)
        return parameters_of(self.model, params, permutation, self.columns, self.standardiser)

    def to_sklearn(self, *, draw: int | None = None) -> Any:
        """The fit as a fitted ``sklearn.mixture.GaussianMixture``, whose ``predict_proba`` is the same.

        Args:
            draw: number of a thinned draw; None where there is one alone.

        Raises:
            InputError: for memories that are not Gaussian, for several draws, and for fits of normalised rows.
        """
        check_one_mixture(len(self._permutations), draw, normalised=self.is_normalised)
        return as_gaussian_mixture(self.parameters(draw=draw))

    def to_numpyro(self) -> str:
        """The model as the text of a NumPyro program: its priors and sites, with NumPyro and JAX alone.

        ``model`` in it takes rows in the units of the model, which ``in_model_units`` makes; its sites have the names
        and the values of the group ``posterior``. A prior of your own that a file cannot hold is lost by saving, and is
        then the default one in the text too.

        Raises:
            InputError: for families, priors and data that NumPyro alone has no words for; it says which.
        """
        return program_text(
            self.model,
            self.columns,
            self.standardiser,
            normalised=self.is_normalised,
            is_double=self.dtype == np.float64,
        )

    # --- judgement ---------------------------------------------------------------------------------------------

    def verify(self, *, seed: int = 0) -> list["Check"]:
        """Checks that the energy is the likelihood, at several draws of this posterior; the largest errors of all.

        Args:
            seed: chooses the data at which both are compared.
        """
        SEEDS("seed", seed)
        x = self.standardiser.apply(self._positions).astype(self.dtype)
        chosen = np.random.default_rng(seed).permutation(len(x))[:_CHECKED_DATA]
        from probam.fits.verification import verify_draws

        return verify_draws(self.model, self.draws(), jnp.asarray(x[chosen]))

    def summary(self) -> pd.DataFrame:
        """Label-invariant quantities: mean, sd, Monte Carlo error, effective sample sizes, R-hat."""
        return invariant_summary(self.tree)

    def memories(self) -> pd.DataFrame:
        """The relabelled memories in data units: weight, size, probability of being occupied, mean.

        The largest comes first; where labels were known, memory k is label k. A feature whose name is that of another
        column, ``weight`` for example, is ``mean_weight``.
        """
        return memories(self._group("memory"), self.columns)

    def summary_text(self, *, most: int = 12) -> str:
        """The main results in a few lines: first what was maximised or drawn from, and the log likelihood there.

        The energy of a family of your own is checked for it (:meth:`verify`). That of a family of the package is not,
        since its checks are among the package's claims; what :meth:`verify` and the report find of it is said there.

        Args:
            most: memories to list.
        """
        whole_number(least=1)("most", most)
        checked = () if is_shipped(self.model) else ("verification",)
        return summary_text(self._having(*checked), self.memories(), most)

    # --- files -------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str], *, complete: bool = False) -> None:
        """Write the fit as NetCDF4, completely or not at all.

        Args:
            path: the file.
            complete: also write the groups that are otherwise made when they are asked for.

        Raises :class:`probam.errors.InputError` when ``path`` cannot be written.
        """
        file_path("path", path)
        boolean("complete", complete)
        tree = self.to_datatree() if complete else self.tree
        write_tree(tree, path)

    def report(self, path: str | os.PathLike[str], *, labels: Sequence[object] | np.ndarray | None = None) -> None:
        """Write the report as one self-contained HTML file, completely or not at all.

        Args:
            path: the file.
            labels: known label of each datum that was fitted, None or NaN where it is not known. The report then says
                how well the memories agree with them: adjusted Rand index, normalised mutual information, and the
                table of labels against memories.
        """
        from probam.reports.html import write_report  # it brings matplotlib, which nothing else here needs

        file_path("path", path)
        write_report(self._having(*REPORTED), path, labels)

    @property
    def options(self) -> dict[str, Any]:
        """Options that were passed to the engine."""
        options: dict[str, Any] = json.loads(self._held.attrs["engine_options"])
        return options


def _keys_of_sample(num_data: int, seed: int) -> tuple[jax.Array, jax.Array]:
    """For the choice of draws, and for the data."""
    whole_number(least=1)("num_data", num_data)
    SEEDS("seed", seed)
    key_draw, key_data = jax.random.split(jax.random.key(seed))
    return key_draw, key_data
