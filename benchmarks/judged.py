"""Forty fits whose verdict is known: twenty right ones, and two of each of ten named wrongs.

The data are simulated with seeds that nothing was tuned on. In a right fit the family, the number of memories and the
engine's length suit the data; groups are far enough apart that a search finds them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import xarray as xr
from jaxtyping import Float

__all__ = ["WRONGS", "Case", "all_cases"]

_SEED = 20_261_129
_ROWS = 300

WRONGS = (
    "one memory too few",
    "a prior that floods a direction",
    "heavy tails fitted by Gaussians",
    "chains in two modes",
    "a stuck chain",
    "stopped at a limit",
    "an optimum found once",
    "a column in other units",
    "truncation reached",
    "tied where shapes differ",
)


@dataclass(frozen=True)
class Case:
    """A fit and what is wrong with it."""

    words: str
    wrong: str
    """Of ``WRONGS``; empty for a right fit."""
    data: Callable[[np.random.Generator], Float[np.ndarray, "N D"]]
    options: dict[str, Any]
    spoil: Callable[[xr.DataTree], xr.DataTree] | None = None
    """What happens to the file after the fit, where the fault is one of the run and not of the model."""
    number: int = 0
    """Chooses its data."""

    def rng(self) -> np.random.Generator:
        """The source of its data."""
        return np.random.default_rng([_SEED, self.number])


@dataclass(frozen=True)
class _Groups:
    """Gaussian or heavier groups of equal size, centres ``apart`` standard deviations from each other or more."""

    num_groups: int
    num_features: int = 3
    apart: float = 7.0
    condition: float = 1.0
    """Largest over smallest standard deviation within a group, in directions drawn for each group."""
    alike: bool = False
    """Whether all groups have the shape of the first."""
    df: float = np.inf
    scale: tuple[float, ...] = (1.0,)
    widths: tuple[float, ...] = (1.0,)
    """Standard deviation of each group, in turn."""

    def __call__(self, rng: np.random.Generator) -> Float[np.ndarray, "N D"]:
        centres = self._centres(rng)
        shapes = [self._shape(rng) for _ in range(self.num_groups)]
        group = np.arange(_ROWS) % self.num_groups
        noise = rng.normal(size=(_ROWS, self.num_features))
        if np.isfinite(self.df):
            noise /= np.sqrt(rng.chisquare(self.df, size=(_ROWS, 1)) / self.df)
        width = np.resize(self.widths, self.num_groups)[group, None]
        rows = np.stack([shapes[0 if self.alike else k] @ row for k, row in zip(group, noise, strict=True)])
        return np.asarray((centres[group] + width * rows) * np.asarray(self.scale))

    def _centres(self, rng: np.random.Generator) -> Float[np.ndarray, "K D"]:
        """Points far apart, drawn one by one in a box that is large enough."""
        side = self.apart * (1 + self.num_groups ** (1 / self.num_features))
        centres: list[np.ndarray] = []
        while len(centres) < self.num_groups:
            point = rng.uniform(-side / 2, side / 2, self.num_features)
            if all(np.linalg.norm(point - other) > self.apart for other in centres):
                centres.append(point)
        return np.stack(centres)

    def _shape(self, rng: np.random.Generator) -> Float[np.ndarray, "D D"]:
        """A root of a covariance with standard deviations from 1 down to 1 / condition."""
        rotation = np.linalg.qr(rng.normal(size=(self.num_features, self.num_features)))[0]
        return np.asarray(rotation * np.geomspace(1, 1 / self.condition, self.num_features))


def _with_gaps(data: Callable[[np.random.Generator], np.ndarray]) -> Callable[[np.random.Generator], np.ndarray]:
    """One entry in ten missing, never a whole row."""

    def make(rng: np.random.Generator) -> np.ndarray:
        x = data(rng)
        gaps = rng.random(x.shape) < 0.1
        gaps[np.arange(len(x)), rng.integers(x.shape[1], size=len(x))] = False
        return np.where(gaps, np.nan, x)

    return make


def _laplace(rng: np.random.Generator) -> Float[np.ndarray, "N D"]:
    return np.asarray(rng.laplace(size=(_ROWS, 3)) + np.where(np.arange(_ROWS)[:, None] % 2, 8.0, 0.0))


def _tetrahedron(rng: np.random.Generator) -> Float[np.ndarray, "N D"]:
    """Four groups 10 standard deviations from each other: which of them share a memory is all the same."""
    corners = 10 / np.sqrt(8) * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    return np.asarray(corners[np.arange(_ROWS) % 4] + rng.normal(size=(_ROWS, 3)))


def _bits(rng: np.random.Generator) -> Float[np.ndarray, "N D"]:
    shares = np.array([[0.9, 0.1] * 4, [0.1, 0.8] * 4])
    return (rng.random((_ROWS, 8)) < shares[np.arange(_ROWS) % 2]).astype(float)


def _counts(rng: np.random.Generator) -> Float[np.ndarray, "N D"]:
    shares = np.array([[0.4, 0.2, 0.2, 0.1, 0.05, 0.05], [0.05, 0.05, 0.1, 0.2, 0.2, 0.4]])
    return rng.poisson(40 * shares[np.arange(_ROWS) % 2]).astype(float)


def _directions(rng: np.random.Generator) -> Float[np.ndarray, "N D"]:
    """Two von Mises-Fisher laws of concentration 20 in four dimensions, by rejection from the cosine's marginal."""
    rows = []
    for k in range(_ROWS):
        axis = np.eye(4)[k % 2]
        while True:  # density of the cosine t: exp(20 t) (1 - t^2)^(1/2)
            t = 1 + np.log(1 - rng.random() * (1 - np.exp(-40))) / 20
            if rng.random() < np.sqrt(1 - t * t):
                break
        across = rng.normal(size=4) * (axis == 0)
        rows.append(t * axis + np.sqrt(1 - t * t) * across / np.linalg.norm(across))
    return np.stack(rows)


def _noise(num_features: int) -> Callable[[np.random.Generator], np.ndarray]:
    """Uniform in a cube: nothing to find, and many ways to cut it up."""
    return lambda rng: rng.uniform(-1, 1, size=(_ROWS, num_features))


def _held_from(draw: int) -> Callable[[xr.DataTree], xr.DataTree]:
    """The second chain stands still from some draw on."""

    def spoil(tree: xr.DataTree) -> xr.DataTree:
        spoilt = tree.copy()
        for name in ("posterior", "sample_stats", "invariant"):
            group = tree[name].to_dataset().copy(deep=True)
            last = min(draw, group.sizes["draw"] - 1)
            for values in group.data_vars.values():
                values[{"chain": 1, "draw": slice(last, None)}] = values.isel(chain=1, draw=last)
            spoilt[name] = xr.DataTree(group)
        return spoilt

    return spoil


def _flooding(num_features: int) -> dict[str, Any]:
    """A Wishart prior that gives every direction the variance 4, as heavy as 60 data."""
    rate = jnp.asarray(4.0 * 60 * np.eye(num_features))
    return {"precision_cholesky": dist.WishartCholesky(60.0, rate_matrix=rate)}


def _options(components: int, engine: str = "em", **others: Any) -> dict[str, Any]:
    chains = {"num_chains": 4, "num_warmup": 300, "num_draws": 500} if engine == "gibbs" else {}
    return {"components": components, "engine": engine, "weights": "dirichlet", **chains, **others}


def _right() -> Iterator[Case]:
    """Twenty fits that suit their data."""

    def right(words: str, data: Callable[[np.random.Generator], np.ndarray], options: dict[str, Any]) -> Case:
        return Case(words, "", data, options)

    round_groups, long_groups = _Groups(3), _Groups(3, condition=3, apart=6)
    for _ in range(2):
        yield right("three groups, full", long_groups, _options(3, covariance="full"))
    yield right("thin groups, full", _Groups(2, condition=30), _options(2, covariance="full"))
    yield right("with gaps, full", _with_gaps(_Groups(2, condition=3)), _options(2, covariance="full", missing=True))
    yield right("two groups, diagonal", _Groups(2, apart=5), _options(2, covariance="diagonal"))
    yield right(
        "two groups of unequal width, spherical", _Groups(2, widths=(1, 2)), _options(2, covariance="spherical")
    )
    for _ in range(2):
        yield right("groups of one shape, tied", _Groups(3, condition=3, alike=True), _options(3, covariance="tied"))
    yield right("three groups, isotropic", round_groups, _options(3, covariance="isotropic"))
    yield right("small units, isotropic", _Groups(3, scale=(1e-3,)), _options(3, covariance="isotropic"))
    yield right("Student t with 4 degrees", _Groups(2, df=4, apart=12), _options(2, family="student_t,df=4"))
    yield right("Laplace", _laplace, _options(2, family="laplace"))
    yield right("bits", _bits, _options(2, family="bernoulli"))
    yield right("counts", _counts, _options(2, family="multinomial"))
    yield right("directions", _directions, _options(2, family="vmf"))
    yield right("two groups, full", _Groups(2, condition=3), _options(2, "gibbs", covariance="full"))
    yield right("three groups, isotropic", round_groups, _options(3, "gibbs", covariance="isotropic"))
    process = _options(8, "gibbs", covariance="isotropic", thin=5) | {"weights": "dp"}
    yield right("a process", round_groups, process)
    yield right("a process", round_groups, _options(8, "cavi", covariance="isotropic") | {"weights": "dp"})
    yield right("two groups, diagonal", _Groups(2, apart=5), _options(2, "cavi", covariance="diagonal"))


def _wrong() -> Iterator[Case]:
    """Two fits of each wrong."""
    yield Case("three groups by two, full", WRONGS[0], _Groups(3, condition=3, apart=6), _options(2, covariance="full"))
    yield Case("two groups by one, full", WRONGS[0], _Groups(2, apart=5), _options(1, "gibbs", covariance="full"))
    flooded = _options(2, covariance="full") | {"prior": _flooding(3)}
    yield Case("thin groups, full", WRONGS[1], _Groups(2, condition=10), flooded)
    yield Case(
        "thin groups, full", WRONGS[1], _Groups(2, condition=10), flooded | _options(2, "gibbs", covariance="full")
    )
    heavy = _Groups(2, df=3, apart=15)
    yield Case("t with 3 degrees, full", WRONGS[2], heavy, _options(2, covariance="full"))
    yield Case("t with 3 degrees, diagonal", WRONGS[2], heavy, _options(2, covariance="diagonal"))
    for num_memories in (2, 3):
        few = _options(num_memories, "gibbs", covariance="isotropic")
        yield Case(f"a tetrahedron by {num_memories}", WRONGS[3], _tetrahedron, few)
    sampled = _options(3, "gibbs", covariance="isotropic")
    yield Case("from the start", WRONGS[4], _Groups(3), sampled, _held_from(0))
    yield Case("from half-way", WRONGS[4], _Groups(3), sampled, _held_from(250))
    yield Case("3 EM steps", WRONGS[5], _Groups(3, apart=3), _options(3, covariance="full", max_iterations=3))
    short = _options(2, "gradient_em", covariance="diagonal", max_iterations=25)
    yield Case("25 gradient steps", WRONGS[5], _Groups(2, apart=5), short)
    for num_features in (3, 4):
        rugged = _options(25, covariance="spherical", estimate="ml", restarts=4)
        yield Case("uniform noise by 25", WRONGS[6], _noise(num_features), rugged)
    other_units = _Groups(3, scale=(1, 1, 1000))
    yield Case("one column times 1000", WRONGS[7], other_units, _options(3, covariance="isotropic"))
    yield Case("one column times 1000", WRONGS[7], other_units, _options(3, covariance="spherical"))
    for engine in ("gibbs", "cavi"):
        truncated = _options(4, engine, covariance="isotropic") | {"weights": "dp"}
        yield Case("eight groups, truncated at 4", WRONGS[8], _Groups(8), truncated)
    yield Case("widths 1 and 3", WRONGS[9], _Groups(2, widths=(1, 3), apart=14), _options(2, covariance="tied"))
    yield Case("long groups across", WRONGS[9], _Groups(2, condition=5, apart=8), _options(2, covariance="tied"))


def all_cases() -> tuple[Case, ...]:
    """All forty, each with its own data; in the precision that JAX computes in."""
    return tuple(replace(case, number=number) for number, case in enumerate([*_right(), *_wrong()]))
