"""Universal Hopfield networks on images: Figures 2 to 8 and 10 to 14 of Millidge et al. (2022), both normalisations.

Similarities follow CLAIMS C11 (divergences with a pseudocount, true Jensen-Shannon), separations C10 and C13. The
threshold is the paper's, 50, for the sum over all pixels and channels. The small digits, which are used where there are
no other images, have it scaled by the number of pixels. The paper's "dot" is the normalised dot product here: its
Appendix E divides images by their sum. Its released program sets the lower half of an image to zero; the paper says,
and this experiment does, the upper half.
"""

from collections.abc import Callable, Sequence
from itertools import count
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float

from probam.energies.separations import Identity, Log, Max, Polynomial, Softmax, Square, TopK
from probam.energies.similarities import SIMILARITIES, Similarity, smoothed
from probam.experiments.experiment import Experiment, Settings, register
from probam.experiments.image_retrieval import (
    IMAGE_SETS,
    PAPER_THRESHOLD,
    Damage,
    Rule,
    draw_sets,
    images,
    mean_image_retrieved,
    of_the_paper,
    retrieved,
    run_retrieval,
)
from probam.experiments.universal_examples import errors_shown, heteroassociated, reconstructions
from probam.experiments.universal_figures import drawings
from probam.experiments.universal_findings import findings
from probam.reports.page import escape, number, table

__all__ = ["UNIVERSAL_HOPFIELD"]

_PSEUDOCOUNT = 1e-4
"""Added to images that sum to one before a divergence is computed: black pixels would make it infinite."""

_THRESHOLDS = (2.0, 5.0, 10.0, 20.0, PAPER_THRESHOLD / 2, 35.0, PAPER_THRESHOLD, 75.0, 100.0, 150.0, 250.0)
_MNIST_PIXELS = 784
_NUM_SETS = 10
_SHOWN_AMONG = 100
"""Images stored where examples are shown."""

_CAPTION = Rule("softmax β = 100, normalised", Softmax(100.0), True)
_NATURAL = Rule("softmax β = 100, natural", Softmax(100.0), False)
_MAX = Rule("max", Max(), True)
_SEPARATIONS = (
    Rule("identity", Identity(), True),
    Rule("square", Square(), True),
    Rule("polynomial 10", Polynomial(10), True),
    Rule("log", Log(), True),
    Rule("softmax β = 1", Softmax(1.0), True),
    Rule("softmax β = 100", Softmax(100.0), True),
    Rule("top 3", TopK(3), True),
    Rule("max", Max(), True),
    Rule("identity, natural", Identity(), False),
    Rule("softmax β = 1, natural", Softmax(1.0), False),
    Rule("softmax β = 100, natural", Softmax(100.0), False),
)


def _kinds(*names: str) -> dict[str, Similarity]:
    chosen = names or tuple(name for name in SIMILARITIES if name not in ("hamming", "dot"))
    kinds = {name: SIMILARITIES[name] for name in chosen}
    return {
        name: smoothed(kind, _PSEUDOCOUNT) if kind.domain == "nonnegative" else kind for name, kind in kinds.items()
    }


def _limits(sets: Array) -> tuple[float, ...]:
    """The paper's thresholds, scaled down for images smaller than its smallest."""
    scale = min(1.0, float(np.prod(sets.shape[2:])) / _MNIST_PIXELS)
    return tuple(scale * threshold for threshold in _THRESHOLDS)


class _Sizes(NamedTuple):
    """The size of the paper's figures that is run."""

    ladder: tuple[int, ...]  # numbers of stored images
    noise: tuple[float, ...]
    mask: tuple[float, ...]
    robust: dict[str, Similarity]  # similarities that are tried on noise and masks


def _sizes(full: bool) -> _Sizes:
    if full:
        return _Sizes(
            (10, 25, 50, 100, 200, 500), (0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0), (0.1, 0.3, 0.5, 0.7, 0.9), _kinds()
        )
    robust = _kinds("normalised dot", "cosine", "squared euclidean", "manhattan", "kl")
    return _Sizes((10, 25, 50, 100), (0.1, 0.3, 0.5, 1.0), (0.25, 0.5, 0.75, 0.9), robust)


class _Images(NamedTuple):
    """Ten sets of images of one kind, and the key for their damage."""

    name: str
    sets: Float[Array, "S K H W C"]
    key: jax.Array
    ladder: tuple[int, ...]

    def measure(self, kinds: dict[str, Similarity], rules: Sequence[Rule], damage: Damage, level: float) -> xr.Dataset:
        """Fractions retrieved, thresholds in the paper's units."""
        fractions = run_retrieval(
            self.key,
            self.sets,
            kinds,
            rules,
            damage=damage,
            level=level,
            ladder=self.ladder,
            thresholds=_limits(self.sets),
        )
        values = fractions.assign_coords(threshold=list(_THRESHOLDS))
        return xr.Dataset({"retrieved": values}).expand_dims(images=[self.name])


def run(settings: Settings) -> xr.DataTree:
    """All figures for every image set available, with ten sets of memories each."""
    sizes = _sizes(settings.full)
    pools = images(settings.data, sizes.ladder[-1])
    report = _progress(settings, len(pools) * (4 + len(sizes.noise) + len(sizes.mask)) + 2)
    key = jax.random.key(settings.seed)
    drawn = []
    for i, (name, pool) in enumerate(pools.items()):
        key_sets, key_damage = jax.random.split(jax.random.fold_in(key, i))
        drawn.append(_Images(name, draw_sets(key_sets, pool, _NUM_SETS, sizes.ladder[-1]), key_damage, sizes.ladder))
    parts = [_measured(one, sizes, report) for one in drawn]
    tree = {name: xr.concat([part[name] for part in parts], "images") for name in parts[0]}
    report("heteroassociation")
    tree |= _read_out(jax.random.fold_in(key, len(pools)), drawn)
    for node in tree.values():
        if "retrieved" in node:
            node["retrieved"].attrs["long_name"] = "fraction of the stored images that were read back"
        if "threshold" in node.coords:
            node["threshold"].attrs["long_name"] = (
                "sum of squared differences over pixels and channels, pixels in [0, 1]"
            )
    return xr.DataTree.from_dict(tree)


def _progress(settings: Settings, total: int) -> Callable[[str], None]:
    """Reports a text as one more step of ``total``."""
    steps = count()
    return lambda text: settings.progress(next(steps), total, text)


def _measured(at: _Images, sizes: _Sizes, report: Callable[[str], None]) -> dict[str, xr.Dataset]:
    """Figures 2, 3, 4 and 14 on one kind of images."""
    both = (_CAPTION, _MAX)

    def at_levels(damage: Damage, levels: Sequence[float]) -> xr.Dataset:
        parts = []
        for level in levels:
            report(f"{at.name}: {damage} {level:g}")
            parts.append(at.measure(sizes.robust, both, damage, level).expand_dims(level=[level]))
        return xr.concat(parts, "level")

    report(f"{at.name}: similarities")
    capacity = _capacity(at)
    report(f"{at.name}: separations")
    separation = at.measure(_kinds("normalised dot"), _SEPARATIONS, "mask", 0.5)
    noise, mask = at_levels("noise", sizes.noise), at_levels("mask", sizes.mask)
    main = _kinds("normalised dot", "squared euclidean", "manhattan")
    further = []
    damages: tuple[Damage, ...] = ("random mask", "inpainting")
    for damage in damages:
        report(f"{at.name}: {damage}")
        further.append(at.measure(main, both, damage, 0.5).expand_dims(damage=[damage]))
    return {
        "capacity": capacity,
        "separation": separation,
        "noise": noise,
        "mask": mask,
        "further": xr.concat(further, "damage"),
    }


def _capacity(at: _Images) -> xr.Dataset:
    """All similarities on half-masked images, and what reading the mean image retrieves."""
    capacity = at.measure(_kinds(), (_CAPTION, _NATURAL, _MAX), "mask", 0.5)
    memories = at.sets.reshape(*at.sets.shape[:2], -1)
    limit = jnp.asarray(_limits(at.sets)[_THRESHOLDS.index(PAPER_THRESHOLD)], at.sets.dtype)
    chance = np.asarray(mean_image_retrieved(memories, limit, at.ladder)).T
    capacity["threshold_used"] = ("images", [float(limit)])
    capacity["of_the_paper"] = ("images", np.array([of_the_paper(at.name, at.sets.shape[2:])], np.int8))
    capacity["mean_image"] = (("images", "num_memories", "set"), chance[None])
    return capacity


def _read_out(key: jax.Array, drawn: Sequence[_Images]) -> dict[str, xr.Dataset]:
    """Whole image against its lower half as what the same scores read out: modern and classical network; examples."""
    coloured = [at for at in drawn if at.sets.shape[-1] == 3]
    grey = [at for at in drawn if at.sets.shape[-1] == 1]
    modern, classical = (coloured or drawn)[0], (grey or drawn)[0]
    stored, scale = modern.sets[0, :_SHOWN_AMONG], _limits(modern.sets)[0] / _THRESHOLDS[0]
    return {
        "modern": _modern(key, modern),
        "classical": _classical(classical),
        "examples": heteroassociated(key, stored).assign_attrs(images=modern.name),
        "reconstructions": reconstructions(key, stored).assign_attrs(images=modern.name),
        "errors": errors_shown(stored, scale).assign_attrs(images=modern.name),
    }


def _modern(key: jax.Array, at: _Images) -> xr.Dataset:
    """Figure 6 for noisy images under the modern network."""
    both = [
        run_retrieval(
            key,
            at.sets,
            _kinds("normalised dot"),
            (_CAPTION, _MAX),
            damage="noise",
            level=0.5,
            ladder=at.ladder,
            thresholds=_limits(at.sets),
            projection=projection,
        )
        .assign_coords(threshold=list(_THRESHOLDS))
        .isel(similarity=0, drop=True)
        .expand_dims(task=[task])
        .to_dataset(name="retrieved")
        for task, projection in (("auto", None), ("hetero", _lower(at.sets)))
    ]
    return xr.concat(both, "task").assign_attrs(images=at.name)


def _lower(sets: Float[Array, "S K H W C"]) -> Float[Array, "S K O"]:
    """Pixels of the lower halves."""
    return sets[:, :, sets.shape[2] // 2 :].reshape(*sets.shape[:2], -1)


def _classical(at: _Images) -> xr.Dataset:
    """Figure 6 for binary images under the classical network, the upper half as the query."""
    sets = at.sets
    spins = jnp.where(sets.reshape(*sets.shape[:2], -1) >= 0.5, 1.0, -1.0).astype(sets.dtype)
    shown = sets.shape[2] // 2 * sets.shape[3] * sets.shape[4]
    upper, hidden = spins[..., :shown], spins[..., shown:]
    ladder = tuple(size for size in (2, 5, *at.ladder) if size <= 100)
    values = jnp.einsum("sqd,skd->sqk", upper, upper, precision="highest")
    limits = jnp.asarray(_limits(sets), sets.dtype)
    fractions = [
        retrieved(values, target, Identity(), limits, is_distance=False, normalised=False, ladder=ladder, signs=True)
        for target in (spins, hidden)
    ]
    both = xr.DataArray(
        np.moveaxis(np.asarray(fractions), 1, -1),
        dims=("task", "num_memories", "threshold", "set"),
        coords={"task": ["auto", "hetero"], "num_memories": list(ladder), "threshold": list(_THRESHOLDS)},
    )
    return xr.Dataset({"retrieved": both}, attrs={"images": at.name})


def tables(tree: xr.DataTree) -> Sequence[str]:
    """Fractions retrieved by similarity and number of images, half masked, max separation, and their spread."""
    capacity = tree["capacity"].to_dataset()
    fractions = capacity["retrieved"].sel(threshold=PAPER_THRESHOLD, rule=_MAX.name)
    sizes = fractions["num_memories"].values
    rows = []
    for name in fractions["images"].values:
        for kind in fractions["similarity"].values:
            cells = fractions.sel(images=name, similarity=kind)
            means, spreads = cells.mean("set").values, cells.std("set", ddof=1).values
            row = [f"{mean:.3f} ± {spread:.3f}" for mean, spread in zip(means, spreads, strict=True)]
            rows.append([escape(f"{name}, {kind}"), *row])
    used = zip(capacity["images"].values, capacity["threshold_used"].values, strict=True)
    limits = ", ".join(f"{number(float(limit), 3)} for {escape(name)}" for name, limit in used)
    caption = (
        "Fraction retrieved, upper half masked, max separation; mean and standard deviation over ten sets. Threshold: "
        f"{limits}"
    )
    return [table(["images, similarity", *(f"K = {size}" for size in sizes)], rows, caption=caption)]


UNIVERSAL_HOPFIELD = register(
    Experiment(
        name="universal_hopfield",
        title="Universal Hopfield networks on images",
        question="Which similarity and separation bring stored images back, and what does the normalisation do to it?",
        source="Millidge et al. (2022), Universal Hopfield Networks, Figures 2 to 8 and 10 to 14",
        claims=("C10", "C11", "C12", "C13", "C14", "C15", "C16"),
        data=IMAGE_SETS,
        words=("similarity", "separation", "threshold", "standard error"),
        run=run,
        figures=drawings,
        findings=findings,
        tables=tables,
    )
)
