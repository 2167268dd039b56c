r"""What small transformers are trained on: characters, facts, nested lists, images with hidden patches.

A task draws batches and measures a network on what it was not trained on. Arrays with a first axis of seeds hold what
differs between the seeds that are trained side by side; ``number`` is the position of a seed.

* Characters of a text: the next one of each, or those that are hidden.
* Facts (Nichani et al., 2024, arXiv:2412.06538): subject and relation stand somewhere among noise, and the last token
  asks for the answer. The answers of a relation are its own, so that a network that knows the relation alone can at
  best say the marginal of its answers, which the paper calls hallucination.
* ListOps (Both et al., 2025, arXiv:2505.18369): nested lists of two entries under SUM (modulo 10), MAX and MIN, worked
  out step by step. The paper's lists have up to three entries, and MED; the sum of three digits at once was not learned
  here in 4000 steps at any width up to 64, together with which those of two were not learned either.
* Images cut into patches, half of them hidden.
"""

import re
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from probam.dynamics.patches import hide
from probam.errors import InputError
from probam.experiments.laboratory.network import Shape

__all__ = [
    "OPERATIONS",
    "Batch",
    "Characters",
    "Facts",
    "Images",
    "ListOps",
    "Network",
    "Task",
    "encoded",
    "expression",
    "worked",
]

OPERATIONS = ("SUM", "MAX", "MIN")
"""Of ListOps."""

_HIDDEN = 0.25
"""Share of the characters that are hidden."""


Network = Callable[[Array], Array]
"""What maps a sequence to outputs, (T, ...) to (T, O)."""


class Batch(NamedTuple):
    """Sequences, what is asked of them, and the weight of each answer (0: not asked)."""

    inputs: Shaped[Array, "B T *word"]
    targets: Shaped[Array, "B T *word"]
    weights: Float[Array, "B T"]


class Task(eqx.Module):
    """A source of batches with a measure; the first number measured is the loss on what was held out."""

    measures: ClassVar[tuple[str, ...]] = ("loss",)

    @abstractmethod
    def draw(self, key: jax.Array, number: Int[Array, ""], size: int) -> Batch:
        """A batch to learn from."""

    @abstractmethod
    def held_out(self, number: Int[Array, ""]) -> Batch:
        """What is not learned."""

    def loss(self, network: Network, batch: Batch) -> Float[Array, ""]:
        """Nats of an answer: mean cross-entropy."""
        logits = jax.vmap(network)(batch.inputs)
        told = jnp.take_along_axis(jax.nn.log_softmax(logits), batch.targets[..., None], axis=-1)[..., 0]
        return -jnp.sum(batch.weights * told) / jnp.sum(batch.weights)

    def measure(self, network: Network, number: Int[Array, ""]) -> Float[Array, " M"]:
        """One number for each of ``measures``."""
        return self.loss(network, self.held_out(number))[None]


# --- characters ---------------------------------------------------------------------------------------------------


def encoded(text: str) -> tuple[np.ndarray, str]:
    """Numbers of the characters, and the alphabet in order.

    >>> encoded("abba")[0].tolist(), encoded("abba")[1]
    ([0, 1, 1, 0], 'ab')
    """
    alphabet = "".join(sorted(set(text)))
    place = {character: i for i, character in enumerate(alphabet)}
    return np.array([place[character] for character in text], np.int32), alphabet


class Characters(Task):
    """Windows of a text: the next character of each, or a quarter of them hidden."""

    text: Int[Array, " N"]
    held: Int[Array, "W L"]
    hidden: Bool[Array, "W T"]
    vocabulary: int = eqx.field(static=True)
    masked: bool = eqx.field(static=True)

    def __init__(self, numbers: np.ndarray, vocabulary: int, length: int, *, masked: bool = False, windows: int = 128):
        """The last tenth is held out, in so many windows from evenly spaced places.

        Raises:
            InputError: for a text whose tenth is shorter than two windows.
        """
        first = len(numbers) - len(numbers) // 10
        if len(numbers) - first < 2 * (length + 1):
            raise InputError(f"text: expected at least {20 * (length + 1)} characters; got {len(numbers)}")
        starts = np.linspace(first, len(numbers) - length - 1, windows).astype(int)
        self.text = jnp.asarray(numbers[:first], jnp.int32)
        self.held = jnp.asarray(numbers[starts[:, None] + np.arange(length + 1)], jnp.int32)
        self.hidden = jnp.asarray(np.random.default_rng(0).random((windows, length)) < _HIDDEN)
        self.vocabulary, self.masked = vocabulary, masked

    def shape(self, **size: Any) -> Shape:
        """Of a network for this task."""
        words = self.vocabulary + self.masked
        length = self.hidden.shape[1]
        return Shape(words=words, outputs=self.vocabulary, length=length, causal=not self.masked, **size)

    def _asked(self, windows: Int[Array, "B L"], hidden: Bool[Array, "B T"]) -> Batch:
        now, following = windows[:, :-1], windows[:, 1:]
        if not self.masked:
            return Batch(now, following, jnp.ones(now.shape))
        return Batch(jnp.where(hidden, self.vocabulary, now), now, hidden.astype(float))

    def draw(self, key: jax.Array, number: Int[Array, ""], size: int) -> Batch:
        """Windows from random places of the first nine tenths."""
        del number
        key_start, key_hide = jax.random.split(key)
        length = self.hidden.shape[1]
        starts = jax.random.randint(key_start, (size, 1), 0, len(self.text) - length)
        hidden = jax.random.uniform(key_hide, (size, length)) < _HIDDEN
        return self._asked(self.text[starts + jnp.arange(length + 1)], hidden)

    def held_out(self, number: Int[Array, ""]) -> Batch:
        """The same windows, and hidden places, for all seeds."""
        del number
        return self._asked(self.held, self.hidden)

    def without_context(self, number: Int[Array, ""]) -> Float[Array, ""]:
        """The loss on what is held out of the frequencies of the characters, plus one, whatever stands around."""
        told = jnp.log1p(jnp.bincount(self.text, length=self.vocabulary))
        return self.loss(lambda words: jnp.broadcast_to(told, (len(words), self.vocabulary)), self.held_out(number))


# --- facts --------------------------------------------------------------------------------------------------------


class Facts(Task):
    """A table of answers to learn, the same number of answers for each relation."""

    measures: ClassVar[tuple[str, ...]] = ("loss", "accuracy", "of the relation", "from the marginal")
    """Nats of an answer; share of facts recalled; probability on answers of the relation; divergence, in nats, of what
    is said from the marginal of the answers given the relation."""

    answers: Int[Array, "N S R"]
    length: int = eqx.field(static=True)
    choices: int = eqx.field(static=True)
    noise: int = eqx.field(static=True)

    def __init__(
        self, seeds: Sequence[int], subjects: int, relations: int, choices: int, *, length: int = 8, noise: int = 16
    ):
        """A table for each seed; words are subjects, relations, answers by relation, noise, and the question."""
        drawn = [np.random.default_rng([seed, 1]).integers(choices, size=(subjects, relations)) for seed in seeds]
        self.answers = jnp.asarray(np.stack(drawn), jnp.int32)
        self.length, self.choices, self.noise = length, choices, noise

    def shape(self, **size: Any) -> Shape:
        """Of a network for this task."""
        _, subjects, relations = self.answers.shape
        words = subjects + relations + relations * self.choices + self.noise + 1
        return Shape(words=words, outputs=words, length=self.length, **size)

    def _asked(self, key: jax.Array, number: Int[Array, ""], facts: Int[Array, "B 2"]) -> Batch:
        """Subject and relation at two random places before the last."""
        _, subjects, relations = self.answers.shape
        key_place, key_noise = jax.random.split(key)
        first = subjects + relations * (1 + self.choices)
        words = first + jax.random.randint(key_noise, (len(facts), self.length), 0, self.noise)
        order = jnp.argsort(jax.random.uniform(key_place, (len(facts), self.length - 1)), axis=1)
        row = jnp.arange(len(facts))
        words = words.at[row, order[:, 0]].set(facts[:, 0]).at[row, order[:, 1]].set(subjects + facts[:, 1])
        words = words.at[:, -1].set(first + self.noise).astype(jnp.int32)
        answer = self.answers[number, facts[:, 0], facts[:, 1]] + subjects + relations + facts[:, 1] * self.choices
        last = jnp.zeros(words.shape).at[:, -1].set(1)
        return Batch(words, jnp.broadcast_to(answer[:, None], words.shape).astype(jnp.int32), last)

    def draw(self, key: jax.Array, number: Int[Array, ""], size: int) -> Batch:
        """Facts drawn with replacement."""
        _, subjects, relations = self.answers.shape
        key_fact, key_rest = jax.random.split(key)
        drawn = jax.random.randint(key_fact, (size,), 0, subjects * relations)
        return self._asked(key_rest, number, jnp.stack([drawn // relations, drawn % relations], axis=1))

    def held_out(self, number: Int[Array, ""]) -> Batch:
        """All facts once, in noise that is not learned."""
        _, subjects, relations = self.answers.shape
        every = jnp.stack([x.ravel() for x in jnp.mgrid[:subjects, :relations]], axis=1)
        return self._asked(jax.random.key(7), number, every)

    def measure(self, network: Network, number: Int[Array, ""]) -> Float[Array, " M"]:
        """One number for each of ``measures``."""
        _, subjects, relations = self.answers.shape
        batch = self.held_out(number)
        told = jax.nn.log_softmax(jax.vmap(network)(batch.inputs)[:, -1]).reshape(subjects, relations, -1)
        target = batch.targets[:, -1].reshape(subjects, relations)
        start = subjects + relations + self.choices * jnp.arange(relations)
        own = jax.vmap(lambda row, at: jax.lax.dynamic_slice_in_dim(row, at, self.choices, axis=1), (1, 0), 1)(
            told, start
        )
        marginal = jnp.mean(jax.nn.one_hot(self.answers[number], self.choices, dtype=told.dtype), axis=0)
        gaps = marginal * (jnp.log(jnp.where(marginal > 0, marginal, 1)) - own)
        return jnp.stack(
            [
                -jnp.mean(jnp.take_along_axis(told, target[..., None], axis=-1)),
                jnp.mean(jnp.argmax(told, axis=-1) == target),
                jnp.mean(jnp.sum(jnp.exp(own), axis=-1)),
                jnp.mean(jnp.sum(jnp.where(marginal > 0, gaps, 0), axis=-1)),
            ]
        )


# --- nested lists -------------------------------------------------------------------------------------------------

_WORDS = {word: i for i, word in enumerate([*"0123456789", *OPERATIONS, "(", ")", "=", " "])}
_VALUES: dict[str, Callable[[list[int]], int]] = {
    "SUM": lambda x: sum(x) % 10,
    "MAX": max,
    "MIN": min,
}
_INNERMOST = re.compile(r"\( ([A-Z]+) ([0-9 ]+) \)")


def expression(rng: np.random.Generator, operations: Sequence[str], depth: int) -> tuple[list[str], int]:
    """Words and value of a nested list of two entries; entries are lists with half the chance of digits.

    >>> expression(np.random.default_rng(3), ["SUM"], 1)
    (['(', 'SUM', '8', '0', ')'], 8)
    """
    chosen = operations[int(rng.integers(len(operations)))]
    words, values = ["(", chosen], []
    for _ in range(2):
        if depth > 1 and rng.random() < 1 / 3:
            inner, value = expression(rng, operations, depth - 1)
            words += inner
        else:
            value = int(rng.integers(10))
            words.append(str(value))
        values.append(value)
    return [*words, ")"], int(_VALUES[chosen](values))


def worked(words: Sequence[str]) -> list[str]:
    """A nested list and what becomes of it as its innermost lists take their values, to the value of all of it.

    >>> " ".join(worked("( SUM 1 ( MAX 2 4 ) )".split()))
    '( SUM 1 ( MAX 2 4 ) ) = ( SUM 1 4 ) = 5'
    """
    rows = [" ".join(words)]
    while "(" in rows[-1]:
        rows.append(_INNERMOST.sub(lambda found: str(_VALUES[found[1]]([*map(int, found[2].split())])), rows[-1]))
    return " = ".join(rows).split()


class ListOps(Task):
    """Nested lists worked out step by step, as in the chains of thought of Both et al.

    What follows the list is asked. A list is right where every word of it is the likeliest one after the right words
    before, so that the network alone would write the same. None of the held-out lists is learned: ``held`` under SUM
    alone, then as many under the operations that are learned.
    """

    measures: ClassVar[tuple[str, ...]] = ("loss", "accuracy", "accuracy of SUM")
    words: Int[Array, "N T"]
    asked: Bool[Array, "N T"]
    held: int = eqx.field(static=True)

    def __init__(self, seed: int, operations: Sequence[str], *, number: int, held: int = 500, depth: int = 2):
        """So many different lists with these operations, and others that are held out."""
        found: dict[tuple[str, ...], None] = {}
        for stream, (known, most) in enumerate(((OPERATIONS[:1], held), (operations, 2 * held + number))):
            rng = np.random.default_rng([seed, 2, stream])
            while len(found) < most:
                found[tuple(expression(rng, known, depth)[0])] = None
        rows = [worked(words) for words in found]
        longest = max(map(len, rows))
        self.words = jnp.asarray([[_WORDS[word] for word in row + [" "] * (longest - len(row))] for row in rows])
        place, asked_from = np.arange(longest), np.array([[row.index("=")] for row in rows])
        self.asked = jnp.asarray((place > asked_from) & (place < np.array([[len(row)] for row in rows])))
        self.held = held

    def shape(self, **size: Any) -> Shape:
        """Of a network for this task."""
        return Shape(words=len(_WORDS), outputs=len(_WORDS), length=self.words.shape[1] - 1, **size)

    def _asked(self, rows: Int[Array, " B"]) -> Batch:
        words, weights = self.words[rows], self.asked[rows, 1:].astype(float)
        return Batch(words[:, :-1], words[:, 1:], weights)

    def draw(self, key: jax.Array, number: Int[Array, ""], size: int) -> Batch:
        """Lists drawn with replacement."""
        del number
        return self._asked(jax.random.randint(key, (size,), 2 * self.held, len(self.words)))

    def held_out(self, number: Int[Array, ""]) -> Batch:
        """The first lists."""
        del number
        return self._asked(jnp.arange(2 * self.held))

    def measure(self, network: Network, number: Int[Array, ""]) -> Float[Array, " M"]:
        """One number for each of ``measures``."""
        batch = self.held_out(number)
        said = jnp.argmax(jax.vmap(network)(batch.inputs), axis=-1)
        right = jnp.all((said == batch.targets) | (batch.weights == 0), axis=-1)
        learned = self._asked(jnp.arange(self.held, 2 * self.held))
        return jnp.stack([self.loss(network, learned), jnp.mean(right[self.held :]), jnp.mean(right[: self.held])])


# --- images -------------------------------------------------------------------------------------------------------


class Images(Task):
    """Patches of images, half of them hidden; the loss is the mean squared error of a hidden pixel."""

    patches: Float[Array, "I N P"]
    order: Int[Array, "S I"]
    held: int = eqx.field(static=True)

    def __init__(self, patches: np.ndarray, seeds: Sequence[int], *, held: int = 300):
        """Each seed holds out so many images of its own."""
        order = [np.random.default_rng([seed, 3]).permutation(len(patches)) for seed in seeds]
        self.patches = jnp.asarray(patches, float)
        self.order = jnp.asarray(np.stack(order), jnp.int32)
        self.held = held

    def shape(self, **size: Any) -> Shape:
        """Of a network for this task: a word is a patch, and whether it is hidden."""
        _, tokens, pixels = self.patches.shape
        return Shape(words=pixels + 1, outputs=pixels, length=tokens, causal=False, vectors=True, **size)

    def _asked(self, key: jax.Array, rows: Int[Array, " B"]) -> Batch:
        patches = self.patches[rows]
        tokens = patches.shape[1]
        hidden = hide(key, len(rows), tokens, tokens // 2)[..., None]
        inputs = jnp.concatenate([jnp.where(hidden, 0, patches), hidden.astype(patches.dtype)], axis=-1)
        return Batch(inputs, patches, hidden[..., 0].astype(patches.dtype))

    def draw(self, key: jax.Array, number: Int[Array, ""], size: int) -> Batch:
        """Images drawn with replacement, their hidden patches anew."""
        key_row, key_hide = jax.random.split(key)
        rows = self.order[number, jax.random.randint(key_row, (size,), self.held, self.order.shape[1])]
        return self._asked(key_hide, rows)

    def held_out(self, number: Int[Array, ""]) -> Batch:
        """The first images in the order of the seed."""
        return self._asked(jax.random.key(11), self.order[number, : self.held])

    def without_context(self, number: Int[Array, ""]) -> Float[Array, ""]:
        """The loss on what is held out of the mean of the images that are learned, whatever is seen."""
        mean = jnp.mean(self.patches[self.order[number, self.held :]], axis=0)
        return self.loss(lambda _: mean, self.held_out(number))

    def loss(self, network: Network, batch: Batch) -> Float[Array, ""]:
        """Mean squared error of a hidden pixel."""
        gaps = jnp.mean((jax.vmap(network)(batch.inputs) - batch.targets) ** 2, axis=-1)
        return jnp.sum(batch.weights * gaps) / jnp.sum(batch.weights)
