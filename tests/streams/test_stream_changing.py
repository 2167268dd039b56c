"""Streams that change with time, through the façade: options, files, fits and warnings."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probam.errors import InputError
from probam.streams.stream import Stream

OPTIONS: dict[str, dict[str, Any]] = {
    "fading": {"half_life": 30.0, "fading": "power", "discount": 0.2, "rule": "sample"},
    "drifting": {"drift": 0.01, "standardise": True},
    "forgetting": {"forget": 40.0, "slots": 3},
    "diffusion": {"forget": 40.0, "forgetting": "diffusion", "half_life": 50.0, "slots": 4},
    "learning": {"learn_discount": True, "learn_every": 25},
}


def rows(num_data: int, seed: int = 2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.asarray(5 * rng.normal(size=(5, 2))[rng.integers(0, 5, num_data)] + 0.5 * rng.normal(size=(num_data, 2)))


def make(**options: Any) -> Stream:
    standard: dict[str, Any] = {"covariance": "isotropic", "known": {"beta": 2.0}, "warm": 50}
    return Stream(**(standard | options))


@pytest.mark.parametrize("name", OPTIONS)
def test_a_changing_stream_that_is_cut_saved_and_loaded_goes_on_in_the_same_bits(name: str, tmp_path: Path) -> None:
    x = rows(200)
    whole = make(**OPTIONS[name]).partial_fit(x)
    cut = make(**OPTIONS[name]).partial_fit(x[:110])
    cut.save(tmp_path / "stream.nc")
    loaded = Stream.load(tmp_path / "stream.nc").partial_fit(x[110:])
    assert loaded.log_predictive == whole.log_predictive
    assert (loaded.alpha, loaded.discount) == (whole.alpha, whole.discount)
    one, two = loaded.memories(), whole.memories()
    assert one.equals(two)
    assert 0 < one["weight"].sum() < 1
    slots = OPTIONS[name].get("slots", 0)
    assert len(one) <= (slots or 99)


def test_draws_of_a_changing_stream_are_of_its_memories_as_they_are_now() -> None:
    """Drift: mean and spread of the drawn places are those of the filter; weights are those of faded counts."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(60, 2)) * 0.5 + 8, rng.normal(size=(60, 2)) * 0.5 - 8])
    stream = make(drift=0.05, half_life=20.0, alpha=0.5).partial_fit(x)
    table = stream.memories()
    assert len(table) == 2
    draws = stream.to_fit(num_draws=400).tree["posterior"].to_dataset()
    loc, weights = draws["loc"].values[0], draws["weights"].values[0]
    np.testing.assert_allclose(loc[:, :2].mean(axis=0), table[["x0", "x1"]].to_numpy(), atol=0.35)
    np.testing.assert_allclose(weights[:, :2].mean(axis=0), table["weight"].to_numpy(), atol=0.03)
    variance, noise = 0.05, 0.25  # precision beta 2: variance 1 / (2 beta)
    for _ in range(500):  # of a memory used with every datum, in the long run
        gain = variance / (variance + noise)
        variance = gain * noise + 0.05
    used, unused = (loc[:, k].std(axis=0) for k in np.argsort(table["last"].to_numpy())[::-1])
    np.testing.assert_allclose(used, np.sqrt(variance), rtol=0.15)
    np.testing.assert_allclose(unused, np.sqrt(variance + 0.05 * 60), rtol=0.15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drift": -1.0}, "drift"),
        ({"drift": 0.1, "forget": 5.0}, "not both"),
        ({"drift": 0.1, "energy": "printed"}, "energy"),
        ({"half_life": 0.0}, "half_life"),
        ({"half_life": 9.0, "alpha": -0.1, "discount": 0.5}, "alpha"),
        ({"fading": "cosine"}, "fading"),
        ({"forgetting": "total"}, "forgetting"),
        ({"slots": -3}, "slots"),
        ({"slots": 3, "tidy_every": 10}, "tidy_every.*slots"),
        ({"half_life": 9.0, "rejuvenate_every": 10, "rule": "sample"}, "rejuvenate_every.*half_life"),
        ({"learn_alpha": True, "half_life": 9.0}, "half_life"),
        ({"learn_alpha": True, "slots": 4}, "slots"),
        ({"learn_alpha": 3.0}, "learn_alpha"),
        ({"learn_discount": (1.0, 0.0)}, "learn_discount"),
    ],
)
def test_options_that_cannot_go_together_are_refused_in_one_sentence(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        make(**options)
    assert "\n" not in str(error.value)


def test_drift_of_a_family_that_cannot_is_refused_when_its_data_come() -> None:
    with pytest.raises(InputError, match="known variance"):
        Stream(family="bernoulli", drift=0.1, warm=4).partial_fit(np.eye(4)[:, :3])


def test_options_at_their_defaults_leave_the_stream_as_it_was() -> None:
    x = rows(150)
    plain = make().partial_fit(x)
    same = make(half_life=np.inf, drift=0.0, forget=None, slots=0, learn_alpha=False).partial_fit(x)
    assert plain.log_predictive == same.log_predictive
    assert plain.memories().equals(same.memories())


@pytest.mark.parametrize("discount", [0.0, 0.6])
def test_a_power_law_of_sizes_is_warned_of_under_a_dirichlet_process_alone(discount: float) -> None:
    rng = np.random.default_rng(4)
    alpha, counts, labels = 1.0 if discount else 8.0, np.zeros(0), []
    for _ in range(600):
        seats = np.append(counts - discount, alpha + discount * len(counts))
        k = rng.choice(len(seats), p=seats / seats.sum())
        counts = np.append(counts, 0) if k == len(counts) else counts
        counts[k] += 1
        labels.append(k)
    x = 60 * rng.normal(size=(len(counts), 2))[labels] + 0.1 * rng.normal(size=(600, 2))
    stream = make(known={"beta": 50.0}).partial_fit(x)
    warnings = stream.warnings()
    if discount == 0:
        assert warnings == []
        return
    assert len(warnings) == 1
    assert "power law" in warnings[0]
    assert "discount=0." in warnings[0]
    assert make(known={"beta": 50.0}, discount=0.5).partial_fit(x).warnings() == []
