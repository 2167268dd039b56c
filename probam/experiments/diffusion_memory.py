r"""A diffusion with the exact score as a memory: memorised, spurious, generalised, by number of data (claim D1).

Data on the unit circle, the solvable case of Pham et al. (2025), and images. At noise s the energy of N data is that of
CLAM with \(\beta = 1 / (2 s^2)\); :mod:`probam.experiments.diffusion_phases` says what its minima are. On the circle
the limit of many data is known: a ring of minima at \(R = I_1 / I_0(R / s^2)\), which exists iff \(s^2 < 1/2\), and
the barrier from one minimum to the next is read from the energy along the ring.
"""

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float
from scipy.optimize import brentq

from probam.energies import clam, diffusion
from probam.experiments.diffusion_findings import figures, findings, tables
from probam.experiments.diffusion_phases import PHASES, REACHES, by_phase, exact, phase_of, rests, settled
from probam.experiments.experiment import Experiment, Settings, register
from probam.experiments.image_retrieval import IMAGE_SETS, images, neighbour_distance

__all__ = ["DIFFUSION_MEMORY", "barriers", "on_circle", "ring_radius"]

_NOISE = (0.05, 0.1, 0.2)
_LOADS = 0.2 * 2.0 ** np.arange(9)
"""Number of data times the noise: the same loads at every noise."""
_STARTS = 48
_ANGLES = 720


def on_circle(angles: Float[np.ndarray, " N"], total: int) -> tuple[Array, Array]:
    """Data at these angles on the unit circle, filled up to a total with data of weight 0; and the weights."""
    data = np.zeros((total, 2))
    data[: len(angles)] = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    return jnp.asarray(data), jnp.asarray(np.arange(total) < len(angles), float)


def ring_radius(square: float) -> float:
    """Radius of the ring of minima of infinitely many data on the unit circle, 0 where there is none.

    Args:
        square: s^2.

    >>> [round(ring_radius(square), 5) for square in (0.51, 0.49, 0.25)]
    [0.0, 0.19866, 0.83146]
    """
    if square >= 0.5:
        return 0.0
    return float(brentq(lambda r: float(diffusion.ring_pull(r, square**0.5)) - r, 1e-3, 1.0))


@jax.jit
def _along_ring(data: Array, present: Array, noise: Array) -> Float[Array, " A"]:
    """Least energy along each ray from the centre, in nats: recall that is held on its ray."""
    angles = 2 * jnp.pi * jnp.arange(_ANGLES) / _ANGLES
    rays = jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=-1)
    denoise = exact(data, present, noise)
    radius = jax.lax.fori_loop(
        0, 60, lambda _, r: jnp.sum(denoise(r[:, None] * rays) * rays, axis=-1), jnp.ones(_ANGLES, data.dtype)
    )
    beta = 0.5 / noise**2
    return beta * clam.energy(radius[:, None] * rays, data, beta, present)


def barriers(energy: Float[np.ndarray, " A"], states: Float[np.ndarray, "Q 2"]) -> Float[np.ndarray, " Q"]:
    """Height of the lower of the two next passes above each state, along a circle of energies.

    Args:
        energy: at equal steps of the angle.
        states: rests; each is taken for the minimum below the angle that is nearest.
    """
    count = len(energy)
    turns = np.round(np.arctan2(states[:, 1], states[:, 0]) / (2 * np.pi) * count).astype(int)
    return np.array([_barrier(np.roll(energy, count // 2 - turn)) for turn in turns])


def _barrier(energy: Float[np.ndarray, " A"]) -> float:
    """Height of the lower pass above the minimum below the middle of a circle of energies."""
    low = len(energy) // 2
    while energy[low] > min(energy[low - 1], energy[(low + 1) % len(energy)]):
        low = (low - 1 if energy[low - 1] < energy[(low + 1) % len(energy)] else low + 1) % len(energy)
    around = np.roll(energy, len(energy) // 2 - low)
    sides = around[len(energy) // 2 :], around[len(energy) // 2 :: -1]
    falls = [np.flatnonzero(np.diff(side) < 0) for side in sides]
    passes = [side[fall[0]] if fall.size else side[-1] for side, fall in zip(sides, falls, strict=True)]
    return float(min(passes) - energy[low])


def _row(rng: np.random.Generator, stored: tuple[Array, Array], count: int, noise: float) -> xr.Dataset:
    """What the rests from noisy data are, by phase; the first ``count`` of the data are there."""
    starts = np.asarray(stored[0])[rng.integers(count, size=_STARTS)]
    starts = starts + noise * rng.normal(size=starts.shape)
    key = jax.random.key(int(rng.integers(2**31)))
    at = rests(*stored, jnp.asarray(starts), key, jnp.asarray(noise))
    own, softest = np.asarray(at.own), np.asarray(at.softest)
    phase = phase_of(own, softest)
    values = {"softest": softest, "stayed": np.asarray(at.stayed, float)}
    alone: dict[str, tuple[tuple[()], float]] = {}
    if starts.shape[1] == 2:
        energy = np.asarray(_along_ring(*stored, jnp.asarray(noise)))
        values["barrier"] = barriers(energy, np.asarray(at.states))
        alone["minima"] = ((), float(np.sum((energy < np.roll(energy, 1)) & (energy <= np.roll(energy, -1)))))
    returned = np.asarray(at.returned, float)
    return xr.Dataset(
        {
            "share": ("phase", np.bincount(phase, minlength=len(PHASES)) / len(phase)),
            "returned": (("reach", "phase"), np.stack([by_phase(phase, one) for one in returned])),
        }
        | alone
        | {name: ("phase", by_phase(phase, one)) for name, one in values.items()},
        coords={"phase": list(PHASES), "reach": list(REACHES)},
    )


def _ring(settings: Settings, repeats: int) -> xr.Dataset:
    """Phases on the circle by noise and load."""
    each = []
    for i, noise in enumerate(_NOISE):
        counts = np.maximum(1, np.round(_LOADS / noise)).astype(int)
        rows = []
        for j, count in enumerate(counts):
            settings.progress(i * len(counts) + j, len(_NOISE) * len(counts), f"circle, {count} data, noise {noise}")
            for r in range(repeats):
                rng = np.random.default_rng([settings.seed, i, j, r])
                stored = on_circle(rng.uniform(0, 2 * np.pi, count), int(counts[-1]))
                rows.append(_row(rng, stored, int(count), noise))
        index = {"load": _LOADS, "repeat": np.arange(repeats)}
        each.append(_folded(xr.concat(rows, "row"), index).assign(count=("load", counts)))
    return xr.concat(each, "noise").assign_coords(noise=list(_NOISE))


def _folded(rows: xr.Dataset, index: dict[str, np.ndarray]) -> xr.Dataset:
    """Rows in the order of an index of several dimensions, unstacked."""
    shape = [len(labels) for labels in index.values()]
    folded = {
        name: ((*index, *values.dims[1:]), values.values.reshape(*shape, *values.shape[1:]))
        for name, values in rows.data_vars.items()
    }
    kept = {name: labels for name, labels in rows.coords.items() if name in ("phase", "reach")}
    return xr.Dataset(folded, coords={**kept, **index})


def _radius(settings: Settings, repeats: int) -> xr.Dataset:
    """Mean radius of the rests by s^2: random data, and 96 evenly spaced ones, against the limit."""
    squares = np.array([0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.49, 0.51, 0.6])
    counts, even = [8, 512], 96
    rng = np.random.default_rng([settings.seed, 7])
    radius, exact_radius = np.empty((len(counts), repeats, len(squares))), np.empty(len(squares))
    start = jnp.asarray(rng.normal(size=(_STARTS, 2)))
    for s, square in enumerate(squares):
        noise = jnp.asarray(square**0.5)
        stored = on_circle(2 * np.pi * np.arange(even) / even, counts[-1])
        exact_radius[s] = _mean_radius(stored, start, noise)
        for i, count in enumerate(counts):
            for r in range(repeats):
                angles = np.random.default_rng([settings.seed, count, r]).uniform(0, 2 * np.pi, count)
                stored = on_circle(angles, counts[-1])
                radius[i, r, s] = _mean_radius(stored, start, noise)
    return xr.Dataset(
        {
            "radius": (("count", "repeat", "square"), radius),
            "even": ("square", exact_radius),
            "limit": ("square", [ring_radius(square) for square in squares]),
        },
        coords={"count": counts, "square": squares},
        attrs={"num_even": even},
    )


def _mean_radius(stored: tuple[Array, Array], starts: Float[Array, "Q 2"], noise: Float[Array, ""]) -> float:
    """Mean distance of the rests from the centre."""
    return float(jnp.mean(jnp.linalg.norm(settled(*stored, starts, noise), axis=-1)))


def _images(settings: Settings, repeats: int) -> dict[str, xr.Dataset]:
    """Phases on images by noise, in distances of neighbours, and by number of data."""
    counts = 4 ** np.arange(1, 7 if settings.full else 6)
    made = {}
    for name, pool in images(settings.data, int(counts[-1])).items():
        rows = pool.reshape(len(pool), -1).astype(float)
        unit = neighbour_distance(rows[: int(counts[-1])])
        multiples = np.array([0.4, 0.5, 0.6])
        each = []
        for i, multiple in enumerate(multiples):
            noise = float(multiple * unit)
            for j, count in enumerate(counts):
                settings.progress(i * len(counts) + j, len(multiples) * len(counts), f"{name}, {count} images")
                for r in range(repeats):
                    rng = np.random.default_rng([settings.seed, i, j, r])
                    chosen = rng.permutation(len(rows))[: int(counts[-1])]
                    stored = jnp.asarray(rows[chosen]), jnp.asarray(np.arange(len(chosen)) < count, float)
                    each.append(_row(rng, stored, int(count), noise))
        index = {"multiple": multiples, "count": counts, "repeat": np.arange(repeats)}
        made[name] = _folded(xr.concat(each, "row"), index).assign_attrs(neighbour=unit)
    return made


def run(settings: Settings) -> xr.DataTree:
    """Phases on the circle and on images, and the radius of the ring."""
    repeats = 20 if settings.full else 6
    parts = {"ring": _ring(settings, repeats), "radius": _radius(settings, min(repeats, 8))}
    parts |= {f"images/{name}": found for name, found in _images(settings, repeats if settings.full else 4).items()}
    return xr.DataTree.from_dict(parts)


DIFFUSION_MEMORY = register(
    Experiment(
        name="diffusion_memory",
        title="Diffusion as a memory: memorised, spurious, generalised",
        question="What are the minima of a diffusion's exact energy as data are added: single data, means of several, "
        "or a manifold?",
        source="Pham et al. (2025), Memorization to generalization: emergence of diffusion models from associative "
        "memory, arXiv:2505.21777",
        claims=("D1",),
        words=("basin", "nats", "standard error"),
        data=IMAGE_SETS,
        run=run,
        figures=figures,
        findings=findings,
        tables=tables,
    )
)
