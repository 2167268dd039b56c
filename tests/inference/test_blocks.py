"""Rows in blocks: a pass over them is a pass over all rows at once, whatever the blocks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import chi2

from probam.errors import InputError, Stop
from probam.family import Family
from probam.inference.cavi import engine as cavi
from probam.inference.cavi.blocks import converge_in_blocks
from probam.inference.common.blocks import IN_SAMPLE, RowBlocks, summed, surveyed
from probam.inference.common.coordinates import Coordinates, log_joints, unconstrained
from probam.inference.common.progress import Progress
from probam.inference.common.rows import counted
from probam.inference.em import engine as em
from probam.inference.gradient_em import ascent
from probam.inference.gradient_em import engine as gradient_em
from probam.inference.gradient_em.blocks import climb_in_blocks
from probam.inference.gradient_em.units import ScaledCoordinates, units
from probam.inference.svi import engine as svi
from probam.inference.svi.batch import minibatches
from probam.models.bernoulli import Bernoulli
from probam.models.gaussian import Gaussian
from probam.models.laplace import Laplace
from probam.models.mixture import Mixture, mixture
from probam.models.von_mises_fisher import VonMisesFisherMemory
from probam.models.weights import weight_prior

KEY = jax.random.key(0)

FAMILIES: dict[str, Family] = {
    "isotropic": Gaussian("isotropic"),
    "diagonal": Gaussian("diagonal"),
    "full": Gaussian("full"),
    "tied": Gaussian("tied"),
    "vmf": VonMisesFisherMemory(),
    "bernoulli": Bernoulli(),
}


def _rows(family: str, num_data: int = 157, dtype: type = np.float64) -> np.ndarray:
    rng = np.random.default_rng(3)
    centres = np.array([[0.0, 0, 3], [4, 1, 0], [-3, 2, -2]])
    x = centres[rng.integers(3, size=num_data)] + rng.normal(size=(num_data, 3))
    if family == "bernoulli":
        x = (x > 0).astype(float)
    if family == "vmf":
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x.astype(dtype)


def _blocks(x: np.ndarray, size: int, piece: int | None = None, weight: np.ndarray | None = None) -> RowBlocks:
    """Rows that are read in pieces, which need not be as large as the blocks."""

    def read() -> Iterator[np.ndarray]:
        step = size if piece is None else piece
        return (x[begin : begin + step].copy() for begin in range(0, len(x), step))

    return RowBlocks(len(x), size, x.dtype, read, weight)


def _start(family: str, weights: str) -> tuple[Mixture, np.ndarray, dict[str, jax.Array]]:
    """A model, its data, and site values far from an optimum."""
    x = _rows(family)
    model = mixture(x, family=FAMILIES[family], weights=weight_prior(weights), num_components=4)
    found = em.fit_params(KEY, model, jnp.asarray(x), restarts=1, max_iterations=1)
    return model, x, {name: value[0] for name, value in found.ends[0].params.items()}


@pytest.mark.parametrize(
    ("family", "weights"),
    [
        ("isotropic", "dp"),
        ("diagonal", "dirichlet"),
        ("full", "dirichlet"),
        ("tied", "dp"),
        ("vmf", "pyp"),
        ("bernoulli", "dirichlet"),
    ],
)
def test_em_over_blocks_takes_the_steps_of_em_in_memory(family: str, weights: str) -> None:
    model, x, start = _start(family, weights)
    run: dict[str, Any] = {"max_iterations": 8, "tolerance": -np.inf}
    whole, trace = em.fit_params(KEY, model, jnp.asarray(x), start=start, **run).ends
    states, in_blocks = em.in_blocks(model, start, jnp.asarray(x[:40]), _blocks(x, 16, piece=11), **run)
    np.testing.assert_allclose(in_blocks, trace, rtol=1e-12)
    for name, value in whole.params.items():
        np.testing.assert_allclose(states.params[name], value, rtol=1e-9, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("family", ["diagonal", "vmf"])
def test_em_over_blocks_stops_by_the_rule_of_em_in_memory(family: str) -> None:
    model, x, start = _start(family, "dirichlet")
    whole, trace = em.fit_params(KEY, model, jnp.asarray(x), start=start, tolerance=1e-7).ends
    states, in_blocks = em.in_blocks(model, start, jnp.asarray(x), _blocks(x, 50), tolerance=1e-7)
    assert bool(states.done[0])
    assert np.isfinite(in_blocks).sum() == np.isfinite(trace).sum()
    np.testing.assert_allclose(states.objective, whole.objective, rtol=1e-12)


@pytest.mark.parametrize(
    ("family", "weights"), [("isotropic", "dp"), ("full", "dirichlet"), ("vmf", "pyp"), ("laplace", "dirichlet")]
)
def test_gradient_em_over_blocks_takes_the_steps_of_gradient_em_in_memory(family: str, weights: str) -> None:
    x = _rows(family)
    model = mixture(x, family=FAMILIES.get(family, Laplace()), weights=weight_prior(weights), num_components=4)
    found = gradient_em.optima(KEY, model, jnp.asarray(x), restarts=1, max_iterations=1)
    start = {name: value[0] for name, value in found.ends.params.items()}
    unit = units(model, jnp.asarray(x))
    coordinates = ScaledCoordinates(model, unit)
    walk = {name: value[None] for name, value in coordinates.unconstrain(start).items()}
    _, trace = ascent.advance(model, unit, ascent.begin(model, walk), jnp.asarray(x), optimiser="ecg", num_steps=9)
    end = climb_in_blocks(model, start, jnp.asarray(x), _blocks(x, 16, piece=11), max_iterations=8, tolerance=-np.inf)
    np.testing.assert_allclose(end.trace, trace[0], rtol=1e-9)
    assert end.trace[-1] > end.trace[0] + 0.1


def test_gradient_em_over_all_rows_ends_at_a_maximum_that_only_gradients_reach() -> None:
    """Laplace memories have no M-step; the end is compared with the one in memory, and its slope with zero."""
    x = _rows("diagonal", 900)
    model = mixture(x[:300], family=Laplace(), weights=weight_prior("dirichlet"), num_components=3)
    result = gradient_em.run(KEY, model, jnp.asarray(x[:300]), blocks=_blocks(x, 128), restarts=3)
    whole = gradient_em.run(KEY, model, jnp.asarray(x), restarts=3)
    assert result.status == "converged"
    np.testing.assert_allclose(result.stats["lp"], whole.stats["lp"], rtol=1e-6)
    sites = {name: jnp.asarray(result.sites[name][0]) for name in Coordinates(model).transforms}
    np.testing.assert_allclose(
        result.stats["lp"][0], log_joints(model, unconstrained(model, sites), jnp.asarray(x)), rtol=1e-12
    )
    assert result.survey is not None
    assert result.survey.size.sum() == 900


@pytest.mark.parametrize("is_weighted", [False, True])
def test_the_end_of_gradient_em_over_blocks_is_polished_in_a_few_passes(is_weighted: bool) -> None:
    """The end of closed-form EM, to ten digits; the slope there is rounding of a sum over the rows."""
    x = _rows("diagonal", 900)
    weight = np.random.default_rng(0).integers(0, 4, size=len(x)).astype(float) if is_weighted else None
    model = mixture(x[:300], family=Gaussian("diagonal"), weights=weight_prior("dirichlet"), num_components=3)
    texts: list[str] = []
    result = gradient_em.run(
        KEY,
        model,
        jnp.asarray(x[:300]),
        blocks=_blocks(x, 256, weight=weight),
        restarts=2,
        sample_weight=None if weight is None else weight[:300],
        progress=lambda progress: texts.append(f"{progress.text} {progress.done}"),
    )
    assert result.status == "converged"
    told, rows = counted(model, jnp.asarray(x), weight)
    start = {name: jnp.asarray(result.sites[name][0, 0]) for name in Coordinates(model).transforms}
    run: dict[str, Any] = {"start": start, "tolerance": 0.0, "max_iterations": 3000}
    exact = em.fit_params(KEY, model, jnp.asarray(x), sample_weight=weight, **run).ends[0].params
    for name, value in exact.items():
        np.testing.assert_allclose(result.sites[name][0], value, rtol=1e-10, err_msg=name)
    coordinates = ScaledCoordinates(told, units(told, rows))
    slope = jax.grad(coordinates.log_joint)(coordinates.unconstrain(start), rows)
    assert max(float(jnp.abs(leaf).max()) for leaf in slope.values()) < 1e-9
    assert 2 < sum("last digits, reading 900 rows 4" in text for text in texts) < 60


def test_a_climb_that_ended_or_was_cut_goes_on_to_the_same_end(tmp_path: Path) -> None:
    x = _rows("diagonal", 600)
    model = mixture(x[:200], family=Laplace(), weights=weight_prior("dirichlet"), num_components=3)
    run: dict[str, Any] = {"blocks": _blocks(x, 128), "restarts": 1, "checkpoint": tmp_path / "run"}
    whole = gradient_em.run(KEY, model, jnp.asarray(x[:200]), **run | {"checkpoint": None})

    def stop(progress: Progress) -> None:
        if "pass 7" in progress.text:
            raise Stop

    cut = gradient_em.run(KEY, model, jnp.asarray(x[:200]), progress=stop, **run)
    assert cut.status == "stopped"
    assert cut.objective is not None
    assert whole.objective is not None
    assert 1 < cut.objective.shape[1] < whole.objective.shape[1]
    for _ in range(2):
        again = gradient_em.run(KEY, model, jnp.asarray(x[:200]), **run)
        np.testing.assert_array_equal(again.objective, whole.objective)
        assert again.status == whole.status == "converged"


@pytest.mark.parametrize("optimiser", ["adam", "natural"])
def test_optimisers_that_need_more_than_a_gradient_are_refused(optimiser: str) -> None:
    x = _rows("diagonal")
    model = mixture(x, family=Gaussian("diagonal"), weights=weight_prior("dirichlet"), num_components=2)
    with pytest.raises(InputError, match="optimiser: data larger than memory are climbed by conjugate gradients alone"):
        gradient_em.run(KEY, model, jnp.asarray(x), blocks=_blocks(x, 50), optimiser=optimiser)


@pytest.mark.parametrize(
    ("family", "weights"),
    [("isotropic", "dirichlet"), ("diagonal", "dp"), ("full", "pyp"), ("vmf", "dirichlet"), ("bernoulli", "dp")],
)
def test_cavi_over_blocks_makes_the_passes_of_cavi_in_memory(family: str, weights: str) -> None:
    x = _rows(family)
    model = mixture(x, family=FAMILIES[family], weights=weight_prior(weights), num_components=4)
    assignment = np.random.default_rng(1).dirichlet(np.ones(4), size=len(x))
    search = cavi.Search(max_iterations=8, tolerance=-np.inf, moves=False)
    parts, whole, trace, _ = cavi.fit_factors(KEY, model, jnp.asarray(x), search, start=assignment)
    first = cavi.from_assignment(parts, 1, jnp.asarray(x), jnp.asarray(assignment), 1.0)
    state, in_blocks = converge_in_blocks(parts, first, _blocks(x, 16, piece=11), -np.inf, 8)
    np.testing.assert_allclose(in_blocks, trace[0], rtol=1e-11)
    np.testing.assert_allclose(state.seen.counts, whole.seen.counts, rtol=1e-8, atol=1e-9)


def test_cavi_over_all_rows_goes_on_from_a_sample() -> None:
    x = _rows("diagonal", 900)
    model = mixture(x[:300], family=Gaussian("diagonal"), weights=weight_prior("dirichlet"), num_components=3)
    result = cavi.run(KEY, model, jnp.asarray(x[:300]), blocks=_blocks(x, 128), num_draws=50, restarts=3)
    whole = cavi.run(KEY, model, jnp.asarray(x), num_draws=50, restarts=3)
    assert result.objective is not None
    assert whole.objective is not None
    np.testing.assert_allclose(result.objective[0, -1], np.nanmax(whole.objective), rtol=1e-8)
    assert result.survey is not None
    sites = {name: jnp.asarray(result.sites[name][0]) for name in Coordinates(model).transforms}
    expected = log_joints(model, unconstrained(model, sites), jnp.asarray(x))
    np.testing.assert_allclose(result.stats["lp"][0], expected, rtol=1e-10)


def test_rows_of_minibatches_are_drawn_uniformly_and_independently_of_their_order() -> None:
    """Chi-square of 40,000 draws of 157 rows, and of pairs of neighbours; it fails once in a million runs."""
    x = np.arange(157.0)[:, None]
    drawn = _blocks(x, 16, piece=11).drawn(np.random.default_rng(2), 40_000)[:, 0].astype(int)
    counts = np.bincount(drawn, minlength=157)
    assert chi2.sf(np.sum((counts - 40_000 / 157) ** 2) / (40_000 / 157), 156) > 1e-6
    halves = np.bincount(2 * (drawn[::2] < 78) + (drawn[1::2] < 78), minlength=4)
    share = 78 / 157
    expected = 20_000 * np.array([(1 - share) ** 2, share * (1 - share), share * (1 - share), share**2])
    assert chi2.sf(np.sum((halves - expected) ** 2 / expected), 3) > 1e-6


def test_a_minibatch_estimates_the_log_likelihood_of_all_rows_without_bias() -> None:
    """The mean of 400 estimates is within five standard errors of it: a failure in two million runs."""
    x = _rows("diagonal")
    model = mixture(x, family=Gaussian("diagonal"), weights=weight_prior("dirichlet"), num_components=3)
    states = em.fit_params(KEY, model, jnp.asarray(x), restarts=1, max_iterations=5).ends[0]
    mixed = model.mixture({name: value[0] for name, value in states.params.items()})
    windows = list(minibatches(KEY, _blocks(x, 1000), range(4), 100, 20))
    for begin in (1, 2, 3):  # a run that goes on sees the same rows
        np.testing.assert_array_equal(
            next(minibatches(KEY, _blocks(x, 1000), range(begin, 4), 100, 20)), windows[begin]
        )
    batches = np.concatenate(windows)
    assert batches.shape == (400, 20, 3)
    estimates = len(x) / 20 * np.asarray(mixed.log_prob(jnp.asarray(batches))).sum(axis=1)
    error = estimates.std() / np.sqrt(len(estimates))
    assert abs(estimates.mean() - float(mixed.log_prob(jnp.asarray(x)).sum())) < 5 * error


def test_svi_over_all_rows_finds_what_svi_in_memory_does() -> None:
    x = _rows("diagonal", 2000)
    model = mixture(x[:300], family=Gaussian("diagonal"), weights=weight_prior("dirichlet"), num_components=3)
    run: dict[str, Any] = {"num_draws": 150, "num_steps": 1200, "restarts": 1, "batch_size": 400}
    whole = svi.run(KEY, model, jnp.asarray(x), **run)
    result = svi.run(KEY, model, jnp.asarray(x[:300]), blocks=_blocks(x, 128), **run)
    sites = {name: jnp.asarray(result.sites[name][0]) for name in Coordinates(model).transforms}
    expected = log_joints(model, unconstrained(model, sites), jnp.asarray(x))
    np.testing.assert_allclose(result.stats["lp"][0], expected, rtol=1e-10)
    for loc in (result.sites["loc"], whole.sites["loc"]):
        loc[:] = np.take_along_axis(loc, np.argsort(loc[..., :1], axis=2), axis=2)
    spread = whole.sites["loc"].std(axis=1)
    apart = np.abs(result.sites["loc"].mean(axis=1) - whole.sites["loc"].mean(axis=1))
    assert np.max(apart / spread) < 1
    assert np.all(np.abs(np.log(result.sites["loc"].std(axis=1) / spread)) < 0.5)


def test_weighted_rows_in_blocks_count_as_often_as_in_memory() -> None:
    model, x, start = _start("full", "dirichlet")
    weight = np.random.default_rng(0).integers(1, 4, size=len(x)).astype(float)
    run: dict[str, Any] = {"max_iterations": 5, "tolerance": -np.inf}
    _, trace = em.fit_params(KEY, model, jnp.asarray(x), start=start, sample_weight=weight, **run).ends
    _, in_blocks = em.in_blocks(model, start, jnp.asarray(x), _blocks(x, 64, 50, weight), **run)
    np.testing.assert_allclose(in_blocks, trace, rtol=1e-12)


@pytest.mark.parametrize("engine", ["em", "gradient_em", "cavi"])
def test_rows_of_weight_two_are_rows_that_are_there_twice_and_those_of_weight_zero_are_not_there(engine: str) -> None:
    """One block has rows of weight zero alone."""
    model, x, start = _start("diagonal", "dirichlet")
    weight = np.random.default_rng(0).integers(0, 3, size=len(x))
    weight[16:48] = 0
    repeated = np.repeat(x, weight, axis=0)
    first = (0 * x[:, :1] + [0.4, 0.3, 0.2, 0.1]).cumsum(axis=0) % 1  # of no memory in particular

    def trace(blocks: RowBlocks) -> np.ndarray:
        if engine == "em":
            return em.in_blocks(model, start, jnp.asarray(x), blocks, max_iterations=6, tolerance=-np.inf)[1]
        if engine == "gradient_em":
            run: dict[str, Any] = {"max_iterations": 6, "tolerance": -np.inf}
            return climb_in_blocks(model, start, jnp.asarray(x), blocks, **run).trace
        search = cavi.Search(max_iterations=1, moves=False)
        parts, *_ = cavi.fit_factors(KEY, model, jnp.asarray(x), search, start=first)
        begin = cavi.from_assignment(parts, 1, jnp.asarray(x), jnp.asarray(first), 1.0)
        return converge_in_blocks(parts, begin, blocks, -np.inf, 6)[1]

    of_repeated = trace(_blocks(repeated, 16))
    np.testing.assert_allclose(trace(_blocks(x, 16, 11, weight.astype(float))), of_repeated, rtol=1e-11)
    assert of_repeated.max() > of_repeated.min() + 1


def test_cavi_over_weighted_blocks_makes_the_passes_of_weighted_cavi_in_memory() -> None:
    x = _rows("diagonal", 900)
    weight = np.random.default_rng(0).uniform(0, 3, size=len(x))
    weight[::5] = 0
    model = mixture(x[:300], family=Gaussian("diagonal"), weights=weight_prior("dirichlet"), num_components=3)
    run: dict[str, Any] = {"num_draws": 20, "restarts": 3}
    sample: dict[str, Any] = {"sample_weight": weight[:300], "blocks": _blocks(x, 128, weight=weight)}
    result = cavi.run(KEY, model, jnp.asarray(x[:300]), **run, **sample)
    whole = cavi.run(KEY, model, jnp.asarray(x), **run, sample_weight=weight)
    assert result.objective is not None
    assert whole.objective is not None
    np.testing.assert_allclose(result.objective[0, -1], np.nanmax(whole.objective), rtol=1e-8)
    told, rows = counted(model, jnp.asarray(x), weight)
    sites = {name: jnp.asarray(result.sites[name][0]) for name in Coordinates(model).transforms}
    np.testing.assert_allclose(result.stats["lp"][0], log_joints(told, unconstrained(model, sites), rows), rtol=1e-10)


def test_a_row_of_weight_two_is_drawn_as_one_that_is_there_twice() -> None:
    """Chi-square of 40,000 draws; it fails once in a million runs."""
    x = np.arange(157.0)[:, None]
    weight = np.random.default_rng(1).integers(0, 4, size=157).astype(float)
    weight[[0, 1, -1]] = 0
    drawn = _blocks(x, 16, 11, weight).drawn(np.random.default_rng(2), 40_000)
    repeated = np.repeat(x, weight.astype(int), axis=0)
    once = _blocks(repeated, 16, 11, np.ones(len(repeated)))
    np.testing.assert_array_equal(drawn, once.drawn(np.random.default_rng(2), 40_000))
    counts = np.bincount(drawn[:, 0].astype(int), minlength=157)
    assert not counts[weight == 0].any()
    expected = 40_000 * weight[weight > 0] / weight.sum()
    apart = np.sum((counts[weight > 0] - expected) ** 2 / expected)
    assert chi2.sf(apart, len(expected) - 1) > 1e-6


def test_svi_over_weighted_blocks_approximates_the_weighted_posterior() -> None:
    """The log joint of its draws by the program in memory; means and spreads by weighted EM, whose groups are apart."""
    x = _rows("diagonal", 1500)
    weight = np.random.default_rng(0).integers(0, 4, size=len(x)).astype(float)
    model = mixture(x[:300], family=Gaussian("diagonal"), weights=weight_prior("dirichlet"), num_components=3)
    run: dict[str, Any] = {"num_draws": 150, "num_steps": 1200, "restarts": 1, "batch_size": 400}
    sample: dict[str, Any] = {"sample_weight": weight[:300], "blocks": _blocks(x, 128, weight=weight)}
    result = svi.run(KEY, model, jnp.asarray(x[:300]), **run, **sample)
    told, rows = counted(model, jnp.asarray(x), weight)
    sites = {name: jnp.asarray(result.sites[name][0]) for name in Coordinates(model).transforms}
    expected = log_joints(told, unconstrained(model, sites), rows)
    np.testing.assert_allclose(result.stats["lp"][0], expected, rtol=1e-10)
    best = em.run(KEY, model, jnp.asarray(x), restarts=3, sample_weight=weight).sites
    order = [np.argsort(one[..., 0].mean(axis=(0, 1))) for one in (result.sites["loc"], best["loc"])]
    loc, centre = result.sites["loc"][0][:, order[0]], best["loc"][0, 0][order[1]]
    count = weight.sum() * best["weights"][0, 0][order[1]]
    spread = 1 / np.sqrt(best["precision"][0, 0][order[1]] * count[:, None])
    assert np.max(np.abs(loc.mean(axis=0) - centre) / spread) < 1
    assert np.all(np.abs(np.log(loc.std(axis=0) / spread)) < 0.5)


def test_a_checkpoint_is_of_the_weights_of_all_rows(tmp_path: Path) -> None:
    model, x, _ = _start("diagonal", "dirichlet")
    weight = np.ones(len(x))
    run: dict[str, Any] = {"checkpoint": tmp_path / "run", "max_iterations": 2, "restarts": 1}
    em.run(KEY, model, jnp.asarray(x[:40]), blocks=_blocks(x, 64, weight=weight), **run)
    weight[-1] = 2
    with pytest.raises(InputError, match="of another run: weights of all rows differ"):
        em.run(KEY, model, jnp.asarray(x[:40]), blocks=_blocks(x, 64, weight=weight), **run)


def test_small_sums_are_not_lost_beside_large_ones() -> None:
    """In single precision 2^25 + 1 is 2^25."""
    x = np.ones((41, 1), np.float32)
    x[0] = 2**25
    total = summed(lambda shared, rows, weight: shared * (weight @ rows), 1.0, _blocks(x, 1), width=1)
    np.testing.assert_array_equal(total, [2**25 + 40])


def test_a_run_over_all_rows_begins_at_the_best_end_in_the_sample() -> None:
    x = _rows("diagonal", 900)
    model = mixture(x[:300], family=Gaussian("diagonal"), weights=weight_prior("dirichlet"), num_components=3)
    result = em.run(KEY, model, jnp.asarray(x[:300]), blocks=_blocks(x, 128), restarts=4)
    whole = em.run(KEY, model, jnp.asarray(x), restarts=4)
    assert result.status == "converged"
    assert result.restarts is not None
    assert result.restarts.kind == (IN_SAMPLE,)
    np.testing.assert_allclose(result.stats["lp"], whole.stats["lp"], rtol=1e-8)


def test_a_survey_counts_all_rows_as_scipy_does() -> None:
    x = _rows("diagonal")
    model = mixture(x, family=Gaussian("diagonal"), weights=weight_prior("dirichlet"), num_components=3)
    states = em.fit_params(KEY, model, jnp.asarray(x), restarts=3, max_iterations=2).ends[0]
    weight = np.random.default_rng(0).integers(0, 3, size=len(x)).astype(float)
    many = surveyed(model, states.params, _blocks(x, 32, 9, weight))
    for run in range(3):
        params = {name: value[run] for name, value in states.params.items()}
        joint = np.asarray(model.mixture(params).log_joint(jnp.asarray(x)))
        total = logsumexp(joint, axis=1)
        resp = np.exp(joint - total[:, None])
        np.testing.assert_allclose(many.log_lik[run], weight @ total, rtol=1e-12)
        np.testing.assert_allclose(many.size[run], (weight > 0) @ resp, rtol=1e-10)
        np.testing.assert_allclose(many.log_confidence[run], weight @ np.log(resp.max(axis=1)), rtol=1e-10)
        one = surveyed(model, {name: value[None] for name, value in params.items()}, _blocks(x, 32, 9, weight))
        np.testing.assert_allclose(one.size[0], np.bincount(joint.argmax(axis=1), weight > 0, minlength=3))


def test_blocks_have_one_shape_whatever_the_pieces() -> None:
    x = _rows("diagonal", 23)
    for size, piece in ((5, 5), (5, 3), (7, 100), (100, 4)):
        blocks = list(_blocks(x, size, piece))
        assert len(blocks) == len(_blocks(x, size)) == -(-23 // size)
        assert {part.x.shape for part in blocks} == {(size, 3)}
        counted = np.concatenate([np.asarray(part.weight) for part in blocks]) > 0
        np.testing.assert_array_equal(np.concatenate([np.asarray(part.x) for part in blocks])[counted], x)


def test_rows_that_are_gone_at_a_later_pass_are_missed() -> None:
    x = _rows("diagonal")
    blocks = RowBlocks(len(x) + 1, 10, x.dtype, lambda: iter([x]))
    with pytest.raises(InputError, match=f"expected {len(x) + 1} rows at each pass; this one found {len(x)}"):
        list(blocks)


def test_families_whose_m_step_is_no_function_of_sums_are_refused() -> None:
    x = _rows("diagonal")
    model = mixture(x, family=Laplace(), weights=weight_prior("dirichlet"), num_components=2)
    with pytest.raises(InputError, match="no function of sums over rows"):
        em.run(KEY, model, jnp.asarray(x), blocks=_blocks(x, 50))
