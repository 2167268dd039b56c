r"""Topics and shapes discovered one by one: a stream of questions on the sphere, and a stream of handwritten digits.

Documents arrive in random order, without labels: each recalls a memory or creates one, by the exact predictive density
of the two-parameter Chinese restaurant process (claims A16 to A19). The concentration of the von Mises-Fisher memories
is the one under which the first documents are predicted best, one after the other. Labels only judge the result.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float, Int
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from probam.data.shipped import load_labels, load_shipped, load_texts
from probam.distributions.growth import tail_of
from probam.distributions.stick_breaking import expected_num_components
from probam.experiments.experiment import Drawing, Experiment, Finding, Settings, register
from probam.reports.figures.style import MEMORY_COLOURS, MUTED, new_figure, quiet, styled
from probam.reports.page import escape, number, percent, table
from probam.reports.tree import variable
from probam.streams.stream import Stream

__all__ = ["DISCOVERY"]

_LAWS = {"dp": (20.0, 0.0), "pyp": (8.0, 0.4)}
"""Alpha and discount."""

_CONCENTRATIONS = (400.0, 700.0, 1000.0, 1400.0, 2000.0)
_FIRST = 600
"""Documents on whose prediction the concentration is chosen."""

_SHOWN = 12
_NEAREST = 3
_PICTURES = 24


def run(settings: Settings) -> xr.DataTree:
    """Both streams, their memories, and the agreement with the labels."""
    rng = np.random.default_rng(settings.seed)
    steps = len(_CONCENTRATIONS) + len(_LAWS) + 1

    x = load_shipped("banking77").values
    order = rng.permutation(len(x))
    x, intents = x[order], load_labels("banking77")[order]
    scores = []
    for done, concentration in enumerate(_CONCENTRATIONS):
        settings.progress(done, steps, f"concentration {concentration:g}")
        scores.append(_topics(x[:_FIRST], concentration, "dp").log_predictive / _FIRST)
    chosen = _CONCENTRATIONS[int(np.argmax(scores))]
    groups: dict[str, xr.Dataset] = {
        "concentration": xr.Dataset(
            {"log_predictive": ("concentration", scores)},
            coords={"concentration": list(_CONCENTRATIONS)},
            attrs={"chosen": chosen, "documents": _FIRST},
        )
    }
    for done, law in enumerate(_LAWS):
        settings.progress(len(_CONCENTRATIONS) + done, steps, f"questions, {law}")
        groups[law] = _described(_topics(x, chosen, law), x, intents)
    groups["questions"] = xr.Dataset({"row": ("document", order), "intent": ("document", intents)})

    settings.progress(steps - 1, steps, "digits")
    digits = load_digits()
    order = rng.permutation(len(digits.target))
    ink = (digits.data[order] > 7).astype(np.float64)
    stream = Stream(family="bernoulli", alpha=20.0, warm=len(ink), seed=settings.seed, rejuvenate_every=100)
    stream.partial_fit(ink)
    described = _described(stream, ink, digits.target[order].astype(str))
    frame = stream.memories()
    pixels = frame[[f"x{i}" for i in range(64)]].to_numpy()
    groups["digits"] = described.assign(picture=(("memory", "row", "column"), pixels.reshape(-1, 8, 8)))
    settings.progress(steps, steps, "digits")
    return xr.DataTree.from_dict(groups)


def _topics(x: Float[np.ndarray, "N D"], concentration: float, law: str) -> Stream:
    alpha, discount = _LAWS[law]
    stream = Stream(
        family="vmf",
        alpha=alpha,
        discount=discount,
        known={"concentration": concentration},
        warm=100,
        rejuvenate_every=200,
    )
    return stream.partial_fit(x).flush()


def _described(stream: Stream, x: Float[np.ndarray, "N D"], labels: np.ndarray) -> xr.Dataset:
    """Memories, largest first, with most common label and nearest data; growth; agreement with the labels."""
    frame = stream.memories()
    predicted = stream.predict(x)
    owner = predicted["label"].values
    numbers = frame.index.to_numpy()
    nearest = np.full((len(numbers), _NEAREST), -1)
    commonest, purity = [], []
    for position, memory in enumerate(numbers):
        mine = np.flatnonzero(owner == memory)
        nearest[position, : len(mine)] = mine[np.argsort(-predicted["log_predictive"].values[mine])][:_NEAREST]
        names, counts = np.unique(labels[mine], return_counts=True) if len(mine) else (np.array([""]), np.array([0]))
        commonest.append(str(names[counts.argmax()]))
        purity.append(float(counts.max() / max(len(mine), 1)))
    growth = stream.growth
    return xr.Dataset(
        {
            "count": ("memory", frame["count"].to_numpy()),
            "born": ("memory", frame["born"].to_numpy()),
            "commonest": ("memory", commonest),
            "purity": ("memory", purity),
            "nearest": (("memory", "near"), nearest),
            "owner": ("document", owner),
            "memories": ("seen", growth["memories"].to_numpy()),
        },
        coords={"seen": growth["data"].to_numpy()},
        attrs={
            "ari": float(adjusted_rand_score(labels, owner)),
            "nmi": float(normalized_mutual_info_score(labels, owner)),
            "classes": len(np.unique(labels)),
            "log_predictive": stream.log_predictive / len(x),
            "seconds": stream.seconds,
        },
    )


@styled
def figures(tree: xr.DataTree) -> Sequence[Drawing]:
    """Growth under both laws with its expectation; the digits' memories as pictures."""
    figure = new_figure(8.0, 3.2)
    axes = figure.subplots()
    for (law, (alpha, discount)), colour in zip(_LAWS.items(), MEMORY_COLOURS, strict=False):
        group = tree[law].to_dataset()
        seen = group["seen"].values
        axes.plot(seen, group["memories"], color=colour, label=f"{law}, made by the questions")
        expected = [expected_num_components(alpha, discount, int(n)) for n in seen]
        axes.plot(seen, expected, color=colour, ls=":", label=f"{law}, expected a priori")
    axes.axhline(tree["dp"].attrs["classes"], color=MUTED, lw=0.8, ls="--", label="intents in all")
    axes.set_xlabel("questions read")
    axes.set_ylabel("memories")
    quiet(axes, grid="y")
    axes.legend()
    growth = Drawing(
        "growth",
        figure,
        "Topics are discovered as questions arrive: number of memories under either law (lines), and its expectation "
        "a priori (dotted).",
    )
    digits = tree["digits"].to_dataset()
    number_shown = min(_PICTURES, digits.sizes["memory"])
    figure = new_figure(8.0, 3.1)
    grid = figure.subplots(3, 8)
    for position, place in enumerate(grid.ravel()):
        place.set_axis_off()
        if position < number_shown:
            at = digits.isel(memory=position)
            place.imshow(at["picture"].values, cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
            place.set_title(f"{at['commonest'].item()}: {int(at['count'])}", fontsize=7)
    pictures = Drawing(
        "pictures",
        figure,
        "Memories made of the digits, largest first: the probability of ink at each pixel. Above each its most common "
        "digit and its number of pictures.",
    )
    return [growth, pictures]


def findings(tree: xr.DataTree) -> Sequence[Finding]:
    """Number of memories, their agreement with the labels, which were not used, and the law that fits the sizes."""
    made = []
    for law in _LAWS:
        group = tree[law].to_dataset()
        sizes = group["count"].values
        made.append(
            Finding(
                f"Under {law}, {sizes.size} memories were made from {int(sizes.sum())} questions of "
                f"{group.attrs['classes']} intents. Their agreement with the intents is ARI "
                f"{number(group.attrs['ari'], 3)}, NMI {number(group.attrs['nmi'], 3)}; the next question has a mean "
                f"predictive log density of {number(group.attrs['log_predictive'], 5)} nats.",
                "note",
            )
        )
    tail = tail_of(variable(tree, "dp", "count").values)
    made.append(
        Finding(
            f"The sizes under dp are most probable with discount {number(tail.discount, 2)} "
            f"({'±' + number(tail.discount_se, 2) if np.isfinite(tail.discount_se) else 'at the boundary'}); the test "
            f"of a Dirichlet process has p = {number(tail.p_value, 2)}.",
            "note",
        )
    )
    digits = tree["digits"].to_dataset()
    pure = float((digits["purity"] * digits["count"]).sum() / digits["count"].sum())
    made.append(
        Finding(
            f"{digits.sizes['memory']} memories of handwriting were made from {int(digits['count'].sum())} pictures of "
            f"ten digits; {percent(pure)} of the pictures are in a memory where their digit is the most common one "
            f"(ARI {number(digits.attrs['ari'], 3)}, since one digit is written in several ways).",
            "note",
        )
    )
    return made


def tables(tree: xr.DataTree) -> Sequence[str]:
    """The largest memories of questions by their nearest documents."""
    texts = np.array(load_texts("banking77"), object)[variable(tree, "questions", "row").values]
    made = []
    for law in _LAWS:
        group = tree[law].to_dataset()
        rows: list[list[Any]] = []
        for position in range(min(_SHOWN, group.sizes["memory"])):
            at = group.isel(memory=position)
            near: Int[np.ndarray, " near"] = at["nearest"].values
            rows.append(
                [
                    str(position + 1),
                    str(int(at["count"])),
                    str(int(at["born"])),
                    escape(str(at["commonest"].item()).replace("_", " ")),
                    percent(float(at["purity"])),
                    "<br>".join(escape(texts[i]) for i in near if i >= 0),
                ]
            )
        header = ["memory", "questions", "made at", "most common intent", "share", "nearest questions"]
        caption = (
            f"The {len(rows)} largest of {group.sizes['memory']} memories under {law}, with their nearest questions"
        )
        made.append(table(header, rows, caption=caption, words=(3, 5)))
    return made


DISCOVERY = register(
    Experiment(
        name="discovery",
        title="Topics and shapes, discovered one by one",
        question="What memories do real questions and real handwriting make when they arrive one after the other, and "
        "do they agree with labels that were not used?",
        source="Schaeffer et al. (2023), Sec. 4; claims A16 to A19",
        run=run,
        figures=figures,
        findings=findings,
        tables=tables,
    )
)
