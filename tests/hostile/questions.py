"""Bad questions to a fit, to a stream, to estimators and to several fits."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

import probam
from probam import partitions
from probam.comparison.calibrate import calibrate
from probam.comparison.scores import cross_validate
from probam.fits.fitted import Fit
from probam.streams.stream import Stream
from tests.hostile.arrays import FIT, X, holed
from tests.hostile.case import Case, Good, Kind

__all__ = ["QUESTIONS"]

NAMED = pd.DataFrame(X, columns=["a", "b"])


def fit(what: str, ask: Callable[[Fit], object], *says: str) -> Case:
    """A question to a fit."""
    return Case(what, lambda place: ask(place.fit), says)


def rows(what: str, data: Any, *says: str) -> Case:
    return fit(f"predict, {what}", lambda fit: fit.predict(data), *says)


WIDTHS = (
    rows("one column", X[:, :1], "data: expected the 2 features that were learned ('a', 'b'); got 1"),
    rows("three columns", np.ones((4, 3)), "data: expected the 2 features", "got 3"),
    rows("one axis", X[0], "data: expected a 2-D array", "reshape"),
    rows("no rows", X[:0], "data: it is empty"),
    rows("other names", NAMED.set_axis(["p", "q"], axis=1), "data: expected the 2 features", "no column is called 'a'"),
    rows("one name", NAMED[["a"]], "data: expected the 2 features", "no column is called 'b'"),
    rows("text", NAMED.assign(b="x"), "data: column 'b' holds text"),
    rows("infinity", holed(np.inf), "data: column 'x1' has an infinite value"),
    rows("a row of gaps", np.full((1, 2), np.nan), "data: row 0", "has no values"),
    rows("no file", "gone.csv", "gone.csv: no such file"),
    rows("None", None, "data: expected a 2-D array"),
    fit(
        "recall from gaps", lambda fit: fit.recall(holed(np.nan)), "queries: column 'b' has a missing value", "complete"
    ),
    fit("energy of gaps", lambda fit: fit.energy(holed(np.nan)), "data: column 'b' has a missing value"),
    fit("annealing of gaps", lambda fit: fit.anneal(holed(np.nan), 0.5), "queries: column 'b' has a missing value"),
    fit("completion of other columns", lambda fit: fit.complete(np.ones((2, 3))), "data: expected the 2 features"),
)

OF_RECALL = (
    fit("steps of zero", lambda fit: fit.recall(X, step=0.0), "step: ", "0"),
    fit("steps too long", lambda fit: fit.recall(X, step=2.0), "step: ", "2"),
    fit("steps of NaN", lambda fit: fit.recall(X, step=float("nan")), "step: ", "nan"),
    fit("steps of text", lambda fit: fit.recall(X, step="1"), "step: "),  # type: ignore[arg-type]
    fit("no steps", lambda fit: fit.recall(X, max_steps=0), "max_steps: expected a whole number of at least 1"),
    fit("half a step", lambda fit: fit.recall(X, max_steps=1.5), "max_steps: "),  # type: ignore[arg-type]
    fit(
        "no draw", lambda fit: fit.recall(X, draw=1), "draw: expected the number of a thinned draw, from 0 to 0; got 1"
    ),
    fit("a draw of text", lambda fit: fit.recall(X, draw="best"), "draw: "),  # type: ignore[arg-type]
    fit("no noise", lambda fit: fit.anneal(X, 0.0), "noise: expected a number above 0"),
    fit("noise of NaN", lambda fit: fit.anneal(X, float("nan")), "noise: "),
    fit("noise of text", lambda fit: fit.anneal(X, "1"), "noise: "),  # type: ignore[arg-type]
    fit("another way", lambda fit: fit.anneal(X, 0.5, by="hand"), "by: expected one of"),
    fit("one level", lambda fit: fit.anneal(X, 0.5, num_steps=1), "num_steps: expected a whole number of at least 2"),
    fit("a bad seed", lambda fit: fit.anneal(X, 0.5, seed=-1), "seed: expected a whole number from 0"),
    fit("infinite noise", lambda fit: fit.anneal(X, float("inf")), "noise: "),
)

OTHER_ANSWERS = (
    fit("no rows to draw", lambda fit: fit.sample(0), "num_data: expected a whole number of at least 1"),
    fit("rows without number", lambda fit: fit.sample("ten"), "num_data: "),  # type: ignore[arg-type]
    fit("draws in another way", lambda fit: fit.sample(3, by="eye"), "by: expected one of draws"),
    fit("draws of a bad seed", lambda fit: fit.sample(3, seed=1.5), "seed: "),  # type: ignore[arg-type]
    fit("checks of a bad seed", lambda fit: fit.verify(seed=-1), "seed: "),
    fit("a spread of text", lambda fit: fit.predict(X, spread="yes"), "spread: expected True or False"),  # type: ignore[arg-type]
    fit("probabilities of 1", lambda fit: fit.predict(X, probabilities=1), "probabilities: "),  # type: ignore[arg-type]
    fit("another group", lambda fit: fit.group("posterier"), "name: this fit has no group 'posterier'"),
    fit("numbers of no draw", lambda fit: fit.parameters(draw=-1), "draw: expected the number of a thinned draw"),
    fit("a report in no folder", lambda fit: fit.report("none/x.html"), "none/x.html: the folder none does not exist"),
    fit("a report nowhere", lambda fit: fit.report(None), "path: expected the path of a file"),  # type: ignore[arg-type]
    fit("a report with too few labels", lambda fit: fit.report("x.html", labels=[1, 2]), "labels: "),
    fit("a file that is a folder", lambda fit: fit.save("."), ".: it is a folder"),
    fit("a file called 3", lambda fit: fit.save(3), "path: expected the path of a file"),  # type: ignore[arg-type]
    fit("a summary of text", lambda fit: fit.summary_text(most="all"), "most: "),  # type: ignore[arg-type]
)


def law(what: str, ask: Callable[[Any], object], *says: str) -> Case:
    """A question to the distribution of ``b`` given ``a``."""
    return fit(what, lambda fit: ask(fit.conditional("b", {"a": [0.1, 0.2]})), *says)


CONDITIONALS = (
    fit("another target", lambda fit: fit.conditional("c", {"a": [0.1]}), "target: ", "'c'"),
    fit("no target", lambda fit: fit.conditional([], {"a": [0.1]}), "target: "),
    fit("a number as target", lambda fit: fit.conditional(3, {"a": [0.1]}), "target: "),  # type: ignore[arg-type]
    fit("a target twice", lambda fit: fit.conditional(["b", "b"], {"a": [0.1]}), "target: "),
    fit("the target is given", lambda fit: fit.conditional("a", {"a": [0.1]}), "given: "),
    fit("another feature", lambda fit: fit.conditional("b", {"c": [0.1]}), "given: "),
    fit("lengths that differ", lambda fit: fit.conditional("b", {"a": [0.1, 0.2], "c": [1.0]}), "given: "),
    fit("infinity", lambda fit: fit.conditional("b", {"a": [np.inf]}), "given: "),
    fit("text", lambda fit: fit.conditional("b", {"a": ["x"]}), "given: "),
    fit("too many columns", lambda fit: fit.conditional("b", np.ones((2, 3))), "given: "),
    fit("no draws", lambda fit: fit.conditional("b", {"a": [0.1]}, num_draws=0), "num_draws: "),
    law("a level above one", lambda law: law.quantile(1.5), "levels: "),
    law("a level of NaN", lambda law: law.quantile([np.nan]), "levels: "),
    law("values of other rows", lambda law: law.log_prob([1.0]), "data: expected 2 rows"),
    law("no draws of it", lambda law: law.sample(0), "num_draws: "),
)

# --- streams --------------------------------------------------------------------------------------------------


def begun(what: str, name: str, value: Any, *says: str, **others: Any) -> Case:
    """An option that a stream refuses."""
    return Case(what, lambda _: Stream(**({name: value} | others)), (f"{name}: ", *says))


OF_STREAMS = (
    begun("alpha of NaN", "alpha", float("nan"), "nan"),
    begun("alpha too small", "alpha", -1.0, "-1"),
    begun("alpha without end", "alpha", float("inf"), "inf"),
    begun("a discount of 1", "discount", 1.0, "1"),
    begun("no particles", "particles", 0, "from 1 to 2^20"),
    begun("half a particle", "particles", 1.5, "from 1 to 2^20"),
    begun("one warm row", "warm", 1, "at least 2"),
    begun("no slots", "capacity", 0, "from 1 to 2^20"),
    begun("another rule", "rule", "golden", "expected one of map, sample"),
    begun("another energy", "energy", "free", "expected one of collapsed"),
    begun("a half-life of zero", "half_life", 0.0, "0"),
    begun("drift of NaN", "drift", float("nan"), "nan"),
    begun("drift and forgetting", "forget", 3.0, "give drift or forget", drift=0.1),
    begun("pruning without tidying", "prune_count", 3, "tidy_every"),
    begun("a prior of one number", "learn_alpha", (1.0,), "two numbers of its prior"),
)


def stream(what: str, ask: Callable[[Stream], object], *says: str) -> Case:
    return Case(what, lambda place: ask(place.stream), says)


ROWS_OF_STREAMS = (
    stream("one column", lambda stream: stream.partial_fit(X[:, :1]), "data: expected the 2 features"),
    stream("a gap", lambda stream: stream.partial_fit(holed(np.nan)), "data: ", "missing value"),
    stream("infinity", lambda stream: stream.partial_fit(holed(np.inf)), "data: ", "infinite value"),
    stream("no rows", lambda stream: stream.partial_fit(X[:0]), "data: it is empty"),
    stream("text", lambda stream: stream.partial_fit(NAMED.assign(b="x")), "data: column 'b' holds text"),
    stream("no file", lambda stream: stream.partial_fit("gone.csv"), "gone.csv: no such file"),
    stream("a question of one column", lambda stream: stream.predict(X[:, :1]), "data: expected the 2 features"),
    stream("a question of a gap", lambda stream: stream.predict(holed(np.nan)), "data: ", "missing value"),
    stream("responsibilities of text", lambda stream: stream.responsibilities("x"), "x: "),
    stream("no draws", lambda stream: stream.to_fit(num_draws=0), "num_draws: expected a whole number of at least 1"),
    stream("no folder", lambda stream: stream.save("none/stream.nc"), "none/stream.nc: the folder none does not exist"),
    stream("a file called None", lambda stream: stream.save(None), "path: expected the path of a file"),  # type: ignore[arg-type]
    Case("a question before the first row", lambda _: Stream().predict(X), ("no data have come yet",)),
    Case("a load from nowhere", lambda _: Stream.load("gone.nc"), ("gone.nc", "no such file")),
    Case("a load of a number", lambda _: Stream.load(3), ("path: expected the path of a file",)),  # type: ignore[arg-type]
)

# --- estimators -----------------------------------------------------------------------------------------------


def mixture(what: str, *says: str, **options: Any) -> Case:
    how = {"n_components": 2, "covariance_type": "spherical", "n_init": 1} | options
    return Case(what, lambda _: probam.ProbamMixture(**how).fit(X), says)


ESTIMATORS = (
    mixture("no components", "components: ", "got 0", n_components=0),
    mixture("components of text", "components: ", n_components="two"),
    mixture("another covariance", "covariance: expected one of", covariance_type="round"),
    mixture("a covariance of 3", "covariance: ", covariance_type=3),
    mixture("another engine", "engine: expected one of", engine="gibs"),
    mixture("no starts", "restarts: ", n_init=0),
    mixture("another estimate", "estimate: ", estimate="best"),
    mixture("another family", "family: expected one of", family="gaussean"),
    mixture("a family of None", "family: ", family=None),
    mixture("alpha of NaN", "alpha: ", alpha=float("nan")),
    mixture("options that are no mapping", "fit_options: ", fit_options=[1]),
    mixture("an option twice", "fit_options: 'seed'", fit_options={"seed": 3}),
    mixture("another option", "colour: ", fit_options={"colour": "red"}),
    mixture("a bad seed", "seed: ", random_state=-1),
    Case("particles of a stream", lambda _: probam.ProbamStream(particles=0).fit(X), ("particles: ",)),
)

# --- several fits ---------------------------------------------------------------------------------------------

SEVERAL = (
    Case("a fit alone", lambda place: probam.compare(place.fit), ("fits: ", "put it into a list")),  # type: ignore[arg-type]
    Case("no fits", lambda _: probam.compare([]), ("fits: ", "got none")),
    Case("a path", lambda _: probam.compare("fit.nc"), ("fits: ", "load a saved fit first")),  # type: ignore[arg-type]
    Case("paths", lambda _: probam.compare(["fit.nc"]), ("fits: ", "probam.load")),  # type: ignore[list-item]
    Case("None", lambda _: probam.compare(None), ("fits: ",)),  # type: ignore[arg-type]
    Case(
        "held-out rows of other columns",
        lambda place: probam.compare([place.fit], X[:, :1]),
        ("held_out: expected the 2 features",),
    ),
    Case("too few labels", lambda place: probam.compare([place.fit], labels=[1, 2]), ("labels: ",)),
    Case("a bad seed", lambda place: probam.compare([place.fit], seed=-1), ("seed: ",)),
    Case("bridged of 1", lambda place: probam.compare([place.fit], bridged=1), ("bridged: ",)),  # type: ignore[arg-type]
    Case("another engine", lambda _: probam.compare_engines(X, ["gibs"], components=2), ("engines: expected one of",)),
    Case("engines in one word", lambda _: probam.compare_engines(X, "em", components=2), ("engines: ", "write ['em']")),
    Case("all rows held out", lambda _: probam.compare_engines(X, ["em"], held_out=1.0), ("held_out: ",)),
    Case("a share of text", lambda _: probam.compare_engines(X, ["em"], held_out="all"), ("held_out: ",)),  # type: ignore[arg-type]
    Case("a share of NaN", lambda _: probam.compare_engines(X, ["em"], held_out=float("nan")), ("held_out: ",)),
    Case("a report without fits", lambda _: probam.compare_report([], "x.html"), ("fits: ",)),
)

COVARIANCES = (
    Case("another shape", lambda _: probam.compare_covariances(X, ["round"], [1]), ("covariances: expected one of",)),
    Case("one word", lambda _: probam.compare_covariances(X, "full", [1]), ("covariances: ", "write ['full']")),
    Case("no numbers", lambda _: probam.compare_covariances(X, ["full"], []), ("components: ", "got none")),
    Case("a number of zero", lambda _: probam.compare_covariances(X, ["full"], [0]), ("components: ", "got 0")),
    Case(
        "another criterion", lambda _: probam.compare_covariances(X, ["full"], [1], criteria=["aic"]), ("criteria: ",)
    ),
    Case("another option", lambda _: probam.compare_covariances(X, ["full"], [1], engine="em"), ("engine: ",)),
    Case("no shortlist", lambda _: probam.compare_covariances(X, ["full"], [1], shortlist=0), ("shortlist: ",)),
    Case("a number of memories alone", lambda _: probam.compare_covariances(X, ["full"], 3), ("components: ",)),  # type: ignore[arg-type]
    Case("one fold", lambda _: cross_validate(X, num_folds=1, **FIT), ("num_folds: ",)),
    Case("more folds than rows", lambda _: cross_validate(X, num_folds=41, **FIT), ("num_folds: ",)),
    Case("folds of text", lambda _: cross_validate(X, num_folds="five", **FIT), ("num_folds: ",)),  # type: ignore[arg-type]
    Case(
        "calibration without a prior",
        lambda _: calibrate("gaussian", "dp", "em", components=2, prior={}, num_data=9, num_simulations=10),
        ("prior: ",),
    ),
    Case(
        "calibration of another family",
        lambda _: calibrate("gausian", "dp", "em", components=2, prior={}, num_data=9, num_simulations=10),
        ("family: ",),
    ),
)

Z = np.array([[0, 0, 1, 1], [0, 1, 1, 1], [0, 0, 0, 1]])

PARTITIONS = (
    Case("labels of one axis", lambda _: partitions.coclustering([0, 1]), ("labels: ",)),
    Case("labels of text", lambda _: partitions.coclustering([["a", "b"]]), ("labels: ",)),
    Case("labels of fractions", lambda _: partitions.coclustering(Z + 0.5), ("labels: ",)),
    Case("labels of NaN", lambda _: partitions.coclustering(np.where(Z > 0, np.nan, Z)), ("labels: ",)),
    Case("no labels", lambda _: partitions.coclustering([]), ("labels: ",)),
    Case("nothing", lambda _: partitions.point_partition(), ("labels, similarity: ",)),
    Case("another loss", lambda _: partitions.point_partition(Z, loss="hinge"), ("loss: ",)),  # type: ignore[arg-type]
    Case(
        "a matrix with gaps",
        lambda _: partitions.point_partition(similarity=np.full((2, 2), np.nan)),
        ("similarity: ",),
    ),
    Case("a matrix that is none", lambda _: partitions.point_partition(similarity=np.ones((2, 3))), ("similarity: ",)),
    Case("candidates of other data", lambda _: partitions.expected_loss([0, 1], Z), ("candidates: ",)),
    Case("a share above one", lambda _: partitions.credible_ball(Z, probability=1.5), ("probability: ",)),
    Case("another centre", lambda _: partitions.distances([0, 1], Z), ("centre: expected 4 labels",)),
    Case("pairs that are not there", lambda _: partitions.quantities(Z, pairs=[(0, 9)]), ("pairs: ",)),
    Case("one engine", lambda _: partitions.across_engines({"em": Z}), ("engines: ",)),
    Case("another method", lambda _: partitions.relabel(labels=Z, method="magic"), ("method: ",)),  # type: ignore[arg-type]
)

QUESTIONS: dict[str, Kind] = {
    "columns of a question": Kind(WIDTHS, Good(lambda place: place.fit.predict(NAMED[["b", "a"]]))),
    "options of recall": Kind(OF_RECALL, Good(lambda place: place.fit.recall(X, step=0.5, max_steps=2))),
    "other questions to a fit": Kind(OTHER_ANSWERS, Good(lambda place: place.fit.sample(3, by="ode"))),
    "conditionals": Kind(
        CONDITIONALS, Good(lambda place: place.fit.conditional("b", {"a": [0.1]}).quantile([0.1, 0.9]))
    ),
    "options of streams": Kind(OF_STREAMS, Good(lambda _: Stream(learn_alpha=(1, 2), forgetting="diffusion"))),
    "rows of streams": Kind(ROWS_OF_STREAMS, Good(lambda place: place.stream.predict(NAMED))),
    "estimators": Kind(ESTIMATORS, Good(lambda _: probam.ProbamMixture(2, covariance_type="diag", n_init=1).fit(X))),
    "comparisons": Kind(SEVERAL, Good(lambda place: probam.compare({"one": place.fit, "two": place.draws}))),
    "criteria": Kind(COVARIANCES, Good(lambda _: probam.compare_covariances(X, ("isotropic",), (1, 2)))),
    "partitions": Kind(PARTITIONS, Good(lambda _: partitions.point_partition(Z, loss="binder"))),
}
