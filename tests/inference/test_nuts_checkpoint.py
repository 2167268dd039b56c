"""A run of NUTS that was cut ends in the bits of one that was not."""

import os
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.distributions import Distribution

from probam.errors import InputError
from probam.inference.common.checkpoint import described
from probam.inference.common.progress import Progress
from probam.inference.common.result import EngineResult
from probam.inference.nuts import engine as nuts
from probam.models.gaussian import Gaussian
from probam.models.mixture import Mixture, mixture
from probam.models.weights import weight_prior

X = np.random.default_rng(0).normal(0, 1, (12, 2))
OPTIONS: dict[str, Any] = {"num_warmup": 25, "num_draws": 28, "num_chains": 2}


class CutError(Exception):
    """Ctrl-C, as a test can have it."""


def _model(x: np.ndarray = X, covariance: str = "isotropic") -> Mixture:
    return mixture(x, family=Gaussian(covariance), weights=weight_prior("dirichlet"), num_components=2)


def _run(path: Path | None, x: np.ndarray = X, **options: Any) -> EngineResult:
    model = options.pop("model", None) or _model(x)
    key = options.pop("key", jax.random.key(4))
    return nuts.run(key, model, jnp.asarray(x), checkpoint=path, **OPTIONS | options)


def _cut(path: Path, steps: int) -> None:
    """A run that ends when so many steps are done."""

    def stop(step: Progress) -> None:
        if step.text.startswith("NUTS") and step.done >= steps:
            raise CutError

    with pytest.raises(CutError):
        _run(path, progress=stop)


def _assert_same_bits(result: EngineResult, expected: EngineResult) -> None:
    for ours, theirs in ((result.sites, expected.sites), (result.stats, expected.stats)):
        assert ours.keys() == theirs.keys()
        for name, values in theirs.items():
            np.testing.assert_array_equal(ours[name], values, err_msg=name)


@pytest.fixture(autouse=True)
def _short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probam.data.rotation.EVERY", 0)
    monkeypatch.setattr(nuts, "_CHUNK", 10)  # chunks of 10, 10, 5 warm-up steps and 10, 10, 8 draws


@pytest.fixture(scope="module")
def whole() -> EngineResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nuts, "_CHUNK", 10)
        return _run(None)


@pytest.mark.parametrize("steps", [10, 25, 45, 53])
def test_a_run_cut_in_warm_up_or_sampling_ends_in_the_bits_of_one_that_was_not(
    steps: int, whole: EngineResult, tmp_path: Path
) -> None:
    _cut(tmp_path / "run.ckpt", steps)
    reports: list[tuple[int, int]] = []
    resumed = _run(tmp_path / "run.ckpt", progress=lambda step: reports.append((step.done, step.total)))
    _assert_same_bits(resumed, whole)
    assert all(done > steps for done, _ in reports)  # what was done is not done again, the start least of all
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.ckpt", "run.ckpt.previous"]


def test_more_draws_continue_the_chains_and_fewer_are_a_part_of_them(whole: EngineResult, tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    first = _run(path, num_draws=13)
    _assert_same_bits(_run(path), whole)
    _assert_same_bits(_run(path, num_draws=13), first)
    np.testing.assert_array_equal(first.sites["loc"], whole.sites["loc"][:, :13])


def test_a_checkpoint_of_another_run_says_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    _cut(path, 10)
    other = X + 1e-9
    for options, difference in (
        ({"x": other, "model": _model()}, "data differs"),
        ({"model": _model(covariance="diagonal")}, "model differs"),
        ({"model": _model(other)}, "model differs"),  # the same program, priors moved by 1e-9
        ({"key": jax.random.key(5)}, r"key is .*0, 4\] in the file and .*0, 5\] in this run"),
        ({"num_warmup": 26}, "num_warmup is 25 in the file and 26 in this run"),
        (
            {"target_accept": 0.9, "dense_mass": True},
            "target_accept is 0.8 in the file and 0.9 in this run; dense_mass",
        ),
    ):
        before = path.read_bytes()
        with pytest.raises(InputError, match=f"checkpoint: .*of another run: {difference}.*delete it to start again"):
            _run(path, **options)
        assert path.read_bytes() == before


def test_a_version_that_made_other_bits_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _cut(tmp_path / "run.ckpt", 10)
    monkeypatch.setattr(
        "probam.inference.common.checkpoint.version", lambda name: "0.1" if name == "numpyro" else version(name)
    )
    with pytest.raises(InputError, match=r"numpyro is .* in the file and 0\.1 in this run"):
        _run(tmp_path / "run.ckpt")


def test_a_checkpoint_of_an_older_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    """It was NPZ without a seal."""
    path = tmp_path / "run.ckpt"
    with path.open("wb") as stream:
        np.savez(stream, head=np.array('{"format": "probam NUTS checkpoint 1", "schema": 1}'))
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"older version of probam.*delete it to start again, or name another file"):
        _run(path)
    assert path.read_bytes() == before


def test_where_no_file_can_be_written_the_run_does_not_begin(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        _run(tmp_path / "nowhere" / "run.ckpt")


def test_a_model_has_one_name_whatever_the_order_of_its_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPyro's order of a distribution's fields is that of a set of strings: another one in every process."""
    swapped = [
        {"loc": dist.Normal(jnp.array([a, a]), jnp.array([b, b])).to_event(1)} for a, b in ((1.0, 2.0), (2.0, 1.0))
    ]
    models = [
        _model(),
        _model(covariance="full"),
        *(replace(_model(), prior=dict(_model().prior) | one) for one in swapped),
    ]
    names = [described(model) for model in models]
    assert len(set(names)) == len(models)
    forwards = Distribution.gather_pytree_data_fields.__func__  # type: ignore[attr-defined]
    monkeypatch.setattr(Distribution, "gather_pytree_data_fields", classmethod(lambda cls: forwards(cls)[::-1]))
    assert [described(model) for model in models] == names


_ELSEWHERE = """
import sys
from pathlib import Path
import jax
jax.config.update("jax_enable_x64", True)
import numpy as np
from probam.inference.nuts import engine as nuts
from tests.inference.test_nuts_checkpoint import _run
nuts._CHUNK = 10
np.savez(sys.argv[2], **_run(Path(sys.argv[1])).sites)
"""


@pytest.mark.slow
def test_another_process_goes_on_to_the_same_bits(whole: EngineResult, tmp_path: Path) -> None:
    for seed in ("1", "2"):
        path, sites = tmp_path / f"{seed}.ckpt", tmp_path / f"{seed}.npz"
        _cut(path, 45)
        subprocess.run(
            [sys.executable, "-c", _ELSEWHERE, str(path), str(sites)],
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[2],
            check=True,
        )
        with np.load(sites) as made:
            for name, values in whole.sites.items():
                np.testing.assert_array_equal(made[name], values)


def test_a_run_on_another_number_of_devices_is_refused_with_the_remedy(tmp_path: Path) -> None:
    """The same chains on one and on two devices differ in their last bits, and then altogether."""
    path = tmp_path / "run.ckpt"
    _cut(path, 10)
    before, other = path.read_bytes(), 1 if jax.device_count() > 1 else 2
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={other}"
    told = subprocess.run(
        [sys.executable, "-c", _ELSEWHERE, str(path), str(tmp_path / "sites.npz")],
        env=os.environ | {"XLA_FLAGS": flags},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    ).stderr
    assert f"would run on {other} now" in told
    assert "XLA_FLAGS=--xla_force_host_platform_device_count=" in told
    assert path.read_bytes() == before
