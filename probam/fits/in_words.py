"""A fit in a table and in a few lines of text."""

import numpy as np
import pandas as pd
import xarray as xr

from probam.reports.summaries.diagnostics import advice, left_out
from probam.reports.summaries.estimate import NOT_A_COUNT, bounds_memories, headline, sample_in_words

__all__ = ["memories", "summary_text"]


def memories(group: xr.Dataset, columns: tuple[str, ...]) -> pd.DataFrame:
    """A row for each memory: weight, size, probability of being occupied, and the mean of each feature.

    A feature called as one of the former, ``weight`` for example, is ``mean_weight``.

    Args:
        group: ``memory`` of the fit.
        columns: the features.
    """
    names = ("weight", "weight_sd", "size", "occupied")
    frame = pd.DataFrame(
        {name: group[name].values for name in names}, index=pd.Index(group["memory"].values, name="memory")
    )
    titles = [f"mean_{column}" if column in names else column for column in columns]
    return pd.concat([frame, pd.DataFrame(group["mean"].values, frame.index, titles)], axis=1)


def summary_text(tree: xr.DataTree, frame: pd.DataFrame, most: int) -> str:
    """The main results: first what was maximised or drawn from, then memories, then what to make of them.

    Args:
        tree: the fit, where it was asked for with its verification.
        frame: its memories.
        most: memories to list.
    """
    attributes = tree.attrs
    occupied = tree["invariant"].to_dataset()["num_occupied"].values.ravel()
    counts = np.bincount(occupied.astype(int))
    outcome = f", {attributes['outcome'].replace('_', ' ')}" if attributes.get("outcome") else ""
    run = f"{attributes['engine']}, seed {attributes['seed']}, {attributes['seconds']:.1f} s{outcome}"
    lines = [headline(tree), attributes["model"], *filter(None, [sample_in_words(tree)]), run]
    if occupied.size > 1:
        likely = ", ".join(f"{k}: {counts[k] / occupied.size:.0%}" for k in np.argsort(-counts)[:4] if counts[k] > 0)
        lines.append(f"memories that hold data: {occupied.mean():.2f} on average ({likely})")
    else:
        most_likely = f"at most {int(occupied[0])}. {NOT_A_COUNT}" if bounds_memories(tree) else int(occupied[0])
        lines.append(f"memories that hold data: {most_likely}")
    holding = frame[frame["size"] >= 0.5]
    shown = holding.loc[holding.nlargest(most, "weight").index.sort_values()]
    shown = shown.iloc[:, : 4 + 6].round(4)
    lines += ["", shown.to_string(float_format=lambda value: f"{value:.4g}")]
    smaller, empty = len(holding) - len(shown), int((frame["size"] < 0.5).sum())
    if smaller:
        lines.append(f"({smaller} smaller memories are not listed)")
    if empty:
        lines.append(f"({empty} of the {len(frame)} memories hold almost no data)")
    lines.append("")
    lines += [f"[{item.level}] {item.text}" for item in [*advice(tree), *left_out(tree)]]
    return "\n".join(lines)
