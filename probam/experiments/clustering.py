"""Clustering associative memories, mixtures and k-means on the same data, at an equal tuning budget.

The protocol of Saha et al. (2023), arXiv:2306.03209, made complete: columns are standardised, the number of memories is
the number of classes, every method tries the same number of settings with the same number of starts, and the setting
with the best silhouette on the training rows is kept; labels are never used. The silhouette alone can be raised by
dropping clusters. So ARI and NMI with the classes, the number of clusters left and the log density of held-out rows are
reported too. The Dirichlet process alone is not told the number of classes.

Whether clustering by recall is expectation maximisation is asked of the two losses themselves: the angle between their
gradients in the memories, and how far learning by recall moves the memories away from the optimum that EM has found.
"""

from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Float, Int
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score

from probam.data.shipped import load_labels, load_shipped
from probam.dynamics.learning import learn, reconstruction_error
from probam.energies import clam
from probam.errors import InputError
from probam.experiments.clusterers import METHODS, Split, gaussian_log_density, grouped, settings_of
from probam.experiments.clustering_findings import AUTHORS, PORT, SCORES, chosen_scores, findings
from probam.experiments.experiment import Drawing, Experiment, Settings, register
from probam.inference.em import engine as em
from probam.models.gaussian import Gaussian
from probam.models.mixture import mixture
from probam.models.weights import weight_prior
from probam.reports.figures.style import MEMORY_COLOURS, MUTED, log_axis, new_figure, quiet, styled
from probam.reports.page import escape, number, table

__all__ = ["CLUSTERING", "gradient_cosine", "likeliest"]

_STEPS, _STEP = 10, 0.1
"""Recall of the loss of Saha et al.: ten steps of a tenth of tau."""
_DRIFT_EPOCHS = 200
_ANGLES = 10
"""Starts at which the two gradients are compared, in each split."""
_MARKS = "os^xDvP"


@jax.jit
def gradient_cosine(
    memories: Float[jax.Array, "K D"], x: Float[jax.Array, "N D"], beta: Float[jax.Array, ""]
) -> Float[jax.Array, ""]:
    """Cosine of the angle between the gradients of two losses in the memories.

    One is the error of recall that CLAM descends. The other is the energy of the data, which is the negative log
    likelihood of the mixture up to a factor and a constant.

    Args:
        memories: where the gradients are taken.
        x: data.
        beta: inverse temperature of both.
    """
    by_recall = jax.grad(reconstruction_error)(memories, x, beta, num_steps=_STEPS, step=_STEP)
    by_likelihood = jax.grad(lambda at: jnp.sum(clam.energy(x, at, beta)))(memories)
    one, other = (gradient / jnp.linalg.norm(gradient) for gradient in (by_recall, by_likelihood))
    cosine: jax.Array = jnp.sum(one * other)
    return cosine


@jax.jit
def likeliest(
    memories: Float[jax.Array, "K D"], x: Float[jax.Array, "N D"], beta: Float[jax.Array, ""]
) -> Float[jax.Array, "K D"]:
    """Memories of maximum likelihood at that beta, by 2000 steps of EM without a prior.

    Args:
        memories: where to start.
        x: data.
        beta: inverse temperature of all components, whose weights are equal.
    """

    def step(_: jax.Array, at: jax.Array) -> jax.Array:
        shares = clam.responsibilities(x, at, beta)
        return shares.T @ x / shares.sum(axis=0)[:, None]

    best: jax.Array = jax.lax.fori_loop(0, 2000, step, memories)
    return best


def _two_losses(split: Split, seed: int) -> tuple[float, float, float]:
    """Angle of the gradients at random rows (degrees); distance that learning drifts from EM's optimum; nats lost.

    The mixture is that of the energy, with the width that EM finds. The optimum has no prior. The angle is
    a mean over starts. The distance is a root mean square over memories in standard deviations of a component; the nats
    are those of a training row.
    """
    model = mixture(
        split.train, family=Gaussian("isotropic"), weights=weight_prior("uniform"), num_components=split.num_components
    )
    x = jnp.asarray(split.train)
    best = em.run(jax.random.key(seed), model, x, restarts=2)
    beta = jnp.asarray(best.sites["beta"][0, 0])
    memories = np.asarray(likeliest(jnp.asarray(best.sites["loc"][0, 0]), x, beta))
    rng = np.random.default_rng([seed, 1])
    starts = [jnp.asarray(rng.permutation(split.train)[: split.num_components]) for _ in range(_ANGLES)]
    cosines = [float(gradient_cosine(start, x, beta)) for start in starts]
    angle = float(np.degrees(np.arccos(np.clip(cosines, -1, 1))).mean())
    moved = np.asarray(learn(jax.random.key(seed), split.train, memories, beta, num_epochs=_DRIFT_EPOCHS).memories)
    squares = 2 * float(beta) * np.sum((moved - memories) ** 2, axis=1) / memories.shape[1]
    before, after = (float(gaussian_log_density(split.train, at, float(beta)).mean()) for at in (memories, moved))
    return angle, float(np.sqrt(squares.mean())), before - after


def run(settings: Settings) -> xr.DataTree:
    """Scores of every method, setting and split on every set."""
    names = _names(settings)
    num_splits, restarts = (10, 10) if settings.full else (5, 2)
    groups: dict[str, xr.Dataset] = {}
    total = len(names) * num_splits * len(METHODS)
    num_settings = len(settings_of("CLAM"))
    for s, name in enumerate(names):
        x, classes = _load(name, settings.data)
        scores = np.full((len(SCORES), len(METHODS), num_settings, num_splits), np.nan)
        truth, losses = np.empty(num_splits), np.empty((3, num_splits))
        for t in range(num_splits):
            split = _split(x, classes, np.random.default_rng([settings.seed, s, t]))
            truth[t] = _silhouette(split.train, split.classes)
            losses[:, t] = _two_losses(split, (settings.seed * 1_000_003 + 97 * t) % 2**31)
            for m, method in enumerate(METHODS):
                settings.progress((s * num_splits + t) * len(METHODS) + m, total, f"{name}, {method}")
                for j, setting in enumerate(settings_of(method)):
                    seed = (settings.seed * 1_000_003 + 97 * t) % 2**31
                    grouping = grouped(method, split, seed, restarts, setting)
                    scores[:, m, j, t] = [
                        _silhouette(split.train, grouping.labels),
                        adjusted_rand_score(split.classes, grouping.labels),
                        normalized_mutual_info_score(split.classes, grouping.labels),
                        len(np.unique(grouping.labels)),
                        grouping.log_density,
                        grouping.refitted_log_density,
                    ]
        chosen = scores[0].argmax(axis=1)  # by silhouette, (clusterer, split)
        groups[name] = xr.Dataset(
            {
                **{score: (("clusterer", "setting", "split"), scores[i]) for i, score in enumerate(SCORES)},
                "chosen": (("clusterer", "split"), chosen),
                "silhouette_of_classes": ("split", truth),
                **{name: ("split", values) for name, values in zip(("angle", "drift", "lost"), losses, strict=True)},
            },
            coords={"clusterer": list(METHODS)},
            attrs={"num_data": len(x), "num_features": x.shape[1], "num_classes": len(np.unique(classes))},
        )
    tree = xr.DataTree.from_dict(groups)
    same = settings_of("EM").index({"covariance": "isotropic", "weights": "uniform"})
    tree.attrs |= {"restarts": restarts, "splits": num_splits, "settings": num_settings, "same_mixture": same}
    return tree


def _names(settings: Settings) -> list[str]:
    shipped = ["iris", "household"]
    if settings.data is None:
        return shipped
    candidates = ["clam_zoo", "clam_ecoli", "clam_segment"]
    candidates += ["uci_glass", "uci_ionosphere", "uci_wine", "banknote", "diabetes145"] if settings.full else []
    names = [name for name in candidates if (settings.data / name / "data.npz").is_file()]
    if not names:
        raise InputError(f"data: {settings.data} has none of {', '.join(candidates)}; expected NAME/data.npz in it")
    return names + shipped


def _load(name: str, folder: Path | None) -> tuple[Float[np.ndarray, "N D"], Int[np.ndarray, " N"]]:
    path = None if folder is None else folder / name / "data.npz"
    if path is None or not path.is_file():
        return load_shipped(name).values, np.unique(load_labels(name), return_inverse=True)[1]
    with np.load(path, allow_pickle=False) as stored:
        if "X" not in stored or "y" not in stored or stored["X"].ndim != 2:
            raise InputError(f"{path}: expected arrays X (N, D) and y (N,)")
        return stored["X"].astype(float), stored["y"].astype(int)


def _split(x: Float[np.ndarray, "N D"], classes: Int[np.ndarray, " N"], rng: np.random.Generator) -> Split:
    """Four fifths of the rows to train on; columns in units of their spread there, without constant columns."""
    order = rng.permutation(len(x))
    count = round(0.8 * len(x))
    rows = order[:count]
    varying = np.ptp(x[rows], axis=0) > 0
    x = x[:, varying]
    scaled = (x - x[rows].mean(axis=0)) / x[rows].std(axis=0)
    return Split(scaled[rows], scaled[order[count:]], classes[rows], len(np.unique(classes)))


def _silhouette(x: Float[np.ndarray, "N D"], labels: Int[np.ndarray, " N"]) -> float:
    """Mean silhouette; -1 where there is only one cluster, or every cluster has one member."""
    return float(silhouette_score(x, labels)) if 1 < len(np.unique(labels)) < len(x) else -1.0


# --- reading --------------------------------------------------------------------------------------------------


@styled
def figures(tree: xr.DataTree) -> Sequence[Drawing]:
    """Silhouette against agreement with the classes, all settings; held-out density of the chosen settings."""
    names = list(tree.children)
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(2.7 * columns + 2.0, 2.7 * rows + 0.3)
    for place, (axes, name) in enumerate(zip(figure.subplots(rows, columns, squeeze=False).flat, names, strict=False)):
        group = tree[name].to_dataset()
        for m, method in enumerate(METHODS):
            means = group.sel(clusterer=method)
            axes.plot(
                means["silhouette"].values.ravel(),
                means["ari"].values.ravel(),
                _MARKS[m],
                ms=4,
                alpha=0.75,
                mfc="none",
                color=MEMORY_COLOURS[m],
                label=method,
            )
        axes.axvline(float(group["silhouette_of_classes"].mean()), ls="--", lw=0.8, color=MUTED)
        axes.set_title(f"{name}, N = {group.attrs['num_data']}")
        axes.set_xlabel("silhouette")
        if place % columns == 0:
            axes.set_ylabel("ARI with the classes")
        axes.locator_params(axis="x", nbins=4)
        quiet(axes, grid="y")
    figure.axes[min(columns, len(names)) - 1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    for axes in figure.axes[len(names) :]:
        axes.set_axis_off()
    caption = (
        "All settings and splits. A high silhouette need not mean agreement with the classes. Dashed line: the "
        "silhouette of the classes themselves."
    )
    return [Drawing("silhouette", figure, caption), _density_drawing(tree)]


def _density_drawing(tree: xr.DataTree) -> Drawing:
    names = list(tree.children)
    figure = new_figure(7.4, 0.9 * len(names) + 1.2)
    axes = figure.subplots()
    shown = [m for m, method in enumerate(METHODS) if method != "von Mises-Fisher"]
    for row, m in enumerate(shown):
        for i, name in enumerate(names):
            scores = chosen_scores(tree[name].to_dataset())
            base = scores["refitted_log_density"].sel(clusterer="k-means")
            gain = (scores["log_density"].sel(clusterer=METHODS[m]) - base).values
            height = np.full(len(gain), i + 0.12 * (row - (len(shown) - 1) / 2))
            axes.plot(gain, height, _MARKS[m], ms=4, color=MEMORY_COLOURS[m], mfc="none")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    log_axis(axes, "x", [-10, -1, 0, 1, 10], linear_within=1.0)
    axes.axvline(0, lw=0.8, color=MUTED)
    axes.set_xlabel("held-out log density over that of k-means, nats per row")
    quiet(axes, grid="x")
    handles = [axes.plot([], [], _MARKS[m], color=MEMORY_COLOURS[m], mfc="none")[0] for m in shown]
    axes.legend(handles, [METHODS[m] for m in shown], loc="center left", bbox_to_anchor=(1.0, 0.5))
    caption = (
        "Mean log density of held-out rows, each method with the setting of its best silhouette. For CLAM it is that "
        "of the mixture of its energy, at its own beta. The von Mises-Fisher mixture is a density of directions, not "
        "of rows, and is left out."
    )
    return Drawing("log_density", figure, caption)


def tables(tree: xr.DataTree) -> Sequence[str]:
    """Scores of the chosen settings, mean and spread over splits, with reference numbers."""
    made = []
    for name in tree.children:
        group = tree[name].to_dataset()
        scores = chosen_scores(group)
        rows = [[method, *(_mean(scores[score].sel(clusterer=method)) for score in SCORES)] for method in METHODS]
        rows.append(
            ["the classes", _mean(group["silhouette_of_classes"]), "1", "1", str(group.attrs["num_classes"]), "–", "–"]
        )
        if name in AUTHORS:
            authors = AUTHORS[name]
            cells = [number(authors[score], 3) for score in ("silhouette", "ari", "nmi")]
            rows.append(["k-means, authors’ script", *cells, str(group.attrs["num_classes"]), "–", "–"])
        if name in PORT:
            rows.append(["CLAM, port of theirs", number(PORT[name][0]), "–", "–", str(PORT[name][1]), "–", "–"])
        header = ["", "silhouette", "ARI", "NMI", "clusters", "log density", "refitted"]
        caption = (
            f"{escape(name)}: mean ± standard deviation over splits; log density of held-out rows, nats per row, as it "
            "is and with a refitted width"
        )
        made.append(table(header, rows, caption=caption))
    return made


def _mean(values: xr.DataArray) -> str:
    mean, spread = float(values.mean()), float(values.std(ddof=1)) if values.size > 1 else 0.0
    return f"{number(mean, 3)} ± {number(spread, 2)}" if spread > 0 else number(mean, 3)


CLUSTERING = register(
    Experiment(
        name="clustering",
        title="CLAM, mixtures and k-means",
        question="Does clustering by recall beat k-means, and is it expectation maximisation?",
        source="Schaeffer et al. (2023), Sec. 3; Saha et al. (2023), arXiv:2306.03209",
        claims=("A10",),
        data="clam_zoo, clam_ecoli, clam_segment; with --full also further sets",
        words=("silhouette", "ARI", "NMI", "nats", "EM", "beta", "dp", "standard error"),
        run=run,
        figures=figures,
        findings=findings,
        tables=tables,
    )
)
