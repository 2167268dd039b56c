r"""An autoencoder whose prior of codes is its memory: encode, go to the stored codes nearby, decode.

.. math:: p(z) = \frac1K \sum_k N(z;\, z_k, t^2 I), \qquad z \leftarrow \sum_k r_k(z)\, z_k, \qquad
    r_k(z) \propto e^{-|z - z_k|^2 / (2 t^2)}

Annabi, Pitti and Quoy (2022), arXiv:2210.08013. Stored are the codes \(z_k = m(x_k)\) of patterns; writing one is one
pass through the encoder. The steps between encoder and decoder are the updates of CLAM at \(\beta = 1 / (2 t^2)\): EM
for a code under the prior (:attr:`Variational.latent`). :class:`probam.energies.predictive_coding.Decoder` is the
variant that descends on prediction error and memory together, behind a linear decoder.
"""

from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from probam.energies.arguments import Scalar, check_counts, positive, random_key
from probam.energies.autoencoder import Autoencoder, decode, encode, trained
from probam.energies.clam import Clam
from probam.energies.memory import REAL, Card, Memory, checked_patterns, sharpness
from probam.errors import InputError
from probam.pytrees import pytree

__all__ = ["Variational"]

_SAME = 1e-9
"""Largest difference of codes of one pattern, in units of their width, that rounding may cause."""


@pytree
@dataclass(frozen=True, eq=False)
class Variational(Memory):
    r"""Patterns stored as codes of an autoencoder, recalled by their neighbourhood in the space of codes.

    For images and other patterns with a structure that networks can learn, where few numbers are to be kept of each:
    only codes are stored, so that recall is as exact as the decoder. `store` trains the networks on the patterns
    themselves; with :func:`probam.energies.autoencoder.trained` they learn from other data, and `write` stores.

    .. math:: x \leftarrow g\bigl(z^{(T)}\bigr), \qquad z^{(i+1)} = \sum_k r_k(z^{(i)})\, z_k, \qquad z^{(0)} = m(x)

    >>> patterns = jnp.array([[0.0, 0.0, 4.0, 4.0], [4.0, 4.0, 0.0, 0.0], [4.0, 0.0, 4.0, 0.0]])
    >>> memory = Variational.store(patterns, num_codes=2, num_units=16, num_steps=500)
    >>> recalled = memory.update(jnp.array([0.5, 0.3, 3.0, 4.4]))
    >>> jnp.round(recalled).astype(int).tolist()  # the first pattern
    [0, 0, 4, 4]
    """

    autoencoder: Autoencoder
    codes: Float[Array, "K Z"]
    width: Scalar
    steps: int = field(default=10, metadata={"static": True})

    card = Card(
        "variational",
        REAL,
        "-log sum_k exp(-|m(x) - z_k|^2 / (2 t^2))",
        "encode, ten means of the stored codes under their shares, decode",
        "every pattern whose code is apart from the others, as exactly as the decoder can",
        "Annabi et al. (2022), arXiv:2210.08013",
        "variational_memory",
    )
    bank = "codes"
    settles = False
    falls = False  # the code of a decoded code is another one

    @property
    def shape(self) -> tuple[int, ...]:
        """Coordinates of a pattern."""
        return jnp.shape(self.autoencoder.center)

    @property
    def latent(self) -> Clam:
        """The memory of codes, whose density is the prior."""
        return Clam(self.codes, 0.5 / jnp.asarray(self.width) ** 2)

    def energy(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch"]:
        """That of the codes, in nats."""
        return jnp.asarray(self.latent.beta) * self.latent.energy(encode(self.autoencoder, jnp.asarray(states)))

    def update(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
        """Recall: a pattern's code, moved by some updates of the memory of codes, and decoded."""
        codes = encode(self.autoencoder, jnp.asarray(states))
        return decode(self.autoencoder, jax.lax.fori_loop(0, self.steps, lambda _, z: self.latent.update(z), codes))

    def write(self, patterns: Float[ArrayLike, "B D"]) -> "Variational":
        """The memory with the codes of these patterns."""
        codes = encode(self.autoencoder, checked_patterns(patterns, REAL))
        return replace(self, codes=jnp.concatenate([self.codes, codes]))

    def erase(self, patterns: Float[ArrayLike, "B D"]) -> "Variational":
        """The memory without the codes of these patterns.

        Raises:
            InputError: for a pattern whose code is not stored, and where none would be left.
        """
        kept = np.asarray(self.codes)
        for i, code in enumerate(np.asarray(encode(self.autoencoder, checked_patterns(patterns, REAL)))):
            same = np.flatnonzero(np.max(np.abs(kept - code), axis=1) <= _SAME * float(jnp.asarray(self.width)))
            if not same.size:
                raise InputError(f"patterns: row {i} is not stored; erase rows exactly as written")
            kept = np.delete(kept, same[0], axis=0)
        if not len(kept):
            raise InputError("patterns: these are all that is stored; a memory keeps at least one pattern")
        return replace(self, codes=jnp.asarray(kept))

    @classmethod
    def store(
        cls,
        patterns: Float[ArrayLike, "K D"],
        *,
        width: float | None = None,
        num_codes: int = 16,
        num_units: int = 128,
        num_steps: int = 2000,
        noise: float = 0.1,
        seed: int = 0,
    ) -> "Variational":
        """A memory whose networks have learned the patterns.

        Args:
            patterns: one in each row.
            width: t, standard deviation of a stored code; None tells all codes apart (the paper has 0.1).
            num_codes: coordinates of a code.
            num_units: hidden units of encoder and decoder.
            num_steps: of training.
            noise: of a pattern around the decoded code, in units of the patterns' standard deviation.
            seed: of training.
        """
        rows = checked_patterns(patterns, REAL)
        sizes = {"num_codes": num_codes, "num_units": num_units, "num_steps": num_steps}
        check_counts(**sizes)
        if width is not None:
            positive("width", width, rows.dtype)
        autoencoder = trained(random_key(seed), rows, positive("noise", noise, rows.dtype), **sizes)
        codes = encode(autoencoder, rows)
        return cls(autoencoder, codes, sharpness(codes, width, "sd"))
