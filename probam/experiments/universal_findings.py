"""What the experiment on universal Hopfield networks found, statement by statement.

The paper is judged on its own kinds of images only (MNIST, CIFAR-10, Tiny ImageNet); on others the same sentences are
notes. Leads are differences of fractions on the same set of images, so that their errors are over the ten sets.
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from jaxtyping import Float

from probam.experiments.finding import Finding, judged, over_repeats
from probam.experiments.image_retrieval import PAPER_THRESHOLD
from probam.reports.page import number, percent, with_error

__all__ = ["findings", "lead"]

_CAPTION, _MAX = "softmax β = 100, normalised", "max"
_MAIN = ["manhattan", "squared euclidean", "normalised dot"]
_SEPARATIONS = ["identity", "square", "polynomial 10", "log", "softmax β = 1", "softmax β = 100"]
"""What the paper compares max with."""
_TIE = 0.02
"""Difference of fractions below which two similarities are equally good."""
_SETS = "sets of images"


def lead(values: xr.DataArray, dim: str, ones: Sequence[str], others: Sequence[str]) -> Float[np.ndarray, " S"]:
    """How far the best of ``ones`` is above the best of ``others``, set by set.

    Both are chosen by their mean over sets, so that a set cannot choose its own best.

    Args:
        values: fractions by ``dim`` and set.
        dim: along which the names stand.
        ones: names that are said to be better.
        others: names that they are compared with; those in ``ones`` are left out.
    """

    def best(names: Sequence[str]) -> xr.DataArray:
        at = values.sel({dim: list(names)})
        return at.isel({dim: int(at.mean("set").values.argmax())})

    rest = [name for name in others if name not in ones]
    return np.asarray((best(ones) - best(rest)).values, float)


class _Numbers:
    """The fractions at the paper's threshold, and what kind of images they are of."""

    def __init__(self, tree: xr.DataTree) -> None:
        self._tree = tree
        self.capacity = tree["capacity"].to_dataset()
        self.most = int(self.capacity["num_memories"].max())

    def at(self, node: str) -> xr.DataArray:
        """Fractions of a figure at the paper's threshold, by set."""
        return self._tree[node].to_dataset()["retrieved"].sel(threshold=PAPER_THRESHOLD)

    def is_judged(self, name: str) -> bool:
        """Whether the paper used such images."""
        return bool(self.capacity["of_the_paper"].sel(images=name))

    def place(self, name: str) -> str:
        """Images and threshold in words."""
        limit = float(self.capacity["threshold_used"].sel(images=name))
        scaled = "" if limit == PAPER_THRESHOLD else f", which is {PAPER_THRESHOLD:g} scaled to their pixels"
        return f"{name}, {self.most} images stored, threshold {number(limit, 3)}{scaled}"

    def finding(
        self,
        name: str,
        said: str,
        found: str,
        differences: np.ndarray,
        what: str,
        claimed: tuple[float, float],
        opposite: str,
    ) -> Finding:
        """A verdict on the paper's images, a note on others.

        Args:
            name: of the images.
            said: what the paper says.
            found: what was measured.
            differences: what decides, by set.
            what: these differences in words.
            claimed: values that the statement allows.
            opposite: a sentence on what would have shown the opposite.
        """
        if self.is_judged(name):
            text = f"{said[0].upper()}{said[1:]}: {found} ({self.place(name)})."
            return judged(text, over_repeats(differences, what, _SETS), claimed, opposite)
        at = over_repeats(differences, what, _SETS)
        return Finding(f"The paper: {said}. On {name}: {found}. {what}: {with_error(at.value, at.error)}.", "note")


def findings(tree: xr.DataTree) -> Sequence[Finding]:
    """The paper's statements on its figures, one by one, against the numbers of this run."""
    numbers = _Numbers(tree)
    names = [str(name) for name in numbers.capacity["images"].values]
    made = []
    for name in names:
        made += _similarity_findings(numbers, name)
        made += _separation_findings(numbers, name)
        made += _noise_findings(numbers, name)
        made += _mask_findings(numbers, name)
        made.append(_threshold_finding(numbers, name))
    places = [_place_note(numbers, name) for name in names]
    return [*places, *made, _normalisation_finding(numbers), *_projection_findings(tree, numbers), *_general_notes()]


def _place_note(numbers: _Numbers, name: str) -> Finding:
    judges = (
        "The paper used such images and is judged by them."
        if numbers.is_judged(name)
        else "The paper used MNIST, CIFAR-10 and Tiny ImageNet, so that these do not judge it. Such images can be "
        "given with --data."
    )
    return Finding(f"Images and threshold: {numbers.place(name)}. {judges}", "note")


def _ranked(values: xr.DataArray, dim: str) -> str:
    """Names with their mean fractions, best first."""
    means = values.mean("set").values
    order = np.argsort(-means, kind="stable")
    return ", ".join(f"{values[dim].values[i]} {percent(float(means[i]))}" for i in order)


def _similarity_findings(numbers: _Numbers, name: str) -> list[Finding]:
    """Similarities on half-masked images, and the chance level."""
    capacity = numbers.at("capacity").sel(images=name, num_memories=numbers.most)
    made = []
    for rule in (_CAPTION, _MAX):
        at = capacity.sel(rule=rule, similarity=_MAIN)
        made.append(
            numbers.finding(
                name,
                f"Manhattan is the best of the main three, upper half masked, {rule}",
                _ranked(at, "similarity"),
                lead(at, "similarity", ["manhattan"], _MAIN),
                "Lead of Manhattan over the better of the other two",
                (-_TIE, np.inf),
                f"Another that retrieves {percent(_TIE)} more would have shown the opposite.",
            )
        )
    at = capacity.sel(rule=_MAX)
    divergences = ["kl", "reverse kl", "jensen-shannon"]
    worst = min(_MAIN, key=lambda similarity: float(at.sel(similarity=similarity).mean()))
    made.append(
        numbers.finding(
            name,
            "divergences do substantially worse than the main three, max",
            _ranked(at, "similarity"),
            lead(at, "similarity", [worst], divergences),
            "Lead of the worst of the main three over the best divergence",
            (_TIE, np.inf),
            "A divergence that retrieves as much as one of the three would have shown the opposite.",
        )
    )
    chance = float(numbers.capacity["mean_image"].sel(images=name, num_memories=numbers.most).mean())
    made.append(
        Finding(
            "Chance level: the mean of all stored images as the output for every query counts as retrieved for "
            f"{percent(chance)} ({numbers.place(name)}).",
            "note",
        )
    )
    return made


def _separation_findings(numbers: _Numbers, name: str) -> list[Finding]:
    at = numbers.at("separation").isel(similarity=0).sel(images=name, num_memories=numbers.most)
    return [
        numbers.finding(
            name,
            "max retrieves most",
            _ranked(at, "rule"),
            lead(at, "rule", ["max"], _SEPARATIONS),
            "Lead of max over the best other separation of the paper",
            (-_TIE, np.inf),
            f"A separation that retrieves {percent(_TIE)} more would have shown the opposite.",
        ),
        numbers.finding(
            name,
            "softmax at β = 1 does worse than the tenth power",
            _ranked(at.sel(rule=["softmax β = 1", "polynomial 10"]), "rule"),
            lead(at, "rule", ["polynomial 10"], ["softmax β = 1"]),
            "Lead of the tenth power",
            (0.0, np.inf),
            "A softmax that retrieves more would have shown the opposite.",
        ),
    ]


def _noise_findings(numbers: _Numbers, name: str) -> list[Finding]:
    noise = numbers.at("noise")
    loudest = float(noise["level"].max())
    at = noise.sel(images=name, rule=_MAX, num_memories=numbers.most, level=loudest)
    return [
        numbers.finding(
            name,
            f"dot products are relatively robust to strong noise, more so than distances (variance {loudest:g}, max)",
            _ranked(at, "similarity"),
            lead(at, "similarity", ["normalised dot", "cosine"], ["squared euclidean", "manhattan"]),
            "Lead of the better dot product over the better distance",
            (0.0, np.inf),
            "A distance that retrieves more would have shown the opposite.",
        )
    ]


def _mask_findings(numbers: _Numbers, name: str) -> list[Finding]:
    """Small masks, random masks and inpainting."""
    chosen = {"images": name, "rule": _MAX, "num_memories": numbers.most}
    small = numbers.at("mask").isel(level=0).sel(chosen)
    further = numbers.at("further").sel(chosen)
    random, painted = further.sel(damage="random mask"), further.sel(damage="inpainting")
    return [
        *(
            numbers.finding(
                name,
                f"Manhattan is best under {where}",
                _ranked(at, "similarity"),
                lead(at, "similarity", ["manhattan"], [str(kind) for kind in at["similarity"].values]),
                "Lead of Manhattan over the best other",
                (-_TIE, np.inf),
                f"Another that retrieves {percent(_TIE)} more would have shown the opposite.",
            )
            for where, at in ((f"small masks ({percent(float(small['level']))})", small), ("inpainting", painted))
        ),
        numbers.finding(
            name,
            "under random masking the dot product is more robust than Manhattan",
            _ranked(random, "similarity"),
            lead(random, "similarity", ["normalised dot"], ["manhattan"]),
            "Lead of the normalised dot product",
            (0.0, np.inf),
            "A lead of Manhattan would have shown the opposite.",
        ),
    ]


def _threshold_finding(numbers: _Numbers, name: str) -> Finding:
    """How much the threshold matters around the paper's."""
    curve = numbers.capacity["retrieved"].sel(rule=_MAX, images=name, similarity=_MAIN).isel(num_memories=-1)
    change = curve.sel(threshold=75.0) - curve.sel(threshold=35.0)
    largest = change.isel(similarity=int(change.mean("set").values.argmax()))
    return numbers.finding(
        name,
        "the fraction hardly depends on the threshold around 50",
        f"from 0.7 to 1.5 times it the three main similarities gain at most {percent(float(largest.mean()))}",
        np.asarray(largest.values),
        "Largest gain of the three",
        (-np.inf, 0.1),
        "A gain of more than a tenth would have shown the opposite.",
    )


def _normalisation_finding(numbers: _Numbers) -> Finding:
    cap = [percent(1 / (1 + (numbers.most - 1) * np.exp(-beta))) for beta in (1.0, 100.0)]
    known = numbers.at("capacity").sel(num_memories=numbers.most, similarity="manhattan").mean(("images", "set"))
    weak, full = (percent(float(known.sel(rule=rule))) for rule in (_CAPTION, _MAX))
    return Finding(
        f"The normalisation causes the weakness of softmax at β = 1: among {numbers.most} scores that sum to one no "
        f"weight can exceed e / (e + K − 1) = {cap[0]}. At β = 100 the bound is {cap[1]}, but only an exact match "
        f"attains it: Manhattan retrieves {weak} there and {full} under max, mean over image sets.",
        "note",
    )


def _projection_findings(tree: xr.DataTree, numbers: _Numbers) -> list[Finding]:
    """Auto- against heteroassociation, which have the same weights."""
    modern, classical = (tree[node].to_dataset() for node in ("modern", "classical"))
    networks = {
        "max": (modern, modern["retrieved"].sel(rule=_MAX)),
        "softmax β = 100, normalised": (modern, modern["retrieved"].sel(rule=_CAPTION)),
        "the classical network": (classical, classical["retrieved"]),
    }
    made = []
    for network, (node, fractions) in networks.items():
        auto = fractions.sel(task="auto", threshold=PAPER_THRESHOLD)
        same, fair = (
            auto - fractions.sel(task="hetero", threshold=threshold)
            for threshold in (PAPER_THRESHOLD, PAPER_THRESHOLD / 2)
        )
        worst = min(map(_worst, (same, fair)), key=lambda at: abs(float(at.mean())))
        made.append(
            numbers.finding(
                str(node.attrs["images"]),
                f"auto- and heteroassociation retrieve equally well, {network}",
                f"fractions differ by at most {_most(same)} at the same threshold, and by {_most(fair)} with half of "
                "it for the lower half, which has half the pixels",
                np.asarray(worst.values),
                "Largest difference, at the threshold where it is smaller",
                (-0.05, 0.05),
                "A difference of more than 0.05 at either threshold would have shown the opposite.",
            )
        )
    return made


def _worst(differences: xr.DataArray) -> xr.DataArray:
    """By set, at the number of images where the mean difference is largest."""
    return differences.isel(num_memories=int(np.abs(differences.mean("set").values).argmax()))


def _most(differences: xr.DataArray) -> str:
    return percent(float(np.abs(differences.mean("set")).max()))


def _general_notes() -> list[Finding]:
    """What explains the numbers, and how the paper's words and program differ from ours."""
    texts = (
        "Clipping moves the mean of a noisy pixel but not its median. Manhattan distance is least at the median and "
        "squared distance at the mean, so Manhattan should be best under clipped noise.",
        "At a large threshold, averages of several images count as retrieved and do better than the single image that "
        "max chooses. Log separation gives the least similar image the largest weight, and still retrieves by that "
        "average.",
        "The authors’ 'dot' is the normalised dot product here: images are divided by their sum. Their released "
        "program sets the lower half of an image to zero where the paper says the upper half, which is masked here, "
        "and its Jensen-Shannon score is largest for the least similar image.",
        "Two of the paper's figures are not made: Figure 1 is a drawing of the theory, and Figure 9 is the perplexity "
        "of language models trained with other similarities in their attention, where no image is stored.",
    )
    return [Finding(text, "note") for text in texts]
