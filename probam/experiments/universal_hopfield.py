"""Universal Hopfield networks on images: Figures 2 to 6, 11 and 14 of Millidge et al. (2022), both normalisations.

Similarities follow CLAIMS C11 (divergences with a pseudocount, true Jensen-Shannon), separations C10 and C13. The
threshold is the paper's, 50, for the sum over all pixels and channels. The small digits, which are used where there are
no other images, have it scaled by the number of pixels.
"""

from collections.abc import Callable, Sequence
from itertools import count
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float

from probam.energies import universal
from probam.energies.separations import Identity, Log, Max, Polynomial, Softmax, Square, TopK
from probam.energies.similarities import SIMILARITIES, Similarity, smoothed
from probam.experiments.experiment import Experiment, Finding, Settings, register
from probam.experiments.image_retrieval import (
    PAPER_THRESHOLD,
    Damage,
    Rule,
    damaged,
    draw_sets,
    images,
    mean_image_retrieved,
    retrieved,
    run_retrieval,
)
from probam.experiments.universal_figures import drawings
from probam.reports.page import percent, table

__all__ = ["UNIVERSAL_HOPFIELD"]

_PSEUDOCOUNT = 1e-4
"""Added to images that sum to one before a divergence is computed: black pixels would make it infinite."""

_THRESHOLDS = (2.0, 5.0, 10.0, 20.0, PAPER_THRESHOLD / 2, 35.0, PAPER_THRESHOLD, 75.0, 100.0, 150.0, 250.0)
_MNIST_PIXELS = 784
_NUM_SETS = 10

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
    sizes, pools = _sizes(settings.full), images(settings.data)
    report = _progress(settings, len(pools) * (4 + len(sizes.noise) + len(sizes.mask)) + 2)
    key = jax.random.key(settings.seed)
    drawn = []
    for i, (name, pool) in enumerate(pools.items()):
        key_sets, key_damage = jax.random.split(jax.random.fold_in(key, i))
        drawn.append(_Images(name, draw_sets(key_sets, pool, _NUM_SETS, sizes.ladder[-1]), key_damage, sizes.ladder))
    parts = [_measured(one, sizes, report) for one in drawn]
    tree = {name: xr.concat([part[name] for part in parts], "images") for name in parts[0]}
    report("heteroassociation")
    tree |= _heteroassociation(jax.random.fold_in(key, len(pools)), drawn)
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
    capacity["mean_image"] = (("images", "num_memories", "set"), chance[None])
    return capacity


def _heteroassociation(key: jax.Array, drawn: Sequence[_Images]) -> dict[str, xr.Dataset]:
    """Whole image against its lower half as what the same scores read out: modern and classical network."""
    first, last = drawn[0], drawn[-1]  # the last are coloured, where there are coloured ones
    return {"modern": _modern(key, last), "classical": _classical(first), "examples": _examples(key, last)}


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


def _examples(key: jax.Array, at: _Images) -> xr.Dataset:
    """Figure 5: a few noisy images of ten that are stored, and the lower halves read out for them."""
    few, shown = 10, 4
    sets = at.sets[:1, :few]
    query = damaged(key, sets, jnp.asarray(0.5), "noise")[0]
    read = universal.retrieve(
        query.reshape(few, -1),
        sets[0].reshape(few, -1),
        "normalised dot",
        Max(),
        projection=_lower(sets)[0],
        normalised=True,
    )
    halves = ("example", "lower_row", "column", "channel")
    return xr.Dataset(
        {
            "query": (("example", "row", "column", "channel"), np.asarray(query[:shown])),
            "wanted": (halves, np.asarray(sets[0, :shown, sets.shape[2] // 2 :])),
            "read": (halves, np.asarray(read[:shown]).reshape(shown, -1, *sets.shape[3:])),
        }
    )


def _at_paper(tree: xr.DataTree, node: str) -> xr.DataArray:
    """Means over sets at the paper's threshold."""
    return tree[node].to_dataset()["retrieved"].sel(threshold=PAPER_THRESHOLD).mean("set")


def _ranked(values: xr.DataArray, dim: str) -> str:
    order = np.argsort(-values.values, kind="stable")
    return ", ".join(f"{values[dim].values[i]} {percent(float(values.values[i]))}" for i in order)


def _verdict(lead: float) -> Literal["agrees", "differs", "note"]:
    """Whether a difference of fractions has the sign that the paper states; below two percent it is no evidence."""
    return "note" if abs(lead) < 0.02 else "agrees" if lead > 0 else "differs"


def findings(tree: xr.DataTree) -> Sequence[Finding]:
    """The paper's statements on its figures, one by one, against the numbers of this run."""
    capacity, chance = _at_paper(tree, "capacity"), tree["capacity"].to_dataset()["mean_image"].mean("set")
    most = int(capacity["num_memories"].max())
    last, chance = capacity.sel(num_memories=most), chance.sel(num_memories=most)
    return [
        *(
            finding
            for name in capacity["images"].values
            for finding in _similarity_findings(last.sel(images=name), float(chance.sel(images=name)))
        ),
        *_separation_findings(tree),
        *_robustness_findings(tree),
        *_projection_findings(tree),
        _threshold_finding(tree),
    ]


def _similarity_findings(capacity: xr.DataArray, chance: float) -> list[Finding]:
    """Similarities on one kind of images, half masked, and the chance level."""
    name, most = capacity["images"].item(), int(capacity["num_memories"])
    three = ["manhattan", "squared euclidean", "normalised dot"]
    made = []
    for rule in (_CAPTION.name, _MAX.name):
        at = capacity.sel(rule=rule, similarity=three)
        best = float(at.sel(similarity="manhattan")) >= float(at.max()) - 0.02
        made.append(
            Finding(
                f"Manhattan is the best of the main three: {name}, half masked, {most} images, {rule}: "
                f"{_ranked(at, 'similarity')}.",
                "agrees" if best else "differs",
            )
        )
    at = capacity.sel(rule=_MAX.name)
    divergences = at.sel(similarity=["kl", "reverse kl", "jensen-shannon"])
    return [
        *made,
        Finding(
            f"Divergences do substantially worse than the main three: {name}, max: {_ranked(at, 'similarity')}. "
            "(The released program's Jensen-Shannon score is largest for the least similar image; this one is not.)",
            "agrees" if float(divergences.max()) < float(at.sel(similarity=three).min()) else "differs",
        ),
        Finding(
            f"Chance level: at a threshold of 50, the mean of all {most} images as the output for every query counts "
            f"as retrieved for {percent(chance)} of {name}.",
            "note",
        ),
    ]


def _separation_findings(tree: xr.DataTree) -> list[Finding]:
    separation = _at_paper(tree, "separation").isel(similarity=0)
    most = int(separation["num_memories"].max())
    last = separation.sel(num_memories=most)
    made = []
    for name in last["images"].values:
        at = last.sel(images=name)
        soft, high = float(at.sel(rule="softmax β = 1")), float(at.sel(rule="polynomial 10"))
        low, best = float(at.sel(rule="identity")), float(at.sel(rule="max"))
        made.append(
            Finding(
                f"Max and high powers retrieve most, low powers least: {name}, {most} images: {_ranked(at, 'rule')}.",
                "agrees" if best >= float(at.max()) - 0.02 and low <= high + 0.02 else "differs",
            )
        )
        made.append(
            Finding(
                f"Softmax at β = 1 does worse than the tenth power: {name}: {percent(soft)} against {percent(high)}.",
                _verdict(high - soft),
            )
        )
    cap = [percent(1 / (1 + (most - 1) * np.exp(-beta))) for beta in (1.0, 100.0)]
    known = _at_paper(tree, "capacity").sel(num_memories=most, similarity="manhattan").mean("images")
    weak, full = float(known.sel(rule=_CAPTION.name)), float(known.sel(rule=_MAX.name))
    return [
        *made,
        Finding(
            f"The normalisation causes the weakness of softmax at β = 1: among {most} scores that sum to one no weight "
            f"can exceed e / (e + K − 1) = {cap[0]}. At β = 100 the bound is {cap[1]}, but only an exact match attains "
            f"it: Manhattan retrieves {percent(weak)} there and {percent(full)} under max, mean over image sets.",
            "note",
        ),
        Finding(
            "At a large threshold, averages of several images count as retrieved and do better than the single image "
            "that max chooses. Log separation gives the least similar image the largest weight, and still retrieves "
            "by that average.",
            "note",
        ),
    ]


def _robustness_findings(tree: xr.DataTree) -> list[Finding]:
    noise = _at_paper(tree, "noise").sel(rule=_MAX.name)
    most, loudest = int(noise["num_memories"].max()), float(noise["level"].max())
    at = noise.sel(num_memories=most, level=loudest).mean("images")
    dots = max(float(at.sel(similarity=name)) for name in ("normalised dot", "cosine"))
    others = max(float(at.sel(similarity=name)) for name in ("squared euclidean", "manhattan"))
    mask = _at_paper(tree, "mask").sel(rule=_MAX.name, num_memories=most).mean("images")
    small = mask.isel(level=0)
    further = _at_paper(tree, "further").sel(rule=_MAX.name, num_memories=most).mean("images")
    random, painted = further.sel(damage="random mask"), further.sel(damage="inpainting")
    return [
        Finding(
            f"Dot products are most robust to strong noise: variance {loudest:g}, {most} images, max, mean over image "
            f"sets: {_ranked(at, 'similarity')}.",
            _verdict(dots - others),
        ),
        Finding(
            "Clipping moves the mean of a noisy pixel but not its median. Manhattan distance is least at the median "
            "and squared distance at the mean, so Manhattan should be best under clipped noise.",
            "note",
        ),
        Finding(
            f"Manhattan is best under small masks: {percent(float(small['level']))} masked: "
            f"{_ranked(small, 'similarity')}.",
            "agrees" if float(small.sel(similarity="manhattan")) >= float(small.max()) - 0.02 else "differs",
        ),
        Finding(
            f"Under random masking the dot product is more robust than Manhattan: {_ranked(random, 'similarity')}.",
            _verdict(float(random.sel(similarity="normalised dot") - random.sel(similarity="manhattan"))),
        ),
        Finding(
            f"Under inpainting Manhattan is best: {_ranked(painted, 'similarity')}.",
            "agrees" if float(painted.sel(similarity="manhattan")) >= float(painted.max()) - 0.02 else "differs",
        ),
    ]


def _projection_findings(tree: xr.DataTree) -> list[Finding]:
    modern, classical = (tree[node].to_dataset()["retrieved"].mean("set") for node in ("modern", "classical"))
    networks = {
        "max": modern.sel(rule=_MAX.name),
        "softmax β = 100, normalised": modern.sel(rule=_CAPTION.name),
        "the classical network": classical,
    }
    made = []
    for name, fractions in networks.items():
        auto = fractions.sel(task="auto", threshold=PAPER_THRESHOLD)
        same, fair = (
            float(np.abs(auto - fractions.sel(task="hetero", threshold=threshold)).max())
            for threshold in (PAPER_THRESHOLD, PAPER_THRESHOLD / 2)
        )
        made.append(
            Finding(
                f"Auto- and heteroassociation retrieve equally well, {name}: the weights are the same, so only the "
                f"scale of the error differs. Fractions differ by at most {percent(same)} at the same threshold of 50, "
                f"and by {percent(fair)} with 25 for the lower half, which has half the pixels.",
                "agrees" if same <= 0.05 else "note" if fair <= 0.05 else "differs",
            )
        )
    return made


def _threshold_finding(tree: xr.DataTree) -> Finding:
    curve = tree["capacity"].to_dataset()["retrieved"].sel(rule=_MAX.name).mean("set").isel(num_memories=-1)
    change = curve.sel(threshold=75.0) - curve.sel(threshold=35.0)
    three = change.sel(similarity=["manhattan", "squared euclidean", "normalised dot"]).max("similarity")
    gains = ", ".join(
        f"{name} {percent(float(gain))}" for name, gain in zip(three["images"].values, three.values, strict=True)
    )
    return Finding(
        f"The curve is flat at a threshold of 50, as the paper finds on CIFAR-10: from 35 to 75 the three main "
        f"similarities gain at most {gains}.",
        "agrees" if float(three[-1]) < 0.1 else "differs",
    )


def tables(tree: xr.DataTree) -> Sequence[str]:
    """Fractions retrieved by similarity and number of images, half masked, max separation, and their spread."""
    fractions = tree["capacity"].to_dataset()["retrieved"].sel(threshold=PAPER_THRESHOLD, rule=_MAX.name)
    sizes = fractions["num_memories"].values
    rows = []
    for name in fractions["images"].values:
        for kind in fractions["similarity"].values:
            cells = fractions.sel(images=name, similarity=kind)
            means, spreads = cells.mean("set").values, cells.std("set", ddof=1).values
            row = [f"{mean:.3f} ± {spread:.3f}" for mean, spread in zip(means, spreads, strict=True)]
            rows.append([f"{name}, {kind}", *row])
    caption = "Fraction retrieved, upper half masked, max separation; mean and standard deviation over ten sets"
    return [table(["images, similarity", *(f"K = {size}" for size in sizes)], rows, caption=caption)]


UNIVERSAL_HOPFIELD = register(
    Experiment(
        name="universal_hopfield",
        title="Universal Hopfield networks on images",
        question="Which similarity and separation bring stored images back, and what does the normalisation do to it?",
        source="Millidge et al. (2022), Universal Hopfield Networks, Figures 2 to 6, 11 and 14; claims C10 to C16",
        run=run,
        figures=drawings,
        findings=findings,
        tables=tables,
    )
)
