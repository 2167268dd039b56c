"""How chains are spread over devices."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

__all__ = ["devices_for", "over_chains", "spread"]

_Tree = TypeVar("_Tree")

_OWN, _SHARED = PartitionSpec("chain"), PartitionSpec()


def devices_for(num_chains: int) -> int:
    """How many devices the chains can be spread over evenly."""
    return max(count for count in range(1, len(jax.local_devices()) + 1) if num_chains % count == 0)


def over_chains(function: Callable[..., Any], num_devices: int, *, num_shared: int) -> Callable[..., Any]:
    """A function of chains, each device running its own.

    Args:
        function: of ``num_shared`` arguments that all chains share, then of others whose leaves lead with the chains.
            Leaves of what it returns lead with them too.
        num_devices: from :func:`devices_for`.
        num_shared: number of the former arguments.
    """

    if num_devices == 1:
        return function

    def run(*arguments: Any) -> Any:
        specs = (_SHARED,) * num_shared + (_OWN,) * (len(arguments) - num_shared)
        mapped = jax.shard_map(function, mesh=_mesh(num_devices), in_specs=specs, out_specs=_OWN, check_vma=False)
        return mapped(*arguments)

    return run


def spread(chains: _Tree, num_devices: int) -> _Tree:
    """Chains (leaves lead with their axis) on the devices where :func:`over_chains` leaves them.

    A program is compiled for where its arguments are: chains that begin elsewhere would have it compiled twice.
    """
    if num_devices == 1:
        return chains
    placed: _Tree = jax.device_put(chains, NamedSharding(_mesh(num_devices), _OWN))
    return placed


def _mesh(num_devices: int) -> Mesh:
    return Mesh(np.asarray(jax.local_devices()[:num_devices]), ("chain",))
