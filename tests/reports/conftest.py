"""Fits that the tests of this room look at and the report of one of them, each made once."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from playwright.sync_api import Browser

from probam.reports.html import report_html
from probam.reports.tree import build_tree
from tests.reports.browser import Open, Visit, launched, opened
from tests.reports.landscapes import Bank, with_landscape
from tests.reports.maximum_likelihood import expectation_maximisation, objective_of
from tests.reports.posteriors import (
    CHAIN_DRAW,
    invariant_variables,
    memory_variables,
    partition_variables,
    posterior_variables,
    relabelled,
    replicated,
)
from tests.reports.small_fits import (
    CENTER,
    COLUMNS,
    LIMIT,
    SCALE,
    THIN,
    Draws,
    checked,
    flat,
    gibbs,
    landscape,
    simulated,
    truncation_error,
)


@pytest.fixture(scope="session")
def draws() -> Draws:
    x = simulated(np.random.default_rng(7))
    return gibbs(x, np.random.default_rng(11), chains=4, warmup=300, draws=400, thin=THIN)


@pytest.fixture(scope="session")
def posterior_tree(draws: Draws) -> xr.DataTree:
    """A DP mixture of 66 data in two features: the tree of a fit with four chains."""
    rng = np.random.default_rng(3)
    x = simulated(np.random.default_rng(7))
    own = relabelled(draws)
    best = int(flat(draws.lp).argmax())
    plug_in = {"loc": own.loc[best], "beta": flat(draws.beta)[best], "weights": own.weights[best]}
    predictive = replicated(draws, rng)
    attributes = {
        "probam_version": "0.1.0",
        "family": "gaussian",
        "family_options": {"covariance": "isotropic"},
        "weights": "dp",
        "weights_options": {"alpha": "Gamma(2, 4)"},
        "num_components": LIMIT,
        "engine": "gibbs",
        "engine_options": {"num_warmup": 300, "num_draws": 400, "num_chains": 4},
        "seed": 11,
        "seconds": 1.61803,
        "dtype": "float64",
        "source": "simulated <three> groups.csv",
        "command": {
            "groups": [["probam", "fit", "simulated <three> groups.csv"], ["--weights", "dp"], ["-o", "fit.nc"]],
            "in_python": ["alpha"],
        },
        "model": "a Dirichlet process mixture of isotropic Gaussians, truncated at 8",
        "truncation": truncation_error(rng, len(x)),
        "versions": {"python": "3.11", "numpy": np.__version__},
    }
    return build_tree(
        attributes=attributes,
        data=CENTER + SCALE * x,
        columns=COLUMNS,
        center=CENTER,
        scale=SCALE,
        posterior=posterior_variables(draws),
        sample_stats={"lp": (draws.lp, CHAIN_DRAW)},
        invariant=invariant_variables(draws),
        log_likelihood={"x": (draws.pointwise, (*CHAIN_DRAW, "datum"))},
        posterior_predictive=predictive,
        memory=memory_variables(draws, own),
        partition=partition_variables(draws, own),
        recall=landscape(rng, plug_in, x),
        verification=checked(rng, plug_in),
        coordinates={"check": ["A2", "descent"]},
        group_attributes={"partition": {"loss": "vi"}},
    )


@pytest.fixture(scope="session")
def report(posterior_tree: xr.DataTree) -> str:
    """The report of ``posterior_tree``."""
    return report_html(posterior_tree)


@pytest.fixture(scope="session")
def report_file(report: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a file, which no test changes."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(report, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def em_tree() -> xr.DataTree:
    """Maximum likelihood for 30 features: one chain, one draw, five restarts of EM."""
    rng = np.random.default_rng(8)
    centres = rng.normal(size=(3, 30)) * 2
    x = centres[rng.choice(3, size=90, p=[0.4, 0.35, 0.25])] + rng.normal(size=(90, 30))
    searches = [expectation_maximisation(x, x[rng.choice(90, 3, replace=False)]) for _ in range(5)]
    best = max(searches, key=lambda search: search.trace[-1])
    labels = best.labels(x)
    return build_tree(
        attributes={
            "probam_version": "0.1.0",
            "family": "gaussian",
            "weights": "dirichlet",
            "num_components": 3,
            "engine": "em",
            "seed": 8,
            "seconds": 0.012,
            "source": "simulated",
            "model": "a mixture of three isotropic Gaussians",
        },
        data=x,
        columns=[f"f{i}" for i in range(30)],
        center=np.zeros(30),
        scale=np.ones(30),
        posterior={
            "loc": (best.loc[None, None], (*CHAIN_DRAW, "memory", "feature")),
            "beta": (np.reshape(best.beta, (1, 1)), CHAIN_DRAW),
            "weights": (best.weights[None, None], (*CHAIN_DRAW, "memory")),
        },
        sample_stats={"lp": (np.array([[best.trace[-1]]]), CHAIN_DRAW)},
        optimisation={"objective": (objective_of(searches), ("restart", "iteration"))},
        invariant={"num_occupied": (np.array([[len(np.unique(labels))]]), CHAIN_DRAW)},
        memory={
            "mean": (best.loc, ("memory", "feature")),
            "sd": (np.full((3, 30), 1 / np.sqrt(2 * best.beta)), ("memory", "feature")),
            "weight": (best.weights, ("memory",)),
            "occupied": (np.ones(3), ("memory",)),
            "size": (90 * best.weights, ("memory",)),
        },
        partition={"label": (labels, ("datum",))},
        group_attributes={"optimisation": {"status": "converged", "what": "log likelihood"}},
    )


@pytest.fixture(scope="session")
def line_tree() -> xr.DataTree:
    """One feature: a landscape that is a curve."""
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(0, 0.3, (30, 1)), rng.normal(1.3, 0.3, (50, 1))])
    return with_landscape(x, Bank(np.array([[0.0], [1.0], [1.3]]), 6.0, np.array([0.3, 0.3, 0.4]), spherical=False))


@pytest.fixture(scope="session")
def plane_tree() -> xr.DataTree:
    """Five features, seen on the plane of the two widest directions."""
    rng = np.random.default_rng(2)
    loc = rng.normal(size=(4, 5)) * 2
    x = loc[rng.integers(0, 4, 1200)] + rng.normal(size=(1200, 5)) * 0.7
    return with_landscape(x, Bank(loc, 1.0, np.array([0.4, 0.3, 0.2, 0.1]), spherical=False))


@pytest.fixture(scope="session")
def sphere_tree() -> xr.DataTree:
    """Directions in three dimensions, some on the far side."""
    rng = np.random.default_rng(3)
    loc = np.array([[0.0, 0.0, 1.0], [0.9, 0.0, 0.436], [-0.6, -0.7, -0.387]])
    loc /= np.linalg.norm(loc, axis=1, keepdims=True)
    x = loc[rng.choice(3, 300, p=[0.5, 0.35, 0.15])] + rng.normal(size=(300, 3)) * 0.25
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return with_landscape(x, Bank(loc, 16.0, np.array([0.5, 0.35, 0.15]), spherical=True))


@pytest.fixture(scope="session")
def crowded_tree() -> xr.DataTree:
    """Fifty memories in four features, all of which hold data."""
    rng = np.random.default_rng(4)
    loc = rng.normal(size=(50, 4)) * 3
    x = np.concatenate([loc, loc[rng.integers(0, 50, 350)]]) + rng.normal(size=(400, 4)) * 0.2
    return with_landscape(x, Bank(loc, 12.0, rng.dirichlet(np.full(50, 5.0)), spherical=False))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Not for the session: while Playwright runs, no other event loop can start in the process."""
    with launched() as browser:
        yield browser


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Open]:
    """Opens files in a browser; each in a window of its own, which is closed after the test."""
    with ExitStack() as stack:

        def open_page(path: Path, *, width: int = 1000, **options: Any) -> Visit:
            context = chromium.new_context(viewport={"width": width, "height": 900}, **options)
            return opened(stack.enter_context(context), path)

        yield open_page
