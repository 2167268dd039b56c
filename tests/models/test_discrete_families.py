"""Bits, counts and compositions: densities, M-steps and recall against SciPy, enumeration and stationarity."""

from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.optimize
import scipy.stats

import probam.fits.fit as api
from probam.cli.main import main
from probam.distributions.bits import SpinBernoulli
from probam.distributions.counts import MultinomialCounts
from probam.distributions.mixture import MemoryMixture
from probam.dynamics.recall import recall
from probam.energies import composition, counts, hypercube
from probam.energies.water_filling import fill
from probam.equivalence.twins import physical_twin
from probam.errors import InputError
from probam.family import Family, Moments
from probam.family.capabilities import AdditiveMStep, DataSpace
from probam.inference.common.coordinates import Coordinates
from probam.inference.em.engine import fit_params
from probam.models.bernoulli import Bernoulli
from probam.models.dirichlet import DirichletMemory
from probam.models.mixture import mixture
from probam.models.multinomial import Multinomial
from probam.models.weights import weight_prior

N, K, D = 120, 3, 5
RNG = np.random.default_rng(8)
LOG_WEIGHTS = np.log([0.5, 0.3, 0.2])
PROBS = RNG.uniform(0.05, 0.95, (K, D))
SHARES = RNG.dirichlet(np.ones(D), K)
OWNER = RNG.choice(K, N, p=np.exp(LOG_WEIGHTS))
BITS = (RNG.random((N, D)) < PROBS[OWNER]).astype(float)
COUNTS = np.array([RNG.multinomial(RNG.poisson(9), SHARES[k]) for k in OWNER]).astype(float)
PARTS = np.array([RNG.dirichlet(12 * SHARES[k] + 0.3) for k in OWNER])
PARTS = np.maximum(PARTS, 1e-6)
PARTS = PARTS / np.sum(PARTS, axis=1, keepdims=True)

FAMILIES: dict[str, tuple[Family, np.ndarray]] = {
    "bits": (Bernoulli(), BITS),
    "spins": (Bernoulli("spin"), 2 * BITS - 1),
    "counts": (Multinomial(), COUNTS),
    "compositions": (DirichletMemory(), PARTS),
}
CORNERS = np.array(list(product((0.0, 1.0), repeat=D)))


def _mixture(family: Family, params: dict[str, Any]) -> MemoryMixture:
    return MemoryMixture(jnp.asarray(LOG_WEIGHTS), family.bank(jax.tree.map(jnp.asarray, params)))


def _bernoulli_oracle(bits: np.ndarray) -> np.ndarray:
    return np.asarray(np.sum(scipy.stats.bernoulli.logpmf(bits[:, None], PROBS), axis=-1))


def _multinomial_oracle(rows: np.ndarray) -> np.ndarray:
    total = rows.sum(axis=1)
    each = [scipy.stats.multinomial.logpmf(rows, total, share) for share in SHARES]
    return np.stack(each, axis=1) + scipy.stats.poisson.logpmf(total, 9.5)[:, None]


def _dirichlet_oracle(rows: np.ndarray) -> np.ndarray:
    return np.stack([scipy.stats.dirichlet.logpdf(rows.T, 4 * share + 0.5) for share in SHARES], axis=1)


@pytest.mark.parametrize(
    ("name", "params", "oracle"),
    [
        ("bits", {"prob": PROBS}, _bernoulli_oracle),
        ("spins", {"prob": PROBS}, lambda x: _bernoulli_oracle((1 + x) / 2)),
        ("counts", {"prob": SHARES, "total": 9.5}, _multinomial_oracle),
        ("compositions", {"concentration": 4 * SHARES + 0.5}, _dirichlet_oracle),
    ],
)
def test_densities_and_responsibilities_are_scipys(
    name: str, params: dict[str, Any], oracle: Callable[[np.ndarray], np.ndarray]
) -> None:
    family, x = FAMILIES[name]
    law = _mixture(family, params)
    joint = LOG_WEIGHTS + oracle(x)
    evidence = np.logaddexp.reduce(joint, axis=1)
    np.testing.assert_allclose(law.log_prob(x), evidence, rtol=1e-10)
    np.testing.assert_allclose(law.responsibilities(jnp.asarray(x)), np.exp(joint - evidence[:, None]), atol=1e-12)
    np.testing.assert_allclose(law.bank.log_prob(x[:, None]), oracle(x), rtol=1e-9)


@pytest.mark.parametrize("name", ["bits", "spins"])
def test_probabilities_of_all_corners_sum_to_one_with_the_moments_of_the_memories(name: str) -> None:
    family, _ = FAMILIES[name]
    everywhere = CORNERS if name == "bits" else 2 * CORNERS - 1
    law = _mixture(family, {"prob": PROBS})
    probability = np.exp(law.log_prob(everywhere))
    np.testing.assert_allclose(probability.sum(), 1, rtol=1e-12)
    mean = probability @ everywhere
    np.testing.assert_allclose(law.mean, mean, atol=1e-12)
    np.testing.assert_allclose(law.variance, probability @ (everywhere - mean) ** 2, atol=1e-12)
    np.testing.assert_allclose(DataSpace.of(family).memories({"prob": jnp.asarray(PROBS)}), law.bank.mean, atol=1e-12)


def test_draws_have_the_values_and_the_means_of_their_laws() -> None:
    key = jax.random.key(1)
    spins = np.asarray(SpinBernoulli(jnp.asarray(np.log(PROBS / (1 - PROBS)))).sample(key, (4000,)))
    assert set(np.unique(spins)) == {-1.0, 1.0}
    np.testing.assert_allclose(spins.mean(axis=0), 2 * PROBS - 1, atol=5 / np.sqrt(4000))
    drawn = np.asarray(MultinomialCounts(jnp.asarray(SHARES), jnp.asarray(9.5)).sample(key, (4000,)))
    np.testing.assert_allclose(drawn.mean(axis=0), 9.5 * SHARES, atol=5 * np.sqrt(9.5 / 4000))


@pytest.mark.parametrize("name", ["bits", "counts", "compositions"])
def test_em_never_falls_and_ends_where_the_potential_of_nuts_is_flat(name: str) -> None:
    family, x = FAMILIES[name]
    model = mixture(x, family=family, weights=weight_prior("dirichlet"), num_components=K)
    states, trace = fit_params(
        jax.random.key(2), model, jnp.asarray(x), restarts=1, max_iterations=3000, tolerance=1e-15
    ).ends
    for run in trace:
        rises = np.diff(run[np.isfinite(run)])
        assert rises.min() > -1e-9 * np.nanmax(np.abs(run))
    coordinates = Coordinates(model)
    free = coordinates.unconstrain(jax.tree.map(lambda leaf: leaf[0], states.params))
    slope = jax.jit(jax.grad(lambda at: coordinates.log_joint(at, jnp.asarray(x))))(free)
    size = max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(slope))
    assert size < 1e-4 * N


def _moments(family: Family, x: np.ndarray) -> Moments:
    """Sums over all data, for one memory."""
    sums = np.asarray(AdditiveMStep.of(family).statistics(jnp.asarray(x))).sum(axis=0)
    return Moments(jnp.array([float(len(x))]), jnp.asarray(sums[None]), jnp.zeros(x.shape[1]))


def test_maximum_likelihood_of_one_memory_is_the_frequency_of_bits_and_counts() -> None:
    for name, scale in (("bits", 1.0), ("spins", 0.5)):
        family, x = FAMILIES[name]
        found = AdditiveMStep.of(family).maximize(_moments(family, x), {"prob": jnp.full((1, D), 0.5)}, None)
        np.testing.assert_allclose(found["prob"][0], scale * (x.mean(axis=0) + (name == "spins")), rtol=1e-12)
    found = Multinomial().maximize(_moments(Multinomial(), COUNTS), {"prob": jnp.full((1, D), 1 / D)}, None)
    np.testing.assert_allclose(found["prob"][0], COUNTS.sum(axis=0) / COUNTS.sum(), rtol=1e-12)
    np.testing.assert_allclose(found["total"], COUNTS.sum() / N, rtol=1e-12)


@pytest.mark.parametrize("with_prior", [False, True])
def test_newtons_m_step_of_the_dirichlet_is_scipys_optimum(with_prior: bool) -> None:
    family = DirichletMemory()
    prior = family.prior(PARTS) if with_prior else None

    rate = np.asarray(prior["concentration"].base_dist.rate) if prior else np.zeros(D)  # type: ignore[attr-defined]

    def loss(log_alpha: np.ndarray) -> float:
        alpha = np.exp(log_alpha)
        value = scipy.stats.dirichlet.logpdf(PARTS.T, alpha).sum()
        if with_prior:  # Gamma(1, rate) in log coordinates
            value += np.sum(log_alpha - rate * alpha)
        return -float(value)

    best = scipy.optimize.minimize(loss, np.zeros(D), method="BFGS", options={"gtol": 1e-7})
    moments = _moments(family, PARTS)
    maximize = jax.jit(lambda begun: family.maximize(moments, begun, prior))
    for start in (1e-3, 1.0, 1e5):
        begun = {"concentration": jnp.full((1, D), start)}
        found = maximize(begun)
        np.testing.assert_allclose(found["concentration"][0], np.exp(best.x), rtol=1e-5)


def test_maximum_likelihood_stays_inside_where_the_likelihood_has_no_maximum() -> None:
    same = np.tile(BITS[:1], (7, 1))
    prob = np.asarray(Bernoulli().maximize(_moments(Bernoulli(), same), {"prob": jnp.full((1, D), 0.5)}, None)["prob"])
    np.testing.assert_allclose(np.minimum(prob, 1 - prob), 1e-6)
    one = np.tile(PARTS[:1], (4, 1))
    begun = {"concentration": jnp.ones((1, D))}
    found = np.asarray(DirichletMemory().maximize(_moments(DirichletMemory(), one), begun, None)["concentration"])
    assert 0 < found.sum() <= 1e6 * (1 + 1e-12)
    np.testing.assert_allclose(found[0] / found.sum(), PARTS[0], atol=1e-3)


# recall --------------------------------------------------------------------------------------------------------------


def _domain(name: str) -> tuple[Callable[..., Any], Callable[..., Any], np.ndarray]:
    """Energy, update and queries (corners, edges and the inside) of each kind of memory."""
    fields = RNG.normal(size=(K, D)) * 2
    weights = np.exp(LOG_WEIGHTS)
    if name == "bits":
        of = {"fields": fields, "weights": weights}
        queries = np.concatenate([CORNERS, RNG.random((20, D))])
        return partial(hypercube.energy, **of), partial(hypercube.update, **of), queries
    if name == "counts":
        of = {"log_fugacities": np.log(9.5 * SHARES), "weights": weights}
        queries = np.concatenate([COUNTS[:30], RNG.gamma(1.0, 3.0, (20, D)), np.zeros((1, D))])
        return partial(counts.energy, **of), partial(counts.update, **of), queries
    of = {"exponents": RNG.uniform(-0.9, 6.0, (K, D)), "weights": weights}
    return partial(composition.energy, **of), partial(composition.update, **of), PARTS[:50]


@pytest.mark.parametrize("name", ["bits", "counts", "compositions"])
def test_no_part_of_a_step_goes_uphill_or_leaves_the_domain(name: str) -> None:
    energy, update, queries = _domain(name)

    @jax.jit
    def path(v: jax.Array) -> tuple[jax.Array, jax.Array]:
        target = update(v)
        parts = jnp.linspace(0, 1, 9)[:, None, None]
        return target, energy(v + parts * (target - v))

    target, along = map(np.asarray, path(jnp.asarray(queries)))
    assert np.all(along - along[0] <= 1e-10 * (1 + np.abs(along[0])))
    assert np.all(target >= 0)
    if name == "bits":
        assert np.all(target <= 1)
    else:
        np.testing.assert_allclose(target.sum(axis=1), queries.sum(axis=1), rtol=1e-12, atol=1e-12)


def test_recall_of_bits_ends_in_corners_that_the_force_points_to() -> None:
    energy, update, queries = _domain("bits")
    found = recall(update, energy, queries)
    ended = np.asarray(found.states)
    assert np.asarray(found.converged).all()
    assert set(np.unique(ended)) <= {0.0, 1.0}
    force = -np.asarray(jax.vmap(jax.grad(energy))(jnp.asarray(ended)))
    assert np.all((force > 0) == (ended == 1))
    every = np.asarray(energy(CORNERS))
    lowest = CORNERS[np.argmin(every)]
    np.testing.assert_array_equal(recall(update, energy, lowest).states, lowest)


def test_recall_of_counts_ends_where_no_count_wants_to_move() -> None:
    energy, update, queries = _domain("counts")
    found = recall(update, energy, queries[:-1], max_steps=5000)
    ended = np.asarray(found.states)
    assert np.asarray(found.converged).all()
    slope = np.asarray(jax.vmap(jax.grad(energy))(jnp.asarray(ended)))
    for state, own in zip(ended, slope, strict=True):
        level = own[state > 1e-6].max()
        np.testing.assert_allclose(own[state > 1e-6], level, atol=1e-6)
        assert np.all(own[state <= 1e-6] >= level - 1e-6)


def test_water_filling_is_the_constrained_optimum() -> None:
    pull = RNG.gamma(0.5, 1.0, (6, D))
    level = np.asarray(fill(jnp.asarray(pull), jnp.full(6, 2.0), jnp.asarray(0.2)))
    np.testing.assert_allclose(level.sum(axis=1), 2.0, rtol=1e-12)
    for row, pulls in zip(level, pull, strict=True):
        slope = pulls / row  # of sum g log c: equal above the floor, smaller on it
        above = row > 0.2 + 1e-9
        np.testing.assert_allclose(slope[above], slope[above].max(), rtol=1e-10)
        assert np.all(slope[~above] <= slope.max() * (1 + 1e-10))
    np.testing.assert_allclose(fill(jnp.zeros(3), jnp.asarray(1.0), jnp.asarray(0.1)), [0.8, 0.1, 0.1], rtol=1e-12)


def test_the_twins_are_the_energies_of_their_rooms() -> None:
    params: dict[str, dict[str, Any]] = {
        "bits": {"prob": PROBS},
        "counts": {"prob": SHARES, "total": 9.5},
        "compositions": {"concentration": 4 * SHARES + 0.5},
    }
    for kind, given in params.items():
        twin = physical_twin(_mixture(FAMILIES[kind][0], given))
        assert twin is not None
        assert twin.name == f"memories of {kind}"
        assert twin.inside is not None


# through the façade --------------------------------------------------------------------------------------------------


def _checked(fitted: Any, x: np.ndarray) -> None:
    assert all(check.passed for check in fitted.verify())
    assert [check.name for check in fitted.verify()][:2] == ["fast log density", "energy"]
    ended = fitted.recall(x[:6])
    assert np.all(ended["converged"].values)
    assert np.all(ended["energy"].values <= fitted.energy(x[:6]) + 1e-9)
    assert np.all(np.isfinite(fitted.predict(x)["log_density"].values))


@pytest.mark.slow
def test_the_command_line_fits_spins_with_a_constant_column(tmp_path: Path) -> None:
    spins = 2 * BITS - 1
    spins[:, 2] = -1
    np.savetxt(tmp_path / "spins.csv", spins, delimiter=",", header="a,b,c,d,e", comments="", fmt="%d")
    fit = tmp_path / "fit.nc"
    words = ["--family", "bernoulli,values=spin", "--engine", "em", "--weights", "pyp", "--components", "4"]
    assert main(["fit", str(tmp_path / "spins.csv"), *words, "--restarts", "2", "-o", str(fit)]) == 0
    loaded = api.load(fit)
    assert loaded.model.family == Bernoulli("spin")
    _checked(loaded, spins)
    assert np.isin(loaded.sample(40), (-1, 1)).all()
    assert np.all(loaded.memories()["c"] < -0.7)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    ("engine", "weights", "options"),
    [
        ("em", "uniform", {"components": K}),
        ("gradient_em", "dirichlet", {"components": K, "max_iterations": 300, "restarts": 2}),
        ("svi", "pyp", {"components": 5, "num_steps": 800, "num_draws": 50, "restarts": 1}),
        ("nuts", "dp", {"components": 4, "num_warmup": 150, "num_draws": 100, "num_chains": 2}),
        ("em", "fixed", {"components": K, "given_weights": (0.5, 0.3, 0.2)}),
    ],
)
def test_every_engine_and_every_weights_serve_every_family(
    name: str, engine: str, weights: str, options: dict[str, Any], tmp_path: Path
) -> None:
    family, x = FAMILIES[name]
    fitted = api.fit(x, family=family.signature, weights=weights, engine=engine, **options)
    _checked(fitted, x)
    fitted.report(tmp_path / "report.html")
    assert "memories of" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("family", "x", "message"),
    [
        (
            "bernoulli",
            [[0, 1], [2, 1.0]],
            r"1 values are neither 0 nor 1, the first in row 1 .*, column 'x0': 2",
        ),
        (
            "bernoulli",
            [[1, -1], [1, 1.0]],
            r"row 0 .*, column 'x1': -1; use family 'bernoulli,values=spin'",
        ),
        ("bernoulli,values=spin", [[0, 1], [1, 1.0]], r"neither -1 nor 1.*use family 'bernoulli,values=01'"),
        ("bernoulli,values=up", [[0, 1], [1, 1.0]], r"values: expected one of 01, spin; got 'up'"),
        (
            "multinomial",
            [[0, 1], [1, 2.5]],
            r"1 values are not counts, the first in row 1 .*, column 'x1': 2.5",
        ),
        ("multinomial", [[0, 0], [0, 0.0]], r"all counts are 0"),
        ("multinomial", [[1.0], [2.0]], r"at least 2 columns"),
        (
            "dirichlet",
            [[0.5, 0.5], [1.0, 0.0]],
            r"1 parts are not positive, the first in row 1 .*, column 'x1': 0",
        ),
        (
            "dirichlet",
            [[0.5, 0.5], [0.7, 0.1]],
            r"rows do not sum to 1, first row 1 .*, whose sum is 0.8",
        ),
        ("dirichlet", [[1.0], [1.0]], r"at least 2 columns"),
    ],
)
def test_data_outside_the_support_are_named_by_row_column_and_value(family: str, x: list[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        api.fit(np.array(x), family=family, weights="uniform", components=1, engine="em")


@pytest.mark.parametrize("name", FAMILIES)
def test_data_that_are_no_measurements_are_not_standardised(name: str) -> None:
    family, x = FAMILIES[name]
    with pytest.raises(InputError, match=r"takes the data as they are"):
        api.fit(x, family=family, weights="uniform", components=1, engine="em", standardise=True)


def test_a_prior_that_is_not_conjugate_is_refused_by_the_m_step_in_words() -> None:
    family, moments = Bernoulli(), _moments(Bernoulli(), BITS)
    flat = {"prob": dist.Beta(1.0, 1.0).expand([D]).to_event(1)}
    found = family.maximize(moments, {"prob": jnp.full((1, D), 0.5)}, flat)
    np.testing.assert_allclose(found["prob"][0], (BITS.sum(axis=0) + 1) / (N + 2), rtol=1e-12)
    uniform = {"prob": dist.Uniform(0, 1).expand([D]).to_event(1)}
    with pytest.raises(InputError, match=r"needs a Beta prior on 'prob'; got Uniform"):
        family.maximize(moments, {"prob": jnp.full((1, D), 0.5)}, uniform)
