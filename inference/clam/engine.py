r"""Engine ``clam``: memories that recall the data best, as parameters of a mixture.

CLAM (Saha et al. 2023) descends the error of its own recall, :mod:`probam.dynamics.learning`, not a likelihood: by
claim A10(iv) its gradient differs from the likelihood's. But its memories at the same beta are a Gaussian mixture of
covariance :math:`I / (2 \beta)`, and so can be reported and compared like the results of other engines. They do not
maximise the density; ``note`` says so.
"""

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from probam.errors import InputError
from probam.family import Model
from probam.inference.clam.clustering import least_error
from probam.inference.common.coordinates import log_joints, unconstrained
from probam.inference.common.progress import Listener, Reporter, resumable
from probam.inference.common.result import EngineResult
from probam.inference.em import engine as em
from probam.options import number

__all__ = ["run"]

_ITERATIONS = 200

_NOTHING_KEPT = "clam: stopped before the memories were learned; there is nothing to keep"


def run(
    key: jax.Array,
    model: Model,
    x: Float[Array, "N D"],
    *,
    beta: float | None = None,
    num_epochs: int = 300,
    batch_size: int | None = None,
    learning_rate: float = 0.05,
    num_steps: int = 10,
    step: float = 0.1,
    masked: float = 0.0,
    restarts: int = 4,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Listener | None = None,
) -> EngineResult:
    """The memories of least recall error, of several starts from k-means++ seeds.

    Args:
        beta: inverse temperature of recall, in one over squared units of the model. None takes that of closed-form EM
            (CLAM has no rule for it).
        num_epochs: passes over the data.
        batch_size: data per step; None for all.
        learning_rate: first step size of Adam, in units of the data's spread.
        num_steps: unrolled Euler steps of recall.
        step: size of these steps, dt over tau.
        masked: above 0, hides each coordinate with that probability and learns to complete it.
        restarts: starts from different k-means++ seeds.
        checkpoint: a file to which the run is written every few seconds, and from which the same call continues.

    Raises:
        InputError: for a model other than isotropic Gaussians of equal weights, or a number out of range.
        NumericalError: when the error of every restart is no longer finite.
    """
    _check(model, beta, restarts)
    number(above=0, is_finite=True)("learning_rate", learning_rate)  # in the words of the caller, before the units
    key_em, key_seed, key_learn = jax.random.split(key, 3)
    rows, seeds = np.asarray(x), np.asarray(jax.random.randint(key_seed, (restarts,), 0, 2**31 - 1))
    options: dict[str, Any] = {
        "num_epochs": num_epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate * _spread(rows),
        "num_steps": num_steps,
        "step": step,
        "masked": masked,
    }
    own = options | {"beta": beta, "restarts": restarts}
    with resumable(progress, checkpoint, "clam", key, model, x, own, nothing_kept=_NOTHING_KEPT) as report:
        if beta is None:
            beta = _beta_by_em(key_em, model, x, restarts, report)
        numbers = [int(seed) for seed in seeds]
        memories, losses = least_error(key_learn, numbers, rows, model.num_components, beta, progress=report, **options)
    return _result(model, x, memories, beta, losses)


def _check(model: Model, beta: float | None, restarts: int) -> None:
    """Raise InputError for a model other than CLAM's, or a number out of range."""
    family = model.family
    isotropic = family.name == "gaussian" and getattr(family, "covariance", None) == "isotropic"
    if not isotropic or model.weights.name != "uniform":
        raise InputError(
            "engine: 'clam' learns isotropic Gaussian memories of equal weights, since its energy is theirs; use "
            "family 'gaussian', covariance 'isotropic', weights 'uniform', or engine 'em' with this model"
        )
    if beta is not None and not beta > 0:
        raise InputError(f"beta: expected a positive number; got {beta}")
    if restarts < 1:
        raise InputError(f"restarts: expected at least 1; got {restarts}")


def _beta_by_em(key: jax.Array, model: Model, x: Float[Array, "N D"], restarts: int, progress: Reporter) -> float:
    """The inverse temperature of the best of several runs of closed-form EM."""
    states, _ = em.fit_params(key, model, x, max_iterations=_ITERATIONS, restarts=2 * restarts, progress=progress).ends
    return float(states.params["beta"][int(np.nanargmax(np.asarray(states.objective)))])


def _spread(rows: Float[np.ndarray, "N D"]) -> float:
    """Root mean square of the features' standard deviations; 1 where nothing varies."""
    return float(np.sqrt(rows.var(axis=0).mean())) or 1.0


def _result(
    model: Model,
    x: Float[Array, "N D"],
    memories: Float[np.ndarray, "K D"],
    beta: float,
    losses: Float[np.ndarray, "R E"],
) -> EngineResult:
    """Memories and beta as parameters of the mixture."""
    params = {"loc": jnp.asarray(memories, x.dtype), "beta": jnp.asarray(beta, x.dtype)}
    free = unconstrained(model, jax.tree.map(lambda leaf: leaf[None], params))
    result = em.point_result(
        model,
        params,
        objective=-losses,
        objective_name="recall (minus its squared error)",
        lp=log_joints(model, free, x)[0],
        status="max_steps",
        estimate="least recall error (CLAM), no maximum of a density",
    )
    return result._replace(note="memories of least recall error (CLAM), no maximum of the density")
