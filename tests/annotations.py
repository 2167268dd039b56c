"""Types that run: in the quick tests every annotation of the package is checked whenever a function is called.

Shapes and dtypes are checked by jaxtyping, all else by beartype, by whose rule here a whole number is a number too.
PROBAM_CHECK_TYPES=0 turns it off.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import jaxtyping
import pytest
from beartype import BeartypeConf, beartype

__all__ = ["check_annotations", "checked", "false_annotations"]

false_annotations: list[str] = []
"""What was found in the present test. A test fails by it even where the program goes on after the error, as a fit does
without a group of its file."""


class FalseAnnotationError(TypeError):
    """An argument or a result is not what the annotation says."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        false_annotations.append(message)


checked = beartype(conf=BeartypeConf(is_pep484_tower=True, violation_type=FalseAnnotationError))
"""The decorator that the import hook finds by name."""

_raises = pytest.raises


def check_annotations() -> None:
    """Check what is imported from now on, unless it is turned off; called before any module of the package is."""
    if os.environ.get("PROBAM_CHECK_TYPES") == "0":
        return
    jaxtyping.install_import_hook("probam", f"{__name__}.checked")
    pytest.raises = _raises_of_the_product  # type: ignore[assignment]


def _raises_of_the_product(expected: Any, *args: Any, **options: Any) -> Any:
    """``pytest.raises``, under which the checker stands aside for errors of probam's own.

    A test that gives a wrong type or shape on purpose meets the message that a user would.
    """
    context = _raises(expected, *args, **options)
    is_own = isinstance(expected, type) and any(base.__module__ == "probam.errors" for base in expected.__mro__)
    return _unchecked(context) if is_own and not args else context


@contextmanager
def _unchecked(inside: AbstractContextManager[Any]) -> Iterator[Any]:
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with inside as caught:
            yield caught
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
