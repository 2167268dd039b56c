"""The judgement: which restart is best, draws from its guide, and how far they can be trusted."""

import jax
import numpy as np
from jaxtyping import Array, Float

from probam.compiled import compiled_by_size, is_small
from probam.errors import NumericalError
from probam.family import Model, Params
from probam.inference.common.blocks import RowBlocks, surveyed
from probam.inference.common.coordinates import Coordinates
from probam.inference.common.kinds import run_of
from probam.inference.common.ordering import described_order
from probam.inference.common.progress import Reporter, silent
from probam.inference.common.result import APPROXIMATION, EngineResult, Evidence
from probam.inference.evidence.importance import Importance, pareto_smoothed
from probam.inference.gradient_em.warm import Start
from probam.inference.svi.climb import Climbed
from probam.inference.svi.guides import Frame, Guide
from probam.placement import each

__all__ = ["judge"]

_BLOCK = 50
"""Draws of one call of the program, and of the estimate by which restarts are compared."""

_RELIABLE = 0.7
"""Pareto's k-hat below which the mean of the importance ratios can be estimated."""


def judge(
    keys: tuple[jax.Array, jax.Array],
    start: Start,
    guide: Guide,
    climbed: Climbed,
    num_draws: int,
    has_order: bool,
    blocks: RowBlocks | None = None,
    progress: Reporter = silent,
) -> EngineResult:
    """Draws from the guide whose bound ended highest, with k-hat and, where it allows, the evidence.

    Args:
        keys: for the estimates of the bounds, and for the draws.
        has_order: whether the memories are in order, so that the guide covers all their labellings.
        blocks: all rows, where the data are a sample of them and there is one restart.
        progress: told of the pass over them.

    Raises:
        NumericalError: when no restart's evidence bound is finite.
    """
    key_bound, key_draws = keys
    survey, x = None, start.x if blocks is None else None
    finals = np.zeros(1) if blocks is not None else _finals(key_bound, start, guide, climbed)
    best = int(np.argmax(np.where(np.isfinite(finals), finals, -np.inf)))
    sites, lp, log_q = _draws(key_draws, start, guide, _restart(climbed, best), num_draws, x)
    if blocks is not None:
        drawn = {name: jax.device_put(sites[name]) for name in Coordinates(start.model).transforms}
        survey = surveyed(start.model, drawn, blocks, progress)
        lp = lp + np.asarray(survey.log_lik)
        finals = np.asarray([np.mean(lp - log_q)])
    status = _status(finals, climbed)
    importance = pareto_smoothed(lp - log_q)
    return EngineResult(
        sites={name: value[None] for name, value in sites.items()},
        stats={"lp": lp[None], "log_q": log_q[None]},
        objective=np.concatenate([climbed.trace, finals[:, None]], axis=1),
        objective_name="evidence lower bound",
        status="stopped" if "stopped" in status else status[best],
        note=described_order(start.model),
        evidence=_evidence(importance, "all labellings" if has_order else "one labelling"),
        pareto_k=None if importance is None else importance.pareto_k,
        restart_status=status,
        estimate=APPROXIMATION,
        survey=survey,
    )


def _finals(key: jax.Array, start: Start, guide: Guide, climbed: Climbed) -> Float[np.ndarray, " R"]:
    """The bound where each restart ended (nats)."""
    draws = [_draws(key, start, guide, _restart(climbed, r), _BLOCK, start.x) for r in range(len(climbed.converged))]
    return np.asarray([np.mean(lp - log_q) for _, lp, log_q in draws])


def _status(finals: Float[np.ndarray, " R"], climbed: Climbed) -> tuple[str, ...]:
    """How each restart ended. Raises :class:`probam.errors.NumericalError` where none has a finite bound."""
    finite = np.isfinite(finals)
    if not finite.any():
        raise NumericalError(
            "svi: the evidence bound is not finite in any restart; lower the learning rate or standardise the data"
        )
    cut = "stopped" if climbed.stopped else "max_steps"
    status = np.where(~finite, "non_finite", np.where(climbed.converged, "converged", cut))
    return tuple(str(word) for word in status)


def _restart(climbed: Climbed, number: int) -> tuple[Frame, Params]:
    """Frame and parameters of one restart."""
    return run_of((climbed.frames, climbed.params), number)


def _evidence(importance: Importance | None, labellings: str) -> Evidence | None:
    """The evidence by importance sampling, None where the guide is too far from the posterior."""
    if importance is None or not importance.pareto_k < _RELIABLE:
        return None
    return Evidence(
        np.asarray([importance.log_evidence]),
        importance.log_evidence,
        importance.standard_error,
        f"Pareto-smoothed importance sampling from the guide, {labellings} of the memories",
    )


def _draws(
    key: jax.Array, start: Start, guide: Guide, restart: tuple[Frame, Params], num_draws: int, x: jax.Array | None
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """:func:`_draw_block` block by block: one program for any number of draws."""
    numbers = [np.uint32(number) for number in range(-(-num_draws // _BLOCK))]
    blocks = [jax.tree.map(np.asarray, _draw_block(start.model, guide, *restart, key, i, x)) for i in numbers]
    together: tuple[dict[str, np.ndarray], np.ndarray, np.ndarray] = jax.tree.map(
        lambda *leaves: np.concatenate(leaves)[:num_draws], *blocks
    )
    return together


@compiled_by_size(
    lambda model, *others: others[-1] is None or is_small(others[-1], model.num_components),
    often=True,
    static_argnames="guide",
)
def _draw_block(
    model: Model,
    guide: Guide,
    frame: Frame,
    params: Params,
    key: jax.Array,
    number: np.uint32 | jax.Array,
    x: Float[Array, "N D"] | None,
) -> tuple[Params, Float[Array, " S"], Float[Array, " S"]]:
    """A block of draws: sites, log joint density, log density of the guide at each (unconstrained coordinates, nats).

    Without data it is the density of the prior alone.
    """
    coordinates = Coordinates(model)

    def one(key: jax.Array) -> tuple[Params, jax.Array, jax.Array]:
        u = guide.draw(params, key)
        free = coordinates.unflatten(frame.apply(u))
        sites = coordinates.constrain(free)
        log_q = guide.log_density(params, u) - frame.log_det
        density = coordinates.log_prior(free, sites) if x is None else coordinates.log_joint(free, x)
        return sites | model.deterministics(sites), density, log_q

    keys = jax.random.split(jax.random.fold_in(key, number), _BLOCK)
    return each(one, keys, numbers=(1 if x is None else x.size) * model.num_components)
