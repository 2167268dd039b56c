"""How chains are spread over devices."""

import jax

__all__ = ["devices_for"]


def devices_for(num_chains: int) -> int:
    """How many devices the chains can be spread over evenly."""
    return max(count for count in range(1, len(jax.devices()) + 1) if num_chains % count == 0)
