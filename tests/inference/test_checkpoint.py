"""A run of any engine that was cut ends in the bits of one that was not, and what was done is not done again."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import probam
from probam.errors import InputError
from probam.fits.options import ENGINES
from probam.inference.cavi import engine as cavi
from probam.inference.clam import clustering
from probam.inference.clam import engine as clam
from probam.inference.common.blocks import RowBlocks
from probam.inference.common.checkpoint import Saves
from probam.inference.common.progress import Listener, Progress
from probam.inference.common.result import EngineResult
from probam.inference.em import engine as em
from probam.inference.gibbs import engine as gibbs
from probam.inference.gradient_em import engine as gradient_em
from probam.inference.nuts import engine as nuts
from probam.inference.smc import cloud
from probam.inference.smc import engine as smc
from probam.inference.svi import climb as svi_climb
from probam.inference.svi import engine as svi
from probam.models.gaussian import Gaussian
from probam.models.mixture import Mixture, mixture
from probam.models.weights import weight_prior

X = np.random.default_rng(3).normal(size=(60, 1)) + 1.5 * np.arange(60)[:, None] % 4
KEY = jax.random.key(5)
IN_BLOCKS = RowBlocks(
    len(X), 32, X.dtype, lambda: (X[begin : begin + 9].copy() for begin in range(0, len(X), 9)), digest="1" * 64
)


class CutError(Exception):
    """The end of a process, as a test can have it."""


def model(weights: str, num_components: int = 3) -> Mixture:
    return mixture(X, family=Gaussian("isotropic"), weights=weight_prior(weights), num_components=num_components)


class Case(NamedTuple):
    """A short run of an engine in many chunks."""

    run: Callable[..., EngineResult]
    weights: str
    options: dict[str, Any]
    chunks: tuple[tuple[Any, str, int], ...]


CASES = {
    "em": Case(em.run, "dp", {"restarts": 3, "max_iterations": 40}, ((em, "_CHUNK", 5),)),
    "gradient_em": Case(
        gradient_em.run, "dirichlet", {"restarts": 3, "max_iterations": 20}, ((gradient_em, "_CHUNK", 5),)
    ),
    "gradient_em by adam": Case(
        gradient_em.run,
        "dirichlet",
        {"restarts": 2, "max_iterations": 30, "optimiser": "adam"},
        ((gradient_em, "_CHUNK", 5),),
    ),
    "clam": Case(
        clam.run, "uniform", {"num_epochs": 23, "restarts": 2}, ((clustering, "_CHUNK", 5), (em, "_CHUNK", 20))
    ),
    "svi": Case(
        svi.run,
        "dirichlet",
        {"restarts": 2, "num_steps": 120, "num_draws": 100},
        ((svi_climb, "_WINDOW", 20), (em, "_CHUNK", 20)),
    ),
    "cavi": Case(cavi.run, "dp", {"restarts": 2, "num_draws": 50}, ((cavi, "_CHUNK", 4),)),
    "nuts": Case(
        nuts.run,
        "dirichlet",
        {"num_chains": 2, "num_warmup": 12, "num_draws": 12},
        ((nuts, "_CHUNK", 5), (em, "_CHUNK", 20)),
    ),
    "gibbs": Case(gibbs.run, "dp", {"num_chains": 2, "num_warmup": 10, "num_draws": 30}, ((gibbs, "_WORK", 1000),)),
    "gibbs until its chains agree": Case(
        gibbs.run, "dirichlet", {"num_chains": 2, "num_warmup": 20}, ((gibbs, "_WORK", 90_000),)
    ),
    "smc": Case(smc.run, "dirichlet", {"num_particles": 40, "num_chains": 2, "num_moves": 1}, ((cloud, "_CHUNK", 1),)),
    "em over a file": Case(
        em.run, "dp", {"max_iterations": 8, "restarts": 1, "blocks": IN_BLOCKS}, ((em, "_CHUNK", 5),)
    ),
    "gradient_em over a file": Case(
        gradient_em.run,
        "dirichlet",
        {"max_iterations": 8, "restarts": 1, "blocks": IN_BLOCKS},
        ((gradient_em, "_CHUNK", 5),),
    ),
    "svi over a file": Case(
        svi.run,
        "dirichlet",
        {"num_steps": 120, "restarts": 1, "num_draws": 100, "batch_size": 9, "blocks": IN_BLOCKS},
        ((svi_climb, "_WINDOW", 20), (em, "_CHUNK", 20)),
    ),
    "cavi over a file": Case(
        cavi.run, "dp", {"max_iterations": 8, "restarts": 1, "num_draws": 50, "moves": False, "blocks": IN_BLOCKS}, ()
    ),
}
"""Those over a file begin at what they find in all rows, which are then no sample."""


def run(name: str, path: Path | None, progress: Listener | None = None, **options: Any) -> EngineResult:
    case = CASES[name]
    return case.run(
        KEY, model(case.weights), jnp.asarray(X), checkpoint=path, progress=progress, **case.options | options
    )


def cut_after(reports: int) -> Listener:
    """Ends the run at this report."""
    seen: list[Progress] = []

    def listen(step: Progress) -> None:
        seen.append(step)
        if len(seen) >= reports:
            raise CutError

    return listen


def assert_same_bits(one: EngineResult, other: EngineResult) -> None:
    for name in ("sites", "stats"):
        ours, theirs = getattr(one, name), getattr(other, name)
        assert ours.keys() == theirs.keys()
        for key in theirs:
            np.testing.assert_array_equal(ours[key], theirs[key], err_msg=key)
    assert (one.objective is None) == (other.objective is None)
    if one.objective is not None and other.objective is not None:
        np.testing.assert_array_equal(one.objective, other.objective)
    assert (one.status, one.note, one.restart_status) == (other.status, other.note, other.restart_status)


@pytest.fixture(autouse=True)
def _many_writings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probam.data.rotation.EVERY", 0)
    monkeypatch.setattr("probam.inference.gibbs.length._LONGEST", 4)


@pytest.fixture
def name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of a case, with its chunks."""
    for place, constant, value in CASES[request.param].chunks:
        monkeypatch.setattr(place, constant, value)
    return str(request.param)


def test_every_engine_has_a_case() -> None:
    assert {words.split()[0] for words in CASES} == set(ENGINES)


@pytest.mark.parametrize("name", CASES, indirect=True)
def test_a_run_cut_anywhere_ends_in_the_bits_of_one_that_was_not(name: str, tmp_path: Path) -> None:
    """It is cut again and again, each time a little later, until it ends."""
    reports: list[Progress] = []
    whole = run(name, None, progress=reports.append)
    path, rng, cuts = tmp_path / "run.ckpt", np.random.default_rng(0), 0
    while True:
        try:
            ended = run(name, path, progress=cut_after(int(rng.integers(2, 3 + len(reports) // 3))))
            break
        except CutError:
            cuts += 1
            assert cuts < 50, "it begins again and again"
    assert cuts >= 2
    assert_same_bits(ended, whole)
    again: list[Progress] = []
    assert_same_bits(run(name, path, progress=again.append), whole)
    assert len(again) < len(reports) / 2  # the file has the end: no chunk is done again


@pytest.mark.parametrize("name", ["em", "gradient_em", "svi", "cavi", "nuts", "gibbs"], indirect=True)
def test_a_run_that_was_asked_to_stop_goes_on(name: str, tmp_path: Path) -> None:
    def stop(step: Progress) -> None:
        late = {"svi": "SVI", "nuts": "NUTS sampling", "gibbs": "Gibbs sampling"}
        if step.text.startswith(late.get(name, "")):
            raise probam.Stop

    whole = run(name, None)
    stopped = run(name, tmp_path / "run.ckpt", progress=stop)
    assert stopped.status == "stopped"
    assert_same_bits(run(name, tmp_path / "run.ckpt"), whole)


@pytest.mark.parametrize("name", ["smc", "clam"], indirect=True)
def test_an_engine_without_a_part_to_keep_goes_on_too(name: str, tmp_path: Path) -> None:
    def stop(step: Progress) -> None:
        if step.done:
            raise probam.Stop

    with pytest.raises(probam.Stop):
        run(name, tmp_path / "run.ckpt", progress=stop)
    assert_same_bits(run(name, tmp_path / "run.ckpt"), run(name, None))


@pytest.mark.parametrize("name", CASES, indirect=True)
def test_a_checkpoint_of_other_options_is_refused(name: str, tmp_path: Path) -> None:
    path, which = tmp_path / "run.ckpt", sorted(CASES[name].options.keys() - {"blocks"})[0]
    with pytest.raises(CutError):
        run(name, path, progress=cut_after(4))
    before, value = path.read_bytes(), int(CASES[name].options[which])
    other = "ecg" if which == "optimiser" else value + 1
    if which == "num_draws":
        which, other = "restarts", CASES[name].options["restarts"] + 1
    with pytest.raises(InputError, match=rf"of another run: .*{which} is .* in the file and .* in this run"):
        run(name, path, None, **{which: other})
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", [name for name in CASES if "file" in name], indirect=True)
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"digest": "0" * 64}, "whole data differs"),
        ({"size": 8}, "rows of a block is 32 in the file and 8 in this run"),
        ({"bounds": (0, 20, 60)}, "whole data is read by 1 process in the file and read by 2 processes in this run"),
    ],
)
def test_a_checkpoint_of_other_rows_in_a_file_or_of_another_order_of_their_sums_is_refused(
    given: dict[str, Any], said: str, name: str, tmp_path: Path
) -> None:
    """The sample is the same."""
    path = tmp_path / "run.ckpt"
    with pytest.raises(CutError):
        run(name, path, progress=cut_after(4))
    with pytest.raises(InputError, match=f"of another run: {said}. Continue with the options it was made with"):
        run(name, path, blocks=replace(IN_BLOCKS, **given))


def test_the_checkpoint_of_other_data_says_how_they_differ(tmp_path: Path) -> None:
    with pytest.raises(CutError):
        run("em", tmp_path / "run.ckpt", progress=cut_after(2))
    for x, said in ((X + 1, "data differs"), (X[:50], r"data is float64\[60, 1\] in the file and float64\[50, 1\]")):
        with pytest.raises(InputError, match=f"of another run: {said}"):
            em.run(KEY, model("dp"), jnp.asarray(x), checkpoint=tmp_path / "run.ckpt", **CASES["em"].options)


def test_the_checkpoint_of_another_engine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CutError):
        run("em", tmp_path / "run.ckpt", progress=cut_after(2))
    with pytest.raises(InputError, match="engine is em in the file and cavi in this run"):
        run("cavi", tmp_path / "run.ckpt")


def test_phases_of_one_name_are_told_apart_by_their_order(tmp_path: Path) -> None:
    with Saves(tmp_path / "run.ckpt", {}) as saves:
        first, second = saves.phase("climb"), saves.phase("climb")
        first.save(3, {"x": jnp.arange(3)}, ended=True)
        second.save(1, {"x": jnp.arange(4)}, [{"trace": np.ones((2, 5))}, {"trace": np.zeros((2, 1))}])
    with Saves(tmp_path / "run.ckpt", {}) as saves:
        ended, going = (saves.phase("climb").resumed({"x": jnp.zeros(size, int)}) for size in (3, 4))
        assert saves.phase("climb").resumed({"x": jnp.zeros(3, int)}) is None
    assert ended is not None
    assert going is not None
    assert (ended.done, ended.ended, going.done, going.ended) == (3, True, 1, False)
    np.testing.assert_array_equal(going.state["x"], np.arange(4))
    np.testing.assert_array_equal(going.kept["trace"], [[1] * 5 + [0]] * 2)
    with Saves(tmp_path / "run.ckpt", {}) as saves, pytest.raises(InputError, match=r"shape \(5,\).*got \(3,\)"):
        saves.phase("climb").resumed({"x": jnp.zeros(5, int)})


def test_one_step_is_made_once(tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> jax.Array:
        made.append(1)
        return jnp.arange(2.0)

    for _ in range(2):
        with Saves(tmp_path / "run.ckpt", {}) as saves:
            np.testing.assert_array_equal(saves.phase("moves").once(make, like=jnp.zeros(2)), [0, 1])
    assert made == [1]


def test_the_file_is_plain(tmp_path: Path) -> None:
    """NumPy reads it without pickle, and its head says what it is."""
    with pytest.raises(CutError):
        run("em", tmp_path / "run.ckpt", progress=cut_after(2))
    with np.load(tmp_path / "run.ckpt", allow_pickle=False) as file:
        head = json.loads(str(file["head"]))
    assert head["format"] == "probam checkpoint"
    assert head["identity"]["engine"] == "em"
    assert [phase["name"] for phase in head["phases"]] == ["EM 1"]
