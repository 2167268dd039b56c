"""Sections of the report on the posterior: number of memories, memories, weights, partition, predictive check."""

from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Int

from probam.reports.figures.data import (
    FEWEST_REPLICATES,
    coclustering_figure,
    expected_outside,
    grouping,
    predictive_check,
    predictive_figure,
)
from probam.reports.figures.interactive import matrices_for_script
from probam.reports.figures.memories import HEAT_MAP, memories_figure, weights_figure
from probam.reports.figures.partition import ball_figure, has_ball
from probam.reports.figures.posterior import occupied_figure
from probam.reports.figures.shown import (
    PANELS,
    in_use,
    is_uncertain,
    listed_memories,
    memory_colours,
    memory_name,
    row_partition,
    shortened,
    shown_features,
    shown_memories,
)
from probam.reports.figures.style import inline_svg
from probam.reports.page import (
    Section,
    count,
    data_block,
    escape,
    figure,
    folded,
    number,
    percent,
    spelled,
    table,
    with_error,
)
from probam.reports.summaries.diagnostics import Diagnosis
from probam.reports.summaries.estimate import NOT_A_COUNT, bounds_memories
from probam.reports.summaries.partition import binder_loss
from probam.reports.summaries.quantities import engine_kind, truncation
from probam.reports.summaries.reproduction import Reproduction, reproduction
from probam.reports.tree import has, num_data, variable

__all__ = [
    "finding",
    "memories_section",
    "memory_numbers",
    "number_of_memories_section",
    "partition_section",
    "predictive_section",
    "truncation_section",
    "weights_section",
]

_TABLE_FEATURES = 6


def finding(tree: xr.DataTree, diagnosis: Diagnosis) -> str:
    """One sentence, plain text: how many memories hold the data, and how sure that is."""
    of_all = count(num_data(tree))
    counts = _occupied(diagnosis)
    if counts is None:
        return f"A fit to {of_all} data."
    values, times = np.unique(counts, return_counts=True)
    mode = int(values[times.argmax()])
    result = f"{spelled(mode, 'memory holds', 'memories hold')} the {of_all} data".capitalize()
    if bounds_memories(tree):
        return f"At most {result[0].lower()}{result[1:]} at the point estimate. {NOT_A_COUNT}"
    if diagnosis.kind == "point":
        return f"{result} at the point estimate."
    if len(values) == 1:
        return f"{result} in every draw."
    low, high = (int(q) for q in np.quantile(counts, [0.025, 0.975], method="inverted_cdf"))
    interval = f"; the 95 % interval is {low} to {high}" if low < high else ""
    return f"{result} with probability {percent(times.max() / counts.size)}{interval}."


def _occupied(diagnosis: Diagnosis) -> Int[np.ndarray, " S"] | None:
    """Number of memories that hold data, for each draw."""
    counts = diagnosis.draws.get("num_occupied")
    return None if counts is None else counts.ravel().astype(int)


def number_of_memories_section(tree: xr.DataTree, diagnosis: Diagnosis) -> Section | None:
    """The posterior of the number of memories that hold data."""
    counts = _occupied(diagnosis)
    if counts is None:
        return None
    title = "How many memories?"
    if diagnosis.kind == "point":
        total = escape(tree.attrs.get("num_components", "–"))
        how_many, why = f"{counts[0]}", "A point estimate does not show how certain that number is."
        if bounds_memories(tree):
            how_many, why = f"at most {how_many}", f"{NOT_A_COUNT} Engines gibbs and nuts sample their number."
        body = f"At the point estimate, {how_many} of {total} memories hold data. {why}"
        return Section("number", title, f"<p>{body}</p>")
    body = f"<p>{escape(finding(tree, diagnosis))} The posterior mean is {number(float(counts.mean()), 3)}.</p>"
    if counts.min() < counts.max():
        svg = inline_svg(
            occupied_figure(counts), "occupied", "Posterior of the number of occupied memories, a bar chart"
        )
        body += figure(svg, "Posterior probability of the number of memories that hold at least one datum.")
    expected = truncation(tree).get("prior_expected_memories")
    if expected is not None:
        body += f"<p>The prior expects {number(expected, 2)} memories, before seeing the data.</p>"
    return Section("number", title, body)


def memories_section(tree: xr.DataTree) -> Section | None:
    """The relabelled memories in data units."""
    if not has(tree, "memory"):
        return None
    listed, shown = listed_memories(tree), shown_memories(tree)
    body = _memory_table(tree, shown)
    if len(listed) > len(shown):
        body += folded(f"Show all {len(listed)} memories", _memory_table(tree, listed))
    svg = inline_svg(memories_figure(tree), "memories", "The memories, feature by feature")
    return Section("memories", "The memories", body + _left_out(tree) + figure(svg, _memories_caption(tree)))


def _left_out(tree: xr.DataTree) -> str:
    """How many memories no table has, and what pale rows are."""
    listed, used = listed_memories(tree), in_use(tree)
    remarks = []
    if len(listed) < len(used):
        others = spelled(len(used) - len(listed), "more memory is", "more memories are").capitalize()
        remarks.append(f"{others} not listed, because fewer than one draw in twenty has data there.")
    if not used[listed].all():
        remarks.append("Pale rows are memories that most draws leave empty.")
    return f"<p>{' '.join(remarks)}</p>" if remarks else ""


def _memories_caption(tree: xr.DataTree) -> str:
    num_features = int(tree["observed_data"].sizes["feature"])
    fewer = listed_memories(tree)[len(shown_memories(tree)) :]
    which = f" The {len(shown_memories(tree))} heaviest memories are shown." if len(fewer) else ""
    if num_features > HEAT_MAP:
        return f"Difference of each memory from the mean of the data, in standard deviations of each feature.{which}"
    interval = " Strong line: 90 % interval of the memory." if is_uncertain(tree) else ""
    caption = (
        "Dot: the memory, by number. Pale bar: one standard deviation of the memory’s data to each side."
        f"{interval} Grey: histogram of all data.{which}"
    )
    if num_features > PANELS:
        caption += f" Of {num_features} features the {PANELS} in which memories differ most are shown."
    return caption


def _memory_table(tree: xr.DataTree, memories: Int[np.ndarray, " M"]) -> str:
    group = tree["memory"].to_dataset()
    features = shown_features(tree, _TABLE_FEATURES)
    names = variable(tree, "observed_data", "feature").values
    uncertain, used = is_uncertain(tree), in_use(tree)
    rows, marks = [], []
    colours = memory_colours(tree)
    for memory in memories:
        dot = f'<span class="dot" data-memory="{memory}" style="background:{colours[memory]}"></span>'
        own = memory_numbers(tree, int(memory), features)
        cells = [dot + escape(memory_name(tree, int(memory))), own.weight]
        if "size" in group:
            cells.append(number(float(group["size"].values[memory]), 3))
        if "occupied" in group:
            cells.append(percent(float(group["occupied"].values[memory])))
        rows.append([*cells, *own.means])
        marks.append("" if used[memory] else "faint")
    head = ["memory", "weight"]
    head += ["size"] if "size" in group else []
    head += ["occupied"] if "occupied" in group else []
    head += [escape(shortened(str(names[feature]))) for feature in features]
    which = "The memories" if len(memories) == len(listed_memories(tree)) else f"The {len(memories)} heaviest memories"
    caption = f"{which} in the data’s units" + (", with posterior standard deviations" if uncertain else "")
    if len(features) < len(names):
        caption += f"; of {len(names)} features the {len(features)} in which memories differ most"
    return table(head, rows, caption=caption, marks=marks)


class MemoryNumbers(NamedTuple):
    """A memory as tables write it, with posterior standard deviations where the fit has them."""

    weight: str
    means: list[str]


def memory_numbers(tree: xr.DataTree, memory: int, features: Int[np.ndarray, " F"]) -> MemoryNumbers:
    """The weight of a memory and its mean in some features, data units."""
    group, uncertain = tree["memory"].to_dataset(), is_uncertain(tree)

    def written(name: str, index: tuple[int, ...], unit: float, digits: int) -> str:
        with_sd = uncertain and f"{name}_sd" in group
        error = float(group[f"{name}_sd"].values[index]) if with_sd else 0.0
        return with_error(unit * float(group[name].values[index]), unit * error, digits)

    means = [written("mean", (memory, int(feature)), 1, 4) for feature in features]
    return MemoryNumbers(written("weight", (memory,), 100, 3) + " %", means)


def weights_section(tree: xr.DataTree) -> Section | None:
    """The mixing weights, where there is more than one memory to tell apart."""
    if not has(tree, "memory") or len(shown_memories(tree)) < 2:
        return None
    svg = inline_svg(weights_figure(tree), "weights", "Mixing weights of the memories with intervals")
    caption = "Mixing weight: the share of new data that each memory is expected to explain"
    caption += ", with its 90 % interval." if is_uncertain(tree) else "."
    return Section("weights", "The weights", figure(svg, caption))


def partition_section(tree: xr.DataTree) -> Section | None:
    """Which data share a memory, and the partition that sums it up."""
    if not has(tree, "partition", "coclustering"):
        return None
    body = f"<p>{_partition_words(tree)}</p>" + _ball_words(tree)
    svg = inline_svg(coclustering_figure(tree), "together", "Co-clustering matrix, ordered by group")
    body += figure(
        svg,
        "Full colour: the two data share a memory with probability one; none: probability zero. Lines separate the "
        f"{'groups' if grouping(tree).wide.all() else 'larger groups'}.",
    )
    body += data_block("matrices", matrices_for_script(tree))
    if has_ball(tree):
        svg = inline_svg(ball_figure(tree), "ball", "The point partition and the partitions at the edge of its ball")
        body += figure(svg, "The partition and those at the edge of its credible ball; one colour per group.")
    return Section("partition", "Which data belong together?", body)


def _partition_words(tree: xr.DataTree) -> str:
    """What the matrix shows, and the sizes of the groups of the point partition."""
    labels = row_partition(tree)
    sizes = np.sort(np.bincount(labels))[::-1]
    sizes = sizes[sizes > 0]
    shown = ", ".join(count(int(size)) for size in sizes[:10])
    shown += f" and {len(sizes) - 10} smaller" if len(sizes) > 10 else ""
    data = f"the {count(num_data(tree))} data"
    if len(labels) < num_data(tree):
        data = f"a random sample of {count(len(labels))} of {data}"
    is_point = engine_kind(tree) == "point"
    probability = "the probability, given these memories," if is_point else "the posterior probability"
    caution = " It takes the memories as known, and so is surer than a posterior would be." if is_point else ""
    return (
        f"The matrix shows {probability} that two data share a memory, which does not depend on how memories are "
        f"numbered.{caution} The partition that summarises it best divides {data} into "
        f"{spelled(len(sizes), 'group', 'groups')}: {shown}."
    )


def _ball_words(tree: xr.DataTree) -> str:
    """How sure the partition is, and in which ways it could be otherwise."""
    attributes = tree["partition"].attrs
    if "credible_radius" not in attributes:
        return ""
    probability = percent(float(attributes.get("credible_probability", 0.95)))
    radius = number(float(attributes["credible_radius"]), 2)
    words = f"<p>{probability} of the sampled partitions lie within {radius} nats of it (variation of information)."
    if has_ball(tree):
        fewest, most = (
            len(set(variable(tree, "partition", f"ball_{end}").values.tolist())) for end in ("upper", "lower")
        )
        span = spelled(most, "group", "groups") if fewest == most else f"{fewest} to {most} groups"
        words += f" These have {span}."
    binder = variable(tree, "partition", "point_binder").values if has(tree, "partition", "point_binder") else None
    if binder is not None:
        differ = binder_loss(row_partition(tree), binder)
        relation = "is the same" if differ == 0 else f"differs on {percent(differ)} of the pairs of data"
        words += f" The best partition under Binder’s loss {relation}."
    return words + "</p>"


def predictive_section(tree: xr.DataTree) -> Section | None:
    """Whether data drawn from the fit look like the data."""
    found = reproduction(tree)
    body = "" if found is None else _reproduction_words(found)
    if has(tree, "posterior_predictive"):
        body += _histograms(tree)
    return Section("predictive", "Does the model reproduce the data?", body) if body else None


def _reproduction_words(found: Reproduction) -> str:
    """What was compared, how far the data are off, and what that says."""
    if found.is_reproduced:
        conclusion = "The data do not deviate more from the fit than replicated data do."
        farthest = "Farthest off, within what is usual"
    else:
        conclusion = "<strong>The fit does not reproduce the data.</strong>"
        farthest = "Farthest off"
    return (
        f"<p>Data replicated by the fitted model should look like the data. {conclusion} Compared were "
        f"{escape(found.what)}. Of {count(found.num_replicates)} replicated data sets a share of "
        f"{percent(found.p_value)} deviates as far or farther in some respect. {farthest}: {escape(found.where)}.</p>"
        "<p>The parameters were fitted to these data, so the share is too large rather than too small: small faults of "
        "the model go unnoticed.</p>"
    )


def _histograms(tree: xr.DataTree) -> str:
    """Histograms of the features that are shown, and of replicated data."""
    checks = predictive_check(tree)
    bins = sum(len(check.outside) for check in checks)
    outside = sum(int(check.outside.sum()) for check in checks)
    replicates = int(np.prod([tree["posterior_predictive"].sizes[name] for name in ("chain", "draw")]))
    svg = inline_svg(predictive_figure(tree, checks), "predictive", "Histograms of data and of replicated data")
    sets = f"median and 90 % band of {count(replicates)} data sets" if replicates > 1 else "a data set"
    words = f"Black: the data. Blue: {sets} replicated by the fitted model."
    if replicates >= FEWEST_REPLICATES:
        words += (
            f" Orange: bins in which the data lie outside the band, {outside} of {bins}; about "
            f"{expected_outside(replicates) * bins:.0f} are expected by chance."
        )
    return figure(svg, words)


def truncation_section(tree: xr.DataTree, diagnosis: Diagnosis) -> Section | None:
    """What truncating a stick-breaking process costs (CLAIMS A20)."""
    numbers = truncation(tree)
    limit = tree.attrs.get("num_components")
    if not numbers or limit is None:
        return None
    sentences = [f"The process has infinitely many memories; this fit is truncated at {escape(limit)}."]
    if "expected_remaining" in numbers:
        sentences.append(
            f"Under the prior the expected weight of the others is {number(numbers['expected_remaining'], 2)}."
        )
    if "tv_bound" in numbers:
        of_all = count(num_data(tree))
        bound = number(min(numbers["tv_bound"], 1.0), 2)
        sentences.append(
            f"The truncation changes the prior distribution of {of_all} data by at most {bound} in total variation "
            "distance (from 0, no change, to 1)."
        )
    counts = _occupied(diagnosis)
    if counts is not None:
        who = "The point estimate uses at most" if diagnosis.kind == "point" else "No draw used more than"
        sentences.append(f"{who} {counts.max()} of the {escape(limit)} memories.")
    return Section("truncation", "What does the truncation cost?", f"<p>{' '.join(sentences)}</p>")
