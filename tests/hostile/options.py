"""Bad options of a fit and of its engines, bad priors, weights and labels of rows."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpyro.distributions as dist
import pandas as pd

import probam
from tests.hostile.arrays import FIT, X, fitted
from tests.hostile.case import Case, Good, Kind, Place

__all__ = ["OPTIONS"]


def option(name: str, value: Any, *says: str, **others: Any) -> Case:
    """A value that ``probam.fit`` refuses for an option."""
    beside = "".join(f", {other} {given!r:.20}" for other, given in others.items())
    return Case(f"{name} = {value!r:.40}{beside}", fitted(X, **{name: value}, **others), (f"{name}: ", *says))


def together(what: str, says: tuple[str, ...], **options: Any) -> Case:
    return Case(what, lambda _: probam.fit(X, **options), says)


def engine(name: str, option: str, value: Any, *says: str, **others: Any) -> Case:
    """A value that an engine refuses."""
    how = FIT | {"engine": name, "restarts": None, option: value} | others
    return Case(f"{name}, {option} = {value!r:.40}", lambda _: probam.fit(X, **how), (f"{option}: ", *says))


TYPES = (
    option("family", 3, "expected the name of a family"),
    option("family", None, "expected the name of a family"),
    option("covariance", 3, "expected a word; got 3"),
    option("weights", None, "expected a word; got None"),
    option("components", "3", "expected a whole number of at least 1; got '3'"),
    option("components", 2.5, "expected a whole number"),
    option("components", True, "expected a whole number"),
    option("alpha", "1", "expected a number, or a NumPyro distribution"),
    option("engine", 3, "expected one of em"),
    option("seed", "0", "expected a whole number from 0 to 2^32 - 1"),
    option("standardise", "no", "expected True or False"),
    option("normalise", 2, "expected True or False"),
    option("missing", None, "expected True or False"),
    option("progress", "loud", "expected a function of one argument"),
    option("output", 3, "expected the path of a file"),
)

RANGES = (
    option("components", 0, "of at least 1; got 0"),
    option("components", -3, "of at least 1; got -3"),
    option("components", 10**30, "memories for 40 data"),
    option("alpha", -1.0, "-1"),
    option("alpha", 0.0, "0"),
    option("alpha", float("nan"), "nan"),
    option("alpha", float("inf"), "inf"),
    option("discount", 1.0, "1", weights="pyp"),
    option("discount", -0.5, "-0.5", weights="pyp"),
    option("discount", float("nan"), "nan", weights="pyp"),
    option("seed", -1, "from 0 to 2^32 - 1"),
    option("seed", 2**64, "from 0 to 2^32 - 1"),
    option("alpha", float("nan"), "nan", weights="dp"),
    option("alpha", -2.0, "-2", weights="dp"),
    option("alpha", float("inf"), "inf", weights="pyp"),
)

GIVEN_WEIGHTS = (
    option("given_weights", [1.0], "one for each of 2 memories", weights="fixed"),
    option("given_weights", [0.0, 0.0], "at least one of them positive", weights="fixed"),
    option("given_weights", [-1.0, 2.0], "non-negative", weights="fixed"),
    option("given_weights", [np.nan, 1.0], "expected a number for each memory", weights="fixed"),
    option("given_weights", [np.inf, 1.0], "given_weights", weights="fixed"),
    option("given_weights", "0.5,0.5", "expected a number for each memory", weights="fixed"),
    option("given_weights", {"a": 1.0}, "expected a number for each memory", weights="fixed"),
    option("given_weights", [], "given_weights", weights="fixed"),
    option("given_weights", 3.0, "expected a number for each memory", weights="fixed"),
    option("given_weights", [[1.0], [2.0]], "expected a number for each memory", weights="fixed"),
    together("none for fixed weights", ("given_weights: ",), **(FIT | {"weights": "fixed"})),
    together("some for other weights", ("given_weights: ",), **(FIT | {"given_weights": [1.0, 2.0]})),
)

UNKNOWN = (
    option("family", "gausian", "expected one of", "got 'gausian'"),
    option("family", "", "expected one of"),
    option("family", "gaussian,df=3", "df: family 'gaussian' has no such option")._replace(
        says=("df: family 'gaussian' has no such option",)
    ),
    option("family", "student_t,df=many", covariance=None)._replace(says=("df: family 'student_t' expects a number",)),
    option("family", "student_t,df=-1", covariance=None)._replace(says=("df: expected degrees of freedom",)),
    option("family", "student_t,df=nan", covariance=None)._replace(says=("df: expected degrees of freedom",)),
    option("covariance", "round", "expected one of isotropic"),
    option("covariance", "", "expected one of isotropic"),
    option("weights", "flat", "expected one of uniform"),
    option("engine", "gibs", "expected one of em"),
    option("estimate", "best", "expected one of map, ml"),
    option("family", "gaussian", covariance="diagonal", colour="red")._replace(
        says=("colour: engine 'em' has no such option",)
    ),
    option("family", "laplace", covariance="diagonal")._replace(says=("covariance: family 'laplace'",)),
    option("family", "generalized_normal,power=0.5", covariance=None, engine="gradient_em")._replace(
        says=("power: expected",)
    ),
    option("family", "uniform,shape=star", covariance=None)._replace(says=("shape: expected one of",)),
)

CONTRADICTIONS = (
    together(
        "a weight of a memory without its law",
        ("components: weights 'uniform' need a number",),
        weights="uniform",
        engine="em",
    ),
    together(
        "alpha of uniform weights",
        ("alpha: weights 'uniform' have none",),
        weights="uniform",
        components=2,
        alpha=1.0,
        engine="em",
    ),
    together("discount of dp", ("discount: only weights 'pyp' have one",), discount=0.2, engine="em"),
    together(
        "a prior of alpha of dirichlet",
        ("alpha: the Dirichlet concentration is a number",),
        weights="dirichlet",
        components=2,
        alpha=dist.Gamma(1.0, 1.0),
        engine="em",
    ),
    together(
        "maximum likelihood of dp", ("estimate: ", "weights 'dirichlet' or 'uniform'"), engine="em", estimate="ml"
    ),
    together("an estimate of gibbs", ("estimate: only engine 'em'",), engine="gibbs", estimate="map"),
    together(
        "gaps and lengths", ("normalise: ", "leave out normalise or missing"), missing=True, normalise=True, engine="em"
    ),
    together("gaps for clam", ("missing: engine 'clam'",), missing=True, engine="clam"),
    together(
        "weights of rows for gibbs", ("sample_weight: engine 'gibbs'",), sample_weight=np.ones(40), engine="gibbs"
    ),
    together("labels for clam", ("labels: engine 'clam'",), labels=np.zeros(40, int), engine="clam"),
    together(
        "clam with full covariance",
        ("engine: 'clam' learns isotropic",),
        engine="clam",
        covariance="full",
        weights="uniform",
        components=2,
    ),
    together(
        "em of a family without M-step",
        ("engine: ", "which engine 'em' needs"),
        engine="em",
        family="laplace,scale=nan",
    )._replace(says=("scale: family 'laplace' has no such option",)),
    together(
        "covariance of an object",
        ("covariance: a Family object has its own",),
        family=probam.families()["gaussian"](),
        covariance="full",
        engine="em",
    ),
    together(
        "restarts of gibbs", ("restarts: engine 'gibbs' has no such option", "engines 'em'"), engine="gibbs", restarts=2
    ),
    together(
        "a checkpoint that is the output",
        ("checkpoint: ", "give it a name of its own"),
        engine="nuts",
        checkpoint="new.nc",
        output="new.nc",
    ),
)

BAD_SITES: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (3, ("prior: expected a mapping",)),
    ([dist.Normal()], ("prior: expected a mapping",)),
    ({"loc": 3.0}, ("prior: expected a mapping",)),
    ({"place": dist.Normal()}, ("prior: family 'gaussian' has no site 'place'", "it has loc")),
    ({"loc": dist.Normal(np.zeros(5)).to_event(1)}, ("prior: site 'loc' of one memory has shape (2,)",)),
    ({"loc": dist.Normal(np.zeros((3, 3))).to_event(2)}, ("prior: site 'loc'",)),
    ({"beta": dist.Normal(0.0, 1.0)}, ("prior: site 'beta'",)),
    ({"loc": dist.Poisson(3.0)}, ("prior: site 'loc'",)),
    ({"beta": dist.Bernoulli(0.5)}, ("prior: site 'beta'",)),
    ({"loc": dist.Normal(np.nan, 1.0, validate_args=False)}, ("prior: site 'loc'",)),
    ({"loc": dist.Normal(0.0, -1.0, validate_args=False)}, ("prior: site 'loc'",)),
    ({"loc": dist.Gamma(1.0, 1.0)}, ("prior: ", "use engine 'gradient_em'")),
    ({3: dist.Normal()}, ("prior: ",)),
    ({"loc": dist.Normal}, ("prior: expected a mapping",)),
    ({"weights": dist.Dirichlet(np.ones(2))}, ("prior: family 'gaussian' has no site 'weights'",)),
)

PRIORS = tuple(
    Case(f"prior {number}, {sites!r:.50}", fitted(X, prior=sites), says)
    for number, (sites, says) in enumerate(BAD_SITES)
)


def of_rows(name: str, value: Any, *says: str, **others: Any) -> Case:
    what = f"{name}: {type(value).__name__} {value!r:.30}".replace("\n", " ")
    return Case(what, fitted(X, **{name: value}, **others), (f"{name}: ", *says))


WEIGHTS_OF_ROWS = (
    of_rows("sample_weight", np.ones(39), "expected 40 numbers, one for each datum; got shape (39,)"),
    of_rows("sample_weight", np.ones((40, 1)), "got shape (40, 1)"),
    of_rows("sample_weight", 1.0, "got shape ()"),
    of_rows("sample_weight", -np.ones(40), "finite numbers of at least 0"),
    of_rows("sample_weight", np.full(40, np.nan), "finite numbers of at least 0"),
    of_rows("sample_weight", np.full(40, np.inf), "finite numbers of at least 0"),
    of_rows("sample_weight", np.zeros(40), "every datum has weight zero"),
    of_rows("sample_weight", "a", "sample_weight"),
    of_rows("sample_weight", ["x"] * 40, "sample_weight"),
    of_rows("sample_weight", {"a": 1}, "sample_weight"),
    of_rows("sample_weight", np.ones(40, complex), "sample_weight"),
    of_rows("sample_weight", pd.Series([None] * 40), "sample_weight"),
    of_rows("sample_weight", [[1.0], [1.0, 2.0]], "sample_weight"),
)

LABELS_OF_ROWS = (
    of_rows("labels", np.zeros(39, int), "expected 40 whole numbers"),
    of_rows("labels", np.full(40, 2), "from -1 (not known) to 1", "row 0 has 2"),
    of_rows("labels", np.full(40, -2), "row 0 has -2"),
    of_rows("labels", np.full(40, 0.5), "row 0 has 0.5"),
    of_rows("labels", np.full(40, np.nan), "row 0 has nan"),
    of_rows("labels", ["a"] * 40, "expected 40 whole numbers"),
    of_rows("labels", np.zeros((40, 2), bool), "may belong to no memory"),
    of_rows("labels", np.ones((40, 3), bool), "expected 40 whole numbers"),
    of_rows("labels", 3, "expected 40 whole numbers"),
    of_rows("labels", [None] * 40, "expected 40 whole numbers"),
    of_rows("labels", [[0], [0, 1]], "labels"),
    of_rows("labels", "first", "expected 40 whole numbers"),
)

OF_EM = (
    engine("em", "restarts", 0, "of at least 1; got 0"),
    engine("em", "restarts", -1, "of at least 1; got -1"),
    engine("em", "restarts", 2.5, "expected a whole number"),
    engine("em", "restarts", "2", "expected a whole number"),
    engine("em", "tolerance", float("nan"), "nan"),
    engine("em", "tolerance", -1.0, "-1"),
    engine("em", "tolerance", "small", "expected a number"),
    engine("em", "max_iterations", 0, "of at least 1; got 0"),
    engine("em", "max_iterations", -5, "of at least 1; got -5"),
    engine("em", "stop", "soon", "expected 'tolerance' or 'aitken'"),
    engine("gradient_em", "restarts", 0, "at least 1"),
    engine("gradient_em", "learning_rate", float("nan"), "nan"),
    engine("gradient_em", "learning_rate", float("inf"), "inf"),
    engine("gradient_em", "optimiser", "best", "expected one of"),
    engine("gradient_em", "inner_steps", 0, "of at least 1"),
)

OF_VARIATIONAL = (
    engine("svi", "num_steps", 0, "at least 1"),
    engine("svi", "num_draws", -1, "at least 1"),
    engine("svi", "restarts", 0, "at least 1"),
    engine("svi", "learning_rate", float("nan"), "nan"),
    engine("svi", "learning_rate", float("inf"), "inf"),
    engine("svi", "batch_size", 41, "1 to 40 rows"),
    engine("svi", "batch_size", 0, "1 to 40 rows"),
    engine("svi", "guide", "tour", "expected one of"),
    engine("svi", "optimiser", "best", "expected one of"),
    engine("svi", "tolerance", float("nan"), "nan"),
    engine("cavi", "restarts", 0, "at least 1"),
    engine("cavi", "batch_size", 41, "1 to 40 rows", covariance="diagonal"),
    engine("cavi", "tolerance", -1.0, "-1", covariance="diagonal"),
    engine("cavi", "base", "ground", "expected one of", covariance="diagonal"),
    engine("cavi", "moves", 3, "expected True or False"),
)

OF_SAMPLERS = (
    engine("nuts", "num_chains", 0, "at least 1"),
    engine("nuts", "num_warmup", -1, "at least"),
    engine("nuts", "num_draws", 0, "at least 1"),
    engine("nuts", "target_accept", 1.0, "between 0 and 1"),
    engine("nuts", "target_accept", float("nan"), "between 0 and 1"),
    engine("nuts", "max_tree_depth", 0, "at least 1"),
    engine("nuts", "order", "up", "expected one of"),
    engine("nuts", "order_by", 7, "order_by", order="location"),
    engine("gibbs", "num_draws", 0, "at least 1"),
    engine("gibbs", "thin", 0, "at least 1"),
    engine("gibbs", "kernel", "corn", "expected one of"),
    engine("gibbs", "num_chains", -1, "at least 1"),
    engine("smc", "num_particles", 0, "at least"),
    engine("smc", "target_ess", 0.0, "between 0 and 1"),
    engine("smc", "mutation", "great", "expected 'hmc' or 'random_walk'"),
)

_CLAM = {"weights": "uniform"}

OF_CLAM = (
    engine("clam", "beta", -1.0, "positive", **_CLAM),
    engine("clam", "beta", float("nan"), "positive", **_CLAM),
    engine("clam", "beta", float("inf"), "beta", **_CLAM),
    engine("clam", "restarts", 0, "at least 1", **_CLAM),
    engine("clam", "restarts", -1, "at least 1", **_CLAM),
    engine("clam", "num_epochs", 0, "at least 1", **_CLAM),
    engine("clam", "num_epochs", -5, "at least 1", **_CLAM),
    engine("clam", "num_steps", 0, "at least 1", **_CLAM),
    engine("clam", "learning_rate", float("nan"), "learning_rate", **_CLAM),
    engine("clam", "learning_rate", -1.0, "above 0; got -1", **_CLAM),
    engine("clam", "batch_size", 0, "batch_size", **_CLAM),
    engine("clam", "batch_size", -3, "batch_size", **_CLAM),
    engine("clam", "step", float("nan"), "step", **_CLAM),
    engine("clam", "step", 0.0, "step", **_CLAM),
    engine("clam", "masked", 2.0, "masked", **_CLAM),
)


def good(**options: Any) -> Callable[[Place], object]:
    return fitted(X, **options)


OPTIONS: dict[str, Kind] = {
    "types of options": Kind(TYPES, Good(good(components=np.int64(2), seed=np.uint32(3), alpha=1))),
    "ranges of options": Kind(RANGES, Good(good(alpha=1e-3, seed=2**32 - 1))),
    "weights of memories": Kind(GIVEN_WEIGHTS, Good(good(weights="fixed", given_weights=(0.0, 3)))),
    "unknown names": Kind(UNKNOWN, Good(good(family="student_t,df=4", covariance=None))),
    "options that contradict": Kind(CONTRADICTIONS, Good(good(estimate="ml"))),
    "priors": Kind(PRIORS, Good(good(prior={"loc": dist.Normal(0.0, 3.0), "beta": dist.Gamma(2.0, 1.0)}))),
    "weights of rows": Kind(WEIGHTS_OF_ROWS, Good(good(sample_weight=[0] * 20 + [True] * 20))),
    "labels of rows": Kind(LABELS_OF_ROWS, Good(good(labels=[-1.0] * 20 + [1] * 20))),
    "options of em": Kind(OF_EM, Good(good(max_iterations=1, tolerance=0.0))),
    "options of svi and cavi": Kind(OF_VARIATIONAL, Good(good(engine="cavi", covariance="diagonal", num_draws=3))),
    "options of samplers": Kind(
        OF_SAMPLERS, Good(good(engine="gibbs", restarts=None, num_draws=5, num_warmup=5, num_chains=1))
    ),
    "options of clam": Kind(OF_CLAM, Good(good(engine="clam", weights="uniform", num_epochs=2))),
}
