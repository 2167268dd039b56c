r"""Images completed from a part of their pixels by predictive coding, and by other memories of the same images.

The layers learn some images by local updates. Then the upper rows of an image are clamped, the hidden layers inferred,
and the lower rows read from their prediction: of the images that were learned, and of new ones. Modern Hopfield recall
is asked in two ways: with zeros where nothing is seen, as a query (its beta chosen in its favour), and clamped, where
the stored image that is nearest in the seen rows is found.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Bool, Float

from probam.energies.continuous_hopfield import ContinuousHopfield
from probam.energies.predictive_hierarchy import PredictiveCoding
from probam.energies.predictive_layers import Layers
from probam.experiments.experiment import Drawing, Experiment, Settings, register
from probam.experiments.finding import Finding, judged, mean_with_error, over_repeats, standard_errors
from probam.experiments.image_completion import by_gaussian, by_mean, by_nearest, hidden_error
from probam.experiments.image_retrieval import IMAGE_SETS, images
from probam.reports.figures.style import MEMORY_COLOURS, new_figure, quiet, styled
from probam.reports.page import number, percent, table

__all__ = ["PREDICTIVE_CODING", "by_hopfield", "gap_to_the_conditional"]

_FRACTIONS = (0.25, 0.5, 0.75)
_OURS, _QUERY, _CLAMPED, _GAUSS, _MEAN = (
    "predictive coding",
    "Hopfield, zeros as query",
    "Hopfield, clamped",
    "Gaussian conditional",
    "mean image",
)
_METHODS = (_OURS, _QUERY, _CLAMPED, _GAUSS, _MEAN)
_BETAS = (0.3, 1.0, 3.0, 10.0, 100.0)
_Rows = Float[np.ndarray, "I P"]
_complete = jax.jit(PredictiveCoding.completed)


def by_hopfield(stored: Float[np.ndarray, "N P"], images: _Rows, hidden: Bool[np.ndarray, "I P"]) -> _Rows:
    """Hidden pixels from one update of a query that is zero there, at the best beta of :data:`_BETAS`."""
    query = jnp.where(hidden, 0, images)
    reads = [np.asarray(ContinuousHopfield(stored, beta).update(query)) for beta in _BETAS]
    best = min(reads, key=lambda read: hidden_error(read, images, hidden))
    return np.where(hidden, best, images)


def gap_to_the_conditional(rng: np.random.Generator) -> float:
    """Largest distance between the completion by one linear layer and the Gaussian conditional mean, random weights."""
    weight, bias, seen = rng.normal(size=(12, 5)) / 2, rng.normal(size=12), rng.normal(size=(20, 12))
    layers = Layers((jnp.asarray(weight),), (jnp.asarray(bias), jnp.zeros(5)))
    known = np.arange(12) < 5
    completed = PredictiveCoding(layers, 0.6, "linear", 2000).completed(jnp.asarray(seen), jnp.asarray(known))
    covariance = 0.36 * np.eye(12) + weight @ weight.T
    gain = np.linalg.solve(covariance[:5, :5], covariance[:5, 5:])
    wanted = bias[5:] + (seen[:, :5] - bias[:5]) @ gain
    return float(np.abs(np.asarray(completed)[:, 5:] - wanted).max())


def _errors(settings: Settings, pool: Float[np.ndarray, "I H W C"], repeat: int) -> Float[np.ndarray, "2 F M"]:
    """Mean squared errors of hidden pixels: of stored and new images, by fraction and method."""
    count = 200 if settings.full else 50
    rng = np.random.default_rng([settings.seed, repeat])
    rows = pool[rng.permutation(len(pool))[: 2 * count]].reshape(2 * count, -1)
    stored = rows[:count]
    options = {"width": 256, "depth": 2, "num_epochs": 10_000} if settings.full else {"width": 64, "num_epochs": 1000}
    memory = replace(PredictiveCoding.store(jnp.asarray(stored), seed=repeat, **options), num_steps=400)  # type: ignore[arg-type]
    methods: dict[str, Callable[[_Rows, _Rows, Bool[np.ndarray, "I P"]], _Rows]] = {
        _OURS: lambda _, at, hidden: np.asarray(_complete(memory, jnp.asarray(at), jnp.asarray(~hidden))),
        _QUERY: by_hopfield,
        _CLAMPED: by_nearest,
        _GAUSS: by_gaussian,
        _MEAN: by_mean,
    }
    height = pool.shape[1]
    found = np.empty((2, len(_FRACTIONS), len(_METHODS)))
    for i, part in enumerate((stored, rows[count:])):
        for j, fraction in enumerate(_FRACTIONS):
            seen = np.arange(height) < round(fraction * height)
            hidden = np.broadcast_to(~np.repeat(seen, part.shape[1] // height), part.shape)
            for k, name in enumerate(_METHODS):
                found[i, j, k] = hidden_error(methods[name](stored, part, hidden), part, hidden)
    return found


def run(settings: Settings) -> xr.DataTree:
    """Errors by set of images, stored or new, fraction, method and repeat; and the gap of one linear layer."""
    repeats = 10 if settings.full else 6
    made: dict[str, xr.Dataset] = {}
    for name, pool in images(settings.data, 400 if settings.full else 100).items():
        parts = []
        for repeat in range(repeats):
            settings.progress(repeat, repeats, f"{name}, repeat {repeat + 1} of {repeats}")
            parts.append(_errors(settings, pool, repeat))
        made[name] = xr.Dataset(
            {"error": (("repeat", "which", "fraction", "by"), np.stack(parts))},
            coords={"which": ["stored", "new"], "fraction": list(_FRACTIONS), "by": list(_METHODS)},
        )
    gaps = [gap_to_the_conditional(np.random.default_rng([settings.seed, 99, r])) for r in range(repeats)]
    return xr.DataTree.from_dict(
        {f"images/{name}": one for name, one in made.items()}
        | {"linear": xr.Dataset({"gap": ("repeat", np.array(gaps))})}
    )


# --- reading --------------------------------------------------------------------------------------------------


def _sets(tree: xr.DataTree) -> dict[str, xr.DataArray]:
    return {name: node.to_dataset()["error"] for name, node in tree["images"].children.items()}


@styled
def figures(tree: xr.DataTree) -> Sequence[Drawing]:
    """Error of the hidden pixels against the fraction that is seen."""
    return [_drawing(name, error) for name, error in _sets(tree).items()]


def _drawing(name: str, error: xr.DataArray) -> Drawing:
    figure = new_figure(7.2, 3.2)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, which in zip(panels, ("stored", "new"), strict=True):
        for i, (method, mark) in enumerate(zip(_METHODS, "os^Dv", strict=True)):
            at = error.sel(which=which, by=method)
            bars = 2 * standard_errors(at, "repeat")
            style = {"fmt": f"{mark}-", "ms": 4, "color": MEMORY_COLOURS[i]}
            axes.errorbar(error["fraction"], at.mean("repeat"), bars, label=method, **style)
        axes.set(xlabel="fraction of the rows that is seen", title=f"{which} images", xticks=_FRACTIONS)
        quiet(axes, grid="y")
    panels[0].set_ylabel("squared error of a hidden pixel")
    panels[0].set_ylim(0, None)
    panels[0].legend(fontsize=7)
    caption = (
        f"{name}: mean squared error of the hidden pixels, for images that are stored and for new ones. Bars are two "
        "standard errors over sets of stored images."
    )
    return Drawing(f"completion_{name}", figure, caption)


def findings(tree: xr.DataTree) -> Sequence[Finding]:
    """The exact case is judged; comparisons are notes, since these are not the paper's images."""
    gaps = tree["linear"].to_dataset()["gap"].values
    made = [
        judged(
            f"One linear layer completes by the Gaussian conditional mean: the largest difference is "
            f"{number(float(gaps.max()), 2)}.",
            over_repeats(gaps, "Largest difference", "random layers, 20 states each"),
            (-np.inf, 1e-9),
            "A difference above rounding would have shown the opposite.",
        )
    ]
    for name, error in _sets(tree).items():
        for which, others in (("stored", (_QUERY, _CLAMPED)), ("new", (_CLAMPED, _GAUSS))):
            made += [_against(name, error.sel(which=which, fraction=0.5), which, other) for other in others]
    return made


def _against(name: str, error: xr.DataArray, which: str, other: str) -> Finding:
    ours, theirs = error.sel(by=_OURS), error.sel(by=other)
    lead = (theirs - ours).values
    word = "smaller" if lead.mean() > 0 else "larger"
    return Finding(
        f"{name}, {which} images, half of the rows seen: the mean squared error of a hidden pixel is "
        f"{number(float(ours.mean()), 3)} by predictive coding, {word} than the {number(float(theirs.mean()), 3)} by "
        f"{other}. The mean image has {number(float(error.sel(by=_MEAN).mean()), 3)}.",
        "note",
        over_repeats(lead, f"Error by {other} less that by predictive coding", "sets of images"),
        "The other sign would have shown the opposite.",
    )


def tables(tree: xr.DataTree) -> Sequence[str]:
    """Errors by fraction and method."""
    made = []
    for name, error in _sets(tree).items():
        for which in ("stored", "new"):
            rows = [
                [
                    percent(float(fraction)),
                    *(mean_with_error(error.sel(which=which, fraction=fraction, by=one)) for one in _METHODS),
                ]
                for fraction in error["fraction"].values
            ]
            caption = f"{name}, {which} images: squared error of a hidden pixel"
            made.append(table(["seen", *_METHODS], rows, caption=caption))
    return made


PREDICTIVE_CODING = register(
    Experiment(
        name="predictive_coding",
        title="Images completed by predictive coding",
        question="How well do layers that predict each other complete an image from a part of it, and how well other "
        "memories of the same images?",
        source="Salvatori et al. (2021), Associative memories via predictive coding, arXiv:2109.08063",
        claims=("D8",),
        data=IMAGE_SETS,
        words=("standard error", "beta"),
        run=run,
        figures=figures,
        findings=findings,
        tables=tables,
    )
)
