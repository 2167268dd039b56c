"""Streams of several particles as a user holds them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probam.errors import InputError
from probam.inference.stream.particles import number_of_memories
from probam.streams.learning import Learning
from probam.streams.partitions import WeightedPartitions
from probam.streams.stream import Stream

OPTIONS: dict[str, Any] = {
    "covariance": "isotropic",
    "known": {"beta": 2.0},
    "particles": 5,
    "rejuvenate_every": 40,
    "window": 50,
    "warm": 60,
    "capacity": 16,
    "learn_alpha": True,
    "learn_every": 20,
    "seed": 2,
}
CENTRES = np.array([[-4.0, 0.0], [0.0, 4.0], [4.0, 0.0]])


def rows(num_data: int) -> np.ndarray:
    rng = np.random.default_rng(6)
    return CENTRES[rng.integers(0, 3, num_data)] + 0.5 * rng.normal(size=(num_data, 2))


@pytest.fixture(scope="module")
def streamed() -> Stream:
    return Stream(**OPTIONS).partial_fit(rows(170))


def test_particles_cut_saved_and_loaded_end_in_the_same_bits(streamed: Stream, tmp_path: Path) -> None:
    cut = Stream(**OPTIONS)
    for piece in np.split(rows(170), [30, 95]):
        cut.partial_fit(piece).save(tmp_path / "stream.nc")
        cut = Stream.load(tmp_path / "stream.nc")
    for name, values in streamed._group(streamed._life).data_vars.items():
        assert cut._group(cut._life)[name].values.tobytes() == values.values.tobytes(), name
    assert cut.log_evidence == streamed.log_evidence == streamed.log_predictive


@pytest.mark.slow
def test_optimally_resampled_particles_cut_saved_and_loaded_end_in_the_same_bits(tmp_path: Path) -> None:
    whole, cut = (Stream(**OPTIONS, resampling="optimal") for _ in range(2))
    whole.partial_fit(rows(170))
    for piece in np.split(rows(170), [30, 95]):
        cut.partial_fit(piece).save(tmp_path / "stream.nc")
        cut = Stream.load(tmp_path / "stream.nc")
    for name, values in whole._group(whole._life).data_vars.items():
        assert cut._group(cut._life)[name].values.tobytes() == values.values.tobytes(), name
    assert np.isfinite(whole.log_predictive)


@pytest.mark.slow
def test_a_fit_draws_from_the_particles_by_weight(streamed: Stream) -> None:
    assert isinstance(streamed._life, Learning)
    partitions = streamed._life.partitions
    assert isinstance(partitions, WeightedPartitions)
    model_size = int(partitions.particles.size) + 1
    fitted = streamed.to_fit(num_draws=40)
    posterior = fitted.tree["posterior"].to_dataset()
    assert dict(posterior.sizes)["memory"] == model_size
    assert posterior.sizes["draw"] == 40
    np.testing.assert_allclose(posterior["weights"].sum("memory"), 1, rtol=1e-9)
    assert "partitions of 5 weighted particles" in fitted.tree.attrs["model"]
    law = streamed.number_of_memories()
    np.testing.assert_allclose(law, number_of_memories(partitions.particles)[law.index])
    assert law.sum() == pytest.approx(1)
    assert law.index.max() <= model_size - 1
    frame = streamed.memories()
    assert frame["count"].sum() == 170
    means = frame[["x0", "x1"]].to_numpy()[:3]
    assert np.linalg.norm(means[:, None] - CENTRES, axis=-1).min(axis=1).max() < 0.4


def test_evidence_is_only_given_where_it_is_estimated() -> None:
    assert Stream().log_evidence is None
    assert Stream(rule="sample", tidy_every=10).log_evidence is None
    assert Stream(rule="sample").log_evidence == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"particles": 0}, "particles: expected a whole number"),
        ({"particles": 3, "rule": "map"}, "use rule 'sample' with them"),
        ({"particles": 3, "tidy_every": 10}, "tidy_every: particles and rejuvenation"),
        ({"particles": 3, "resampling": "random"}, "resampling: expected one of systematic, optimal"),
        ({"resampling": "optimal"}, "resampling: one particle is never resampled"),
        ({"rejuvenate_every": -1}, "rejuvenate_every: expected a number of rows"),
        ({"rejuvenate_every": 5, "window": 0}, "window: expected a whole number"),
        ({"rejuvenate_every": 5, "energy": "printed"}, "rejuvenation needs exact densities"),
    ],
)
def test_particles_that_cannot_be_say_what_can(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Stream(**{"covariance": "isotropic", **options}).partial_fit(rows(10)).flush()
