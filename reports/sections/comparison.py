"""Sections of the page that puts fits of the same data side by side."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Int

from probam.reports.figures.partition import numbered_as, partitions_figure
from probam.reports.figures.shown import shortened, shown_features
from probam.reports.figures.style import inline_svg
from probam.reports.page import (
    Section,
    count,
    enumerated,
    escape,
    figure,
    folded,
    number,
    percent,
    spelled,
    table,
    with_error,
)
from probam.reports.sections.labels import contingency_table, memory_cell
from probam.reports.sections.posterior import memory_numbers
from probam.reports.summaries.contingency import Contingency, agreement, contingency
from probam.reports.summaries.diagnostics import Diagnosis
from probam.reports.summaries.estimate import bounds_memories
from probam.reports.summaries.partition import variation_of_information
from probam.reports.summaries.quantities import evenly, options
from probam.reports.summaries.reproduction import reproduction
from probam.reports.tree import has, variable

__all__ = ["matched_section", "notes_section", "numbers_section", "partitions_section", "words_section"]

Trees = Mapping[str, xr.DataTree]
"""The fits by name."""

_MOST_MATCHED = 12
"""Most pairs of memories that are not folded."""

_MOST_FOLDED = 40
_FEATURES = 2
"""Most features whose means stand side by side."""

_FIGURE_ROWS = 400


# --- numbers ---------------------------------------------------------------------------------------------------


def numbers_section(trees: Trees, diagnoses: Mapping[str, Diagnosis], frame: pd.DataFrame) -> Section:
    """What each fit is and what it scores, a column each.

    Args:
        trees: the fits.
        diagnoses: theirs.
        frame: scores, with a row for each fit (:func:`probam.comparison.compare.compare`).
    """
    of_trees: dict[str, Callable[[xr.DataTree], str]] = {
        "what it is": lambda tree: escape(tree.attrs.get("estimate", "")),
        "family": lambda tree: _with_options(tree, "family"),
        "weights": lambda tree: _with_options(tree, "weights"),
        "memories of the model": lambda tree: escape(tree.attrs.get("num_components", "–")),
        "engine": lambda tree: escape(tree.attrs.get("engine", "–")),
        "seed": lambda tree: escape(tree.attrs.get("seed", "–")),
        "replicated data as far off": _reproduced,
    }
    rows = {title: [said(tree) for tree in trees.values()] for title, said in of_trees.items()}
    rows["memories that hold data"] = [
        ("at most " if bounds_memories(tree) else "") + number(float(frame["memories"][name]), 3)
        for name, tree in trees.items()
    ]
    rows |= {title: [_score(frame, name, *columns) for name in trees] for title, columns in _SCORES.items()}
    rows["largest R-hat"] = [_extreme(diagnosis, "r_hat") for diagnosis in diagnoses.values()]
    rows["fewest effective draws"] = [_extreme(diagnosis, "ess_bulk") for diagnosis in diagnoses.values()]
    rows["seconds"] = [number(float(frame["seconds"][name]), 3) for name in trees]
    lines = [[title, *rows[title]] for title in _ORDER if set(rows[title]) - {"–", ""}]
    heads = [f'<a href="#fit-{place}">{escape(name)}</a>' for place, name in enumerate(trees)]
    body = table(["", *heads], lines, caption=_CAPTION, words=range(1, len(trees) + 1))
    return Section("numbers", "Side by side", body)


_SCORES: dict[str, tuple[str, str]] = {
    "log likelihood": ("log_lik", ""),
    "expected log density (LOO)": ("elpd_loo", "elpd_se"),
    "difference to the best (LOO)": ("elpd_diff", "elpd_diff_se"),
    "rows where LOO is unreliable": ("bad_k", ""),
    "BIC": ("bic", ""),
    "ICL": ("icl", ""),
    "log evidence": ("log_evidence", "evidence_se"),
    "adjusted Rand index with the labels": ("ari", ""),
    "mutual information with the labels": ("nmi", ""),
}
"""Rows of scores: the column of the number, and that of its error."""

_ORDER = (
    *("what it is", "engine", "family", "weights", "memories of the model", "memories that hold data"),
    *_SCORES,
    *("replicated data as far off", "largest R-hat", "fewest effective draws", "seconds", "seed"),
)

_CAPTION = (
    "Log densities in nats and in the units of the data, with standard errors over rows. LOO: leave-one-out, larger is "
    "better; BIC and ICL: smaller is better. – where a number does not apply to a fit"
)


def _with_options(tree: xr.DataTree, name: str) -> str:
    chosen = options(tree, f"{name}_options")
    words = [f"{key.replace('_', ' ')} {value}" for key, value in chosen.items() if isinstance(value, str)]
    return escape(str(tree.attrs.get(name, "–")) + (f" ({', '.join(words)})" if words else ""))


def _reproduced(tree: xr.DataTree) -> str:
    found = reproduction(tree)
    return "–" if found is None else percent(found.p_value)


def _score(frame: pd.DataFrame, name: str, value: str, error: str) -> str:
    spread = float(frame[error][name]) if error else float("nan")
    return with_error(float(frame[value][name]), spread, 3 if value in ("ari", "nmi") else 5)


def _extreme(diagnosis: Diagnosis, column: str) -> str:
    """The worst of the label-invariant quantities; an en dash where the fit has no chains."""
    values = diagnosis.summary[column].dropna() if diagnosis.kind == "chains" else pd.Series(dtype=float)
    if values.empty:
        return "–"
    return number(round(float(values.max()), 3), 4) if column == "r_hat" else count(round(float(values.min())))


# --- partitions ------------------------------------------------------------------------------------------------


def partitions_section(trees: Trees) -> Section | None:
    """How far the partitions of each two fits agree, and a picture of all."""
    partitions, rows = _partitions(trees)
    if not partitions:
        return None
    lines = []
    for one, other in itertools.combinations(partitions, 2):
        scores = agreement(partitions[one], partitions[other])
        distance = variation_of_information(partitions[one], partitions[other])
        lines.append(
            [f"{escape(one)} and {escape(other)}", number(scores.ari, 3), number(scores.nmi, 3), number(distance, 3)]
        )
    groups = enumerated([f"{name} {len(np.unique(labels))}" for name, labels in partitions.items()])
    body = f"<p>Compared are {rows}. Groups: {escape(groups)}.</p>"
    heads = ["fits", "adjusted Rand index", "mutual information", "variation of information"]
    caption = (
        "Agreement of two partitions. Adjusted Rand index: 1 for the same groups, about 0 for no more than chance. "
        "Mutual information, normalised: 0 to 1. Variation of information, nats: 0 for the same groups"
    )
    body += table(heads, lines, caption=caption)
    first = next(iter(partitions.values()))
    chosen = evenly(len(first), _FIGURE_ROWS)
    titles = [shortened(name) for name in partitions]
    titles = titles if len(set(titles)) == len(titles) else list(partitions)
    drawn = {title: numbered_as(first, own)[chosen] for title, own in zip(titles, partitions.values(), strict=True)}
    svg = inline_svg(partitions_figure(drawn), "bars", "The partition of each fit as a bar, one colour per group")
    words = (
        f"One bar per fit, one colour per group; every bar has the same {count(len(chosen))} rows in the same order. "
        f"Groups that share most rows with one of {escape(next(iter(partitions)))} have its colour."
    )
    body += figure(svg, words)
    return Section("partitions", "Do the fits group the same rows?", body)


def _partitions(trees: Trees) -> tuple[dict[str, Int[np.ndarray, " R"]], str]:
    """A partition of the same rows by each fit, and what they are; none where a fit has none.

    They are the partitions that sum up the posteriors, where all fits have one of the same rows, else the most
    probable memory of every row.
    """
    groups = [tree["partition"].to_dataset() for tree in trees.values() if has(tree, "partition")]
    if len(groups) < len(trees):
        return {}, ""
    first = groups[0]
    num_data = count(int(first.sizes["datum"])) if "datum" in first.sizes else "–"
    if all("point" in group and np.array_equal(group["row"].values, first["row"].values) for group in groups):
        of = f"a random sample of {count(first.sizes['row'])} of the {num_data} rows"
        which = f"all {num_data} rows" if first.sizes["row"] == first.sizes.get("datum") else of
        words = f"the partitions that sum up each posterior best, of {which}"
        return {name: group["point"].values for name, group in zip(trees, groups, strict=True)}, words
    if all("label" in group for group in groups):
        words = f"the most probable memories of all {num_data} rows"
        return {name: group["label"].values for name, group in zip(trees, groups, strict=True)}, words
    return {}, ""


# --- memories --------------------------------------------------------------------------------------------------


def matched_section(trees: Trees) -> Section | None:
    """Which memories of each fit correspond to those of the first, and the table of rows that they share."""
    if not all(has(tree, "partition", "label") and has(tree, "memory", "mean") for tree in trees.values()):
        return None
    (first, one), *others = trees.items()
    parts = []
    for name, other in others:
        crossed = contingency(*(variable(tree, "partition", "label").values for tree in (one, other)))
        title = f"{escape(first)} and {escape(name)}"
        parts.append((title, _matched(crossed, (first, one), (name, other))))
    body = (
        "<p>The numbers of memories mean nothing across fits. Here each memory of one fit is matched with a memory of "
        "the other, so that they share as many rows as possible.</p>"
    )
    body += parts[0][1] if len(parts) == 1 else "".join(f"<h3>{title}</h3>{part}" for title, part in parts[:1])
    body += "".join(folded(title, part) for title, part in parts[1:])
    return Section("matched", "Which memories correspond?", body)


def _matched(crossed: Contingency, one: tuple[str, xr.DataTree], other: tuple[str, xr.DataTree]) -> str:
    """Memories in pairs with their numbers, those without a partner, and the table of shared rows (HTML)."""
    share = percent(crossed.num_shared / crossed.num_data)
    alone = _alone(one[0], crossed.rows[crossed.num_matched :])
    alone += _alone(other[0], crossed.columns[crossed.num_matched :])
    num_pairs = spelled(crossed.num_matched, "pair", "pairs").capitalize()
    body = f"<p>{num_pairs} of memories share {share} of the rows.{alone}</p>"
    pairs = range(min(crossed.num_matched, _MOST_FOLDED))
    body += _pairs_table(crossed, one, other, pairs[:_MOST_MATCHED])
    if len(pairs) > _MOST_MATCHED:
        more = f"The {len(pairs)} largest pairs" if crossed.num_matched > len(pairs) else f"All {len(pairs)} pairs"
        body += folded(more, _pairs_table(crossed, one, other, pairs))
    names = [escape(name) for name, _ in (one, other)]
    return body + contingency_table(
        crossed,
        caption=f"Rows of the data by memory of {names[0]} (down) and memory of {names[1]} (across); bold: the pairs",
        row=lambda memory: memory_cell(one[1], int(memory)),
        column=lambda memory: memory_cell(other[1], int(memory)),
        others=("more memory", "more memories", "more memory", "more memories"),
    )


def _alone(name: str, memories: Sequence[object]) -> str:
    """Memories that hold rows and have no partner."""
    if not memories:
        return ""
    verb = "holds rows and has" if len(memories) == 1 else "hold rows and have"
    return f" {spelled(len(memories), 'memory', 'memories').capitalize()} of {escape(name)} {verb} no partner."


def _pairs_table(
    crossed: Contingency, one: tuple[str, xr.DataTree], other: tuple[str, xr.DataTree], pairs: Iterable[int]
) -> str:
    """Each pair in a line: the memories, the rows that they share, and their weights and means side by side."""
    both = (one, other)
    features = shown_features(one[1], _FEATURES)
    columns = [str(name) for name in variable(one[1], "observed_data", "feature").values]
    lines = []
    for pair in pairs:
        memories = [int(str(crossed.rows[pair])), int(str(crossed.columns[pair]))]
        shared = int(crossed.counts[pair, pair])
        either = int(crossed.counts[pair].sum() + crossed.counts[:, pair].sum()) - shared
        own = [memory_numbers(tree, memory, features) for (_, tree), memory in zip(both, memories, strict=True)]
        cells = [memory_cell(tree, memory) for (_, tree), memory in zip(both, memories, strict=True)]
        cells += [count(shared), percent(shared / either), own[0].weight, own[1].weight]
        lines.append([*cells, *itertools.chain.from_iterable(zip(own[0].means, own[1].means, strict=True))])
    short = [escape(shortened(name, 16)) for name, _ in both]
    heads = [*short, "rows in both", "of the rows in either", *(f"weight, {name}" for name in short)]
    heads += [f"{escape(shortened(columns[at], 16))}, {name}" for at in features for name in short]
    caption = "Memories that go together, with their weights and means"
    if len(features) < len(columns):
        caption += f" in the {spelled(len(features))} of {count(len(columns))} features in which they differ most"
    return table(heads, lines, caption=caption)


# --- the rest --------------------------------------------------------------------------------------------------


def notes_section(frame: pd.DataFrame) -> Section | None:
    """Why numbers are missing or to be read with care, fit by fit."""
    notes = {str(name): said for name, said in frame.attrs.get("notes", {}).items() if said}
    if not notes:
        return None
    items = "".join(
        f"<dt>{escape(name)}</dt>" + "".join(f"<dd>{escape(one)}</dd>" for one in said) for name, said in notes.items()
    )
    return Section("notes", "What could not be compared", f'<dl class="words">{items}</dl>')


_WORDS = {
    "Memory": "A stored pattern: one component of the mixture. It holds the data that it explains best.",
    "Expected log density (LOO)": "How well the fit predicts a row that it has not seen, summed over rows: each row is "
    "predicted by a posterior from which its own influence is taken out. Larger is better; four nats are little.",
    "BIC": "Minus twice the log likelihood of a point estimate, with a penalty for its parameters. Smaller is better.",
    "Adjusted Rand index": "Of all pairs of rows, how often two partitions agree on whether the two belong together, "
    "corrected for chance.",
    "Variation of information": "What one partition leaves unknown of the other and the other of it, summed, in nats.",
}


def words_section() -> Section:
    """The words of this page."""
    entries = "".join(f"<dt>{word}</dt><dd>{meaning}</dd>" for word, meaning in _WORDS.items())
    return Section("words", "Five words", f'<dl class="words">{entries}</dl>')
