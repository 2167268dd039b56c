"""What engines report, and what is kept of a run that a progress callback ends: the beginning of the whole run."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import probam
from probam.comparison.engines import compare_engines
from probam.comparison.scores import cross_validate
from probam.inference.cavi import engine as cavi
from probam.inference.clam import engine as clam
from probam.inference.common.progress import Listener, Progress, Reporter
from probam.inference.em import engine as em
from probam.inference.gibbs import engine as gibbs
from probam.inference.gradient_em import engine as gradient_em
from probam.inference.nuts import engine as nuts
from probam.inference.smc import engine as smc
from probam.inference.stream import engine as stream_engine
from probam.inference.svi import climb as svi_climb
from probam.inference.svi import engine as svi
from probam.models.gaussian import Gaussian
from probam.models.mixture import Mixture, mixture
from probam.models.weights import weight_prior
from probam.streams.stream import Stream

X = np.random.default_rng(3).normal(size=(60, 1)) + 1.5 * np.arange(60)[:, None] % 4
KEY = jax.random.key(5)


def model(weights: str = "dirichlet") -> Mixture:
    return mixture(X, family=Gaussian("isotropic"), weights=weight_prior(weights), num_components=3)


def stop_at(number: int, seen: list[Progress] | None = None, *, text: str = "") -> Listener:
    """Ends the run at the report of this number among those whose text begins like this."""
    reports = [] if seen is None else seen

    def listen(step: Progress) -> None:
        if step.text.startswith(text):
            reports.append(step)
        if len(reports) >= number:
            raise probam.Stop

    return listen


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


# --- reports --------------------------------------------------------------------------------------------------


def test_a_listener_that_said_stop_is_not_called_again_and_unknown_numbers_are_left_out() -> None:
    seen: list[Progress] = []
    report = Reporter(stop_at(2, seen))
    report(1, 9, "a", known=1, unknown=float("nan"), infinite=-np.inf)
    before = report.stopped
    report(2, 9, "a")
    report(3, 9, "a")
    assert (before, report.stopped) == (False, True)
    assert seen == [(1, 9, "a", {"known": 1.0}), (2, 9, "a", {})]


def test_work_that_keeps_nothing_raises_stop_with_its_reason() -> None:
    with pytest.raises(probam.Stop, match=r"^study: nothing yet$"):
        Reporter(stop_at(1), nothing_kept="study: nothing yet")(1, 2, "a")


def test_other_errors_of_a_listener_reach_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        Reporter(lambda step: step.done / 0)(1, 2, "a")


def test_a_report_in_words_leaves_out_what_is_not_known() -> None:
    assert Progress(70, 0, "stream", {"memories": 4.0}).line == "stream, 70, 4 memories"
    assert Progress(1, 2, "", {}).line == "1 of 2"


# --- searches -------------------------------------------------------------------------------------------------

SEARCHES: dict[str, tuple[Callable[..., Any], dict[str, Any], dict[str, Any]]] = {
    # an engine, its options, and those with which it ends by itself where the callback ends it
    "em": (em.run, {"restarts": 2, "tolerance": 0.0}, {"max_iterations": 50}),
    "gradient_em": (gradient_em.run, {"restarts": 2, "tolerance": 0.0}, {"max_iterations": 25}),
    "cavi": (cavi.run, {"restarts": 2, "tolerance": 0.0, "moves": False, "num_draws": 20}, {"max_iterations": 49}),
}


@pytest.mark.parametrize("engine", SEARCHES)
def test_a_search_that_is_stopped_is_one_with_fewer_steps(engine: str) -> None:
    run, options, shorter = SEARCHES[engine]
    seen: list[Progress] = []
    stopped = run(KEY, model(), jnp.asarray(X), progress=stop_at(1, seen), **options)
    short = run(KEY, model(), jnp.asarray(X), **options, **shorter)
    assert (stopped.status, short.status) == ("stopped", "max_steps")
    assert_same(stopped.sites, short.sites)
    assert_same(stopped.stats, short.stats)
    np.testing.assert_array_equal(stopped.objective, short.objective)
    (reported,) = (value for name, value in seen[0].values.items() if name in ("objective", "elbo"))
    assert reported <= np.nanmax(stopped.objective) + 1e-9
    assert reported >= np.nanmax(stopped.objective) - 1.0


def test_em_that_is_stopped_makes_no_further_starts() -> None:
    stopped = em.run(KEY, model(), jnp.asarray(X), restarts=4, progress=stop_at(1))
    whole = em.run(KEY, model(), jnp.asarray(X), restarts=4)
    assert stopped.restarts is not None
    assert whole.restarts is not None
    assert set(stopped.restarts.round) == {0}
    assert set(whole.restarts.round) == {0, 1}


def test_cavi_that_is_stopped_among_its_moves_is_no_worse_than_without_them() -> None:
    def among_moves(step: Progress) -> None:
        if "moves" in step.text:
            raise probam.Stop

    how: dict[str, Any] = {"restarts": 2, "num_draws": 20}
    stopped = cavi.run(KEY, model(), jnp.asarray(X), progress=among_moves, **how)
    without = cavi.run(KEY, model(), jnp.asarray(X), moves=False, **how)
    assert (stopped.status, without.status) == ("stopped", "converged")
    assert stopped.objective is not None
    assert without.objective is not None
    assert np.nanmax(stopped.objective) >= np.nanmax(without.objective) - 1e-9


def test_svi_that_is_stopped_has_draws_of_the_guide_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(svi_climb, "_WINDOW", 20)
    how: dict[str, Any] = {"start": "random", "restarts": 2, "num_draws": 30, "num_steps": 400}
    seen: list[Progress] = []
    stopped = svi.run(KEY, model(), jnp.asarray(X), progress=stop_at(1, seen), **how)
    whole = svi.run(KEY, model(), jnp.asarray(X), **how)
    assert stopped.status == "stopped"
    assert stopped.restart_status == ("stopped", "stopped")
    assert stopped.objective is not None
    assert whole.objective is not None
    np.testing.assert_array_equal(stopped.objective[:, :20], whole.objective[:, :20])
    assert stopped.objective.shape == (2, 21)  # the bound at the end stands last
    assert stopped.sites["loc"].shape[:2] == (1, 30)
    np.testing.assert_allclose(seen[0].values["elbo"], stopped.objective[:, :20].mean(axis=1).max())


# --- samplers -------------------------------------------------------------------------------------------------

NUTS: dict[str, Any] = {"num_chains": 2, "num_warmup": 20, "num_draws": 30, "max_tree_depth": 4}


def test_nuts_that_is_stopped_keeps_its_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nuts, "_CHUNK", 10)
    seen: list[Progress] = []
    whole = nuts.run(KEY, model(), jnp.asarray(X), progress=seen.append, **NUTS)
    stopped = nuts.run(KEY, model(), jnp.asarray(X), progress=stop_at(1, text="NUTS sampling"), **NUTS)
    assert (stopped.status, whole.status) == ("stopped", "sampled")
    assert_same(stopped.sites, {name: values[:, :10] for name, values in whole.sites.items()})
    last = seen[-1]
    assert last.values["divergences"] == whole.stats["diverging"].sum()
    np.testing.assert_allclose(last.values["acceptance"], whole.stats["acceptance_rate"][:, -10:].mean())


@pytest.mark.parametrize("text", ["EM", "NUTS warm-up"])
def test_nuts_refuses_to_stop_before_there_are_draws(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nuts, "_CHUNK", 10)
    done = 10 if text.startswith("NUTS") else 0
    with pytest.raises(probam.Stop, match=f"^nuts: stopped in the warm-up, after {done} of 20 steps of each chain;"):
        nuts.run(KEY, model(), jnp.asarray(X), progress=stop_at(1, text=text), **NUTS)


def test_gibbs_that_is_stopped_keeps_its_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gibbs, "_WORK", 10 * X.size * 3 * 2)  # chunks of ten draws
    how: dict[str, Any] = {"num_chains": 2, "num_warmup": 20, "num_draws": 30}
    seen: list[Progress] = []
    whole = gibbs.run(KEY, model(), jnp.asarray(X), progress=seen.append, **how)
    stopped = gibbs.run(KEY, model(), jnp.asarray(X), progress=stop_at(1, text="Gibbs sampling"), **how)
    assert (stopped.status, whole.status) == ("stopped", "sampled")
    assert_same(stopped.sites, {name: values[:, :10] for name, values in whole.sites.items()})
    assert seen[-1].values == {"memories": whole.stats["occupied"][:, -1].mean()}
    with pytest.raises(probam.Stop, match=r"^gibbs: stopped in the warm-up of the chains; there are no draws to keep"):
        gibbs.run(KEY, model(), jnp.asarray(X), progress=stop_at(1), **how)


def test_engines_without_a_part_to_keep_say_why() -> None:
    with pytest.raises(probam.Stop, match=r"^smc: stopped at inverse temperature 0\.\d+; only at 1 are the particles"):
        smc.run(KEY, model(), jnp.asarray(X), num_particles=40, num_chains=2, num_moves=1, progress=stop_at(1))
    with pytest.raises(probam.Stop, match=r"^clam: stopped before the memories were learned"):
        clam.run(KEY, model("uniform"), jnp.asarray(X), beta=1.0, progress=stop_at(2))


# --- streams, fits, comparisons -------------------------------------------------------------------------------


def test_a_stream_that_is_stopped_has_learned_the_rows_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_engine, "BLOCK", 16)
    options: dict[str, Any] = {"covariance": "isotropic", "known": {"beta": 2.0}, "warm": 10, "capacity": 16}
    stopped = Stream(**options).partial_fit(X, progress=stop_at(2))
    expected = Stream(**options).partial_fit(X[:32])
    assert stopped.num_data == 32
    assert stopped.log_predictive == expected.log_predictive
    assert stopped.partial_fit(X[32:]).log_predictive == Stream(**options).partial_fit(X).log_predictive


def test_a_fit_that_was_stopped_says_so() -> None:
    how: dict[str, Any] = {"covariance": "isotropic", "weights": "uniform", "components": 2, "engine": "em"}
    fitted = probam.fit(X, progress=stop_at(1), **how)
    assert fitted.tree.attrs["status"] == "stopped"
    assert "The search was stopped before its end" in fitted.summary_text()


def test_a_comparison_that_is_stopped_has_the_engines_that_are_done() -> None:
    how: dict[str, Any] = {"covariance": "isotropic", "weights": "uniform", "components": 2}
    _, fits = compare_engines(X, ("em", "nuts"), progress=stop_at(2), **how)
    assert list(fits) == ["em"]
    with pytest.raises(probam.Stop, match=r"^compare: stopped before an engine was done"):
        compare_engines(X, ("em", "nuts"), progress=stop_at(1), **how)
    with pytest.raises(probam.Stop, match=r"^cross-validation: stopped before every row was held out once"):
        cross_validate(X, progress=stop_at(1), **how)
