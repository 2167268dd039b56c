"""Does the fit reproduce its data? Data replicated by draws of the posterior against the data, in numbers.

What is compared stands in :mod:`probam.reports.summaries.discrepancies`. Replicates have as many rows as the data that
are looked at and the same gaps; a gap is filled with its conditional mean under the draw, in the data as in replicates.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Real

from probam.compiled import compiled_by_size
from probam.distributions.conditional import conditional
from probam.distributions.mixture import MemoryMixture
from probam.errors import InputError, NumericalError
from probam.family import Model, Params
from probam.fits.draws import Draws
from probam.fits.groups import Group
from probam.fits.prepared import Prepared
from probam.fits.questions import padded
from probam.placement import each
from probam.reports.summaries.discrepancies import ASPECTS, Discrepancies, discrepancies, judge
from probam.reports.summaries.quantities import evenly
from probam.reports.tree import Variables

__all__ = ["drawn", "predictive_check_group"]

_REPLICATES = 200
"""Replicated data sets, of all draws together."""

_DRAWS = 10
"""Most draws that replicate data."""

_MOST_ROWS = 600
_MOST_FEATURES = 12
"""Most rows and features that are looked at, chosen at random."""

_LARGEST_BANK = 2**22
"""Most parameters of a bank that has a memory for each row."""

_WORK = 400_000_000
"""About so many products (rows x parameters, over all replicates) are computed; there are fewer rows if need be."""

_BRIEF = 20_000_000
"""Most products of one draw that are computed in a moment."""

_FEWEST_ROWS = 50

_FEWEST_DATA = 8
"""Least data that are compared: fewer lie too evenly about what was fitted to them."""


class _Sets(NamedTuple):
    """Data sets under one draw: the data first, then their replicates."""

    x: Float[Array, "M N D"]
    energy: Float[Array, "M N"]
    memory: Int[Array, "M N"]


@compiled_by_size(
    lambda _, params, __, ___, x, num_replicates: (
        num_replicates * len(x) * sum(value.size for value in params.values()) <= _BRIEF
    ),
    static_argnames="num_replicates",
)
def _replicated(
    model: Model,
    params: Params,
    key: jax.Array,
    draw: Int[Array | np.ndarray, ""],
    x: Float[Array, "N D"],
    num_replicates: int,
) -> _Sets:
    """The data and their replicates under one draw, with the energy and the most likely memory of each row."""
    key, mixture = jax.random.fold_in(key, draw), model.mixture(params)
    by_weight = jnp.argsort(jnp.argsort(-mixture.log_weights))

    def one(inputs: tuple[jax.Array, jax.Array]) -> _Sets:
        key, is_data = inputs
        rows = jnp.where(is_data, x, jnp.where(jnp.isnan(x), jnp.nan, drawn(model, params, mixture, key, len(x))))
        log_prob, log_resp = mixture.log_prob_and_responsibilities(rows)
        filled = conditional(mixture, rows).mean if model.missing else rows
        return _Sets(filled, -log_prob, by_weight[jnp.argmax(log_resp, axis=-1)])

    keys = jax.random.split(key, num_replicates + 1)
    sets: _Sets = each(one, (keys, jnp.arange(num_replicates + 1) == 0), numbers=x.size * model.num_components)
    return sets


def drawn(model: Model, params: Params, mixture: MemoryMixture, key: jax.Array, num_rows: int) -> Real[Array, "N D"]:
    """Rows of the mixture: from a bank with one memory for each of them, where that is not large.

    ``MemoryMixture.sample`` takes as many draws of every memory as the memory with most rows needs.
    """
    own = {site: value for site, value in params.items() if site in model.prior and site not in model.family.shared}
    if num_rows * sum(value[0].size for value in own.values()) > _LARGEST_BANK:
        return mixture.sample(key, (num_rows,))
    key_memory, key_row = jax.random.split(key)
    memory = jax.random.categorical(key_memory, mixture.log_weights, shape=(num_rows,))
    return jnp.asarray(model.family.bank(params | {site: value[memory] for site, value in own.items()}).sample(key_row))


def predictive_check_group(key: jax.Array, draws: Draws, prepared: Prepared) -> Group:
    """Discrepancies between the data and replicated data, and the p-value of all together.

    Args:
        key: for the replicated data.
        draws: draws of the posterior.
        prepared: the data.

    Raises:
        InputError: where the data have weights, or are too few.
    """
    if prepared.weight is not None:
        raise InputError("the data have weights, and data that the fit replicates have none")
    if len(prepared.x) < _FEWEST_DATA:
        raise InputError(f"{len(prepared.x)} data are too few to compare; at least {_FEWEST_DATA} are needed")
    num_data, num_features = prepared.x.shape
    chosen = evenly(len(draws), _DRAWS)
    num_replicates = -(-_REPLICATES // len(chosen))
    rng = np.random.default_rng(0)
    rows = np.sort(rng.permutation(num_data)[: _num_rows(draws, num_data)])
    features = np.sort(rng.permutation(num_features)[:_MOST_FEATURES])
    x, columns = prepared.x[rows], [prepared.table.columns[feature] for feature in features]
    found = [
        _of_draw(
            draws.model,
            draws.at(int(draw)),
            (key, np.asarray(position)),
            x,
            features,
            columns,
            num_replicates,
        )
        for position, draw in enumerate(chosen)
    ]
    values = np.stack([each.values for each in found])
    p_value, deviation = judge(values[:, 0], values[:, 1:])
    variables: Variables = {
        "deviation": (deviation, ("discrepancy",)),
        "aspect": (found[0].aspects, ("discrepancy",)),
    }
    attributes = {
        "p_value": p_value,
        "looked_at": [aspect for aspect in ASPECTS if aspect in found[0].aspects],
        "num_draws": len(chosen),
        "num_replicates": num_replicates * len(chosen),
        "num_rows": len(rows),
        "num_features": len(features),
    }
    return Group(variables, attributes, {"discrepancy": found[0].names})


def _num_rows(draws: Draws, num_data: int) -> int:
    """How many rows are looked at."""
    num_parameters = sum(value.size // len(value) for value in draws.sites.values())
    return int(np.clip(_WORK // (_REPLICATES * num_parameters), _FEWEST_ROWS, min(_MOST_ROWS, num_data)))


def _of_draw(
    model: Model,
    params: Params,
    key: tuple[jax.Array, Int[np.ndarray, ""]],
    x: Float[np.ndarray, "N D"],
    features: Int[np.ndarray, " F"],
    columns: Sequence[str],
    num_replicates: int,
) -> Discrepancies:
    """Discrepancies of the data (first) and of their replicates under one draw, with the key of all and its place."""
    filled = jax.device_put(padded(x, model.num_components))
    sets = _replicated(model, params, *key, filled, num_replicates)
    values, energy, memory = (np.asarray(leaf)[:, : len(x)] for leaf in sets)
    values = values[..., features]
    if not (np.isfinite(values).all() and np.isfinite(energy).all()):
        raise NumericalError("replicated data or their energies left the finite numbers")
    return discrepancies(
        values.astype(np.float64),
        energy.astype(np.float64),
        memory,
        num_memories=model.num_components,
        columns=columns,
    )
