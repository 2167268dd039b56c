r"""Claim C18, identity and powers as separations: posteriors where they are nowhere negative."""

import math
from functools import partial

import numpy as np
from scipy.integrate import quad
from scipy.special import logsumexp

from probam.claims.claim import extreme, ordinary, register
from probam.claims.inputs import Floats
from probam.claims.universal.softmax_twins import (
    MILLIDGE,
    bank_parts,
    refused,
    relative_difference,
    softmax,
    statistics,
)
from probam.claims.universal.twin_integrals import corners, dot
from probam.claims.universal.twin_table import twin

__all__: list[str] = []

# identity ----------------------------------------------------------------------------------------------------------


def _tensor(dim: int, low: float) -> tuple[Floats, Floats]:
    """Two Gauss nodes in each direction of [low, 1]^D: exact for m . q."""
    node, weight = np.polynomial.legendre.leggauss(2)
    node, weight = low + (1 - low) * (node + 1) / 2, (1 - low) * weight / 2
    index = np.indices((2,) * dim).reshape(dim, -1)
    return node[index].T, np.prod(weight[index], axis=0)


@register(
    id="C18.identity",
    source=MILLIDGE,
    title="identity with dot: a density on [0, 1]^D alone",
    statement="m . q / sum_j m_j . q is a posterior on [0,1]^D, Z = sum_i m_i / 2; on symmetric domains Z = 0: none",
    latex=r"Z = \tfrac12 \sum_i m_i",
    printed_statement="weights m . q / sum, any domain",
    verdict="COND",
    relation="equal",
    constant="Z = sum_i m_i / 2, pi_k prop. to Z, for memories and queries in [0, 1]^D",
    inputs=partial(bank_parts, names=("queries", "memories"), domain="box"),
    cases=(ordinary("plain"), ordinary("D = 5", dim=5), extreme("one memory", num_memories=1)),
    tolerance=1e-12,
    exact={"low": 0.0, "weights": 1.0, "half": 0.5, "power": 1},
    printed={"low": -1.0},
    printed_exceeds=0.5,
    mutations={
        "weights left out": {"weights": 0.0},
        "factor 1/2 dropped": {"half": 1.0},
        "square for identity": {"power": 2},
    },
    jit=False,
)
def identity_is_a_density_on_the_unit_box(
    queries: Floats, memories: Floats, *, low: float, weights: float, half: float, power: int
) -> float:
    """Weights against the posterior, Z against a product rule, the sign of the density at all nodes, the refusals."""
    log_density, log_z, log_weights = statistics(twin("dot", "identity", "box"))(queries, memories, 1.0)
    log_z = log_z + math.log(2 * half)
    nodes, volume = _tensor(memories.shape[1], low)
    values = dot(nodes, memories) ** power
    share = dot(queries, memories) ** power
    posterior = softmax(weights * log_weights + log_density)
    missing = 0.0 if all(refused("dot", "identity", place) for place in ("space", "sphere", "spin")) else 1.0
    return max(
        relative_difference(share / share.sum(axis=1, keepdims=True), posterior),
        float(np.max(np.abs(volume @ values / np.exp(log_z) - 1))),
        float(np.max(np.maximum(-values, 0) / np.abs(values))),
        missing,
    )


# polynomials -------------------------------------------------------------------------------------------------------


def _powers(values: Floats, degree: int, rectified: bool) -> Floats:
    return np.asarray(np.maximum(values, 0) if rectified else values) ** degree


@register(
    id="C18.polynomial",
    source=MILLIDGE,
    title="even or rectified powers on spins: energy = -density",
    statement="F_n(m . s)/sum = posterior of F_n(m . s)/Z_n, Z_n = sum_j C(D,j) F_n(D-2j) for every m, uniform pi",
    latex=r"-\sum_k F_n(\langle \xi_k, s\rangle) = -K Z_n\, p(s)",
    printed_statement="weights (m . q)^n / sum, any n: odd powers are negative at half of the corners",
    verdict="COND",
    relation="equal",
    constant="Z_n = sum_j C(D, j) F_n(D - 2 j)",
    inputs=partial(bank_parts, names=("memories",), domain="spin"),
    cases=(ordinary("D = 5", dim=5), ordinary("D = 7, K = 3", dim=7, num_memories=3)),
    tolerance=1e-12,
    exact={"degrees": ((2, False, "polynomial"), (3, True, "rectified polynomial")), "shift": 0, "tilt": 0.0},
    printed={"degrees": ((3, False, "polynomial"),)},
    printed_exceeds=0.5,
    mutations={
        "degree one higher": {"shift": 1},
        "weights by number": {"tilt": 0.3},
        "rectifier left out": {"degrees": ((3, False, "rectified polynomial"),)},
    },
    jit=False,
)
def powers_of_overlaps_are_densities(
    memories: Floats, *, degrees: tuple[tuple[int, bool, str], ...], shift: int, tilt: float
) -> float:
    """All corners: shares against posteriors, Z against the sum, energy against minus K Z times the density."""
    everywhere = corners(memories.shape[1], -1.0)
    worst = 0.0
    for degree, rectified, name in degrees:
        log_density, log_z, _ = statistics(twin("dot", name, "spin"))(everywhere, memories, float(degree + shift))
        values = _powers(dot(everywhere, memories), degree, rectified)
        total = values.sum(axis=1, keepdims=True)
        seen = (total != 0)[:, 0] & np.isfinite(log_density).any(axis=1)
        posterior = softmax(log_density[seen] + tilt * np.arange(len(memories)))
        mixture = np.exp(logsumexp(log_density, axis=1)) / len(memories)
        energy = -len(memories) * math.exp(log_z[0]) * mixture
        worst = max(
            worst,
            relative_difference(values[seen] / total[seen], posterior),
            relative_difference(np.exp(log_z), values.sum(axis=0)),
            relative_difference(-total[:, 0], energy),
        )
    return worst


@register(
    id="C18.polynomial_sphere",
    source=MILLIDGE,
    title="even or rectified powers on the sphere",
    statement="F_n(m . q)/Z_n, Z_n = |m|^n pi^((D-1)/2) Gamma((n+1)/2)/Gamma((n+D)/2), twice that if not rectified",
    latex=r"Z_n = \lVert m\rVert^n\, \pi^{(D-1)/2}\, \Gamma(\tfrac{n+1}2) / \Gamma(\tfrac{n+D}2)",
    printed_statement="weights (m . q)^n / sum, no density named",
    verdict="COND",
    relation="equal",
    constant="Z_n, pi_k prop. to |m_k|^n",
    inputs=partial(bank_parts, names=("queries", "memories"), domain="sphere"),
    cases=(ordinary("plain"), ordinary("D = 5", dim=5)),
    tolerance=1e-12,
    exact={"weights": 1.0, "sides": 1.0, "shift": 0},
    mutations={
        "weights left out": {"weights": 0.0},
        "half the sphere": {"sides": 2.0},
        "degree one higher": {"shift": 1},
    },
    jit=False,
)
def powers_of_cosines_are_densities(
    queries: Floats, memories: Floats, *, weights: float, sides: float, shift: int
) -> float:
    """Shares against posteriors; Z against an integral over circles of latitude."""
    dim, length = memories.shape[1], np.linalg.norm(memories, axis=1)
    around = 2 * math.pi ** ((dim - 1) / 2) / math.gamma((dim - 1) / 2)
    worst = 0.0
    for degree, rectified, name in ((4, False, "polynomial"), (3, True, "rectified polynomial")):
        row = twin("dot", name, "sphere")
        log_density, log_z, log_weights = statistics(row)(queries, memories, float(degree + shift))
        z = np.exp(log_z) * sides
        half = quad(lambda t, n=degree: math.cos(t) ** n * math.sin(t) ** (dim - 2), 0, math.pi / 2, epsrel=1e-13)[0]
        integral = around * half * (1 if rectified else 2) * length**degree
        share = _powers(dot(queries, memories), degree, rectified)
        total = share.sum(axis=1, keepdims=True)
        seen = total[:, 0] > 0
        posterior = softmax(weights * log_weights + log_density[seen])
        worst = max(
            worst,
            relative_difference(share[seen] / total[seen], posterior),
            relative_difference(z / integral, np.ones(len(z))),
        )
    return worst
