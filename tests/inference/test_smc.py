"""Tempered sequential Monte Carlo: evidence, and posteriors whose modes no chain crosses."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats
from scipy.special import gammaln, logsumexp

from probam.errors import InputError, NumericalError
from probam.inference.common.coordinates import Coordinates
from probam.inference.common.result import combine_runs
from probam.inference.evidence import bridge
from probam.inference.nuts import engine as nuts
from probam.inference.smc import engine as smc
from probam.models.gaussian import Gaussian
from probam.models.laplace import Laplace
from probam.models.mixture import mixture
from probam.models.uniform import UniformMemory
from probam.models.weights import StickBreaking, weight_prior
from tests.inference.enumeration import log_marginal, log_truncated, posterior
from tests.inference.test_cells import FAMILIES, _grid
from tests.models.known_precision import KnownPrecision

X = np.array([-2.1, -1.8, 0.1, 0.3, 1.9, 2.4, 2.2, 7.0])
PAIR = np.array([-3.2, -2.9, -2.4, 2.6, 2.8, 3.1, 3.3])
WEIGHTS = (0.55, 0.45)


def two_modes() -> tuple[float, float]:
    """Log evidence of two memories of known weights, and the posterior probability that the first lies below."""
    logs, below = [], []
    for labels in itertools.product((0, 1), repeat=len(PAIR)):
        z = np.array(labels)
        total = np.log(np.array(WEIGHTS)[z]).sum()
        moments = []
        for k in (0, 1):
            members = PAIR[z == k]
            total += log_marginal(members, 1.0, 9.0) if len(members) else 0.0
            precision = 1 / 9.0 + len(members)
            moments.append((members.sum() / precision, 1 / precision))
        logs.append(total)
        (m0, v0), (m1, v1) = moments
        below.append(stats.norm.cdf((m1 - m0) / np.sqrt(v0 + v1)))
    evidence = float(logsumexp(logs))
    return evidence, float(np.exp(np.array(logs) - evidence) @ np.array(below))


def pair_model() -> object:
    return mixture(
        PAIR[:, None],
        family=KnownPrecision(1.0, 9.0),
        weights=weight_prior("fixed", given=WEIGHTS),
        num_components=2,
    )


def test_two_modes_are_visited_in_their_proportion_and_the_evidence_is_that_of_all_labellings() -> None:
    """Which memory of two unequal weights is the lower one: a question that no path of a chain answers."""
    evidence, below = two_modes()
    assert 0.2 < below < 0.8
    texts = []
    result = smc.run(
        jax.random.key(0),
        pair_model(),  # type: ignore[arg-type]
        jnp.asarray(PAIR[:, None]),
        num_particles=600,
        num_chains=8,
        progress=lambda step: texts.append(step.line),
    )
    assert result.sites["loc"].shape == (8, 600, 2, 1)
    outcome = result.evidence
    assert outcome is not None
    assert outcome.runs.shape == (8,)
    assert outcome.se < 0.1
    assert abs(outcome.log_evidence - evidence) < 5.4 * outcome.se  # Student's t with 7 degrees: once in 1000
    share = (result.sites["loc"][..., 0, 0] < result.sites["loc"][..., 1, 0]).mean(axis=1)
    error = share.std(ddof=1) / np.sqrt(8)
    assert error < 0.03
    assert abs(share.mean() - below) < 5.4 * error
    assert texts[-1].startswith("SMC, ")
    assert texts[-1].endswith("inverse temperature 1")


@pytest.mark.slow
def test_evidence_of_one_uniform_memory_is_its_integral_though_the_likelihood_jumps_to_zero() -> None:
    """Random walks, for a family without gradients; most prior draws make the data impossible."""
    x = np.array([[0.3], [1.1], [-0.4]])
    model = mixture(x, family=UniformMemory("box"), weights=weight_prior("uniform"), num_components=1)
    loc, width = (model.prior[site].base_dist for site in ("loc", "half_width"))  # type: ignore[attr-defined]
    m, s = float(loc.loc[0]), float(loc.scale[0])
    a, b = float(width.concentration[0]), float(width.rate[0])

    def density(half: float) -> float:
        reach = stats.norm.cdf(x.min() + half, m, s) - stats.norm.cdf(x.max() - half, m, s)
        return float((2 * half) ** -3 * reach * stats.invgamma.pdf(half, a, scale=b))

    exact = np.log(integrate.quad(density, 0.5 * np.ptp(x), np.inf)[0])
    result = smc.run(jax.random.key(1), model, jnp.asarray(x), num_particles=500, num_chains=8)
    outcome = result.evidence
    assert outcome is not None
    assert outcome.se < 0.1
    assert abs(outcome.log_evidence - exact) < 5.4 * outcome.se
    assert (np.abs(x[:, 0] - result.sites["loc"][..., 0]) <= result.sites["half_width"][..., 0]).all()


def test_runs_are_combined_on_the_scale_on_which_they_are_unbiased() -> None:
    logs = np.log(np.array([1.0, 2.0, 6.0]))
    result = combine_runs(logs, "a method")
    np.testing.assert_allclose(result.log_evidence, np.log(3.0))
    np.testing.assert_allclose(result.se, np.std([1 / 3, 2 / 3, 2.0], ddof=1) / np.sqrt(3))
    assert np.isnan(combine_runs(logs[:1], "a method").se)


def test_options_are_checked_and_hopeless_priors_are_named() -> None:
    x = jnp.asarray(PAIR[:, None])
    for option, message in (
        ({"num_particles": 3}, "num_particles: expected at least 10; got 3"),
        ({"target_ess": 1.0}, "target_ess: expected a number between 0 and 1; got 1.0"),
        ({"mutation": "gibbs"}, "mutation: expected 'hmc' or 'random_walk'; got 'gibbs'"),
    ):
        with pytest.raises(InputError, match=message):
            smc.run(jax.random.key(0), pair_model(), x, **option)  # type: ignore[arg-type]
    model = mixture(PAIR[:, None], family=UniformMemory("box"), weights=weight_prior("uniform"), num_components=1)
    with pytest.raises(InputError, match="use mutation 'random_walk'"):
        smc.run(jax.random.key(0), model, x, mutation="hmc")
    with pytest.raises(NumericalError, match="under none of 10 draws from the prior are all data possible"):
        smc.run(jax.random.key(0), model, x + 1e6, num_particles=10, num_chains=1)


@pytest.mark.slow
def test_a_chain_stays_in_the_mode_in_which_it_began() -> None:
    """What the first test is about: NUTS on the same posterior."""
    _, below = two_modes()
    result = nuts.run(jax.random.key(3), pair_model(), jnp.asarray(PAIR[:, None]), num_chains=4)  # type: ignore[arg-type]
    share = (result.sites["loc"][..., 0, 0] < result.sites["loc"][..., 1, 0]).mean(axis=1)
    assert np.all(np.minimum(share, 1 - share) < 0.1), share
    assert np.abs(share - below).min() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("mutation", ["hmc", "random_walk"])
@pytest.mark.parametrize(
    ("weights", "truncation", "log_prior"),
    [
        (StickBreaking(1.0), 5, lambda sizes: log_truncated(sizes, 1.0, 0.0, 5)),
        (StickBreaking(0.5, 0.3), 4, lambda sizes: log_truncated(sizes, 0.5, 0.3, 4)),
        (
            weight_prior("dirichlet", alpha=0.25),
            4,
            lambda sizes: (
                -np.inf
                if len(sizes) > 4
                else gammaln(5)
                - gammaln(5 - len(sizes))
                + sum(gammaln(size + 0.25) - gammaln(0.25) for size in sizes)
                + gammaln(1.0)
                - gammaln(1.0 + sum(sizes))
            ),
        ),
    ],
    ids=["sticks", "Pitman-Yor sticks", "Dirichlet"],
)
def test_evidence_is_that_of_all_partitions(weights: object, truncation: int, log_prior: object, mutation: str) -> None:
    """CLAIMS E: 8 data, likelihood variance 1/2, base N(0, 4), all 4140 partitions; and P(K)."""
    evidence, number, _ = posterior(X, log_prior, 0.5, 4.0)  # type: ignore[arg-type]
    model = mixture(
        X[:, None],
        family=KnownPrecision(0.5, 4.0),
        weights=weights,  # type: ignore[arg-type]
        num_components=truncation,
    )
    x = jnp.asarray(X[:, None])
    result = smc.run(jax.random.key(2), model, x, num_particles=1500, num_chains=8, mutation=mutation)
    outcome = result.evidence
    assert outcome is not None
    assert outcome.se < 0.05
    assert abs(outcome.log_evidence - evidence) < 5.4 * outcome.se
    names = [name for name in result.sites if name != "weights"]
    resp = jax.jit(jax.vmap(jax.vmap(lambda p: model.mixture(p).responsibilities(x))))(
        {name: jnp.asarray(result.sites[name]) for name in names}
    )
    occupied = (1 - np.prod(1 - np.asarray(resp), axis=2)).sum(axis=-1).mean(axis=1)
    assert abs(occupied.mean() - number @ np.arange(9)) < 5.4 * occupied.std(ddof=1) / np.sqrt(8)


@pytest.mark.slow
def test_bridge_and_tempering_agree_on_a_mixture_that_nobody_can_enumerate() -> None:
    """Two diagonal Gaussians in two dimensions with free precisions and weights; the same evidence by two roads."""
    rng = np.random.default_rng(4)
    x = np.concatenate([rng.normal(-2, 1.0, (30, 2)), rng.normal(2, 0.6, (20, 2))])
    model = mixture(x, family=Gaussian("diagonal"), weights=weight_prior("dirichlet"), num_components=2)
    tempered = smc.run(jax.random.key(5), model, jnp.asarray(x), num_particles=1000, num_chains=4).evidence
    chains = nuts.run(jax.random.key(6), model, jnp.asarray(x), num_chains=4)
    order = np.argsort(chains.sites["loc"][..., 0], axis=-1)
    bridged = bridge.log_evidence(jax.random.key(7), model, jnp.asarray(x), chains.sites, permutations=order)
    assert tempered is not None
    assert max(tempered.se, bridged.se) < 0.15
    assert abs(tempered.log_evidence - bridged.log_evidence) < 5 * np.hypot(tempered.se, bridged.se)


@pytest.mark.slow
def test_evidence_of_a_density_with_cusps_is_the_sum_over_a_fine_grid() -> None:
    """Laplace memories: no curvature says how wide the grid's cells may be, so it is fine everywhere (error 1e-4)."""
    x = np.random.default_rng(5).normal(0.8, 1.3, (14, 1))
    model = mixture(x, family=Laplace(), weights=weight_prior("uniform"), num_components=1)
    coordinates, at = Coordinates(model), jnp.asarray(x)
    axis = np.linspace(-6, 6, 401)
    points = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 1, 2)
    heights = jax.lax.map(
        lambda point: coordinates.log_joint({"loc": point[:, :1], "scale": point[:, 1:]}, at),
        jnp.asarray(points),
        batch_size=4096,
    )
    exact = float(logsumexp(np.asarray(heights)) + 2 * np.log(axis[1] - axis[0]))
    result = smc.run(jax.random.key(9), model, at, num_particles=400, num_chains=8).evidence
    assert result is not None
    assert result.se < 0.1
    assert abs(result.log_evidence - exact) < 5.4 * result.se


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "laplace"])  # its cells are wider than the cusps
def test_evidence_of_every_other_family_is_the_sum_over_a_grid(name: str) -> None:
    """One memory, at most three coordinates: the trapezoidal rule knows the evidence."""
    grid = _grid(name)
    result = smc.run(jax.random.key(8), grid.model, grid.x, num_particles=400, num_chains=8)
    outcome = result.evidence
    assert outcome is not None
    assert outcome.se < 0.1
    assert abs(outcome.log_evidence - grid.log_evidence) < 5.4 * outcome.se + 1e-3  # the grid's own error


def test_the_evidence_does_not_depend_on_where_the_data_lie() -> None:
    """Priors follow the data, so that the evidence of data that are moved is the same: also far from zero."""
    x = np.random.default_rng(3).normal(0.0, 2.0, (25, 1))
    found = []
    for place in (0.0, 300.0):
        at = x + place
        model = mixture(at, family=Gaussian("isotropic"), weights=weight_prior("uniform"), num_components=1)
        result = smc.run(jax.random.key(0), model, jnp.asarray(at), num_particles=300, num_chains=4)
        assert result.evidence is not None
        found.append(result.evidence)
    assert max(each.se for each in found) < 0.15
    assert abs(found[1].log_evidence - found[0].log_evidence) < 4 * np.hypot(found[0].se, found[1].se)
