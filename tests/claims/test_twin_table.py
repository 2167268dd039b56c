"""The table of similarity and separation: what it gives, and the reasons it gives where there is nothing."""

import jax.numpy as jnp
import numpy as np
import pytest

from probam.claims.universal.twin_table import DOMAINS, pairs_with_twins, twin
from probam.energies.similarities import SIMILARITIES
from probam.errors import InputError


def test_every_similarity_of_the_physics_has_a_softmax_twin_somewhere() -> None:
    with_twins = {similarity for similarity, separation, _ in pairs_with_twins() if separation == "softmax"}
    assert set(SIMILARITIES) <= with_twins


def test_every_row_answers_to_its_own_words() -> None:
    for words in pairs_with_twins():
        row = twin(*words)
        assert (row.similarity, row.separation, row.domain) == words


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("dot", "softmax", "space"), r"no probabilistic twin: the integral of exp\(beta m . q\) over R\^D diverges"),
        (("cosine", "softmax", "space"), r"does not fall off with the length of q"),
        (("dot", "identity", "spin"), r"negative at some queries.*domain 'box'"),
        (("squared euclidean", "max", "space"), r"limit of softmax for beta to infinity"),
        (("dot", "log", "sphere"), r"ranks the memories in reverse"),
        (("euclidean", "normalised softmax", "space"), r"odds of two memories depend on all others"),
        (("manhattan", "softmax", "sphere"), r"known normaliser; there is one on space"),
        (("dot", "softmax", "torus"), r"domain: expected one of space"),
        (("dot", "square", "space"), r"separation: expected one of softmax"),
        (("mahalanobis", "softmax", "space"), r"similarity: expected one of squared euclidean"),
    ],
)
def test_where_there_is_no_twin_the_table_says_why(words: tuple[str, str, str], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        twin(*words)


def test_odd_powers_and_powers_below_one_are_refused() -> None:
    memories = jnp.ones((2, 3))
    with pytest.raises(InputError, match=r"an odd power is negative"):
        twin("dot", "polynomial", "spin").log_normalizer(memories, jnp.asarray(3.0))
    with pytest.raises(InputError, match=r"power: expected a number of at least 1"):
        twin("lp", power=0.5)
    with pytest.raises(InputError, match=r"2 to 4 parts; got 5"):
        twin("jeffreys", domain="simplex").log_normalizer(jnp.full((2, 5), 0.2), jnp.asarray(1.0))


def test_flips_of_bits_are_the_same_law_for_both_codings() -> None:
    rng = np.random.default_rng(1)
    bits, memories = (rng.integers(0, 2, (size, 6)).astype(float) for size in (5, 3))
    beta = jnp.asarray(1.3)
    one = twin("hamming", domain="binary").log_density(jnp.asarray(bits), jnp.asarray(memories), beta)
    other = twin("hamming", domain="spin").log_density(jnp.asarray(2 * bits - 1), jnp.asarray(2 * memories - 1), beta)
    np.testing.assert_allclose(one, other, rtol=1e-12)
    assert "spin" in DOMAINS
