"""Frozen dataclasses as JAX pytrees whose structures tell their types apart.

``jax.tree_util.register_dataclass`` does not: in jaxlib 0.10.2 the structures of two dataclasses of different types
compare equal where they have as many array fields and equal static ones (``jax.tree.structure(A()) ==
jax.tree.structure(B())``). Only their hashes differ, so that now and then a compiled program of the one serves the
other, in one process of thirty or so. Hence this decorator, which is used in the same way.
"""

from collections.abc import Iterable
from dataclasses import fields
from typing import Any, TypeVar

from jax.tree_util import GetAttrKey, register_pytree_with_keys

__all__ = ["pytree"]

_T = TypeVar("_T")


def pytree(cls: type[_T]) -> type[_T]:
    """Decorator: register a dataclass, whose fields are leaves unless their ``metadata`` is ``{"static": True}``.

    Rebuilding (in transformations, and for gradients, whose "values" need not obey the class's conditions) goes past
    ``__init__`` and ``__post_init__``.
    """
    known = fields(cls)  # type: ignore[arg-type]
    leaves = tuple(field.name for field in known if not field.metadata.get("static", False))
    static = tuple(field.name for field in known if field.metadata.get("static", False))

    def flatten(tree: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        return tuple(getattr(tree, name) for name in leaves), tuple(getattr(tree, name) for name in static)

    def flatten_with_keys(tree: Any) -> tuple[tuple[tuple[GetAttrKey, Any], ...], tuple[Any, ...]]:
        children, rest = flatten(tree)
        return tuple((GetAttrKey(name), child) for name, child in zip(leaves, children, strict=True)), rest

    def unflatten(rest: tuple[Any, ...], children: Iterable[Any]) -> _T:
        made = object.__new__(cls)
        for name, value in (*zip(leaves, children, strict=True), *zip(static, rest, strict=True)):
            object.__setattr__(made, name, value)
        return made

    register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls
