"""The interface of a family is small, and what a family cannot do it says in words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.distributions import Distribution

from probam.errors import InputError
from probam.family import Family, Model, Moments, Params, Prior
from probam.family.capabilities import (
    Absent,
    AdditiveMStep,
    Capability,
    Conditionals,
    Conjugacy,
    DataSpace,
    ExpectedSums,
    Gradients,
    Guide,
    MeanFieldFactors,
    MissingEntries,
    MStep,
    Start,
    Statistics,
)
from probam.inference.em.engine import fit_params
from probam.models.gaussian import Gaussian
from probam.models.laplace import Laplace
from probam.models.levy import LevyMemory
from probam.models.mixture import mixture
from probam.models.multinomial import Multinomial
from probam.models.uniform import UniformMemory
from probam.models.von_mises_fisher import VonMisesFisherMemory
from probam.models.weights import Dirichlet
from tests.models.known_precision import KnownPrecision
from tests.models.logistic import Logistic

PRESENT = {DataSpace, Start, Gradients, Guide}
"""What every family has unless it says no."""
OPTIONAL = {
    Statistics,
    MStep,
    AdditiveMStep,
    Conditionals,
    Conjugacy,
    MeanFieldFactors,
    MissingEntries,
    ExpectedSums,
}


def test_the_interface_has_at_most_eight_members_and_a_newcomer_needs_three() -> None:
    members = {name for name in {*vars(Family), *Family.__annotations__} if not name.startswith("_")}
    assert members == {"name", "location", "as_they_are", "shared", "signature", "prior", "bank"}
    assert len(members) <= 8
    assert Family.__abstractmethods__ == {"prior", "bank"}
    own = {name for name in {*vars(Logistic), *Logistic.__annotations__} if not name.startswith("_")}
    assert own == {"name", "prior", "bank"}


def test_a_family_of_three_members_has_the_general_capabilities_and_says_why_it_lacks_the_others() -> None:
    reasons = []
    for kind in PRESENT:
        assert kind.ask(Logistic())
    for kind in OPTIONAL:
        answer = kind.ask(Logistic())
        assert isinstance(answer, Absent)
        assert not answer
        reasons.append(answer.reason)
        with pytest.raises(InputError, match=f"'logistic' has no {kind.__name__}: "):
            kind.of(Logistic())
    assert all(len(reason.split()) > 3 for reason in reasons)
    assert len(set(reasons)) >= len(OPTIONAL) - 1  # both kinds of M-step have one reason


@pytest.mark.parametrize(
    ("family", "kind", "reason"),
    [
        (LevyMemory(), MStep, "a memory could never pass a datum"),
        (LevyMemory(), Guide, "a Gaussian guide always reaches parameters"),
        (UniformMemory(), Gradients, "its density jumps"),
        (VonMisesFisherMemory(), MissingEntries, "unit length ties the coordinates together"),
        (Multinomial(), ExpectedSums, "a missing count leaves the row's total unknown"),
        (Gaussian("lkj"), AdditiveMStep, "LKJ correlations have no conjugate prior"),
    ],
)
def test_a_family_gives_its_own_reason(family: Family, kind: type[Capability], reason: str) -> None:
    answer = kind.ask(family)
    assert isinstance(answer, Absent)
    assert reason in answer.reason


def test_methods_on_a_family_that_inherits_nothing_make_a_capability_with_its_options() -> None:
    family = KnownPrecision(variance=2.0)
    m_step = AdditiveMStep.of(family)
    assert MStep.of(family).signature == family.signature == "known_precision,variance=2.0"
    x = jnp.asarray([[0.0, 1.0], [2.0, 5.0], [10.0, 3.0]])
    shares = jnp.asarray([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    params = {"loc": jnp.zeros((2, 2))}
    weight = 2.0 / 4.0  # variance / base_variance
    expected = [[2 / (2 + weight), 6 / (2 + weight)], [10 / (1 + weight), 3 / (1 + weight)]]
    prior = family.prior(np.asarray(x))
    np.testing.assert_allclose(m_step.maximize_from(x, shares, params, prior)["loc"], expected, rtol=1e-12)
    assert isinstance(Conditionals.ask(family), Absent)


@pytest.mark.parametrize("family", [KnownPrecision(), KnownPrecision(variance=0.2)])
def test_em_fits_a_family_written_without_capabilities(family: Family) -> None:
    x = np.concatenate([np.linspace(-5, -3, 20), np.linspace(2, 4, 30)])[:, None]
    model = mixture(x, family=family, weights=Dirichlet(), num_components=2)
    states, trace = fit_params(jax.random.key(0), model, jnp.asarray(x), restarts=2).ends
    assert np.nanmin(np.diff(trace[0][np.isfinite(trace[0])])) > -1e-9
    np.testing.assert_allclose(sorted(np.asarray(states.params["loc"])[0, :, 0]), [-4, 3], atol=0.1)


@dataclass(frozen=True, slots=True)
class Stepping(Family):
    """A family whose M-step leans on defaults that its class does not have, with an option in a slot."""

    width: float = 1.0
    name: ClassVar[str] = "stepping"

    def prior(self, x: np.ndarray) -> dict[str, Distribution]:
        return {"loc": dist.Normal(jnp.zeros(x.shape[1]), self.width).to_event(1)}

    def bank(self, params: Mapping[str, jax.Array]) -> Distribution:
        return dist.Normal(params["loc"], self.width).to_event(1)

    def maximize_from(self, x: jax.Array, responsibilities: jax.Array, params: Params, prior: Prior | None) -> Params:
        del responsibilities, prior
        origin, _ = DataSpace.of(self).frame(x)
        return {"loc": self.width * jnp.broadcast_to(origin, params["loc"].shape)}


def test_the_roles_of_one_family_share_its_options_and_defaults() -> None:
    family = Stepping(width=3.0)
    m_step = MStep.of(family)
    assert isinstance(m_step, DataSpace)
    params = m_step.maximize_from(jnp.asarray([[1.0], [3.0]]), jnp.ones((2, 1)), {"loc": jnp.zeros((1, 1))}, None)
    np.testing.assert_allclose(params["loc"], [[6.0]])
    np.testing.assert_allclose(m_step.spread(params), [[3.0]])
    np.testing.assert_allclose(m_step.memories(params), [[6.0]])


def test_a_family_whose_class_has_a_capability_is_handed_out_with_it() -> None:
    for family in (Gaussian("diagonal"), Laplace()):
        assert MStep.of(family).signature == family.signature
        assert Conjugacy.ask(family)
    assert isinstance(AdditiveMStep.ask(Laplace()), Absent)  # a median is no function of sums


def test_moments_are_sums_over_the_data_from_the_origin_of_the_frame() -> None:
    rng = np.random.default_rng(3)
    x, shares = rng.normal(4, 2, (7, 2)), rng.dirichlet(np.ones(3), 7)
    moments = AdditiveMStep.of(Gaussian("diagonal")).moments(jnp.asarray(x), jnp.asarray(shares))
    centred = x - x.mean(axis=0)
    expected = Moments(*map(jnp.asarray, (shares.sum(0), shares.T @ np.c_[centred, centred**2], x.mean(axis=0))))
    for value, right in zip(moments, expected, strict=True):
        np.testing.assert_allclose(value, right, rtol=1e-10)


def test_a_mixture_is_a_model_at_run_time() -> None:
    x = np.linspace(-1, 1, 6)[:, None]
    assert isinstance(mixture(x, family=Gaussian("full"), weights=Dirichlet(), num_components=2), Model)
    assert not isinstance(Gaussian("full"), Model)


@dataclass(frozen=True)
class Waiting(Family):
    """Independent Gamma features: positive data."""

    name: ClassVar[str] = "waiting"
    location: ClassVar[str] = "mean"

    def prior(self, x: np.ndarray) -> dict[str, Distribution]:
        level = np.log(x.mean(axis=0))
        return {"mean": dist.LogNormal(jnp.asarray(level), 1.0).to_event(1)}

    def bank(self, params: Mapping[str, jax.Array]) -> Distribution:
        return dist.Gamma(2.0, 2.0 / params["mean"]).to_event(1)


@dataclass(frozen=True)
class Events(Waiting):
    """Independent Poisson features: counts."""

    name: ClassVar[str] = "events"

    def bank(self, params: Mapping[str, jax.Array]) -> Distribution:
        return dist.Poisson(params["mean"]).to_event(1)


@dataclass(frozen=True)
class Shares(Waiting):
    """Compositions: a support of whole rows."""

    name: ClassVar[str] = "shares"

    def bank(self, params: Mapping[str, jax.Array]) -> Distribution:
        return dist.Dirichlet(params["mean"])


@pytest.mark.parametrize(
    ("family", "x", "message"),
    [
        (
            Waiting(),
            [[1, 2], [3, -4], [0, 1]],
            r"2 of 3 rows are outside .* 'waiting' \(numbers above 0\), the first is row 1, column 'b': -4",
        ),
        (
            Events(),
            [[1, 2], [3, 0.5]],
            r"1 of 2 rows .* \(whole numbers of at least 0\), the first is row 1, column 'b': 0.5",
        ),
        (
            Shares(),
            [[0.3, 0.7], [0.5, 0.6], [0.1, 0.1]],
            r"2 of 3 rows .* \(positive parts that sum to 1\), the first is row 1; leave",
        ),
    ],
)
def test_rows_outside_the_support_of_the_bank_are_named(family: Family, x: list[list[float]], message: str) -> None:
    for check in (DataSpace.of(family).check_support, DataSpace.of(family).check_data):
        with pytest.raises(InputError, match=message):
            check(np.asarray(x, float), ["a", "b"])


@pytest.mark.parametrize(
    ("family", "x"),
    [
        (Waiting(), [[1, 2], [np.nan, 4]]),
        (Events(), [[0, 2], [3, 7]]),
        (Shares(), [[0.3, 0.7], [np.nan, 0.9]]),
        (Gaussian("full"), [[-1, 2], [3, np.nan]]),
        (UniformMemory(), [[-1, 2], [3, 1e9]]),
        (Logistic(), [[-1, 2], [3, -1e9]]),
    ],
)
def test_rows_inside_the_support_and_missing_entries_pass(family: Family, x: list[list[float]]) -> None:
    DataSpace.of(family).check_support(np.asarray(x, float), ["a", "b"])


@dataclass(frozen=True)
class Particular(Waiting):
    """A family whose prior refuses data that are not its own: its support is not known before the fit."""

    name: ClassVar[str] = "particular"

    def prior(self, x: np.ndarray) -> dict[str, Distribution]:
        if (x < 100).any():
            raise InputError("data: expected numbers of at least 100")
        return super().prior(x)


def test_a_prior_that_refuses_made_up_data_leaves_the_support_unchecked() -> None:
    DataSpace.of(Particular()).check_support(np.asarray([[-1.0, 2.0]]), ["a", "b"])
