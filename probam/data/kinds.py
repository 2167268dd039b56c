"""What holds for all rows of a frame that is read piece by piece: kinds of columns, and which column names the rows."""

from collections.abc import Container
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probam.data.columns import title

__all__ = ["Kinds", "NameSearch"]


class Kinds:
    """The kinds of columns in some pieces of a file.

    >>> kinds = Kinds()
    >>> kinds.add(pd.DataFrame({"a": [1, 2], "b": [1, 2], "c": [1, 2]}))
    >>> kinds.add(pd.DataFrame({"a": [3, 4], "b": [0.5, None], "c": ["x", "y"]}))
    >>> kinds.decided()
    {'b': <class 'float'>, 'c': <class 'str'>}
    """

    def __init__(self) -> None:
        self._seen: dict[Any, set[str]] = {}

    def add(self, frame: pd.DataFrame) -> None:
        """Look at a piece."""
        for name, column in frame.items():
            self._seen.setdefault(name, set()).add(_kind(column))

    def decided(self) -> dict[Any, type]:
        """The columns that have not one kind in all pieces, and the one that their values have together."""
        mixed = {name: seen for name, seen in self._seen.items() if len(seen) > 1 and seen != {"float", "empty"}}
        return {name: float if seen <= {"integer", "float", "empty"} else str for name, seen in mixed.items()}


def _kind(column: "pd.Series[Any]") -> str:
    if column.isna().all():
        return "empty"
    if pd.api.types.is_bool_dtype(column.dtype) or pd.api.types.infer_dtype(column, skipna=True) == "boolean":
        return "truth"
    if pd.api.types.is_integer_dtype(column.dtype):
        return "integer"
    return "float" if pd.api.types.is_numeric_dtype(column.dtype) else "text"


class NameSearch:
    """Looks for the column that names the rows: the first that is no feature, holds text or whole numbers, and has
    another one in every row.

    Of each value 64 bits are kept, so that memory grows by eight bytes a row and column.
    """

    def __init__(self, features: Container[str]) -> None:
        """Nothing seen yet.

        Args:
            features: names of columns that are features.
        """
        self._features = features
        self._seen: dict[Any, list[NDArray[np.uint64]]] | None = None

    def add(self, frame: pd.DataFrame) -> None:
        """Look at a piece."""
        if self._seen is None:
            self._seen = {name: [] for name in frame.columns if title(name) not in self._features}
        for name in tuple(self._seen):
            column = frame[name]
            if _tells_apart(column):
                self._seen[name].append(pd.util.hash_array(column.to_numpy(), categorize=False))
            else:
                del self._seen[name]

    @property
    def is_over(self) -> bool:
        """Whether no column is left."""
        return self._seen == {}

    @property
    def candidates(self) -> frozenset[Any]:
        """The columns that may still name the rows."""
        return frozenset(self._seen or {})

    def found(self) -> str | None:
        """The name of the column, None where there is none."""
        for name, parts in (self._seen or {}).items():
            if len(parts) == 1 or len(np.unique(np.concatenate(parts))) == sum(map(len, parts)):
                return title(name)
        return None


def _tells_apart(values: "pd.Series[Any]") -> bool:
    """Whether these are text or whole numbers, another one in every row."""
    is_name = pd.api.types.is_integer_dtype(values.dtype) or pd.api.types.infer_dtype(values, skipna=False) == "string"
    return bool(is_name and values.is_unique and values.notna().all())
