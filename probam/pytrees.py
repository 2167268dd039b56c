"""Frozen dataclasses as JAX pytrees whose structures distinguish their types.

With ``jax.tree_util.register_dataclass`` they do not: in jaxlib 0.10.2 the structures of two dataclasses of different
types compare equal if they have the same number of array fields and equal static fields (``jax.tree.structure(A()) ==
jax.tree.structure(B())``). Only their hashes differ, so that in about one process of thirty a program compiled for one
type was used for the other. This decorator is used in the same way and avoids that.
"""

from collections.abc import Iterable
from dataclasses import fields
from typing import Any, TypeVar

from jax.tree_util import GetAttrKey, register_pytree_with_keys

__all__ = ["pytree"]

_T = TypeVar("_T")


def pytree(cls: type[_T]) -> type[_T]:
    """Decorator that registers a dataclass; its fields are leaves unless their ``metadata`` is ``{"static": True}``.

    JAX rebuilds objects without ``__init__`` and ``__post_init__``, since in transformations and gradients the fields
    need not satisfy the conditions of the class.

    >>> from dataclasses import dataclass, field
    >>> import jax
    >>> @pytree
    ... @dataclass(frozen=True)
    ... class Well:
    ...     depth: float
    ...     power: int = field(metadata={"static": True})
    >>> jax.tree.map(lambda leaf: 2 * leaf, Well(1.5, 2))
    Well(depth=3.0, power=2)
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
