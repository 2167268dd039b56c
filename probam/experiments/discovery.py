r"""Topics and shapes discovered one by one: a stream of questions on the sphere, and a stream of handwritten digits.

Documents arrive in random order, without labels: each recalls a memory or creates one, by the exact predictive density
of the two-parameter Chinese restaurant process (claims A16 to A19). The number of memories depends on the concentration
of the von Mises-Fisher memories, so the whole curve is shown, and one rule chooses: the concentration under which all
questions, one after the other, are predicted best. By the chain rule that sum of log densities estimates its log
evidence. Labels only judge the result, beside k-means that is told a number of clusters.
"""

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float, Int
from sklearn.cluster import k_means
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from threadpoolctl import threadpool_limits

from probam.data.shipped import load_labels, load_shipped, load_texts
from probam.distributions.growth import tail_of
from probam.distributions.stick_breaking import expected_num_components
from probam.experiments.experiment import Drawing, Experiment, Settings, register
from probam.experiments.finding import Finding, mean_with_error
from probam.reports.figures.style import MEMORY_COLOURS, MUTED, log_axis, new_figure, quiet, styled
from probam.reports.page import escape, number, percent, table
from probam.reports.tree import variable
from probam.streams.stream import Stream

__all__ = ["DISCOVERY"]

_LAWS = {"dp": (20.0, 0.0), "pyp": (8.0, 0.4)}
"""Alpha and discount."""

_CONCENTRATIONS = (400.0, 700.0, 1000.0, 1400.0, 2000.0, 2800.0)
_FURTHER = (4000.0,)
"""Concentrations that are tried only at the paper's size."""

_CAPACITY = 640
"""Slots for memories of every stream of questions, so that all run as one program; they double where they are taken."""

_STARTS = 4
"""Of k-means."""

_SHOWN = 12
_NEAREST = 3
_PICTURES = 24


def run(settings: Settings) -> xr.DataTree:
    """Both streams, their memories, and the agreement with the labels."""
    num_questions, num_orders = (3000, 5) if settings.full else (1500, 3)
    concentrations = (*_CONCENTRATIONS, *(_FURTHER if settings.full else ()))
    rng = np.random.default_rng(settings.seed)
    steps = len(concentrations) + 4
    report = _reporter(settings, steps)
    values, names = load_shipped("banking77").values, load_labels("banking77")
    order = rng.permutation(len(values))[:num_questions]
    x, intents = values[order], names[order]
    streams = []
    for concentration in concentrations:
        report(f"concentration {concentration:g}")
        streams.append(_topics(x, concentration, "dp"))
    scores = [stream.log_predictive / len(x) for stream in streams]
    best = int(np.argmax(scores))
    chosen = concentrations[best]
    groups: dict[str, xr.Dataset] = {"dp": _described(streams[best], x, intents)}
    report("questions, pyp")
    groups["pyp"] = _described(_topics(x, chosen, "pyp"), x, intents)
    groups["concentration"] = _curve(concentrations, streams, scores, x, intents).assign_attrs(chosen=chosen)
    report("questions in other orders")
    shuffled = [rng.permutation(len(x)) for _ in range(num_orders - 1)]
    groups["orders"] = _orders([groups["dp"]], x, intents, shuffled, chosen)
    report("k-means")
    groups["k_means"] = _baselines(settings.seed, x, intents, groups["dp"].sizes["memory"])
    groups["questions"] = xr.Dataset({"row": ("document", order), "intent": ("document", intents)})
    report("digits")
    groups["digits"] = _digits(settings.seed, rng)
    settings.progress(steps, steps, "digits")
    return xr.DataTree.from_dict(groups)


def _reporter(settings: Settings, steps: int) -> Callable[[str], None]:
    """Reports a text as one more step."""
    done = count()
    return lambda text: settings.progress(next(done), steps, text)


def _agreement(labels: np.ndarray, owner: np.ndarray) -> tuple[float, float]:
    """ARI and NMI."""
    return float(adjusted_rand_score(labels, owner)), float(normalized_mutual_info_score(labels, owner))


def _curve(
    concentrations: Sequence[float],
    streams: Sequence[Stream],
    scores: Sequence[float],
    x: Float[np.ndarray, "N D"],
    intents: np.ndarray,
) -> xr.Dataset:
    """Evidence per question (the scores), number of memories and agreement with the intents, by concentration."""
    agreement = np.array([_agreement(intents, stream.predict(x)["label"].values) for stream in streams])
    return xr.Dataset(
        {
            "log_predictive": ("concentration", scores),
            "memories": ("concentration", [stream.num_memories for stream in streams]),
            "ari": ("concentration", agreement[:, 0]),
            "nmi": ("concentration", agreement[:, 1]),
        },
        coords={"concentration": list(concentrations)},
        attrs={"documents": len(x)},
    )


def _orders(
    first: Sequence[xr.Dataset],
    x: Float[np.ndarray, "N D"],
    intents: np.ndarray,
    shuffled: Sequence[Int[np.ndarray, " N"]],
    concentration: float,
) -> xr.Dataset:
    """The same questions in other orders, at the chosen concentration."""
    described = [*first, *(_described(_topics(x[at], concentration, "dp"), x[at], intents[at]) for at in shuffled)]
    return xr.Dataset(
        {
            "memories": ("order", [one.sizes["memory"] for one in described]),
            **{name: ("order", [one.attrs[name] for one in described]) for name in ("ari", "nmi", "log_predictive")},
        }
    )


def _baselines(seed: int, x: Float[np.ndarray, "N D"], intents: np.ndarray, made: int) -> xr.Dataset:
    """k-means that is told the number of intents, and the number of memories that the stream has made."""
    told = [len(np.unique(intents)), made]

    def one(num: int, start: int) -> tuple[float, float]:
        with threadpool_limits(limits=1):  # several threads take twice the CPU seconds
            return _agreement(intents, k_means(x, num, n_init=_STARTS, random_state=seed + start)[1])

    agreement = np.array([[one(num, start) for start in range(3)] for num in told])
    return xr.Dataset(
        {"ari": (("told", "start"), agreement[..., 0]), "nmi": (("told", "start"), agreement[..., 1])},
        coords={"clusters": ("told", told)},
    )


def _digits(seed: int, rng: np.random.Generator) -> xr.Dataset:
    """Memories of the pixels of handwritten digits, with their pictures."""
    digits = load_digits()
    order = rng.permutation(len(digits.target))
    ink = (digits.data[order] > 7).astype(np.float64)
    stream = Stream(family="bernoulli", alpha=20.0, warm=len(ink), seed=seed, rejuvenate_every=100)
    stream.partial_fit(ink)
    described = _described(stream, ink, digits.target[order].astype(str))
    pixels = stream.memories()[[f"x{i}" for i in range(64)]].to_numpy()
    return described.assign(picture=(("memory", "row", "column"), pixels.reshape(-1, 8, 8)))


def _topics(x: Float[np.ndarray, "N D"], concentration: float, law: str) -> Stream:
    alpha, discount = _LAWS[law]
    stream = Stream(
        family="vmf",
        alpha=alpha,
        discount=discount,
        known={"concentration": concentration},
        warm=100,
        capacity=_CAPACITY,
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
    ari, nmi = _agreement(labels, owner)
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
            "ari": ari,
            "nmi": nmi,
            "classes": len(np.unique(labels)),
            "log_predictive": stream.log_predictive / len(x),
            "seconds": stream.seconds,
        },
    )


# --- reading --------------------------------------------------------------------------------------------------


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
    rows = -(-number_shown // 8)
    figure = new_figure(8.0, 0.1 + rows)
    grid = figure.subplots(rows, 8, squeeze=False)
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
    return [_curve_drawing(tree), growth, pictures]


def _curve_drawing(tree: xr.DataTree) -> Drawing:
    """Evidence, memories and agreement against the concentration, with the choice and the baselines."""
    curve, means = tree["concentration"].to_dataset(), tree["k_means"].to_dataset()
    figure = new_figure(8.4, 2.8)
    panels = figure.subplots(1, 3)
    labels = ("log evidence, nats per question", "memories made", "ARI with the intents")
    for axes, name, label in zip(panels, ("log_predictive", "memories", "ari"), labels, strict=True):
        axes.plot(curve["concentration"], curve[name], marker="o", ms=4, color=MEMORY_COLOURS[0])
        axes.axvline(curve.attrs["chosen"], color=MUTED, lw=0.8, ls=":")
        axes.set_xlabel("concentration")
        axes.set_ylabel(label)
        quiet(axes, grid="y")
    panels[1].axhline(tree["dp"].attrs["classes"], color=MUTED, lw=0.8, ls="--", label="intents")
    panels[1].legend()
    for i, clusters in enumerate(means["clusters"].values):
        ari = float(means["ari"].isel(told=i).mean())
        panels[2].axhline(ari, color=MEMORY_COLOURS[i + 1], lw=1.2, ls="--", label=f"k-means, K = {clusters}")
    panels[2].legend(loc="lower center")
    log_axis(panels[1], "y")
    for axes in panels:
        log_axis(axes, "x", [400, 1000, 2000])
    caption = (
        f"{curve.attrs['documents']} questions under dp, by the concentration of the memories. The dotted line is the "
        "choice: the largest log evidence, which uses no labels. Dashed: the number of intents, and k-means that is "
        "told that number or the number of memories made."
    )
    return Drawing("concentration", figure, caption)


def _choice_note(tree: xr.DataTree) -> Finding:
    curve = tree["concentration"].to_dataset()
    made = ", ".join(
        f"{int(at)} {'memories at a concentration of' if i == 0 else 'at'} {float(concentration):g}"
        for i, (concentration, at) in enumerate(
            zip(curve["concentration"].values, curve["memories"].values, strict=True)
        )
    )
    top = curve.isel(concentration=int(np.argmax(curve["ari"].values)))
    return Finding(
        f"The number of memories is a matter of the concentration of each: {made}. The evidence of all "
        f"{curve.attrs['documents']} questions, which uses no labels, is largest at {curve.attrs['chosen']:g}; the "
        f"agreement with the intents is best at {float(top['concentration']):g} (ARI {number(float(top['ari']), 3)}).",
        "note",
    )


def _orders_note(tree: xr.DataTree) -> Finding:
    orders, means = tree["orders"].to_dataset(), tree["k_means"].to_dataset()
    ari, made = (mean_with_error(orders[name]) for name in ("ari", "memories"))
    told = ", ".join(
        f"{mean_with_error(values)} with K = {int(clusters)}"
        for clusters, values in zip(means["clusters"].values, means["ari"].values, strict=True)
    )
    return Finding(
        f"At the chosen concentration, over {orders.sizes['order']} orders of the questions, "
        f"{made} memories are made with an ARI of {ari}. k-means, which is told a number, has {told}: the ± are "
        "standard errors over orders and starts.",
        "note",
    )


def findings(tree: xr.DataTree) -> Sequence[Finding]:
    """Number of memories, their agreement with the labels, which were not used, and the law that fits the sizes."""
    made = [_choice_note(tree), _orders_note(tree)]
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


def _curve_table(tree: xr.DataTree) -> str:
    curve, means = tree["concentration"].to_dataset(), tree["k_means"].to_dataset()
    rows = [
        [
            f"dp, concentration {float(at):g}",
            number(float(here["log_predictive"]), 5),
            str(here["memories"].item()),
            number(float(here["ari"]), 3),
            number(float(here["nmi"]), 3),
        ]
        for at, here in ((at, curve.sel(concentration=at)) for at in curve["concentration"].values)
    ]
    for i, clusters in enumerate(means["clusters"].values):
        cells = [number(float(means[name].isel(told=i).mean()), 3) for name in ("ari", "nmi")]
        rows.append([f"k-means, told K = {clusters}", "–", str(int(clusters)), *cells])
    header = ["", "log evidence, nats per question", "memories", "ARI", "NMI"]
    return table(header, rows, caption="Questions by the concentration of the memories, and k-means")


def tables(tree: xr.DataTree) -> Sequence[str]:
    """The curve over concentrations, and the largest memories of questions by their nearest documents."""
    texts = np.array(load_texts("banking77"), object)[variable(tree, "questions", "row").values]
    made = [_curve_table(tree)]
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
        source="Schaeffer et al. (2023), Sec. 4",
        claims=("A16", "A17", "A18", "A19"),
        words=("concentration", "dp", "pyp", "discount", "ARI", "NMI", "nats", "prequential", "standard error"),
        run=run,
        figures=figures,
        findings=findings,
        tables=tables,
    )
)
