"""Advice names only what the engine of the fit has: its options, and engines that can sample the same model."""

import inspect
import re
from typing import Any

import numpy as np
import pytest
import xarray as xr

from probam.fits.choices import find_engine
from probam.fits.options import ENGINES
from probam.reports.summaries.diagnostics import advice
from tests.reports.summaries.test_diagnostics import fit, noise

SEARCHES = ("em", "gradient_em", "clam", "svi", "cavi")


def troubled(engine: str, **attributes: Any) -> xr.DataTree:
    """A fit of this engine with every fault that advice is given on."""
    if engine in SEARCHES:
        lp = noise(1, 100) if engine in ("svi", "cavi") else np.array([[-7.5]])
        objective = {"objective": (np.stack([np.arange(50.0), -np.arange(50.0)]), ("restart", "iteration"))}
        search: dict[str, Any] = {"status": "max_steps", "what": "log joint density"}
        search |= {"pareto_k": 0.9} if engine == "svi" else {}
        return fit(lp, engine=engine, optimisation=objective, search_attributes=search, **attributes)
    walk = np.cumsum(noise(4, 200), axis=1) + np.arange(4)[:, None] * 50
    is_nuts = engine == "nuts"
    stats: dict[str, Any] = {"diverging": np.ones((4, 200), bool), "tree_depth": np.full((4, 200), 10), "energy": walk}
    return fit(walk, engine=engine, stats=stats if is_nuts else {}, **attributes)


@pytest.mark.parametrize("engine", ENGINES)
def test_options_that_are_advised_exist(engine: str) -> None:
    texts = [item.text for item in advice(troubled(engine))]
    advised = {name for text in texts for name in re.findall(r"option (\w+)", text)}
    if any("more restarts" in text for text in texts):
        advised.add("restarts")
    assert advised
    assert advised <= set(inspect.signature(find_engine(engine, {})).parameters)


def test_the_engine_that_is_advised_samples_the_model() -> None:
    for sampler, words in (("gibbs", "fit the same model with engine gibbs"), ("", "has no uncertainty.")):
        (text,) = [item.text for item in advice(troubled("em", sampler=sampler)) if "no uncertainty" in item.text]
        assert text.rstrip(".").endswith(words.rstrip("."))
    assert "conditional on what one pass" in " ".join(item.text for item in advice(fit(noise(1, 100), engine="stream")))


def test_more_memories_than_data_are_not_advised() -> None:
    full = {"num_occupied": np.full((4, 200), 5)}
    for limit, words in ((5, "Refit with more, say 10."), (40, ""), (25, "Refit with more, say 40.")):
        occupied = {"num_occupied": np.full((4, 200), limit)}
        tree = fit(noise(4, 200), invariant=occupied, weights="dp", num_components=limit)  # of 40 data
        (text,) = [item.text for item in advice(tree) if "truncation is too low" in item.text]
        assert text.endswith(words or "memories are occupied.")
    stream = fit(noise(1, 200), engine="stream", invariant={"num_occupied": full["num_occupied"][:1]}, weights="dp")
    assert "truncation" not in " ".join(item.text for item in advice(stream))
