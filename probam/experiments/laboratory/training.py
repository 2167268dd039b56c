"""Training of small transformers: several seeds side by side, checkpoints, and the same bits after a pause.

Adam (Optax) with a short warm-up and a rate that falls along a cosine; the gradient is cut at length one. Every number
drawn at a step depends on the seed and the step alone, and a program always makes the same number of steps, so that a
run that goes on from a checkpoint makes the steps that it would have made.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from probam.compiled import compiler_options
from probam.data.writing import write_atomically
from probam.errors import InputError, NumericalError
from probam.experiments.laboratory.network import Shape, Transformer, build
from probam.experiments.laboratory.tasks import Task

__all__ = ["Plan", "Trained", "seeded", "train"]


class Plan(NamedTuple):
    """How long and how fast: steps, steps between two measurements, largest rate, sequences in a step."""

    steps: int = 400
    every: int = 50
    rate: float = 3e-3
    batch: int = 16


class Trained(NamedTuple):
    """Networks with a first axis of seeds, and what was measured before training and along it."""

    networks: Transformer
    curve: Float[np.ndarray, "S P M"]
    steps: Int[np.ndarray, " P"]

    def network(self, number: int) -> Transformer:
        """The network of one seed."""
        chosen: Transformer = jax.tree.map(lambda leaf: leaf[number] if eqx.is_array(leaf) else leaf, self.networks)
        return chosen


class _State(NamedTuple):
    weights: Any
    memory: Any
    step: Int[Array, ""]
    curve: Float[Array, "S P M"]


def seeded(seed: int, number: int) -> jax.Array:
    """The key of one of the seeds of a run."""
    return jax.random.fold_in(jax.random.key(seed), number)


def train(
    shape: Shape,
    task: Task,
    plan: Plan,
    keys: Sequence[jax.Array],
    *,
    keep: Path | None = None,
    report: Callable[[int, int], object] | None = None,
) -> Trained:
    """Networks trained on a task, one for each key, in JAX's default precision.

    Args:
        shape: of all the networks.
        task: what is learned.
        plan: the steps; as many as are a multiple of ``plan.every``.
        keys: of the seeds; the first is number 0 of the task.
        keep: a file that is written after each measurement. Where it is there, and of the same run, training goes on
            from it.
        report: called with the steps done and their total.

    Raises:
        NumericalError: where the loss leaves the finite numbers.
        InputError: where the file cannot be written, or is damaged.
    """
    together, points = jnp.stack(list(keys)), plan.steps // plan.every + 1
    optimiser, rest = _optimiser(plan), _unlearned(shape)

    def start(options: dict[str, Any] | None = None) -> _State:
        weights = jax.jit(partial(_drawn, shape=shape), compiler_options=options)(together)
        memory = jax.jit(jax.vmap(optimiser.init), compiler_options=options)(weights)
        curve = jnp.full((len(keys), points, len(task.measures)), jnp.nan)
        return _State(weights, memory, jnp.zeros((), jnp.int32), curve)

    header = _header(shape, task, plan, keys)
    resumed = _resumed(keep, header, jax.eval_shape(start))
    state, known = (start(compiler_options()), -1) if resumed is None else (resumed, int(resumed.step))
    measure, advance = _programs(rest, plan, optimiser)
    numbers = jnp.arange(len(keys))
    while True:
        at = int(state.step)
        if at > known:
            found = measure(state.weights, task, numbers)
            if not np.isfinite(np.asarray(found)).all():
                raise NumericalError(f"train: the loss left the finite numbers before step {at}; lower plan.rate")
            state = state._replace(curve=state.curve.at[:, at // plan.every].set(found))
            if keep is not None:
                _save(keep, header, state)
        if report is not None:
            report(at, plan.steps)
        if at + plan.every > plan.steps:
            break
        weights, memory = advance(state.weights, state.memory, state.step, task, together, numbers)
        state = state._replace(weights=weights, memory=memory, step=state.step + plan.every)
    steps = plan.every * np.arange(points)
    return Trained(eqx.combine(state.weights, rest), np.asarray(state.curve), steps)


def _unlearned(shape: Shape) -> Any:
    """What a network has beside its weights."""
    made = eqx.filter_eval_shape(build, jax.random.key(0), shape)
    return eqx.filter(made, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct), inverse=True)


def _drawn(keys: jax.Array, shape: Shape) -> Any:
    """Weights with a first axis of seeds."""

    def one(key: jax.Array) -> Any:
        return eqx.filter(build(jax.random.fold_in(key, 0), shape), eqx.is_array)

    return jax.vmap(one)(keys)


def _optimiser(plan: Plan) -> optax.GradientTransformation:
    warm = max(1, plan.steps // 20)
    rate = optax.warmup_cosine_decay_schedule(0.0, plan.rate, warm, plan.steps, plan.rate / 20)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))


def _programs(rest: Any, plan: Plan, optimiser: optax.GradientTransformation) -> tuple[Any, Any]:
    """What measures all seeds, and what makes ``plan.every`` steps of all."""

    @partial(jax.jit, compiler_options=compiler_options(often=True))
    def measure(weights: Any, task: Task, numbers: Array) -> Array:
        return jax.vmap(lambda one, number: task.measure(eqx.combine(one, rest), number))(weights, numbers)

    def step(carry: tuple[Any, Any], at: Array, task: Task, key: jax.Array, number: Array) -> tuple[Any, Any]:
        weights, memory = carry
        batch = task.draw(jax.random.fold_in(key, at + 1), number, plan.batch)
        slope = jax.grad(lambda w: task.loss(eqx.combine(w, rest), batch))(weights)
        change, memory = optimiser.update(slope, memory, weights)
        return optax.apply_updates(weights, change), memory

    @jax.jit
    def advance(weights: Any, memory: Any, first: Array, task: Task, keys: Array, numbers: Array) -> tuple[Any, Any]:
        def all_seeds(carry: tuple[Any, Any], at: Array) -> tuple[tuple[Any, Any], None]:
            moved: Any = jax.vmap(lambda w, m, key, number: step((w, m), at, task, key, number))
            return moved(*carry, keys, numbers), None

        return jax.lax.scan(all_seeds, (weights, memory), first + jnp.arange(plan.every, dtype=jnp.int32))[0]

    return measure, advance


# --- checkpoints --------------------------------------------------------------------------------------------------


def _header(shape: Shape, task: Task, plan: Plan, keys: Sequence[jax.Array]) -> Mapping[str, Any]:
    """What a run is: a checkpoint of another one is not gone on with."""
    data = hashlib.sha256()
    for leaf in jax.tree.leaves(task):
        data.update(np.asarray(leaf).tobytes())
    return {
        "shape": shape._asdict(),
        "task": f"{type(task).__name__} {data.hexdigest()}",
        "plan": plan._asdict(),
        "keys": [jax.random.key_data(key).tolist() for key in keys],
        "dtype": str(jnp.result_type(float)),
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
    }


def _save(path: Path, header: Mapping[str, Any], state: _State) -> None:
    """One line of JSON, then the arrays."""
    with write_atomically(path) as temporary, temporary.open("wb") as stream:
        stream.write(json.dumps(header).encode() + b"\n")
        eqx.tree_serialise_leaves(stream, state)


def _resumed(path: Path | None, header: Mapping[str, Any], like: _State) -> _State | None:
    """The state in the file, of arrays like these, or None where there is none of this run."""
    if path is None or not path.exists():
        return None
    with path.open("rb") as stream:
        if stream.readline() != json.dumps(header).encode() + b"\n":
            return None
        try:
            read: _State = eqx.tree_deserialise_leaves(stream, like)
        except (OSError, RuntimeError, ValueError, EOFError) as error:
            raise InputError(f"{path}: this checkpoint is damaged; remove it, and its run starts anew") from error
    return read
