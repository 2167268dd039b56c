"""Each engine once, on as little data as it takes, and the numbers that it gives."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import probam
from probam.comparison.scores import held_out_score
from probam.dynamics.learning import learn
from probam.family import Family
from probam.inference.cavi import devices
from probam.inference.cavi import engine as cavi
from probam.inference.clam import engine as clam
from probam.inference.clam.clustering import labels
from probam.inference.common.blocks import RowBlocks
from probam.inference.common.kinds import as_runs
from probam.inference.common.result import EngineResult
from probam.inference.common.rows import Rows
from probam.inference.em import engine as em
from probam.inference.em.parts import OnDevices, advance_in_parts
from probam.inference.em.steps import Settings
from probam.inference.evidence.bridge import log_evidence
from probam.inference.gibbs import engine as gibbs
from probam.inference.gradient_em import engine as gradient_em
from probam.inference.nuts import engine as nuts
from probam.inference.smc import engine as smc
from probam.inference.svi import engine as svi
from probam.models.gaussian import Gaussian
from probam.models.mixture import Mixture, mixture
from probam.models.weights import weight_prior

__all__ = ["Numbers", "little_work"]

Numbers = dict[str, np.ndarray]

ROWS = np.random.default_rng(0).normal(size=(24, 2)) + 4 * (np.arange(24)[:, None] % 2)
GAPS = np.where(np.random.default_rng(1).random(ROWS.shape) < 0.1, np.nan, ROWS)
X, KEY = jnp.asarray(ROWS), jax.random.key(0)


def little_work() -> Iterator[tuple[str, Callable[[], Numbers]]]:
    """The name of each piece of work and what does it."""
    plain = _model()
    yield "em", _em
    yield "em across devices", _across_devices
    for optimiser, model in (("ecg", _model(weights="dp")), ("natural", plain), ("adam", plain)):
        climb = partial(gradient_em.run, KEY, model, X, optimiser=optimiser, restarts=2, max_iterations=30)
        yield f"gradient_em {optimiser}", partial(_numbers, climb)
    for optimiser, guide, model in (("adam", "low_rank", _model(weights="dp")), ("natural", "full", plain)):
        climb = partial(svi.run, KEY, model, X, num_steps=20, restarts=2, optimiser=optimiser, guide=guide)
        yield f"svi {optimiser}", partial(_numbers, climb)
    yield "cavi from a start", _cavi
    yield "rows in blocks", _rows_in_blocks
    yield "nuts", _nuts
    yield "smc", partial(_numbers, partial(smc.run, KEY, plain, X, num_particles=20, num_chains=2, num_moves=1))
    for kernel in ("blocked", "collapsed"):
        sample = partial(gibbs.run, KEY, plain, X, kernel=kernel, num_chains=2, num_warmup=2, num_draws=4)
        yield f"gibbs {kernel}", partial(_numbers, sample)
    yield "clam", _clam
    yield "cavi, prediction and recall", _fit
    yield "stream", _stream


def _model(family: Family | None = None, weights: str = "dirichlet") -> Mixture:
    family = Gaussian("diagonal") if family is None else family
    return mixture(ROWS, family=family, weights=weight_prior(weights), num_components=2)


def _numbers(run: Callable[[], EngineResult]) -> Numbers:
    """Sites and statistics of a run."""
    result = run()
    return _floats({**result.sites, **result.stats})


def _floats(values: Mapping[Any, Any]) -> Numbers:
    return {
        str(name): np.asarray(value, float) for name, value in values.items() if np.asarray(value).dtype.kind in "fib"
    }


def _em() -> Numbers:
    """Gaps in the data, and labels that are known."""
    labels = np.where(np.arange(len(ROWS)) < 4, np.arange(len(ROWS)) % 2, -1)
    gaps = replace(_model(Gaussian("full")), missing=True)
    return _numbers(partial(em.run, KEY, gaps, jnp.asarray(GAPS), restarts=2, max_iterations=20, labels=labels))


def _across_devices() -> Numbers:
    """Starts under sticks, and a step whose sums come from several devices."""
    sticks = _model(Gaussian("full"), "dp")
    states, _ = em.fit_params(KEY, sticks, X, restarts=2, max_iterations=3).ends
    options = Settings(likelihood_only=False, aitken=False, numbered=False)
    going = states._replace(done=jnp.zeros(len(states.done), bool))
    parts = OnDevices(sticks, [Rows(X, None)], X[0])
    after, _ = advance_in_parts(sticks, going, parts, jnp.asarray(1.0), settings=options, num_steps=1)
    return _floats(after.params)


def _cavi() -> Numbers:
    """From a given assignment, and one pass more as it goes over several devices."""
    assignment = np.eye(2)[np.arange(len(ROWS)) % 2]
    parts, state, _, _ = cavi.fit_factors(KEY, _model(), X, cavi.Search(restarts=2), start=assignment)
    spread = devices.OnDevices(parts, cavi._arrange(_model(), parts.memories, X, batch_size=len(X)), jax.devices()[:1])
    going = as_runs(state._replace(done=jnp.zeros_like(state.done)))
    after, bounds = devices.advance_on_devices(parts, spread, going, jnp.asarray(1.0), 1)
    return {"bound": bounds, "counts": np.asarray(after.seen.counts)}


def _rows_in_blocks() -> Numbers:
    """Rows that are read again at each pass; gradient EM rests at once, so that its end is polished."""
    blocks = RowBlocks(len(ROWS), 16, ROWS.dtype, lambda: iter((ROWS[:16], ROWS[16:])))
    climbed = em.run(KEY, _model(), X, restarts=2, max_iterations=5, blocks=blocks)
    passed = cavi.run(KEY, _model(), X, restarts=2, max_iterations=5, num_draws=5, blocks=blocks)
    followed = gradient_em.run(KEY, _model(), X, restarts=2, max_iterations=50, tolerance=1e3, blocks=blocks)
    said = {"bound": passed.objective, "log joint": followed.objective}
    return _floats({**climbed.sites, **climbed.stats, **said})


def _nuts() -> Numbers:
    """Chains in one labelling, and the evidence by their draws."""
    model = _model()
    result = nuts.run(KEY, model, X, num_chains=2, num_warmup=4, num_draws=30, order="weight")
    evidence = log_evidence(KEY, model, X, result.sites)
    return _floats({**result.sites, **result.stats, "evidence": evidence.log_evidence})


def _clam() -> Numbers:
    """Several starts at once; one start alone, and recall with what it has learned."""
    equal = _model(Gaussian("isotropic"), "uniform")
    numbers = _numbers(partial(clam.run, KEY, equal, X, num_epochs=3, restarts=2))
    learned = learn(KEY, X, X[:2], 0.5, num_epochs=2)
    return numbers | _floats({"learned": learned.memories, **labels(X, learned.memories, 0.5)._asdict()})


def _fit() -> Numbers:
    """A fit of data with gaps, its groups, and what it is asked."""
    options: dict[str, Any] = {"components": 2, "covariance": "diagonal", "missing": True, "restarts": 2}
    fit = probam.fit(GAPS, engine="cavi", weights="dp", num_draws=6, **options)
    law = fit.conditional("x1", given={"x0": [0.5]})
    asked: dict[str, Any] = {
        "quantile": law.quantile(0.5),
        "sample": law.sample(2),
        "log_prob": law.log_prob([0.1]),
        "mean": law.mean,
    }
    answers = (fit.predict(ROWS[:3]), fit.recall(ROWS[:3]), fit.complete(GAPS[:5]), fit.group("recall"))
    for data in answers:
        asked |= {str(name): values for name, values in data.items()}
    scores = {"energy": fit.energy(ROWS[:3]), "held out": held_out_score(fit, ROWS[:3]).pointwise}
    return _floats(asked | scores)


def _stream() -> Numbers:
    """Rows one by one, nearly each a memory, in one partition and in several, and what they are asked."""
    common: dict[str, Any] = {"covariance": "diagonal", "warm": 12, "capacity": 2}
    one = probam.Stream(**common, alpha=1e6, tidy_every=20, prune_count=1)
    several = probam.Stream(**common, particles=3, window=16, rejuvenate_every=8, learn_alpha=(1e4, 1.0))
    said: Numbers = {}
    for name, stream in (("one", one), ("several", several)):
        answers = stream.partial_fit(ROWS).predict(ROWS[:2])
        said |= {f"{name} {quantity}": values for quantity, values in _floats(answers).items()}
    said["shares"] = np.asarray(one.responsibilities(ROWS[:2]).values)
    drawn = one.to_fit(num_draws=2).tree["posterior"]
    said |= {f"drawn {site}": np.asarray(drawn[site].values) for site in ("loc", "weights")}
    unit = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)
    answers = probam.Stream(family="vmf", warm=12, capacity=2).partial_fit(unit).predict(unit[:2])
    said |= {f"directions {quantity}": values for quantity, values in _floats(answers).items()}
    return said
