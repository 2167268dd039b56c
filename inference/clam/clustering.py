r"""Clustering with associative memories: from data to memories and labels, without a likelihood.

:func:`fit_clam` is the counterpart of ``probam.fit`` in the physics: it descends the reconstruction error of
:mod:`probam.dynamics.learning` from k-means++ seeds. It uses an energy and no probabilistic program, so it has no
posterior, no log density and no uncertainty. (The same memories at the same beta *are* a Gaussian mixture of covariance
:math:`I / (2\beta)`, as which :mod:`probam.inference.clam.engine` compares them with other engines; they do not
maximise its likelihood.)

There are four kinds of labels; :class:`Labels` has all of them.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int
from sklearn.cluster import kmeans_plusplus

from probam.data.table import as_table
from probam.dynamics import basins
from probam.dynamics.learning import Learner
from probam.energies import clam
from probam.errors import InputError, NumericalError
from probam.inference.common.progress import Reporter, silent
from probam.placement import numbers_at_once

__all__ = ["ClamFit", "Labels", "fit_clam", "labels", "least_error"]

_QUERIES = 4096
"""Queries that run at a time on a CPU."""

_CHUNK = 50
"""Epochs between two reports of progress."""


class Labels(NamedTuple):
    """The labels of each query.

    ``nearest`` (Voronoi cells), ``responsible`` (largest responsibility, before recall) and ``recalled`` (the memory
    nearest to the recalled state, the label of Saha et al. 2023) are indices of memories; with equal weights the first
    two are equal. ``basin`` is an index into ``attractors``, the fixed points that recall reached, or -1 where it did
    not converge.
    """

    nearest: Int[np.ndarray, " N"]
    responsible: Int[np.ndarray, " N"]
    recalled: Int[np.ndarray, " N"]
    basin: Int[np.ndarray, " N"]
    attractors: Float[np.ndarray, "A D"]
    converged: Bool[np.ndarray, " N"]


class ClamFit(NamedTuple):
    """Learned memories in the units of the data, the labels of the data, and the loss of every restart."""

    memories: Float[np.ndarray, "K D"]
    beta: float
    labels: Labels
    losses: Float[np.ndarray, "R E"]


def labels(
    queries: Float[ArrayLike, "N D"],
    memories: Float[ArrayLike, "K D"],
    beta: float,
    weights: Float[ArrayLike, " K"] | None = None,
    *,
    max_steps: int = 10_000,
) -> Labels:
    """The four labels of each query under one energy.

    Args:
        beta: inverse temperature, in one over squared units of the data.
        weights: of the memories; None for equal ones.
        max_steps: most steps of recall.
    """
    queries, memories = jnp.asarray(queries), jnp.asarray(memories)
    bank: dict[str, Any] = {"memories": memories, "beta": jnp.asarray(beta, memories.dtype), "weights": weights}
    update, energy = Partial(clam.update, **bank), Partial(clam.energy, **bank)
    block = numbers_at_once(_QUERIES * len(memories)) // len(memories)
    reached = basins.basin(update, energy, queries, max_steps=max_steps, block_size=block)
    states = reached.recall.states
    return Labels(
        nearest=np.asarray(basins.nearest(queries, memories)),
        responsible=np.asarray(basins.argmax_responsibility(queries, partial(clam.responsibilities, **bank))),
        recalled=np.asarray(basins.nearest(states, memories)),
        basin=reached.labels,
        attractors=reached.attractors,
        converged=np.asarray(reached.recall.converged),
    )


def fit_clam(
    data: Any,
    num_components: int,
    beta: float,
    *,
    seed: int = 0,
    restarts: int = 4,
    num_epochs: int = 300,
    batch_size: int | None = None,
    learning_rate: float = 0.05,
    num_steps: int | None = 10,
    step: float = 0.1,
    masked: float = 0.0,
) -> ClamFit:
    """Memories that recall the data best, of several starts.

    Args:
        data: what :func:`probam.data.table.as_table` takes: an array (N, D), a path, a frame.
        num_components: K, the number of memories.
        beta: inverse temperature, in one over squared units of the data; larger separates memories more sharply.
        seed: the same seed gives the same bits on the same machine.
        restarts: starts from different k-means++ seeds.
        num_epochs: passes over the data.
        batch_size: data per step; None for all.
        learning_rate: first step size of Adam, in units of the data.
        num_steps: unrolled Euler steps of recall; None differentiates the fixed point implicitly.
        step: size of these steps, dt over tau.
        masked: above 0, hides each coordinate with that probability (filled with its mean) and learns to complete it.

    Raises:
        InputError: for data, sizes and settings that cannot be used.
        NumericalError: when the loss of every restart is no longer finite.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> x = np.concatenate([rng.normal(-3, 0.5, (40, 2)), rng.normal(3, 0.5, (60, 2))])
    >>> fitted = fit_clam(x, 2, beta=0.5, num_epochs=100)
    >>> np.unique(fitted.labels.recalled, return_counts=True)[1].tolist() in ([40, 60], [60, 40])
    True
    """
    x = as_table(data).values
    if isinstance(num_components, bool) or not 1 <= num_components <= len(x):
        raise InputError(f"num_components: expected a whole number from 1 to {len(x)}, the data; got {num_components}")
    if restarts < 1:
        raise InputError(f"restarts: expected a whole number of at least 1; got {restarts}")
    memories, losses = least_error(
        jax.random.key(seed),
        [seed + r for r in range(restarts)],
        x,
        num_components,
        beta,
        num_epochs=num_epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        num_steps=num_steps,
        step=step,
        masked=masked,
    )
    return ClamFit(memories, float(beta), labels(x, memories, beta), losses)


def least_error(
    key: jax.Array,
    seeds: Sequence[int],
    x: Float[np.ndarray, "N D"],
    num_components: int,
    beta: float,
    *,
    num_epochs: int,
    progress: Reporter = silent,
    **options: Any,
) -> tuple[Float[np.ndarray, "K D"], Float[np.ndarray, "R E"]]:
    """Memories of the start that ends with the least error, and the losses of all starts.

    Args:
        key: for the learning.
        seeds: of k-means++, one for each start.
        beta: inverse temperature, in one over squared units of the data.
        num_epochs: passes over the data.
        progress: told after every 50 epochs.
        options: others of :class:`probam.dynamics.learning.Learner`.

    Raises:
        NumericalError: when the loss of every start is no longer finite.
    """
    starts = jnp.asarray(np.stack([kmeans_plusplus(x, num_components, random_state=seed)[0] for seed in seeds]))
    learner = Learner(x, starts[0], beta, fill=x.mean(0), num_epochs=num_epochs, **options)
    keys, descents = jax.random.split(key, len(seeds)), jax.vmap(learner.begin)(starts)
    phase, parts, done = progress.phase("CLAM"), [], 0
    before = phase.resumed(descents)
    if before is not None:
        descents, parts, done = before.state, [before.kept["loss"]], before.done
    while done < num_epochs:
        end = min(done + _CHUNK, num_epochs)
        descents, loss = jax.vmap(partial(learner.advance, first=done, last=end))(keys, descents)
        parts, done = [*parts, np.asarray(loss)], end
        phase.save(done, descents, [{"loss": part} for part in parts], ended=done == num_epochs)
        progress(done, num_epochs, "CLAM, error of recall")
    losses = np.concatenate(parts, axis=1)
    late = losses[:, -max(1, losses.shape[1] // 10) :].mean(axis=1)
    if not np.isfinite(late).any():
        raise NumericalError("clam: the error of recall is not finite; scale the data or lower learning_rate")
    return np.asarray(descents.memories[int(np.nanargmin(np.where(np.isfinite(late), late, np.nan)))]), losses
