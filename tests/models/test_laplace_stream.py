"""Laplace memories in a stream: the Gaussian that stands for them has their first two moments, and says what it is."""

import jax.numpy as jnp
import numpy as np
from scipy import integrate, stats

from probam.models.laplace import Laplace
from probam.streams.stream import Stream


def test_the_gaussian_that_stands_for_laplace_memories_has_the_moments_of_their_prior_predictive() -> None:
    x = np.random.default_rng(0).laplace(2.0, 1.5, (40, 1))
    family = Laplace()
    prior = family.prior(x)
    width = 0.7
    pair = family.approximate_pair({"scale": jnp.full((1, 1), width)}, prior)
    assert pair is not None
    law = prior["loc"].base_dist  # type: ignore[attr-defined]
    centre, spread = float(law.loc[0]), float(law.scale[0])

    def exact(power: int) -> float:
        def moment(m: float) -> float:  # of a Laplace datum around centre, given its memory's place
            inner = (m - centre, (m - centre) ** 2 + 2 * width**2)[power - 1]
            return float(inner * stats.laplace.pdf(m, centre, spread))

        return integrate.quad(moment, centre - 40 * spread, centre + 40 * spread, points=[centre], limit=200)[0]

    known = pair.begin(jnp.zeros(1), jnp.zeros((1, 2)))
    grid = np.linspace(centre - 60, centre + 60, 24_001)[:, None]
    statistics = pair.statistics(jnp.asarray(grid))
    log_density = pair.predict(known, pair.tables(0), jnp.asarray(grid[0]), statistics[0])
    assert np.isfinite(log_density).all()
    log_joint = pair.log_marginal(jnp.ones(len(grid)), statistics) + pair.log_base(jnp.asarray(grid))
    density = np.exp(np.asarray(log_joint))
    step = grid[1, 0] - grid[0, 0]
    assert np.isclose(density.sum() * step, 1, rtol=1e-8)
    shifted = grid[:, 0] - centre
    assert abs((density * shifted).sum() * step - exact(1)) < 1e-6
    assert np.isclose((density * shifted**2).sum() * step, exact(2), rtol=1e-6)


def test_a_stream_of_laplace_data_finds_its_groups_and_says_that_it_approximates() -> None:
    rng = np.random.default_rng(1)
    places = np.array([[-12.0, 0.0], [12.0, 3.0], [0.0, 20.0]])
    group = rng.integers(0, 3, 240)
    x = places[group] + rng.laplace(0, 0.5, (240, 2))
    stream = Stream(family="laplace", known={"scale": [0.5, 0.5]}, warm=60).partial_fit(x)
    owner = stream.predict(x)["label"].values
    commonest = [np.bincount(owner[group == k]).argmax() for k in range(3)]
    assert len(set(commonest)) == 3
    assert np.mean(owner == np.array(commonest)[group]) > 0.97  # the tails are not the Gaussian's: a few stand alone
    assert "no exact predictive density" in stream.warnings()[-1]
