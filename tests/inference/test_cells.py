"""Every family under every engine, one memory, against the posterior on a grid.

With one memory the posterior has two or three unconstrained coordinates: the trapezoidal rule over them is exact to
rounding for smooth densities, and needs nothing of the engine under test. The engine must give the grid's maximum
(em, gradient_em), its expectations within Monte Carlo error (nuts, gibbs), a bound below its evidence (svi).
"""

from collections.abc import Callable
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from arviz_stats import ess  # type: ignore[attr-defined]
from scipy.special import logsumexp

from probam.errors import InputError
from probam.family.capabilities import Absent, Guide, MStep
from probam.fits.choices import find_engine, find_family
from probam.inference.common.coordinates import Coordinates
from probam.models.mixture import mixture
from probam.models.weights import weight_prior

pytestmark = pytest.mark.slow

_N = 14


def _real(random: np.random.Generator) -> np.ndarray:
    return random.normal(0.8, 1.3, (_N, 1))


def _positive(random: np.random.Generator) -> np.ndarray:
    return random.gamma(2.0, 1.0, (_N, 1)) + 0.5


def _unit(random: np.random.Generator) -> np.ndarray:
    x = random.normal(0, 0.6, (_N, 2)) + np.array([1.0, 0.5])
    unit: np.ndarray = x / np.linalg.norm(x, axis=1, keepdims=True)
    return unit


def _bits(random: np.random.Generator) -> np.ndarray:
    return (random.random((_N, 2)) < np.array([0.3, 0.6])).astype(float)


def _counts(random: np.random.Generator) -> np.ndarray:
    return random.multinomial(6, [0.5, 0.3, 0.2], _N).astype(float)


def _simplex(random: np.random.Generator) -> np.ndarray:
    return random.dirichlet([2.0, 3.0], _N)


FAMILIES: dict[str, tuple[str | None, Callable[[np.random.Generator], np.ndarray]]] = {
    "gaussian": ("isotropic", _real),
    "gaussian ": ("spherical", _real),
    "gaussian  ": ("diagonal", _real),
    "gaussian   ": ("full", _real),
    "laplace": (None, _real),
    "student_t": (None, _real),
    "generalized_normal": (None, _real),
    "radial_laplace": (None, _real),
    "levy": (None, _positive),
    "vmf": (None, _unit),
    "bernoulli": (None, _bits),
    "multinomial": (None, _counts),
    "dirichlet": (None, _simplex),
}
"""Name (blanks only tell the covariances apart) -> (covariance, data)."""


class Grid(NamedTuple):
    """A model with one memory and its posterior on a grid of unconstrained values."""

    model: Any
    x: jax.Array
    coordinates: Coordinates
    sites: dict[str, np.ndarray]  # values at the G points
    mass: np.ndarray  # (G,), sums to one
    log_evidence: float
    highest: float  # of the log joint, after a local search from the best point


@cache
def _grid(name: str) -> Grid:
    covariance, data = FAMILIES[name]
    x = data(np.random.default_rng(5))
    law = weight_prior("uniform")
    model = mixture(x, family=find_family(name.strip(), covariance), weights=law, num_components=1)
    coordinates = Coordinates(model)
    sizes = {site: int(np.prod(zero.shape)) for site, zero in coordinates.zeros.items()}
    total = sum(sizes.values())
    assert total <= 3, "a grid over more coordinates would be too coarse"

    def free(point: jax.Array) -> dict[str, jax.Array]:
        cuts = np.cumsum(list(sizes.values()))[:-1]
        parts = jnp.split(point, cuts)
        return {site: part.reshape(coordinates.zeros[site].shape) for site, part in zip(sizes, parts, strict=True)}

    at = jnp.asarray(x)
    log_joint = jax.jit(lambda point: coordinates.log_joint(free(point), at))
    slope = jax.jit(jax.grad(lambda point: -coordinates.log_joint(free(point), at)))

    def cost(point: np.ndarray) -> float:
        return -float(log_joint(jnp.asarray(point)))

    minimize: Any = scipy.optimize.minimize
    runs = [
        minimize(cost, start, jac=lambda p: np.asarray(slope(p)), method="BFGS")
        for start in np.random.default_rng(0).normal(0, 0.5, (4, total))
    ]
    best = min(runs, key=lambda run: float(run.fun))
    precise = {"xatol": 1e-9, "fatol": 1e-11, "maxiter": 4000}  # densities with cusps stop BFGS early
    polished = [minimize(cost, run.x, method="Nelder-Mead", options=precise) for run in runs]
    best = min([best, *polished], key=lambda run: float(run.fun))
    values, axes = np.linalg.eigh(_curvature(cost, best.x))
    scale = axes / np.sqrt(np.maximum(values, 1e-2))
    number, reach = (241, 14.0) if total <= 2 else (71, 9.0)
    steps = np.linspace(-reach, reach, number)
    points = best.x + np.array(list(product(steps, repeat=total))) @ scale.T
    heights = np.asarray(jax.lax.map(log_joint, jnp.asarray(points), batch_size=4096))
    volume = abs(np.linalg.det(scale)) * (steps[1] - steps[0]) ** total
    log_evidence = float(logsumexp(np.where(np.isnan(heights), -np.inf, heights)) + np.log(volume))
    mass = np.exp(heights + np.log(volume) - log_evidence)
    constrain = jax.jit(jax.vmap(lambda point: coordinates.constrain(free(point))))
    sites = {site: np.asarray(value) for site, value in constrain(jnp.asarray(points)).items()}
    return Grid(model, at, coordinates, sites, np.nan_to_num(mass), log_evidence, -float(best.fun))


def _curvature(cost: Callable[[np.ndarray], float], at: np.ndarray, step: float = 0.2) -> np.ndarray:
    """Second differences over a wide step: densities with cusps have no curvature at their peak.

    Half as wide, and again, where a corner has no density (a Levy memory cannot pass its smallest datum).
    """
    total = len(at)
    shift = step * np.eye(total)
    found = np.empty((total, total))
    for i, j in product(range(total), repeat=2):
        corners = [cost(at + a * shift[i] + b * shift[j]) for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1))]
        if not np.isfinite(corners).all():
            return _curvature(cost, at, step / 2)
        found[i, j] = (corners[0] - corners[1] - corners[2] + corners[3]) / (4 * step**2)
    return (found + found.T) / 2


def _refused(grid: Grid, engine: str) -> str:
    family = grid.model.family
    if engine == "em" and not MStep.ask(family):
        return "no M-step"
    if engine == "svi" and isinstance(guide := Guide.ask(family), Absent):
        return guide.reason
    return ""


def _run(grid: Grid, engine: str, **options: Any) -> Any:
    return find_engine(engine, options)(jax.random.key(3), grid.model, grid.x, **options)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(("engine", "allowed"), [("em", 1e-7), ("gradient_em", 1e-2)])
def test_point_engines_end_at_the_highest_point(name: str, engine: str, allowed: float) -> None:
    grid = _grid(name)
    if _refused(grid, engine):
        with pytest.raises(InputError):
            _run(grid, engine)
        return
    result = _run(grid, engine, restarts=2)
    assert result.stats["lp"][0, 0] == pytest.approx(grid.highest, abs=allowed)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("engine", ["nuts", "gibbs"])
def test_samplers_have_the_expectations_of_the_grid(name: str, engine: str) -> None:
    grid = _grid(name)
    result = _run(grid, engine, num_chains=2, num_warmup=600, num_draws=3000)
    for site, values in grid.sites.items():
        draws = np.asarray(result.sites[site]).reshape(*result.sites[site].shape[:2], -1)
        on_grid = values.reshape(len(values), -1)
        for column in range(draws.shape[-1]):
            middle, spread = np.median(draws[..., column]), np.std(draws[..., column])
            for power in (1, 2):  # bounded functions: every expectation exists, whatever the tails
                drawn = np.tanh((draws[..., column] - middle) / spread) ** power
                exact = float(grid.mass @ np.tanh((on_grid[:, column] - middle) / spread) ** power)
                error = drawn.std() / np.sqrt(float(ess(drawn)))
                assert abs(drawn.mean() - exact) < 5 * error + 1e-4, (site, column, power)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_bound_of_svi_is_below_the_evidence_and_near_it(name: str) -> None:
    grid = _grid(name)
    if _refused(grid, "svi"):
        with pytest.raises(InputError):
            _run(grid, "svi")
        return
    result = _run(grid, "svi", num_steps=1500, restarts=1)
    bound = float(np.nanmax(result.objective[:, -1]))
    assert grid.log_evidence - 1.0 < bound < grid.log_evidence + 0.1  # the bound is an average over few particles


@pytest.mark.parametrize("engine", ["gradient_em", "svi", "nuts"])
def test_a_density_that_jumps_is_refused_by_engines_of_gradients(engine: str) -> None:
    x = np.random.default_rng(1).uniform(0, 2, (_N, 1))
    model = mixture(x, family=find_family("uniform"), weights=weight_prior("uniform"), num_components=1)
    with pytest.raises(InputError, match="use engine 'em'"):
        find_engine(engine, {})(jax.random.key(0), model, jnp.asarray(x))
