"""The command ``python -m benchmarks.held_out``: log density of rows that a fit has not seen, beside scikit-learn's.

Each data set is cut into halves ten times (seeds 0 to 9). A fit of one half, at the defaults, is judged by the mean log
density of the other, in nats a row. The differences to a peer are paired by split; their standard error is that of ten
such pairs. The six sets on which the default priors were chosen are marked.
"""

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture

import probam
from benchmarks.validation import made_by, replace_between
from probam.compiled import keep_compiled

__all__ = ["CHOSEN_ON", "REPORTED_ON", "Comparison", "compare_on", "is_behind", "main", "splits", "table"]

CHOSEN_ON = ("iris", "diabetes145", "acidity", "mclust_cross", "baudry_ex4_1", "gvhd_control")
REPORTED_ON = ("wine13", "banknote", "galaxy82", "faithful", "mclust_chevron", "baudry_ex4_4_1")

_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
_SPLITS = 10
_MOST_ROWS = 1000
"""Rows of a data set, evenly spaced, of which the halves are taken."""
_MOST_MEMORIES = 10
"""Largest number of components that BIC chooses from."""
_TRUNCATION = 20
_LENGTHS = {"gibbs": {"num_draws": 1000}}
"""Options of engines whose defaults would run until their chains agree, which a predictive density needs less."""

_ALLOWED = 0.02
"""Nats a row that a fit may be behind on one data set, beside two standard errors."""

Score = Callable[[Float[np.ndarray, "N D"], Float[np.ndarray, "M D"]], float]
"""Mean log density of held-out rows under a fit of the first."""


class Comparison(NamedTuple):
    """Scores of one data set: (splits,) of each method."""

    name: str
    num_rows: int
    num_features: int
    scores: dict[str, Float[np.ndarray, " S"]]


def _probam(engine: str) -> Score:
    def score(seen: Float[np.ndarray, "N D"], held_out: Float[np.ndarray, "M D"]) -> float:
        fit = probam.fit(seen, engine=engine, **_LENGTHS.get(engine, {}))
        return float(np.mean(np.asarray(fit.log_prob(held_out))))

    return score


def _variational_bayes(seen: Float[np.ndarray, "N D"], held_out: Float[np.ndarray, "M D"]) -> float:
    mixture = BayesianGaussianMixture(n_components=min(_TRUNCATION, len(seen)), random_state=0)
    return float(mixture.fit(seen).score(held_out))


def _chosen_by_bic(seen: Float[np.ndarray, "N D"], held_out: Float[np.ndarray, "M D"]) -> float:
    fits = [GaussianMixture(n_components=k, random_state=0).fit(seen) for k in range(1, _MOST_MEMORIES + 1)]
    return float(min(fits, key=lambda fit: fit.bic(seen)).score(held_out))


_PEERS: dict[str, Score] = {
    f"BayesianGaussianMixture({_TRUNCATION})": _variational_bayes,
    "GaussianMixture, number by BIC": _chosen_by_bic,
}


def splits(x: Float[np.ndarray, "N D"], number: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Random halves of the rows: seen, and held out."""
    for seed in range(number):
        order = np.random.default_rng(seed).permutation(len(x))
        half = len(x) // 2
        yield x[order[:half]], x[order[half : 2 * half]]


def compare_on(name: str, x: Float[np.ndarray, "N D"], engines: Sequence[str], number: int = _SPLITS) -> Comparison:
    """Every method on the same splits.

    Args:
        name: of the data set.
        x: (N, D) rows, of which at most 1,000 evenly spaced ones are used.
        engines: of probam.
        number: of splits.
    """
    x = x[:: -(-len(x) // _MOST_ROWS)]
    methods: dict[str, Score] = {f"probam {engine}": _probam(engine) for engine in engines} | _PEERS
    scores: dict[str, list[float]] = {method: [] for method in methods}
    for seen, held_out in splits(x, number):
        for method, score in methods.items():
            scores[method].append(score(seen, held_out))
    num_rows, num_features = x.shape
    return Comparison(name, num_rows, num_features, {method: np.array(values) for method, values in scores.items()})


def is_behind(difference: Float[np.ndarray, " S"]) -> bool:
    """Whether paired differences are below the bar: -0.02 nats a row less two standard errors."""
    error = float(np.std(difference, ddof=1) / np.sqrt(len(difference)))
    return bool(np.mean(difference) < -_ALLOWED - 2 * error)


def table(comparisons: Sequence[Comparison]) -> str:
    """Scores and paired differences (with their standard errors) as Markdown."""
    methods = list(comparisons[0].scores)
    ours, peers = [m for m in methods if m not in _PEERS], list(_PEERS)
    pairs = [(mine, peer) for mine in ours for peer in peers]
    head = ["data", "rows x features", *ours, *(f"{mine} less {peer}" for mine, peer in pairs)]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for one in comparisons:
        mark = " (chosen on)" if one.name in CHOSEN_ON else ""
        cells = [f"{one.name}{mark}", f"{one.num_rows} x {one.num_features}"]
        cells += [f"{np.mean(one.scores[mine]):.3f}" for mine in ours]
        for mine, peer in pairs:
            difference = one.scores[mine] - one.scores[peer]
            error = np.std(difference, ddof=1) / np.sqrt(len(difference))
            behind = " **behind**" if is_behind(difference) else ""
            cells.append(f"{np.mean(difference):+.3f} ({error:.3f}){behind}")
        lines.append("| " + " | ".join(cells) + " |")
    means = ["mean", ""] + [f"{np.mean([np.mean(c.scores[mine]) for c in comparisons]):.3f}" for mine in ours]
    for mine, peer in pairs:
        means.append(f"{np.mean([np.mean(c.scores[mine] - c.scores[peer]) for c in comparisons]):+.3f}")
    return "\n".join([*lines, "| " + " | ".join(means) + " |"])


def _read(folder: Path, name: str) -> Float[np.ndarray, "N D"] | None:
    path = folder / name / "data.npz"
    if not path.exists():
        print(f"{name}: {path} is absent; left out", file=sys.stderr)
        return None
    with np.load(path) as arrays:
        x: Any = arrays["X"] if "X" in arrays.files else arrays["mass"][:, None]
        return np.asarray(x, np.float64)


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m benchmarks.held_out``: 0 where no data set is behind a peer."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.held_out", description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, default=_DATA, help="folder with NAME/data.npz for each data set")
    parser.add_argument("--sets", nargs="+", choices=CHOSEN_ON + REPORTED_ON, default=CHOSEN_ON + REPORTED_ON)
    parser.add_argument("--engines", nargs="+", default=("em",))
    parser.add_argument("--splits", type=int, default=_SPLITS)
    parser.add_argument("--output", type=Path, help="a Markdown file in which the table is replaced")
    options = parser.parse_args(arguments)
    jax.config.update("jax_enable_x64", True)
    keep_compiled()
    warnings.filterwarnings("ignore", category=ConvergenceWarning)
    words = sys.argv[1:] if arguments is None else arguments
    comparisons = []
    for name in options.sets:
        x = _read(options.data, name)
        if x is None:
            continue
        comparisons.append(compare_on(name, x, options.engines, options.splits))
        jax.clear_caches()
        text = table(comparisons)
        if options.output is not None:  # after each set: nothing done is lost
            made = made_by(" ".join(["python -m benchmarks.held_out", *words]))
            replace_between(options.output, "held out", f"{made}\n\n{text}")
        print(comparisons[-1].name, file=sys.stderr)
    if not comparisons:
        print(f"no data set in {options.data}", file=sys.stderr)
        return 1
    print(table(comparisons))
    return int(any(map(is_behind, _differences(comparisons))))


def _differences(comparisons: Sequence[Comparison]) -> Iterator[Float[np.ndarray, " S"]]:
    for one in comparisons:
        for method in one.scores.keys() - _PEERS.keys():
            for peer in _PEERS:
                yield one.scores[method] - one.scores[peer]


if __name__ == "__main__":
    sys.exit(main())
