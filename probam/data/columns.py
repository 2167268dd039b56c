"""Columns by their names: which are taken, which are left out, and what errors say of them."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from probam.errors import ColumnError, InputError

__all__ = ["check_unique", "counted", "learned_columns", "listed", "positions", "positions_kept", "title"]


def learned_columns(features: Sequence[str], names: Sequence[str], named: bool, source: str) -> Sequence[str] | None:
    """The columns that hold the features that were learned; None where all are taken as they lie.

    Names decide where both sides have them. Otherwise as many columns are needed as there are features.
    """
    if named and set(features) <= set(names):
        return features
    by_position = not named or _only_count(features)
    if by_position and len(names) == len(features):
        return None
    absent = next(feature for feature in (*features, "") if feature not in names)
    remedy = (
        "give a column for each feature, in this order"
        if by_position
        else f"no column is called {absent!r}; rename the columns, or give an array of the features in their order"
    )
    learned = "feature that was" if len(features) == 1 else "features that were"
    raise InputError(
        f"{source}: expected the {len(features)} {learned} learned ({listed(features)}); "
        f"got {len(names)} ({listed(names)}); {remedy}"
    )


def counted(number: int) -> tuple[str, ...]:
    """Names for columns that have none."""
    return tuple(f"x{i}" for i in range(number))


def _only_count(names: Sequence[str]) -> bool:
    """Whether the names are those that columns without names get, from an array or from a frame."""
    return tuple(names) in (counted(len(names)), tuple(map(str, range(len(names)))))


def positions_kept(names: Sequence[str], drop: Sequence[str], source: str, left_out: Sequence[str] = ()) -> list[int]:
    """Positions of the columns that are not dropped.

    Args:
        names: of the columns.
        drop: names of the columns to leave out.
        source: what errors call the data.
        left_out: names of columns that are gone already.
    """
    dropped = [drop] if isinstance(drop, str) else [str(name) for name in drop]
    for name in dropped:
        if name not in names and name not in left_out:
            raise ColumnError("drop", name, f"{source} has no column {name!r}; it has {listed(names, name)}")
    kept = [i for i, name in enumerate(names) if name not in dropped]
    if names and not kept:
        raise InputError(f"drop: no column of {source} is left; it has {listed(names)}")
    return kept


def check_unique(names: Sequence[str], source: str) -> None:
    """Raise :class:`probam.errors.InputError` where two columns have one name."""
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise InputError(f"{source}: the column name {twice!r} appears more than once; give each column its own name")


def positions(wanted: Sequence[str], names: Sequence[str], source: str) -> list[int]:
    """Positions of the wanted columns."""
    wanted = [wanted] if isinstance(wanted, str) else [str(name) for name in wanted]
    if not wanted:
        raise InputError(f"columns: expected at least one column name of {source}: {listed(names)}; got none")
    for name in wanted:
        if name not in names:
            raise ColumnError("columns", name, f"{source} has no column {name!r}; it has {listed(names, name)}")
    check_unique(wanted, "columns")
    return [list(names).index(name) for name in wanted]


def listed(names: Any, near: str | None = None, *, most: int = 12) -> str:
    """At most ``most`` of the names, quoted, with the one closest to ``near`` at the end."""
    names = [str(name) for name in names]
    text = ", ".join(repr(name) for name in names[:most]) or "none"
    if len(names) > most:
        text += f" and {len(names) - most} more"
    close = get_close_matches(near, names, n=1) if near is not None else []
    return f"{text} (did you mean {close[0]!r}?)" if close else text


def title(label: object) -> str:
    """A column's label as one word; levels of a hierarchy joined by underscores."""
    return "_".join(map(str, label)) if isinstance(label, tuple) else str(label)
