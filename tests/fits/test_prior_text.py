"""Priors as text: what is read, what is refused, and that the model uses them."""

import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

from probam.errors import InputError
from probam.fits.prior_text import priors_of_text
from probam.models.gaussian import Gaussian
from probam.models.mixture import mixture
from probam.models.weights import weight_prior


def test_numbers_lists_and_names_are_read() -> None:
    """Densities are SciPy's."""
    priors = priors_of_text(["loc = Normal([0, 1], 2.5)", "beta=Gamma(2, rate=0.5)"])
    np.testing.assert_allclose(priors["loc"].log_prob(np.ones(2)), stats.norm.logpdf(1.0, [0, 1], 2.5), rtol=1e-6)
    np.testing.assert_allclose(priors["beta"].log_prob(3.0), stats.gamma.logpdf(3.0, 2, scale=2), rtol=1e-6)


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["Normal(0, 1)"], "expected site=Distribution"),
        (["loc"], "expected site=Distribution"),
        (["loc=Normal"], "expected site=Distribution"),
        (["loc=Normal(0, 1"], "cannot read"),
        (["loc=Nrmal(0, 1)"], "no distribution called 'Nrmal'"),
        (["loc=biject_to(0)"], "no distribution called 'biject_to'"),
        (["loc=dist.Normal(0, 1)"], "expected site=Distribution"),
        (["loc=Normal(__import__('os').getpid(), 1)"], "arguments are numbers"),
        (["loc=Normal('a', 1)"], "arguments are finite numbers"),
        (["loc=Normal(1e999, 1)"], "arguments are finite numbers"),
        (["loc=Normal(0, -1)"], "does not take the arguments"),
        (["loc=Normal(0, 1, 2, 3)"], "does not take the arguments"),
        (["loc=Normal(**{'loc': 1})"], "expected site=Distribution"),
        (["loc=Normal(0, 1)", "loc=Normal(0, 2)"], "given twice"),
    ],
)
def test_all_else_is_refused(texts: list[str], words: str) -> None:
    """Nothing is executed: names that are not distributions, calls as arguments."""
    with pytest.raises(InputError, match=words):
        priors_of_text(texts)


def test_a_law_of_one_number_stands_for_every_entry() -> None:
    """The prior of a location of three features is three independent normals."""
    x = np.random.default_rng(0).normal(size=(20, 3))

    def model(law: dist.Distribution) -> dist.Distribution:
        weights = weight_prior("uniform")
        made = mixture(x, family=Gaussian("full"), weights=weights, num_components=2, prior={"loc": law})
        return made.prior["loc"]

    for law in (dist.Normal(0.0, 10.0), dist.Normal(np.zeros(3), 10.0), dist.Normal(np.zeros(3), 10.0).to_event(1)):
        assert model(law).event_shape == (3,)
        np.testing.assert_allclose(model(law).log_prob(np.ones(3)), 3 * stats.norm.logpdf(1.0, 0, 10), rtol=1e-6)
    for law in (dist.Normal(np.zeros(2), 1.0), dist.Dirichlet(np.ones(3)).expand((2,))):
        with pytest.raises(InputError, match=r"site 'loc' of one memory has shape \(3,\)"):
            model(law)
