"""Distributions as arguments of compiled programs, flattened in the same order in every process.

NumPyro lists the parameters of a distribution in the order of a set of names, which differs between processes
(``PYTHONHASHSEED``). A program with a distribution among its arguments would therefore differ between processes, and a
cached compilation could not be used again. :func:`steady` wraps the arguments, :func:`restored` unwraps them.
"""

from typing import Any

import jax
from jax.tree_util import register_pytree_node_class
from numpyro.distributions import Distribution

__all__ = ["restored", "steady"]


@register_pytree_node_class
class _Steady:
    """A distribution whose parameters are flattened by name, including those of distributions within it."""

    def __init__(self, law: Distribution) -> None:
        self.law = law

    def tree_flatten(self) -> tuple[tuple[Any, ...], tuple[type[Distribution], Any]]:
        children, static = self.law.tree_flatten()
        return tuple(steady(children[i]) for i in _by_name(type(self.law))), (type(self.law), static)

    @classmethod
    def tree_unflatten(cls, static: tuple[type[Distribution], Any], children: tuple[Any, ...]) -> "_Steady":
        kind, rest = static
        placed = dict(zip(_by_name(kind), map(restored, children), strict=True))
        return cls(kind.tree_unflatten(rest, tuple(placed[i] for i in range(len(placed)))))


def _by_name(kind: type[Distribution]) -> list[int]:
    names = kind.gather_pytree_data_fields()
    return sorted(range(len(names)), key=names.__getitem__)


def steady(tree: Any) -> Any:
    """The same pytree with every distribution in it wrapped."""
    return jax.tree.map(
        lambda leaf: _Steady(leaf) if isinstance(leaf, Distribution) else leaf,
        tree,
        is_leaf=lambda leaf: isinstance(leaf, Distribution),
    )


def restored(tree: Any) -> Any:
    """The pytree that was wrapped by :func:`steady`."""
    return jax.tree.map(
        lambda leaf: leaf.law if isinstance(leaf, _Steady) else leaf,
        tree,
        is_leaf=lambda leaf: isinstance(leaf, _Steady),
    )
