"""The memory-creating energy: as printed, exact, and with the memories integrated out."""

from typing import Any

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import multivariate_normal, norm

from probam.energies import creation
from probam.errors import InputError

Bank = tuple[np.ndarray, np.ndarray, dict[str, float], np.ndarray]

NAMES = ("printed", "exact", "collapsed")
energies = {name: jax.jit(getattr(creation, name)) for name in NAMES}
probabilities = {name: jax.jit(getattr(creation, f"{name}_probabilities")) for name in NAMES}
force = jax.jit(creation.force)
update = jax.jit(creation.update)


@pytest.fixture
def bank() -> Bank:
    rng = np.random.default_rng(1)
    settings = {"beta": 1.3, "rho": 0.4, "alpha": 0.7, "discount": 0.35}
    return rng.normal(size=(5, 3)), np.array([1.0, 4.0, 2.0, 9.0, 1.0]), settings, rng.normal(size=(2, 4, 3))


def oracle(
    name: str, query: Any, places: Any, counts: Any, beta: float, rho: float, alpha: float, discount: float
) -> tuple[Any, ...]:
    """Energy and probabilities of one query, from the formulas at fifty digits; ``places`` are sums for collapsed."""
    with mp.workdps(50):
        b, r, a, d = (mp.mpf(float(x)) for x in (beta, rho, alpha, discount))
        counts = [mp.mpf(float(n)) for n in counts]
        dim, v = len(query), [mp.mpf(float(x)) for x in query]
        places = [[mp.mpf(float(x)) for x in row] for row in places]
        seats = [n - d for n in counts] + [a + d * len(counts)]
        if name == "collapsed":
            known = [r + n * b for n in counts] + [r]
            places = [[b * x / k for x in row] for row, k in zip(places, known, strict=False)]
            stiffness = [1 / (1 / b + 1 / k) for k in known]
            seats = [g * (lam / mp.pi) ** (mp.mpf(dim) / 2) for g, lam in zip(seats, stiffness, strict=True)]
        else:
            stiffness = [b] * len(counts) + [1 / (1 / b + 1 / r)]
            if name == "exact":
                seats[-1] *= (r / (b + r)) ** (mp.mpf(dim) / 2)
        places.append([mp.mpf(0)] * dim)
        terms = [
            g * mp.exp(-lam * mp.fsum((x - y) ** 2 for x, y in zip(v, m, strict=True)))
            for g, lam, m in zip(seats, stiffness, places, strict=True)
        ]
        total = mp.fsum(terms)
        return float(-mp.log(total) / b), np.array([t / total for t in terms], float)


@pytest.mark.parametrize("beta", [1e-6, 1.3, 1e4])
@pytest.mark.parametrize("name", NAMES)
def test_energy_and_probabilities_are_the_sums_of_the_formulas(bank: Bank, name: str, beta: float) -> None:
    memories, counts, settings, queries = bank
    settings = settings | {"beta": beta}
    rows = queries.reshape(-1, 3)
    wanted = [oracle(name, v, memories, counts, **settings) for v in rows]
    rounding = 1e-14 * (10 + beta)
    np.testing.assert_allclose(
        energies[name](rows, memories, counts, **settings), [e for e, _ in wanted], atol=rounding / beta, rtol=1e-13
    )
    got = probabilities[name](rows, memories, counts, **settings)
    np.testing.assert_allclose(got, [p for _, p in wanted], atol=rounding)
    np.testing.assert_allclose(got.sum(-1), 1, rtol=1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_memories_with_a_common_offset_keep_their_digits_under_a_broad_base(bank: Bank, name: str) -> None:
    memories, counts, _, queries = bank
    settings = {"beta": 2.0, "rho": 1e-13, "alpha": 0.7, "discount": 0.2}
    places = memories + 1e6
    shifted = counts[:, None] * places if name == "collapsed" else places
    rows = queries.reshape(-1, 3) + 1e6
    wanted = [oracle(name, v, shifted, counts, **settings) for v in rows]
    # collapsed: the posterior mean itself, of size 1e6, is rounded
    rounding = 1e-8 if name == "collapsed" else 1e-12
    np.testing.assert_allclose(
        energies[name](rows, shifted, counts, **settings), [e for e, _ in wanted], rtol=rounding, atol=rounding
    )
    np.testing.assert_allclose(
        probabilities[name](rows, shifted, counts, **settings), [p for _, p in wanted], atol=rounding
    )


@pytest.mark.parametrize("discount", [0.0, 0.6])
def test_without_memories_the_energy_is_that_of_the_base_measure(discount: float) -> None:
    beta, rho, alpha, dim = 1.3, 0.4, 2.0, 2
    queries = np.array([[0.3, -1.1], [2.0, 0.5], [40.0, -30.0]])
    none, settings = (np.zeros((0, dim)), np.zeros(0)), (beta, rho, alpha, discount)
    wanted = -multivariate_normal(np.zeros(dim), (0.5 / beta + 0.5 / rho) * np.eye(dim)).logpdf(queries)
    got = beta * energies["exact"](queries, *none, *settings) + np.log(alpha) + dim / 2 * np.log(np.pi / beta)
    np.testing.assert_allclose(got, wanted, rtol=1e-13)
    np.testing.assert_allclose(
        beta * energies["collapsed"](queries, *none, *settings) + np.log(alpha), wanted, rtol=1e-13
    )
    printed = beta * energies["printed"](queries, *none, *settings) + dim / 2 * np.log1p(beta / rho)
    np.testing.assert_allclose(printed, beta * energies["exact"](queries, *none, *settings), rtol=1e-13)
    penalised = beta * (creation.small_variance(queries, *none, beta, rho, 0.7) - 0.7)
    np.testing.assert_allclose(penalised, wanted - dim / 2 * np.log(np.pi / (beta * rho / (beta + rho))), rtol=1e-12)
    for name in NAMES:
        np.testing.assert_array_equal(probabilities[name](queries, *none, *settings), np.ones((3, 1)))
    slope = jax.grad(lambda v: energies["exact"](v, *none, *settings).sum())(queries)
    np.testing.assert_allclose(force(queries, *none, *settings), -0.5 * slope, rtol=1e-13)
    np.testing.assert_array_equal(update(queries, *none, *settings), np.zeros((3, dim)))
    assert creation.creation_threshold(none[1], dim, *settings).shape == (0,)


def test_without_memories_the_strength_must_be_positive() -> None:
    for function in (creation.printed, creation.exact, creation.collapsed, creation.force):
        with pytest.raises(InputError, match=r"alpha: expected a strength above 0 where there are no memories.*got 0$"):
            function(np.zeros(3), np.zeros((0, 3)), np.zeros(0), 1.0, 1.0, 0.0, 0.5)


def test_a_query_at_1e8_still_tells_a_memory_from_the_new_one_when_the_base_is_narrow() -> None:
    """rho >> beta makes the new well almost as stiff as a memory: 1 / beta + 1 / rho must not cancel."""
    settings = {"beta": 1.0, "rho": 1e16, "alpha": 2.0, "discount": 0.1}
    memories, counts = np.array([[0.0, 0.5], [0.0, -0.4]]), np.array([3.0, 1.0])
    query = np.array([1e8, 0.3])
    _, wanted = oracle("exact", query, memories, counts, **settings)
    assert wanted.min() > 0.05
    np.testing.assert_allclose(probabilities["exact"](query, memories, counts, **settings), wanted, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_where_squares_overflow_a_new_memory_is_certain_and_nothing_is_nan(bank: Bank, name: str) -> None:
    memories, counts, settings, _ = bank
    queries = 1e160 * np.random.default_rng(6).normal(size=(9, 3))
    assert (np.asarray(energies[name](queries, memories, counts, **settings)) == np.inf).all()
    np.testing.assert_allclose(probabilities[name](queries, memories, counts, **settings)[:, -1], 1, rtol=1e-12)
    assert np.isfinite(update(queries, memories, counts, **settings)).all()


def test_creation_probability_falls_with_the_dimension_and_as_printed_does_not() -> None:
    exact, printed = [], []
    for dim in (1, 2, 10, 64):
        query = np.zeros(dim)
        query[0] = 0.3
        arguments = (query, np.zeros((1, dim)), np.array([5.0]))
        settings = {"beta": 2.0, "rho": 0.5, "alpha": 1.0, "discount": 0.0}
        exact.append(float(probabilities["exact"](*arguments, **settings)[-1]))
        printed.append(float(probabilities["printed"](*arguments, **settings)[-1]))
    np.testing.assert_allclose(exact, [0.0936, 0.0442, 7.4e-5, 9.9e-24], rtol=0.003)
    np.testing.assert_allclose(printed, 0.1876, rtol=3e-4)
    odds = np.array(printed) / (1 - np.array(printed)) / (np.array(exact) / (1 - np.array(exact)))
    np.testing.assert_allclose(odds, [2.24, 5, 3125, 2.3e22], rtol=0.02)
    np.testing.assert_allclose(odds, 5.0 ** (np.array([1, 2, 10, 64]) / 2), rtol=1e-12)


def test_the_printed_new_term_holds_too_much_mass_and_the_exact_one_that_of_the_restaurant() -> None:
    settings = {"beta": 2.0, "rho": 0.5, "alpha": 1.0, "discount": 0.0}
    memories, counts = np.zeros((1, 1)), np.array([5.0])

    def new_mass(name: str) -> float:
        def term(x: Any, part: bool) -> Any:
            query = np.array([x])
            total = np.exp(-settings["beta"] * energies[name](query, memories, counts, **settings))
            return total * (probabilities[name](query, memories, counts, **settings)[-1] if part else 1)

        return quad(term, -20, 20, args=(True,), points=[0])[0] / quad(term, -20, 20, args=(False,), points=[0])[0]

    np.testing.assert_allclose(new_mass("printed"), 0.309, atol=5e-4)
    np.testing.assert_allclose(new_mass("exact"), 1 / 6, rtol=1e-7)


def test_as_printed_a_memory_is_created_on_top_of_an_existing_one() -> None:
    arguments = (np.zeros(10), np.zeros((1, 10)), np.array([1.0]))
    settings = {"beta": 2.0, "rho": 0.5, "alpha": 2.0, "discount": 0.0}
    np.testing.assert_allclose(creation.printed_probabilities(*arguments, **settings)[-1], 0.667, atol=5e-4)
    np.testing.assert_allclose(creation.exact_probabilities(*arguments, **settings)[-1], 0.00064, atol=5e-6)


def test_a_flat_base_creates_nothing_exactly_and_something_as_printed(bank: Bank) -> None:
    memories, counts, settings, queries = bank
    rhos = (1e-2, 1e-5, 1e-8)
    exact = [probabilities["exact"](queries, memories, counts, **(settings | {"rho": rho}))[..., -1] for rho in rhos]
    printed = [probabilities["printed"](queries, memories, counts, **(settings | {"rho": r}))[..., -1] for r in rhos]
    np.testing.assert_allclose(exact[2] / exact[1], 1e-3**1.5, rtol=0.01)  # rho^(D/2)
    assert (np.array(printed[2]) > 0.05).all()
    np.testing.assert_allclose(printed[1], printed[2], rtol=1e-3)


def test_minus_beta_times_the_exact_energy_is_the_log_predictive_density_up_to_its_constant() -> None:
    """One dimension: the density built from SciPy's normals, and its integral."""
    memories, counts = np.array([[-1.0], [0.4], [2.2]]), np.array([2.0, 5.0, 1.0])
    beta, rho, alpha, d = 1.6, 0.3, 0.8, 0.25
    n = counts.sum()

    def density(x: Any) -> Any:
        seats = ((counts - d) * norm.pdf(x, memories[:, 0], np.sqrt(1 / (2 * beta)))).sum()
        new = (alpha + 3 * d) * norm.pdf(x, 0, np.sqrt(1 / (2 * beta) + 1 / (2 * rho)))
        return (seats + new) / (n + alpha)

    for x in (-3.0, 0.1, 1.7, 6.0):
        got = beta * energies["exact"](np.array([x]), memories, counts, beta, rho, alpha, d)
        np.testing.assert_allclose(
            -np.log(density(x)), got + np.log(n + alpha) + 0.5 * np.log(np.pi / beta), rtol=1e-12
        )
    np.testing.assert_allclose(quad(density, -40, 40, limit=200)[0], 1, rtol=1e-7)


def test_collapsed_is_the_integral_over_the_places_of_the_memories() -> None:
    """One dimension: each posterior predictive by numerical integration of likelihoods times base measure."""
    groups = [np.array([-1.2, -0.7, -1.0]), np.array([0.9]), np.array([2.0, 2.6])]
    beta, rho, alpha, d = 1.6, 0.3, 0.8, 0.25
    sums, counts = np.array([[g.sum()] for g in groups]), np.array([float(g.size) for g in groups])
    sd, base_sd = np.sqrt(1 / (2 * beta)), np.sqrt(1 / (2 * rho))

    def evidence(data: Any) -> float:
        def integrand(mu: float) -> Any:
            return norm.pdf(mu, 0, base_sd) * np.prod(norm.pdf(data, mu, sd))

        return quad(integrand, -12, 12, limit=200, epsabs=1e-14)[0]

    for x in (-2.0, 0.3, 4.0):
        terms = [(len(g) - d) * evidence(np.append(g, x)) / evidence(g) for g in groups]
        terms.append((alpha + 3 * d) * evidence(np.array([x])))
        density = sum(terms) / (counts.sum() + alpha)
        query = np.array([x])
        got = beta * energies["collapsed"](query, sums, counts, beta, rho, alpha, d) + np.log(counts.sum() + alpha)
        np.testing.assert_allclose(got, -np.log(density), rtol=1e-7)
        share = probabilities["collapsed"](query, sums, counts, beta, rho, alpha, d)
        np.testing.assert_allclose(share, np.array(terms) / sum(terms), rtol=1e-6, atol=1e-12)


def test_with_many_data_the_collapsed_energy_knows_the_memories(bank: Bank) -> None:
    memories, counts, settings, queries = bank
    many = 1e10 * counts
    constant = 3 / 2 * np.log(np.pi / settings["beta"]) / settings["beta"]
    np.testing.assert_allclose(
        energies["collapsed"](queries, many[:, None] * memories, many, **settings),
        energies["exact"](queries, memories, many, **settings) + constant,
        rtol=1e-8,
    )


def test_force_is_minus_half_the_gradient_also_far_from_the_base(bank: Bank) -> None:
    memories, counts, settings, queries = bank
    slope = jax.jit(jax.grad(lambda v, m, rho: creation.exact(v, m, counts, **(settings | {"rho": rho})).sum()))
    np.testing.assert_allclose(
        force(queries, memories, counts, **settings), -0.5 * slope(queries, memories, 0.4), atol=1e-13
    )
    far = force(queries + 1e6, memories + 1e6, counts, **(settings | {"rho": 1e-13}))
    np.testing.assert_allclose(far, -0.5 * slope(queries + 1e6, memories + 1e6, 1e-13), atol=1e-9)


def test_slopes_in_all_arguments_are_those_of_central_differences(bank: Bank) -> None:
    memories, counts, settings, queries = bank
    rng = np.random.default_rng(2)
    for name in NAMES:
        arguments = (queries[0, 0], memories, counts + 0.5, *map(np.array, settings.values()))
        slopes = jax.jit(jax.grad(getattr(creation, name), argnums=tuple(range(7))))(*arguments)
        for number, slope in enumerate(slopes):
            direction = rng.normal(size=np.shape(slope))
            shifted = [
                energies[name](*(value + h * direction if i == number else value for i, value in enumerate(arguments)))
                for h in (1e-6, -1e-6)
            ]
            got, wanted = (slope * direction).sum(), (shifted[0] - shifted[1]) / 2e-6
            np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("a", [0.2, 1.0, 1.9])
def test_the_update_is_monotone_and_stationary_where_the_force_vanishes(bank: Bank, a: float) -> None:
    memories, counts, settings, queries = bank
    move = np.asarray(update(queries, memories, counts, **settings)) - queries
    share = np.asarray(probabilities["exact"](queries, memories, counts, **settings))
    stiffness = share[..., :-1].sum(-1) + share[..., -1] * settings["rho"] / (settings["beta"] + settings["rho"])
    np.testing.assert_allclose(
        stiffness[..., None] * move, force(queries, memories, counts, **settings), rtol=1e-10, atol=1e-13
    )
    before, after = (energies["exact"](v, memories, counts, **settings) for v in (queries, queries + a * move))
    assert (after - before <= -a * (2 - a) * stiffness * (move**2).sum(-1) + 1e-12).all()


def test_the_new_memory_wins_exactly_beyond_the_threshold(bank: Bank) -> None:
    memories, counts, settings, _ = bank
    queries = np.random.default_rng(3).normal(size=(400, 3))
    share = np.asarray(probabilities["exact"](queries, memories, counts, **settings))
    threshold = np.asarray(creation.creation_threshold(counts, 3, **settings))
    ratio = settings["rho"] / (settings["beta"] + settings["rho"])
    excess = ((queries[:, None] - memories) ** 2).sum(-1) - ratio * (queries**2).sum(-1, keepdims=True) - threshold
    wins = share[:, -1:] > share[:, :-1]
    np.testing.assert_array_equal(wins, excess > 0)
    assert 0.1 < wins.mean() < 0.9
    np.testing.assert_allclose(np.log(share[:, -1:] / share[:, :-1]), settings["beta"] * excess, atol=1e-9)


def test_a_created_memory_is_the_normalised_product_of_likelihood_and_base() -> None:
    beta, rho, x = 1.6, 0.3, 1.9
    mean, variance = creation.creation_posterior(np.array([x]), beta, rho)

    def product(mu: float, power: int) -> Any:
        return mu**power * norm.pdf(x, mu, np.sqrt(1 / (2 * beta))) * norm.pdf(mu, 0, np.sqrt(1 / (2 * rho)))

    moments = [quad(product, -12, 12, args=(power,))[0] for power in (0, 1, 2)]
    np.testing.assert_allclose(mean, [moments[1] / moments[0]], rtol=1e-8)
    np.testing.assert_allclose(variance, moments[2] / moments[0] - (moments[1] / moments[0]) ** 2, rtol=1e-7)


def test_small_variance_tends_to_the_dp_means_objective() -> None:
    memories, counts = np.array([[0.0, 1.0], [2.0, -0.5], [-1.5, -1.0]]), np.array([3.0, 1.0, 6.0])
    queries = np.array([[0.3, 0.8], [-0.62, 0.05], [5.0, 5.0], [1.9, -0.6]])
    penalty, rho = 0.8, 1.5
    limit = np.minimum(penalty, ((queries[:, None] - memories) ** 2).sum(-1).min(-1))
    energy = jax.jit(creation.small_variance)
    errors = [abs(energy(queries, memories, counts, beta, rho, penalty) - limit).max() for beta in (1e1, 1e3, 1e5, 1e7)]
    # the log of the counts and the base density at the query over beta
    assert all(error < 80 / beta for error, beta in zip(errors, (1e1, 1e3, 1e5, 1e7), strict=True))
    beta, alpha = 10.0, (1 + 10 / rho) * np.exp(-10 * penalty)
    np.testing.assert_allclose(
        energy(queries, memories, counts, beta, rho, penalty),
        energies["exact"](queries, memories, counts, beta, rho, alpha, 0.0),
        rtol=1e-12,
    )


def test_the_new_term_alone_approaches_the_penalty_like_the_base_density_over_beta() -> None:
    """Memories out of reach: E - 0.8 is the exponent beta rho / (beta + rho) |v|^2 over beta."""
    rho, far = 1.5, np.array([[50.0, 0.0]])
    query = np.array([np.sqrt(0.62 / rho), 0.0])
    got = [float(creation.small_variance(query, far, np.ones(1), beta, rho, 0.8)) for beta in (10.0, 1e3, 1e5)]
    np.testing.assert_allclose(got, 0.8 + 0.62 / (np.array([10.0, 1e3, 1e5]) + rho), rtol=1e-14)
    np.testing.assert_allclose(got, [0.8537, 0.80062, 0.800006], rtol=3e-4)


def test_float32_stays_float32(bank: Bank) -> None:
    memories, counts, settings, queries = bank
    single = [np.float32(part) for part in (queries, memories, counts)]
    for name in NAMES:
        for function in (energies[name], probabilities[name]):
            got = function(*single, **settings)
            assert got.dtype == jnp.float32
            np.testing.assert_allclose(got, function(queries, memories, counts, **settings), rtol=1e-4, atol=1e-5)
    assert force(*single, **settings).dtype == jnp.float32
    assert update(*single, **settings).dtype == jnp.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"counts": [0.3, 0.7]}, "counts: expected at least 1, .*not proportions"),
        ({"counts": [1.0, 2.0, 3.0]}, "counts: expected shape \\(2,\\)"),
        ({"beta": 0.0}, "beta: expected finite values above 0"),
        ({"rho": -1.0}, "rho: expected finite values above 0"),
        ({"discount": 1.0}, "discount: expected a number in \\[0, 1\\); got 1"),
        ({"discount": -0.1}, "discount: expected a number"),
        ({"alpha": -0.5}, "alpha: expected a finite strength above -discount; got -0.5"),
        ({"alpha": np.ones(2)}, "alpha: expected one number"),
    ],
)
def test_bad_arguments_are_named(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"counts": [1.0, 2.0], "beta": 1.0, "rho": 1.0, "alpha": 1.0, "discount": 0.5} | change
    arguments["counts"] = np.array(arguments["counts"])
    for function in (creation.printed, creation.exact, creation.collapsed, creation.force):
        with pytest.raises(InputError, match=message):
            function(np.zeros(3), np.eye(3)[:2], **arguments)
    if np.size(arguments["counts"]) == 2:
        with pytest.raises(InputError, match=message):
            creation.creation_threshold(arguments.pop("counts"), 3, **arguments)


def test_a_strength_below_zero_is_allowed_above_minus_the_discount() -> None:
    energy = creation.exact(np.zeros(3), np.eye(3)[:2], np.ones(2), 1.0, 1.0, -0.3, 0.5)
    wanted, _ = oracle("exact", np.zeros(3), np.eye(3)[:2], np.ones(2), 1.0, 1.0, -0.3, 0.5)
    np.testing.assert_allclose(energy, wanted, rtol=1e-14)
