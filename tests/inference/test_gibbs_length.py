"""Chains of Gibbs sampling that are lengthened until they agree are the chains of the length that was found."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probam.errors import InputError
from probam.inference.gibbs.engine import run
from probam.inference.gibbs.kernels import Settings
from probam.inference.gibbs.length import draws_agree, every_second, length_of
from probam.models.gaussian import Gaussian
from probam.models.mixture import mixture
from probam.models.weights import weight_prior
from probam.reports.summaries.convergence import ESS_PER_CHAIN

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(40, 1)) * np.repeat([1.0, 0.2], 20)[:, None]
MODEL = mixture(X, family=Gaussian("isotropic"), weights=weight_prior("dp"), num_components=3)


def blocked(**options: Any) -> Any:
    """The engine's result on the data above, with two chains."""
    return run(KEY, MODEL, jnp.asarray(X), num_chains=2, **options)


def length(num_data: int, **changes: Any) -> Any:
    """The length of four chains of two features and twenty memories."""
    given = {"has_conditionals": True, "num_chains": 4, "num_warmup": 500, "num_draws": None, "thin": None}
    return length_of((num_data, 2, 20), Settings("blocked", False, False, 0), **given | changes)


def test_a_lengthened_run_has_the_bits_of_the_run_with_that_thinning() -> None:
    found = blocked(num_warmup=7)  # an odd number of draws in all
    thin = int(found.note.split()[0])
    assert thin > 1
    assert thin & (thin - 1) == 0, "a power of two"
    asked = blocked(num_warmup=7, num_draws=1000, thin=thin)
    for name, values in (found.sites | found.stats).items():
        np.testing.assert_array_equal(values, (asked.sites | asked.stats)[name], err_msg=name)


def test_a_lengthened_run_meets_the_bars_that_its_first_length_misses() -> None:
    found, first = blocked(), blocked(num_draws=1000)
    assert draws_agree((found.sites, found.stats))
    assert not draws_agree((first.sites, first.stats))


def test_a_given_length_is_kept() -> None:
    found = blocked(num_warmup=3, num_draws=11)
    assert found.stats["lp"].shape == (2, 11)
    assert found.note == ""


def test_sweeps_are_counted_from_the_first_whatever_the_thinning() -> None:
    every, second = blocked(num_warmup=4, num_draws=16), blocked(num_warmup=2, num_draws=8, thin=2)
    np.testing.assert_array_equal(every.stats["lp"][:, 1::2], second.stats["lp"])


def test_doubling_keeps_the_draws_after_twice_the_warm_up() -> None:
    sweeps = np.arange(1, 21)[None]  # of one chain, of which the first 3 draws are warm-up
    kept, _ = every_second(({"t": sweeps[:, 3:]}, {}), 3)
    np.testing.assert_array_equal(kept["t"][0], [8, 10, 12, 14, 16, 18, 20])


def test_independent_draws_agree_and_chains_apart_do_not() -> None:
    rng = np.random.default_rng(1)
    stats = {name: rng.normal(size=(4, 500)) for name in ("lp", "occupied")}
    assert draws_agree(({}, stats))
    assert not draws_agree(({"alpha": stats["lp"] + np.arange(4)[:, None]}, stats))
    too_few = {name: values[:, : ESS_PER_CHAIN // 2] for name, values in stats.items()}
    assert not draws_agree(({}, too_few))


def test_large_data_and_slow_sweeps_are_not_lengthened() -> None:
    small = length(200)
    assert small.most > 8
    assert length(200, has_conditionals=False).most < small.most
    assert length(200, num_chains=16).most < small.most
    assert length(1_000_000).most == length(1_000_000).thin == 1


def test_either_number_given_fixes_the_length() -> None:
    assert length(200, num_draws=30)[1:] == (30, 1, 1)
    assert length(200, thin=3)[1:] == (1000, 3, 3)


@pytest.mark.parametrize("name", ["num_draws", "thin", "num_chains"])
def test_none_of_something_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"{name}: expected at least 1; got 0"):
        blocked(**{name: 0}) if name != "num_chains" else run(KEY, MODEL, jnp.asarray(X), num_chains=0)
