r"""What a mixture can get wrong about data, in numbers, and how unlikely those of the data are under the fit.

A *discrepancy* is a number that is computed alike from the data and from data replicated by a draw of the posterior.
Those here belong to four aspects: the spread of every feature and of every principal direction, the dependence of
pairs of features, the tails, and the density within the memories (the energy :math:`-\log p(x_i \mid \theta)` of each
datum). Each is standardised by the replicates of its draw, and all together give one number,

.. math:: M(x, \theta) = \max_j |z_j(x, \theta)|, \qquad p = P(M(x^{rep}, \theta) \ge M(x, \theta) \mid x),

the posterior predictive p-value of a discrepancy that depends on the parameters (Gelman, Meng and Stern 1996). Under
the prior predictive distribution it is at most as often small as a uniform number, up to a factor of two (Meng 1994);
because the parameters were fitted to the same data it is small far less often.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

__all__ = ["ASPECTS", "Discrepancies", "Judgement", "discrepancies", "judge"]

ASPECTS = {
    "spread": "the spread of features and principal directions",
    "dependence": "the dependence of pairs of features",
    "tails": "the tails",
    "density": "the density within memories",
}
"""What is looked at, in words."""

_FEWEST = 8
"""Least data of a memory whose own discrepancies are computed."""

_FLOOR = 1e-12
"""Added to variances before their logs are taken, in units of the spread that they are compared with."""

_AT_ONCE = 2**17
"""About so many numbers of data sets are looked at together: they stay in a cache."""

_ENERGY_QUANTILES = {"5 %": 0.05, "25 %": 0.25, "50 %": 0.5, "75 %": 0.75}


class Discrepancies(NamedTuple):
    """Discrepancies of M data sets."""

    names: list[str]
    aspects: list[str]  # of ASPECTS, one each
    values: Float[np.ndarray, "M J"]  # NaN where a data set has none


class _Named(NamedTuple):
    """Discrepancies of one aspect."""

    aspect: str
    names: list[str]
    values: Float[np.ndarray, "M J"]


def discrepancies(
    x: Float[np.ndarray, "M N D"],
    energy: Float[np.ndarray, "M N"],
    memory: Int[np.ndarray, "M N"],
    *,
    num_memories: int,
    columns: Sequence[str],
) -> Discrepancies:
    """The discrepancies of M data sets under one draw.

    Args:
        x: data sets of N rows.
        energy: minus the log density of each row under the draw, nats.
        memory: the memory that each row is most likely of, from 0 to ``num_memories`` - 1.
        num_memories: K.
        columns: names of the D features.
    """
    num_sets = max(1, _AT_ONCE // x[0].size)
    parts = [
        _of_sets(x[some], energy[some], memory[some], num_memories, columns)
        for some in (slice(begin, begin + num_sets) for begin in range(0, len(x), num_sets))
    ]
    return parts[0]._replace(values=np.concatenate([part.values for part in parts]))


def _of_sets(
    x: Float[np.ndarray, "M N D"],
    energy: Float[np.ndarray, "M N"],
    memory: Int[np.ndarray, "M N"],
    num_memories: int,
    columns: Sequence[str],
) -> Discrepancies:
    """Discrepancies of some data sets; each is a function of its own rows."""
    centred = x - x.mean(axis=1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=1))
    unit = centred / np.where(spread > 0, spread, 1)[:, None]
    parts = [
        *_of_features(unit, spread, columns),
        *_of_directions(unit),
        *_of_pairs(unit, columns),
        *_of_energies(energy),
        *_of_memories(unit, energy, memory, num_memories),
    ]
    return Discrepancies(
        [name for part in parts for name in part.names],
        [part.aspect for part in parts for _ in part.names],
        np.concatenate([part.values for part in parts], axis=1),
    )


def _of_features(
    unit: Float[np.ndarray, "M N D"], spread: Float[np.ndarray, "M D"], columns: Sequence[str]
) -> list[_Named]:
    """Spread, skewness and kurtosis of every feature."""
    return [
        _Named("spread", [f"spread of {name}" for name in columns], np.log(spread + _FLOOR)),
        _Named("tails", [f"skewness of {name}" for name in columns], (unit**3).mean(axis=1)),
        _Named("tails", [f"kurtosis of {name}" for name in columns], np.log((unit**4).mean(axis=1) + _FLOOR)),
    ]


def _of_directions(unit: Float[np.ndarray, "M N D"]) -> list[_Named]:
    """Spread and kurtosis along each data set's own principal directions, the widest first."""
    num_rows, num_features = unit.shape[1:]
    if num_features == 1:
        return []
    variances, directions = np.linalg.eigh(np.swapaxes(unit, 1, 2) @ unit / num_rows)
    variances = np.maximum(variances[:, ::-1], 0)
    along = unit @ directions[..., ::-1]
    kurtosis = (along**4).mean(axis=1) / (variances + _FLOOR) ** 2
    where = [f"principal direction {number + 1} of {num_features}" for number in range(num_features)]
    return [
        _Named("spread", [f"spread of {name}" for name in where], 0.5 * np.log(variances + _FLOOR)),
        _Named("tails", [f"kurtosis of {name}" for name in where], np.log(kurtosis + _FLOOR)),
    ]


def _of_pairs(unit: Float[np.ndarray, "M N D"], columns: Sequence[str]) -> list[_Named]:
    """Correlation of each pair of features, and of their squared deviations, as Fisher's z."""
    first, second = np.triu_indices(len(columns), 1)
    pairs = [f"{columns[i]} and {columns[j]}" for i, j in zip(first.tolist(), second.tolist(), strict=True)]
    squares = unit**2 - (unit**2).mean(axis=1, keepdims=True)
    width = np.sqrt((squares**2).mean(axis=1))
    squares = squares / np.where(width > 0, width, 1)[:, None]
    return [
        _Named("dependence", [f"{what} of {pair}" for pair in pairs], _fisher_z(values)[:, first, second])
        for what, values in (("correlation", unit), ("correlation of the squared deviations", squares))
    ]


def _fisher_z(standardised: Float[np.ndarray, "M N D"]) -> Float[np.ndarray, "M D D"]:
    correlation = np.swapaxes(standardised, 1, 2) @ standardised / standardised.shape[1]
    return np.asarray(np.arctanh(np.clip(correlation, -1 + 1e-9, 1 - 1e-9)))


def _of_energies(energy: Float[np.ndarray, "M N"]) -> list[_Named]:
    """Mean, spread, quantiles and largest value of the energy."""
    quantiles = np.quantile(energy, list(_ENERGY_QUANTILES.values()), axis=1).T
    names = ["mean energy", "spread of the energy", *(f"{name} quantile of the energy" for name in _ENERGY_QUANTILES)]
    values = np.column_stack([energy.mean(axis=1), np.log(energy.std(axis=1) + _FLOOR), quantiles])
    high = np.column_stack([np.quantile(energy, 0.95, axis=1), energy.max(axis=1)])
    return [
        _Named("density", names, values),
        _Named("tails", ["95 % quantile of the energy", "largest energy"], high),
    ]


def _of_memories(
    unit: Float[np.ndarray, "M N D"],
    energy: Float[np.ndarray, "M N"],
    memory: Int[np.ndarray, "M N"],
    num_memories: int,
) -> list[_Named]:
    """Energy and shape of the data of each memory: widest and narrowest direction, and kurtosis along the widest.

    Data that are two groups are flat along the direction that joins them: their kurtosis is small there.
    """
    num_sets, _, num_features = unit.shape
    cells = _Cells((memory + num_memories * np.arange(num_sets)[:, None]).ravel(), num_sets * num_memories)
    rows, energies = cells.sorted(unit.reshape(-1, num_features)), cells.sorted(energy.reshape(-1, 1))
    mean = cells.mean(energies)
    energy_variance = cells.mean((energies - cells.of_rows(mean)) ** 2)
    centred = rows - cells.of_rows(cells.mean(rows))
    first, second = np.triu_indices(num_features)
    covariance = np.empty((len(mean), num_features, num_features))
    covariance[:, first, second] = covariance[:, second, first] = cells.mean(centred[:, first] * centred[:, second])
    variances, directions = np.linalg.eigh(covariance)
    variances = np.maximum(variances, 0)
    along = np.sum(centred * cells.of_rows(directions[..., -1]), axis=1, keepdims=True)
    columns = {
        "mean energy": mean[:, 0],
        "spread of the energy": 0.5 * np.log(energy_variance[:, 0] + _FLOOR),
        "widest spread": 0.5 * np.log(variances[:, -1] + _FLOOR),
        "kurtosis of the widest direction": np.log(
            cells.mean(along**4)[:, 0] / (variances[:, -1] + _FLOOR) ** 2 + _FLOOR
        ),
    }
    if num_features > 1:
        columns["narrowest spread"] = 0.5 * np.log(variances[:, 0] + _FLOOR)
    return [
        _Named(
            "density", [f"{what} in memory {k + 1}" for k in range(num_memories)], cells.spread_out(values, num_sets)
        )
        for what, values in columns.items()
    ]


class _Cells:
    """Rows sorted by the cell (data set and memory) that they are in; empty cells are passed over."""

    def __init__(self, cell: Int[np.ndarray, " R"], num_cells: int) -> None:
        self._order = np.argsort(cell, kind="stable")
        count = np.bincount(cell, minlength=num_cells)
        self._used = np.flatnonzero(count)
        self._num_cells = num_cells
        self._count = count[self._used]
        self._begin = np.cumsum(self._count) - self._count

    def sorted(self, rows: Float[np.ndarray, "R F"]) -> Float[np.ndarray, "R F"]:
        """Rows in the order of their cells."""
        return rows[self._order]

    def mean(self, rows: Float[np.ndarray, "R F"]) -> Float[np.ndarray, "C F"]:
        """Means over the rows of each cell."""
        return np.asarray(np.add.reduceat(rows, self._begin, axis=0) / self._count[:, None])

    def of_rows(self, values: Float[np.ndarray, "C F"]) -> Float[np.ndarray, "R F"]:
        """The value of its cell for each row."""
        return np.repeat(values, self._count, axis=0)

    def spread_out(self, values: Float[np.ndarray, " C"], num_sets: int) -> Float[np.ndarray, "M K"]:
        """Values by data set and memory, NaN where a cell has too few rows."""
        every = np.full(self._num_cells, np.nan)
        every[self._used] = np.where(self._count >= _FEWEST, values, np.nan)
        return every.reshape(num_sets, -1)


class Judgement(NamedTuple):
    """How unlikely the discrepancies of the data are under a fit."""

    p_value: float
    deviation: Float[np.ndarray, " J"]  # of the data from their replicates, in standard deviations, mean over the draws


def judge(observed: Float[np.ndarray, "L J"], replicated: Float[np.ndarray, "L R J"]) -> Judgement:
    """Judge the discrepancies of the data by those of R replicates for each of L draws.

    A replicate is judged as the data are: by the other replicates of its draw. So p is exact where the data come from
    the draw itself, and larger than that where the draw was fitted to them.

    Args:
        observed: NaN where the data have none under a draw; it then says nothing.
        replicated: a NaN counts as the mean of the others.
    """
    num_draws, num_replicates, _ = replicated.shape
    counted = np.isfinite(replicated)
    total = np.where(counted, replicated, 0).sum(axis=1)
    mean = total / np.maximum(counted.sum(axis=1), 1)
    others = num_replicates / (num_replicates - 1)
    of_replicates = np.where(counted, (replicated - mean[:, None]) * others, 0)
    known = np.isfinite(observed) & (2 * counted.sum(axis=1) > num_replicates)
    of_data = np.where(known, observed - mean, 0)
    scale = _scales(of_replicates, mean)
    data_z, replicate_z = (
        np.where(each > 0, each / scale.above, each / scale.below) for each in (of_data, of_replicates)
    )
    farthest = np.abs(data_z).max(axis=1)
    as_far = int((np.abs(replicate_z).max(axis=2) >= farthest[:, None]).sum())
    return Judgement((1 + as_far) / (1 + num_draws * num_replicates), data_z.mean(axis=0))


class _Scales(NamedTuple):
    """Standard deviations of discrepancies on each side of their mean."""

    below: Float[np.ndarray, " J"]
    above: Float[np.ndarray, " J"]


def _scales(residual: Float[np.ndarray, "L R J"], mean: Float[np.ndarray, "L J"]) -> _Scales:
    """The standard deviation, or more where the tail on a side is heavier than that of a normal distribution."""
    pooled = residual.reshape(-1, residual.shape[2])
    least = np.maximum(pooled.std(axis=0), 1e-9 * (1 + np.abs(mean).max(axis=0)))
    low, high = np.quantile(pooled, [0.025, 0.975], axis=0) / 1.96
    return _Scales(np.maximum(-low, least), np.maximum(high, least))
