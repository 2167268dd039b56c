"""Sections of the report on the posterior: data and model, trust, memories, partition, predictive check."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from probam.reports.figures.data import coclustering_figure, expected_outside, predictive_check, predictive_figure
from probam.reports.figures.memories import HEAT_MAP, memories_figure, weights_figure
from probam.reports.figures.partition import ball_figure, has_ball
from probam.reports.figures.posterior import occupied_figure, optimisation_figure, traces_figure
from probam.reports.figures.shown import (
    PANELS,
    in_use,
    is_uncertain,
    memory_name,
    row_partition,
    shortened,
    shown_features,
    shown_memories,
)
from probam.reports.figures.style import inline_svg, memory_colour
from probam.reports.page import Section, count, escape, figure, number, percent, spelled, table, with_error
from probam.reports.summaries.diagnostics import R_HAT_LIMIT, Advice, invariant_summary
from probam.reports.summaries.partition import binder_loss
from probam.reports.summaries.quantities import engine_kind, options, quantity_name, truncation
from probam.reports.tree import has, rows_of, variable

__all__ = [
    "data_and_model_section",
    "finding",
    "memories_section",
    "number_of_memories_section",
    "partition_section",
    "predictive_section",
    "trust_section",
    "weights_section",
]

_LEVELS = {"good": "✓ Good", "note": "• Note", "warning": "▲ Look", "problem": "✕ Problem"}
_TABLE_FEATURES = 6
_INVARIANT = "Quantities that do not depend on how memories are numbered"


def finding(tree: xr.DataTree) -> str:
    """One sentence, plain text: how many memories hold the data, and how sure that is."""
    num_data = int(tree["observed_data"].sizes["datum"])
    if not has(tree, "invariant", "num_occupied"):
        return f"A fit to {count(num_data)} data."
    counts = variable(tree, "invariant", "num_occupied").values.ravel().astype(int)
    values, times = np.unique(counts, return_counts=True)
    best = int(values[times.argmax()])
    held = f"{spelled(best, 'memory holds', 'memories hold')} the {count(num_data)} data".capitalize()
    if engine_kind(tree) == "point":
        return f"{held}, at the best setting found."
    if len(values) == 1:
        return f"{held}, in every draw."
    low, high = (int(q) for q in np.quantile(counts, [0.025, 0.975], method="inverted_cdf"))
    span = f"95 % of the probability lies on {low} to {high}" if low < high else f"over 95 % of the draws say {low}"
    return f"{held}, with probability {percent(times.max() / counts.size)}; {span}."


def data_and_model_section(tree: xr.DataTree) -> Section:
    """What was fitted to what, and how."""
    said = tree.attrs
    x = rows_of(tree)
    num_data, num_features = int(x.sizes["datum"]), int(x.sizes["feature"])
    names = ", ".join(escape(name) for name in x["feature"].values[:PANELS])
    names += f" and {num_features - PANELS} more" if num_features > PANELS else ""
    constants = tree["constant_data"]
    moved = bool(np.any(constants["center"].values != 0) or np.any(constants["scale"].values != 1))
    sizes = tree["posterior"].sizes
    draws = {
        "point": "one best setting, no posterior",
        "approximation": f"{count(sizes['draw'])} independent draws from the fitted approximation",
        "chains": f"{spelled(sizes['chain'], 'chain', 'chains')} of {count(sizes['draw'])} draws",
    }[engine_kind(tree)]
    most = "Most memories" if said.get("weights") in ("dp", "pyp") else "Memories"
    facts = {
        "Data": f"{count(num_data)} rows, {spelled(num_features, 'feature', 'features')}: {names}",
        "Source": escape(said.get("source", "") or "not recorded"),
        "Units": "standardised for the fit, shown in their own units" if moved else "as they came",
        "Family": escape(_with_options(str(said.get("family", "–")), options(tree, "family_options"))),
        "Weights": escape(_with_options(str(said.get("weights", "–")), options(tree, "weights_options"))),
        most: escape(said.get("num_components", "–")),
        "Engine": escape(_with_options(str(said.get("engine", "–")), options(tree, "engine_options"))),
        "Draws": draws,
        "Seed": escape(said.get("seed", "–")),
        "Precision": escape(said.get("dtype", "–")),
        "Time": f"{number(float(said['seconds']), 3)} seconds" if "seconds" in said else "–",
    }
    left_out = options(tree, "left_out")
    if left_out:
        facts["Left out"] = escape("; ".join(f"{name}: {why}" for name, why in left_out.items()))
    body = '<dl class="facts">' + "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts.items()) + "</dl>"
    prior = options(tree, "prior")
    if prior:
        rows = [(f"<code>{escape(site)}</code>", f"<code>{escape(law)}</code>") for site, law in prior.items()]
        body += table(["parameter", "prior law"], rows, caption="Priors, in model units", words=(1,))
    return Section("model", "Data and model", body)


def _with_options(name: str, chosen: dict[str, Any]) -> str:
    said = [f"{key.replace('_', ' ')} {_plain(value)}" for key, value in chosen.items()]
    return f"{name} ({', '.join(said)})" if said else name


def _plain(value: Any) -> str:
    if isinstance(value, list) and len(value) > 6:
        return f"{len(value)} values"
    return number(value) if isinstance(value, float) else str(value)


def trust_section(tree: xr.DataTree, said: list[Advice]) -> Section:
    """The verdicts in words, the table of label-invariant quantities, the traces and the search."""
    items = "".join(
        f'<li class="{item.level}"><span class="level">{_LEVELS[item.level]}</span>'
        f"<span>{escape(item.text)}</span></li>"
        for item in said
    )
    body = f'<ul class="advice">{items}</ul>'
    summary = invariant_summary(tree)
    kind = engine_kind(tree)
    if len(summary) and kind == "point":
        rows = [(escape(quantity_name(str(name))), number(_float(row["mean"]))) for name, row in summary.iterrows()]
        body += table(["quantity", "value"], rows, caption=_INVARIANT)
    elif len(summary):
        body += _summary_table(summary, sampled=kind == "chains")
    if kind == "chains" and bool((summary["sd"] > 0).any()):
        svg = inline_svg(traces_figure(tree), "traces", "Trace and rank plots of label-invariant quantities")
        body += figure(
            svg,
            "Left: the draws of each chain, a colour each; chains that agree overlap like grass. Right: whether a "
            "chain holds more low or high values than the others; well-mixed chains stay inside the grey band.",
        )
    if has(tree, "optimisation", "objective"):
        what = escape(tree["optimisation"].attrs.get("what", "objective"))
        svg = inline_svg(optimisation_figure(tree), "search", "Objective of every restart against iterations")
        body += figure(
            svg,
            f"The search: {what} of every start against its iterations; the one that ended best is blue. "
            "Starts that end lower found a poorer optimum.",
        )
    title = "Can I trust this fit?" if kind == "point" else "Can I trust this posterior?"
    return Section("trust", title, body)


def _summary_table(summary: pd.DataFrame, *, sampled: bool) -> str:
    heads = {"mean": "mean", "sd": "sd", "mcse": "MC error"}
    heads |= {"ess_bulk": "ESS bulk", "ess_tail": "ESS tail", "r_hat": "R-hat"} if sampled else {}
    with_notes = not bool(summary["note"].isin(["", "independent draws"]).all())
    rows, marks = [], []
    for name, row in summary.iterrows():
        cells = [escape(quantity_name(str(name)))]
        for column in heads:
            value = _float(row[column])
            if column == "r_hat" and value is not None and np.isfinite(value):
                cells.append(f"{value:.3f}")
            elif column.startswith("ess") and value is not None:
                cells.append(count(round(value)))
            else:
                cells.append(number(value, 2 if column == "mcse" else 4))
        rows.append([*cells, escape(row["note"])] if with_notes else cells)
        r_hat = _float(row["r_hat"])
        marks.append("flag" if r_hat is not None and r_hat > R_HAT_LIMIT else "")
    caption = f"{_INVARIANT}. MC error is that of the mean"
    if sampled:
        caption += "; ESS counts effective draws (400 are enough); R-hat near 1 says that the chains agree (limit 1.01)"
    head = ["quantity", *heads.values(), *(["note"] if with_notes else [])]
    return table(head, rows, caption=caption, marks=marks)


def _float(value: Any) -> float | None:
    return None if value is pd.NA or value is None else float(value)


def number_of_memories_section(tree: xr.DataTree) -> Section | None:
    """The posterior of the number of memories that hold data."""
    if not has(tree, "invariant", "num_occupied"):
        return None
    title = "How many memories?"
    counts = variable(tree, "invariant", "num_occupied").values.ravel().astype(int)
    if engine_kind(tree) == "point":
        total = escape(tree.attrs.get("num_components", "–"))
        body = f"At the best setting found, {counts[0]} of {total} memories hold data."
        return Section("number", title, f"<p>{body} One setting cannot say how sure that is.</p>")
    body = f"<p>{escape(finding(tree))} The mean is {number(float(counts.mean()), 3)}.</p>"
    if counts.min() < counts.max():
        svg = inline_svg(occupied_figure(tree), "occupied", "Posterior of the number of occupied memories, a bar chart")
        body += figure(svg, "How many memories hold at least one datum, and how often among the posterior draws.")
    expected = truncation(tree).get("prior_expected_memories")
    if expected is not None:
        body += f"<p>Before seeing the data, the prior at these settings expected {number(expected, 2)}.</p>"
    return Section("number", title, body)


def memories_section(tree: xr.DataTree) -> Section | None:
    """The relabelled memories in data units."""
    if not has(tree, "memory"):
        return None
    chosen = shown_memories(tree)
    used = in_use(tree)
    num_features = int(tree["observed_data"].sizes["feature"])
    uncertain = is_uncertain(tree)
    body = _memory_table(tree)
    left = np.delete(np.arange(len(used)), chosen)
    remarks = []
    for hidden, why in (
        (int(used[left].sum()), "lighter than those"),
        (int((~used[left]).sum()), "in most draws nothing is there"),
    ):
        if hidden:
            others = spelled(hidden, "more memory of the model is", "more memories of the model are").capitalize()
            remarks.append(f"{others} not shown: {why}.")
    if not used[chosen].all():
        remarks.append("Pale rows are memories that most draws leave empty.")
    body += f"<p>{' '.join(remarks)}</p>" if remarks else ""
    if num_features > HEAT_MAP:
        caption = "Each memory against the mean of the data, feature by feature, in sds of that feature."
    else:
        interval = ", the strong line its own 90 % interval" if uncertain else ""
        caption = (
            "Dots are the memories, by number; the pale bar spans one standard deviation of a memory’s data to each "
            f"side{interval}. The silhouette behind is all the data."
        )
        if num_features > PANELS:
            caption += f" Of {num_features} features the {PANELS} in which memories differ most are shown."
    body += figure(inline_svg(memories_figure(tree), "memories", "The memories, feature by feature"), caption)
    return Section("memories", "The memories", body)


def _memory_table(tree: xr.DataTree) -> str:
    group = tree["memory"].to_dataset()
    features = shown_features(tree, _TABLE_FEATURES)
    names = variable(tree, "observed_data", "feature").values
    uncertain, used = is_uncertain(tree), in_use(tree)
    values = {name: group[name].values.astype(np.float64) for name in ("weight", "mean")}
    errors = {
        name: group[f"{name}_sd"].values.astype(np.float64)
        if f"{name}_sd" in group and uncertain
        else np.zeros_like(own)
        for name, own in values.items()
    }
    rows, marks = [], []
    for memory in shown_memories(tree):
        dot = f'<span class="dot" style="background:{memory_colour(int(memory))}"></span>'
        cells = [dot + escape(memory_name(tree, int(memory)))]
        cells.append(with_error(100 * values["weight"][memory], 100 * errors["weight"][memory], 3) + " %")
        if "size" in group:
            cells.append(number(float(group["size"].values[memory]), 3))
        if "occupied" in group:
            cells.append(percent(float(group["occupied"].values[memory])))
        cells += [with_error(values["mean"][memory, feature], errors["mean"][memory, feature]) for feature in features]
        rows.append(cells)
        marks.append("" if used[memory] else "faint")
    head = ["memory", "weight"]
    head += ["data held"] if "size" in group else []
    head += ["in use"] if "occupied" in group else []
    head += [escape(shortened(str(names[feature]))) for feature in features]
    caption = "The memories in the data’s units" + (", with posterior standard deviations" if uncertain else "")
    if len(features) < len(names):
        caption += f"; of {len(names)} features the {len(features)} in which memories differ most"
    return table(head, rows, caption=caption, marks=marks)


def weights_section(tree: xr.DataTree) -> Section | None:
    """The mixing weights, where there is more than one memory to tell apart."""
    if not has(tree, "memory") or len(shown_memories(tree)) < 2:
        return None
    svg = inline_svg(weights_figure(tree), "weights", "Mixing weights of the memories with intervals")
    caption = "Share of new data that each memory is expected to explain"
    caption += ", with its 90 % interval." if is_uncertain(tree) else "."
    return Section("weights", "How popular is each memory?", figure(svg, caption))


def partition_section(tree: xr.DataTree) -> Section | None:
    """Which data share a memory, and the partition that sums it up."""
    if not has(tree, "partition", "coclustering"):
        return None
    labels = row_partition(tree)
    num_data = int(tree["observed_data"].sizes["datum"])
    opening = "At one setting of the model" if engine_kind(tree) == "point" else "Over the posterior"
    sizes = np.sort(np.bincount(labels))[::-1]
    sizes = sizes[sizes > 0]
    shown = ", ".join(count(int(size)) for size in sizes[:10])
    shown += f" and {len(sizes) - 10} smaller" if len(sizes) > 10 else ""
    some = "a random " if len(labels) < num_data else "the "
    some += (
        f"{count(len(labels))} of the {count(num_data)} data" if len(labels) < num_data else f"{count(num_data)} data"
    )
    body = (
        f"<p>{opening}, how often do two data share a memory? This does not depend on how memories are numbered. "
        f"The partition that sums it up best splits {some} into {spelled(len(sizes), 'group', 'groups')}: {shown}.</p>"
    )
    body += _ball_words(tree)
    svg = inline_svg(coclustering_figure(tree), "together", "Co-clustering matrix, ordered by group")
    caption = (
        "Dark: the two data always share a memory; white: never. Lines bound the groups; between dark and white the "
        "posterior has not decided."
    )
    body += figure(svg, caption)
    if has_ball(tree):
        svg = inline_svg(ball_figure(tree), "ball", "The point partition and the partitions at the edge of its ball")
        body += figure(svg, "The partition, and how else the data could plausibly be divided; a colour is a group.")
    return Section("partition", "Which data belong together?", body)


def _ball_words(tree: xr.DataTree) -> str:
    """How sure the partition is, and in which ways it could be otherwise."""
    told = tree["partition"].attrs
    if "credible_radius" not in told:
        return ""
    held = percent(float(told.get("credible_probability", 0.95)))
    radius = number(float(told["credible_radius"]), 2)
    words = f"<p>{held} of the sampled partitions lie within {radius} nats of it (variation of information)."
    if has_ball(tree):
        fewest, most = (
            len(set(variable(tree, "partition", f"ball_{end}").values.tolist())) for end in ("upper", "lower")
        )
        span = spelled(most, "group", "groups") if fewest == most else f"{fewest} to {most} groups"
        words += f" These have {span}."
    binder = variable(tree, "partition", "point_binder").values if has(tree, "partition", "point_binder") else None
    if binder is not None:
        differ = binder_loss(row_partition(tree), binder)
        same = "is the same" if differ == 0 else f"differs on {percent(differ)} of the pairs of data"
        words += f" The best partition under Binder’s loss {same}."
    return words + "</p>"


def predictive_section(tree: xr.DataTree) -> Section | None:
    """Whether data drawn from the fit look like the data."""
    if not has(tree, "posterior_predictive"):
        return None
    checks = predictive_check(tree)
    bins = sum(len(check.outside) for check in checks)
    outside = sum(int(check.outside.sum()) for check in checks)
    replicates = int(np.prod([tree["posterior_predictive"].sizes[name] for name in ("chain", "draw")]))
    chance = expected_outside(replicates) * bins
    if outside <= 1.4 * chance:
        tone = "the model reproduces the data, feature by feature"
    elif outside <= 2.5 * chance:
        tone = "somewhat more than chance, look at the marked bars"
    else:
        tone = "the model misses something, look at the marked bars"
    body = (
        f"<p>Data drawn from the fitted model should look like the data. Over {count(replicates)} replicated data "
        f"sets, {outside} of {bins} bars of the data’s histograms leave their 90 % band (by chance alone about "
        f"{chance:.0f} would): {tone}.</p>"
    )
    svg = inline_svg(predictive_figure(tree), "predictive", "Histograms of data and of replicated data")
    caption = (
        "Strong outline: the data. Blue: median and 90 % band of data drawn from the fitted model. Orange marks: bars "
        "where the data leave the band."
    )
    return Section("predictive", "Does the model reproduce the data?", body + figure(svg, caption))
