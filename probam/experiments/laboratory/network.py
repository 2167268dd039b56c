"""Pre-LayerNorm transformers and Energy Transformers of one interface, their size and their work.

Layers are those of Equinox; the attention is :class:`probam.experiments.laboratory.attention.SelfAttention`, the energy
:class:`probam.energies.energy_transformer.EnergyTransformer`. A network maps a sequence of T tokens, numbers of words
or vectors, to T outputs.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from probam.energies.energy_transformer import EnergyTransformer
from probam.energies.lagrangians import LayerNorm
from probam.errors import InputError
from probam.experiments.laboratory.attention import ENERGY, SelfAttention

__all__ = ["Block", "EnergyBlock", "Shape", "Transformer", "build", "matched", "num_parameters", "operations"]

_SMALL = 0.3
"""Standard deviation of embeddings, and of an energy block's matrices times the root of the width, at the start."""


class Shape(NamedTuple):
    """What a network is before it has weights.

    ``words`` is the size of a vocabulary, or of a vector if ``vectors``; ``length`` the most tokens; ``hidden`` the
    hidden units of a perceptron, or the memories of an energy block. ``layers`` are blocks with weights of their own;
    ``turns`` is how often an energy block is applied. With ``causal`` a token sees itself and those before it.
    """

    words: int
    outputs: int
    length: int
    width: int = 64
    heads: int = 4
    layers: int = 2
    hidden: int = 256
    attention: str = "tied"
    norm: Literal["layer", "rms"] = "layer"
    causal: bool = True
    vectors: bool = False
    turns: int = 1


class Block(eqx.Module):
    """A layer of a pre-LayerNorm transformer: attention, then a perceptron, each behind a normalisation and added."""

    first: eqx.nn.LayerNorm | eqx.nn.RMSNorm
    attention: SelfAttention
    second: eqx.nn.LayerNorm | eqx.nn.RMSNorm
    perceptron: eqx.nn.MLP

    def __init__(self, key: jax.Array, shape: Shape):
        keys = jax.random.split(key)
        made = eqx.nn.LayerNorm if shape.norm == "layer" else eqx.nn.RMSNorm
        self.first, self.second = made(shape.width), made(shape.width)
        self.attention = SelfAttention(keys[0], shape.width, shape.heads, shape.attention)
        self.perceptron = eqx.nn.MLP(shape.width, shape.width, shape.hidden, 1, jax.nn.gelu, key=keys[1])

    @property
    def scale(self) -> Float[Array, " D"]:
        """Gamma of the normalisation before the attention."""
        return _known(self.first.weight)

    @property
    def shift(self) -> Float[Array, " D"]:
        """Delta of the normalisation before the attention."""
        return _known(self.first.bias)

    def normed(self, x: Float[Array, "T D"]) -> tuple[Float[Array, "T D"], Float[Array, " D"]]:
        """What the attention is given: outputs of its normalisation, and the shift."""
        return jax.vmap(self.first)(x), self.shift

    def __call__(self, x: Float[Array, "T D"], seen: Bool[Array, "T T"] | None) -> Float[Array, "T D"]:
        """Tokens after the layer."""
        x = x + self.attention(*self.normed(x), seen)
        return x + jax.vmap(self.perceptron)(jax.vmap(self.second)(x))


def _known(parameter: Float[Array, " D"] | None) -> Float[Array, " D"]:
    """A parameter that a layer of Equinox may lack, and that ours have."""
    assert parameter is not None
    return parameter


class EnergyBlock(eqx.Module):
    """Tokens moved down the energy of Hoover et al. (2023), several times by the same weights."""

    key_weights: Float[Array, "H Y D"]
    query_weights: Float[Array, "H Y D"]
    memories: Float[Array, "M D"]
    shift: Float[Array, " D"]
    log_step: Float[Array, ""]
    turns: int = eqx.field(static=True)

    def __init__(self, key: jax.Array, shape: Shape):
        keys = jax.random.split(key, 3)
        scale, head = _SMALL * shape.width**-0.5, (shape.heads, shape.width // shape.heads, shape.width)
        self.key_weights = scale * jax.random.normal(keys[0], head)
        self.query_weights = scale * jax.random.normal(keys[1], head)
        self.memories = scale * jax.random.normal(keys[2], (shape.hidden, shape.width))
        self.shift, self.log_step = jnp.zeros(shape.width), jnp.zeros(())
        self.turns = shape.turns

    def memory(self, num_tokens: int) -> EnergyTransformer:
        """The associative memory in which so many tokens move."""
        beta = self.key_weights.shape[1] ** -0.5
        norm, weights = LayerNorm(1.0, self.shift, 1e-5), (self.key_weights, self.query_weights, self.memories)
        return EnergyTransformer(*weights, beta, num_tokens, norm, jnp.exp(self.log_step))

    def __call__(self, x: Float[Array, "T D"], seen: Bool[Array, "T T"] | None) -> Float[Array, "T D"]:
        """Tokens after all turns; every token sees all others, so that ``seen`` is None."""
        del seen
        memory = self.memory(len(x))
        for _ in range(self.turns):
            x = memory.update(x)
        return x


class Transformer(eqx.Module):
    """Embedding with learned positions, blocks, a last normalisation and a linear readout."""

    embedding: eqx.nn.Embedding | eqx.nn.Linear
    positions: Float[Array, "T D"]
    blocks: tuple[Block | EnergyBlock, ...]
    norm: eqx.nn.LayerNorm | eqx.nn.RMSNorm
    readout: eqx.nn.Linear
    causal: bool = eqx.field(static=True)

    def __init__(self, key: jax.Array, shape: Shape):
        if shape.attention == ENERGY and (shape.causal or shape.layers != 1):
            raise InputError(
                "shape: expected one energy block that is not causal, since its keys move with the queries that see "
                f"them; got causal={shape.causal}, layers={shape.layers}"
            )
        keys = jax.random.split(key, shape.layers + 3)
        if shape.vectors:
            self.embedding = eqx.nn.Linear(shape.words, shape.width, key=keys[0])
        else:
            self.embedding = eqx.nn.Embedding(weight=_SMALL * jax.random.normal(keys[0], (shape.words, shape.width)))
        self.positions = _SMALL * jax.random.normal(keys[1], (shape.length, shape.width))
        made = EnergyBlock if shape.attention == ENERGY else Block
        self.blocks = tuple(made(each, shape) for each in keys[3:])
        self.norm = (eqx.nn.LayerNorm if shape.norm == "layer" else eqx.nn.RMSNorm)(shape.width)
        self.readout = eqx.nn.Linear(shape.width, shape.outputs, key=keys[2])
        self.causal = shape.causal

    @property
    def attending(self) -> tuple[Block, ...]:
        """The blocks, where they are those of a transformer.

        Raises:
            InputError: for an energy block.
        """
        blocks = tuple(block for block in self.blocks if isinstance(block, Block))
        if len(blocks) < len(self.blocks):
            raise InputError("network: expected blocks with attention; got an energy block, which has none apart")
        return blocks

    def seen(self, num_tokens: int) -> Bool[Array, "T T"] | None:
        """Which keys (second axis) each query sees; None for all."""
        return jnp.tri(num_tokens, dtype=bool) if self.causal else None

    def layers(self, words: Shaped[Array, "T *word"]) -> list[Float[Array, "T D"]]:
        """The tokens before the first block and after each one."""
        x = jax.vmap(self.embedding)(words) + self.positions[: len(words)]
        states, seen = [x], self.seen(len(words))
        for block in self.blocks:
            states.append(block(states[-1], seen))
        return states

    def __call__(self, words: Shaped[Array, "T *word"]) -> Float[Array, "T O"]:
        """Outputs: logits of words, or the numbers of a vector."""
        return jax.vmap(lambda x: self.readout(self.norm(x)))(self.layers(words)[-1])


def build(key: jax.Array, shape: Shape) -> Transformer:
    """A network before training, in JAX's default precision.

    Raises:
        InputError: for a shape that is none (see :class:`Transformer` and the attention).
    """
    return Transformer(key, shape)


def num_parameters(shape: Shape) -> int:
    """Numbers that are learned."""
    made = eqx.filter_eval_shape(build, jax.random.key(0), shape)
    return sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(made, _is_array)))


def _is_array(leaf: object) -> bool:
    """Whether a leaf of a network that was not built stands for an array."""
    return isinstance(leaf, jax.ShapeDtypeStruct)


def operations(shape: Shape) -> float:
    """Floating-point operations of one token's way through the network, as XLA counts them; a training step has 3."""
    made = eqx.filter_eval_shape(build, jax.random.key(0), shape)
    arrays, rest = eqx.partition(made, _is_array)
    kind = jnp.result_type(float) if shape.vectors else jnp.int32
    words = jax.ShapeDtypeStruct((shape.length, *((shape.words,) if shape.vectors else ())), kind)
    lowered = jax.jit(lambda weights, words: eqx.combine(weights, rest)(words)).lower(arrays, words)
    cost: Any = lowered.cost_analysis()
    return float(cost["flops"]) / shape.length


def matched(shape: Shape, count: Callable[[Shape], float], target: float) -> Shape:
    """The shape with as many hidden units as bring a count, which is linear in them, next to a target.

    Args:
        shape: of which all else is kept.
        count: :func:`num_parameters` or :func:`operations`.
        target: the number wanted.
    """
    few, many = shape._replace(hidden=shape.hidden), shape._replace(hidden=shape.hidden + 64)
    unit = (count(many) - count(few)) / 64
    hidden = shape.hidden + round((target - count(few)) / unit)
    if hidden < 1:
        raise InputError(f"target: expected more than a network without hidden units has; got {target:g}")
    return shape._replace(hidden=hidden)
