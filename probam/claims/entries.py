"""The entries: every equation or assertion of the papers that a program can check.

A: Schaeffer et al. (2023), *Associative memory under the probabilistic lens*; B: Yang (2020), slides on large
associative memories after Krotov and Hopfield; C: Millidge et al. (2022), *Universal Hopfield networks*; D: exact
statements about models of further papers. Each entry has one or more registered claims, or is listed in :data:`PENDING`
with the reason; a test checks that none is missing.
"""

from collections.abc import Iterable

from probam.claims.claim import Claim, registry

__all__ = ["ENTRIES", "PENDING", "answered", "missing"]

ENTRIES: dict[str, str] = {
    "A1": "the k-means objective is a limit of the energy",
    "A2": "covariance of the mixture behind the energy",
    "A3": "the energy is the negative log density",
    "A4": "the dynamics follow the score",
    "A5": "rate at which the energy falls",
    "A6": "where the dynamics end: basins and cells",
    "A7": "fixed points of the dynamics",
    "A8": "uniqueness of the fixed point",
    "A9": "spurious attractors",
    "A10": "the dynamics and expectation-maximisation",
    "A11": "descent of discrete steps",
    "A12": "attention as an inhomogeneous von Mises-Fisher mixture",
    "A13": "norm of layer-normalised queries",
    "A14": "whether concentrations and weights are tied",
    "A15": "weighted, spherical, Laplace, uniform and Lévy memories",
    "A16": "the memory-creating energy",
    "A17": "its collapsed form",
    "A18": "Chinese restaurant process",
    "A19": "Pitman-Yor process",
    "A20": "stick breaking and its truncation",
    "B1": "the classical energy as squared overlaps",
    "B2": "energy difference of one flip",
    "B3": "update order",
    "B4": "capacities and who found them",
    "B5": "rectified and plain interactions at n = 2",
    "B6": "capacity of dense memories",
    "B7": "probabilistic twins of polynomial energies",
    "B8": "XOR",
    "B9": "the dense limit and its two update rules",
    "B10": "descent with finite hidden time constant",
    "B11": "the modern limit as a Gaussian mixture",
    "B12": "the two-layer energy is a variational free energy",
    "B13": "boundedness",
    "C1": "shapes of the memory matrices",
    "C2": "Hopfield network as identity separation",
    "C3": "sparse distributed memory",
    "C4": "energies of the special cases",
    "C5": "two-layer equations of the framework",
    "C6": "convergence in one step",
    "C7": "descent of the framework's dynamics",
    "C8": "the identity-separation energy",
    "C9": "energies for any memory of the framework",
    "C10": "maximum separation",
    "C11": "definitions of the similarities",
    "C12": "normalised dot product",
    "C13": "normalised scores",
    "C14": "no twin of normalised scores",
    "C15": "Hamming distance and dot product",
    "C16": "hetero-associative capacity",
    "C17": "softmax of similarities",
    "C18": "which pairs have a probabilistic twin",
    "D1": "diffusion as an associative memory",
    "D2": "memories in random features",
    "D3": "the energy transformer",
    "D4": "memories of sequences",
    "D5": "writing by Bayesian regression",
    "D6": "a mixture prior under a decoder",
    "D7": "harmoniums and factorised guides",
    "D8": "predictive coding",
}
"""Entry -> its subject."""

PENDING: dict[str, str] = {}
"""Entry -> why it has no claim yet."""


def answered(claims: Iterable[Claim] | None = None) -> dict[str, list[str]]:
    """Entry -> ids of its claims, out of ``claims`` (``None``: the whole registry)."""
    ids: dict[str, list[str]] = {entry: [] for entry in ENTRIES}
    for one in registry().values() if claims is None else claims:
        ids[one.entry].append(one.id)
    return ids


def missing() -> dict[str, str]:
    """Entry without a claim -> the reason, or ``"not yet written"``."""
    return {entry: PENDING.get(entry, "not yet written") for entry, ids in answered().items() if not ids}
