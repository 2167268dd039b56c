"""The covariance within groups that default priors are scaled by: its invariances, its optimum, and hard data."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from probam.numerics.within_covariance import KINDS, along, spectrum, within_covariance

_MIXING = np.array([[2.0, 0.3, -0.4], [0.5, 1.0, 0.2], [0.0, -0.7, 0.6]])


def _grouped(num_rows: int = 240, seed: int = 0) -> np.ndarray:
    """Three groups with one covariance, correlated in all directions, and overlapping a little."""
    rng = np.random.default_rng(seed)
    centres = np.array([[0.0, 0.0, 0.0], [6.0, 0.0, 3.0], [0.0, 5.0, 6.0]])
    return np.asarray((centres[np.arange(num_rows) % 3] + rng.normal(size=(num_rows, 3))) @ _MIXING.T)


def _maps(kind: str) -> np.ndarray:
    """A linear map of condition 1e3 that memories of this kind of covariance are closed under."""
    rng = np.random.default_rng(3)
    turn, other = (np.linalg.qr(rng.normal(size=(3, 3)))[0] for _ in range(2))
    sizes = np.array([1e-2, 1.0, 10.0])
    return {"full": turn * sizes @ other, "diagonal": np.diag(sizes), "spherical": 1e-3 * turn}[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_it_moves_with_the_data(kind: str) -> None:
    """W of A x + b is A W A^T."""
    x, linear = _grouped(), _maps(kind)
    moved = within_covariance(x @ linear.T + np.array([1e3, -5.0, 0.1]), kind)
    expected = linear @ within_covariance(x, kind) @ linear.T
    np.testing.assert_allclose(np.linalg.solve(expected, moved), np.eye(3), atol=1e-6)


def test_groups_are_taken_out() -> None:
    """Close to the covariance that the rows were drawn with, where that of all rows is ten times as large."""
    x = _grouped(1200)
    truth = _MIXING @ _MIXING.T
    ratios = np.linalg.eigvals(np.linalg.solve(truth, within_covariance(x))).real
    assert np.all((ratios > 0.8) & (ratios < 1.25))
    assert np.linalg.eigvals(np.linalg.solve(truth, np.cov(x.T))).real.max() > 8


def test_it_is_a_stationary_point_of_the_penalised_likelihood() -> None:
    """The objective in SciPy's densities, means and weights at their best for each covariance, is flat in all of W."""
    rng = np.random.default_rng(1)
    x = _grouped(150)
    root = np.linalg.cholesky(np.cov(x.T, ddof=0))
    y = np.linalg.solve(root, (x - x.mean(axis=0)).T).T
    groups, pseudo = 5, 5 * 4
    within = within_covariance(y)

    def best(covariance: np.ndarray, means: np.ndarray, weights: np.ndarray, rounds: int) -> tuple[np.ndarray, ...]:
        for _ in range(rounds):
            logs = np.stack([stats.multivariate_normal.logpdf(y, mean, covariance) for mean in means], 1)
            logs = logs + np.log(weights)
            shares = np.exp(logs - logsumexp(logs, axis=1, keepdims=True))
            counts, precision = shares.sum(0), np.linalg.inv(covariance)
            pulls = shares.T @ y @ precision
            means = np.stack(
                [np.linalg.solve(c * precision + np.eye(3) / 4, p) for c, p in zip(counts, pulls, strict=True)]
            )
            weights = (counts + 1) / (len(y) + groups)
        objective = logsumexp(logs, axis=1).sum() + np.log(weights).sum() - np.sum(means**2) / 8
        precision = np.linalg.inv(covariance)
        penalty = -0.5 * pseudo * (np.linalg.slogdet(covariance)[1] + 0.5 * np.trace(precision))
        return means, weights, np.asarray(objective + penalty)

    starts = [best(within, y[rng.choice(len(y), groups)], np.full(groups, 0.2), 300) for _ in range(10)]
    means, weights, height = max(starts, key=lambda found: float(found[2]))
    for row, column in zip(*np.triu_indices(3), strict=True):
        step = np.zeros((3, 3))
        step[row, column] = step[column, row] = 1e-3
        up, down = (float(best(within + sign * step, means, weights, 60)[2]) for sign in (1, -1))
        curvature = abs(up + down - 2 * float(height))
        assert abs(up - down) < 0.02 * curvature / 1e-3, (row, column)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("num_rows", "num_features"), [(2, 1), (3, 6), (6, 6), (7, 6), (5, 40)])
def test_few_rows_leave_it_finite(kind: str, num_rows: int, num_features: int) -> None:
    """Positive definite, and of the size of the data."""
    x = np.random.default_rng(2).normal(size=(num_rows, num_features)) * np.geomspace(1, 1e3, num_features)
    within = within_covariance(x, kind)
    assert np.linalg.eigvalsh(within)[0] > 0
    assert np.trace(within) < 2 * np.trace(np.cov(x.T, ddof=0).reshape(num_features, num_features))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("case", ["collinear", "nearly constant", "constant", "two values", "equal rows"])
def test_degenerate_columns_leave_it_positive_definite(case: str, dtype: type) -> None:
    """In the precision that the fit will compute in."""
    x = _grouped(90)
    others = {
        "collinear": x[:, 0] - 2 * x[:, 1],
        "nearly constant": np.where(np.arange(90) == 4, 1e-6, 0.0),
        "constant": np.zeros(90),
        "two values": (np.arange(90) % 3 == 0) * 1.0,
        "equal rows": np.arange(90) % 2 * 1.0,
    }
    x = np.column_stack([x, others[case]]).astype(dtype)
    if case == "equal rows":
        x = x[np.arange(90) % 2]
    within = within_covariance(x)
    unit = np.sqrt(np.diagonal(within))
    correlation: np.ndarray = (within / np.outer(unit, unit)).astype(dtype)
    assert np.all(np.isfinite(np.linalg.cholesky(correlation)))
    assert np.all(np.isfinite(np.linalg.cholesky(np.linalg.inv(correlation))))


@pytest.mark.parametrize("kind", KINDS)
def test_a_gross_outlier_changes_nothing(kind: str) -> None:
    """One row at 1000 standard deviations is left out; today's covariance of all rows would be of its size."""
    x = _grouped()
    outlier = x.mean(axis=0) + 1000 * x.std(axis=0) * np.array([1, -1, 1])
    np.testing.assert_allclose(within_covariance(np.vstack([x, outlier]), kind), within_covariance(x, kind), rtol=1e-9)


def test_a_group_far_away_counts_as_a_group() -> None:
    """Half of the rows 100 standard deviations away are no outliers, and do not widen the groups."""
    x = np.random.default_rng(4).normal(size=(200, 2))
    x[::2] += 100
    assert np.all(np.linalg.eigvalsh(within_covariance(x)) < 2)


@pytest.mark.parametrize("kind", KINDS)
def test_missing_entries_leave_it_near_that_of_the_complete_rows(kind: str) -> None:
    """A tenth of the entries missing at random; no entry is NaN where a row has none at all."""
    complete = _grouped(600)
    x = complete.copy()
    x[np.random.default_rng(5).random(x.shape) < 0.1] = np.nan
    x[7] = np.nan
    ratios = np.linalg.eigvals(np.linalg.solve(within_covariance(complete, kind), within_covariance(x, kind))).real
    assert np.all((ratios > 0.8) & (ratios < 2))


def test_of_many_rows_an_even_part_is_looked_at() -> None:
    """Every third of 12,000 rows stands for them all."""
    x = _grouped(12_000)
    np.testing.assert_array_equal(within_covariance(x), within_covariance(x[::3]))


def test_the_spectrum_of_a_diagonal_matrix_is_that_of_a_decomposition() -> None:
    rng = np.random.default_rng(4)
    square = rng.normal(size=(30, 30))
    for matrix in (np.diag(rng.uniform(0.1, 5, 30)), square @ square.T):
        values, vectors = spectrum(matrix)
        np.testing.assert_allclose(values, np.linalg.eigvalsh(matrix), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose((vectors * values) @ vectors.T, matrix, atol=1e-9)
        np.testing.assert_allclose(along(vectors, square), np.diagonal(vectors.T @ square @ vectors), atol=1e-9)
