"""Every memory recalls, falls and stores as it says; what it lacks it says in words; bad input gets one sentence."""

import ast
import doctest
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from probam.dynamics.memories import basins, complete, passes, recall
from probam.energies.clam import Clam, energy
from probam.energies.dense import Exponential
from probam.energies.dense import Network as Dense
from probam.energies.hopfield import Network as Hopfield
from probam.energies.memory import SIGNS as SIGN_ALPHABET
from probam.energies.memory import Memory, checked_patterns, sharpness
from probam.energies.quadratic import Quadratic
from probam.energies.random_features import RandomFeatures
from probam.energies.registry import MEMORIES, find_memory
from probam.energies.sequences import Sequence
from probam.energies.sparse_distributed import SparseDistributed
from probam.energies.supports import Box
from probam.errors import InputError
from probam.pytrees import pytree
from tests.energies.memory_cases import BITS, LOC, RECALLED, SIGNS, WITH_TWIN, WITHOUT_TWIN

ROOT = Path(__file__).resolve().parents[2]
CASES = WITH_TWIN | WITHOUT_TWIN

PARTS_OF_MEMORIES = {
    "arguments",
    "autoencoder",
    "bayesian_layers",
    "conventions",
    "crosstalk",
    "lagrangians",
    "large_bank",
    "memory",
    "novelty",
    "predictive_layers",
    "predictive_learning",
    "rates",
    "registry",
    "separations",
    "similarities",
    "simplex",
    "token_energies",
    "water_filling",
    "wells",
}
"""Modules of the energies that are no memories: what several share."""


def test_every_module_that_is_a_memory_is_in_the_registry() -> None:
    modules = {path.stem for path in (ROOT / "probam" / "energies").glob("*.py")} - {"__init__"}
    registered = {memory.__module__.rpartition(".")[2] for memory in MEMORIES.values()}
    assert modules - PARTS_OF_MEMORIES == registered


def test_every_memory_has_a_case_here() -> None:
    assert {name.split(",")[0] for name in CASES} == set(MEMORIES)
    assert {type(memory) for memory, _ in CASES.values()} == set(MEMORIES.values())
    assert set(RECALLED) == {name for name, memory in MEMORIES.items() if memory.store and not memory.still}


@pytest.mark.parametrize("name", MEMORIES)
def test_what_a_memory_lacks_it_gives_a_reason_for(name: str) -> None:
    memory = MEMORIES[name]
    assert (memory.energy is None) == bool(memory.no_energy)
    assert (memory.update is None) == bool(memory.no_update)
    assert (memory.store is None) == bool(memory.no_store)
    assert memory.energy is not None or memory.update is not None
    assert memory.card.name == name
    assert all((memory.card.energy, memory.card.update, memory.card.capacity, memory.card.source))


@pytest.mark.parametrize("name", MEMORIES)
def test_the_example_is_ten_lines_at_most_and_gives_a_number(name: str) -> None:
    examples = doctest.DocTestParser().get_examples(MEMORIES[name].__doc__ or "")
    assert 2 <= len(examples) <= 10
    assert any(character.isdigit() for character in examples[-1].want)


@pytest.mark.parametrize("name", [name for name, (memory, _) in CASES.items() if memory.falls])
def test_an_update_never_raises_the_energy(name: str) -> None:
    memory, points = CASES[name]
    assert memory.energy is not None
    assert memory.update is not None
    energy, update = memory.energy, memory.update
    before, after = (np.asarray(each) for each in jax.jit(lambda x: (energy(x), energy(update(x))))(points))
    assert np.all(np.isfinite(before))
    np.testing.assert_array_less(after - before, 1e-10)
    assert np.min(after - before) < -1e-3, "some updates lower it"


@pytest.mark.parametrize("separation", [None, 2.0])
def test_all_neurons_at_once_by_the_derivative_rule_never_raise_the_energy(separation: float | None) -> None:
    network = Dense.store(jnp.asarray(SIGNS), beta=separation, rule="derivative")
    assert network.falls
    states = jnp.asarray(np.random.default_rng(0).choice([-1.0, 1.0], size=(50, SIGNS.shape[1])))
    before, after = (np.asarray(network.energy(rows)) for rows in (states, network.update(states)))
    assert np.all(after <= before * (1 - 1e-12 * np.sign(before)))
    assert isinstance(network.separation, Exponential) == (separation is not None)


@pytest.mark.parametrize("name", RECALLED)
def test_a_pattern_is_recalled_from_a_noisy_start(name: str) -> None:
    patterns, queries, tolerance = RECALLED[name]
    store = MEMORIES[name].store
    assert store is not None
    memory = store(jnp.asarray(patterns))
    recalled = recall(memory, queries, tolerance=None if memory.update is not None else 1e-8)
    np.testing.assert_allclose(recalled.states, patterns, atol=tolerance)
    assert np.all(recalled.converged) or not memory.settles
    assert (recalled.energy is None) == (memory.energy is None)
    if recalled.energy is not None and memory.energy is not None:
        np.testing.assert_allclose(recalled.energy, jax.jit(memory.energy)(recalled.states), rtol=1e-9, atol=1e-12)


def test_recall_of_tokens_ends_where_their_energy_is_stationary() -> None:
    memory, states = WITHOUT_TWIN["energy_transformer"]
    recalled = recall(memory, states[:2], max_steps=400)
    assert recalled.states.shape == (2, 4, 3)
    assert memory.energy is not None
    assert recalled.energy is not None
    assert np.all(recalled.energy < memory.energy(jnp.asarray(states[:2])))


def test_flat_memories_say_why_nothing_moves() -> None:
    with pytest.raises(InputError, match="box has no recall: the energy is flat inside a box"):
        recall(Box(LOC, 1.0), LOC)


def test_both_layers_flow_to_the_state_that_the_update_finds() -> None:
    network = MEMORIES["two_layer"].store(jnp.asarray(LOC), beta=2.0)  # type: ignore[misc]
    at_rest, flowing = recall(network, LOC + 0.1), recall(network, LOC + 0.1, flow=True)
    assert np.all(flowing.converged)
    np.testing.assert_allclose(flowing.states, at_rest.states, atol=1e-4)
    with pytest.raises(InputError, match="flow: clam has one layer; only two_layer has two to integrate"):
        recall(Clam(LOC, 1.0), LOC, flow=True)


def test_a_default_width_is_the_same_in_every_convention() -> None:
    rows = jnp.array([[0.0, 0.0], [4.0, 0.0], [0.0, 2.0]])
    assert sharpness(rows, None) == 2.0  # 8 over the least square, 4
    assert sharpness(rows, None, "dot") == 4.0
    assert sharpness(rows, None, "sd") == 0.5
    assert sharpness(rows, None, power=1) == 4.0
    assert sharpness(rows, 7, "sd") == 7.0


def test_a_program_is_compiled_once_for_memories_of_one_size() -> None:
    traced: list[int] = []

    @pytree
    @dataclass(frozen=True, eq=False)
    class Counted(Clam):
        def update(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
            traced.append(1)
            return super().update(states)

    recall(Counted(LOC, 2.0), LOC)
    once = len(traced)
    recall(Counted(LOC + 1, 3.0), LOC)
    assert len(traced) <= once + 1, "the shapes are looked at, but nothing is traced to be compiled"


def test_basins_are_numbered_in_order_of_appearance() -> None:
    memory = Clam(jnp.array([[0.0, 0.0], [6.0, 0.0]]), 1.0)
    found = basins(memory, jnp.array([[5.0, 1.0], [1.0, 1.0], [5.5, 0.0]]))
    assert found.labels.tolist() == [0, 1, 0]
    np.testing.assert_allclose(found.attractors, [[6.0, 0.0], [0.0, 0.0]], atol=1e-6)


def test_the_pass_between_two_equal_memories_is_their_midpoint() -> None:
    memory = Clam(jnp.array([[0.0, 0.0], [6.0, 0.0]]), 1.0)
    found = passes(memory, memory.memories)
    np.testing.assert_allclose(found[0, 1], 9 - np.log(2), rtol=1e-6)  # the energy at (3, 0)


def test_completion_moves_the_missing_entries_only() -> None:
    memory = Clam(jnp.array([[0.0, 0.0], [6.0, 2.0]]), 1.0)
    ended = complete(memory, jnp.array([[5.0, 0.5]]), jnp.array([[False, True]]))
    np.testing.assert_allclose(ended.states, [[5.0, 2.0]], atol=1e-4)


def test_completion_without_a_separable_update_finds_the_same_end_by_gradients() -> None:
    queries, missing = LOC + 0.2, np.arange(3) == 1
    mask = np.broadcast_to(missing, queries.shape)
    by_update = complete(Quadratic(LOC, np.full(LOC.shape, 2.0)), queries, mask)
    full = 2.0 * np.broadcast_to(np.eye(3), (len(LOC), 3, 3))
    by_gradient = complete(Quadratic(LOC, full), queries, mask)
    np.testing.assert_allclose(by_update.states, by_gradient.states, atol=1e-6)


# --- write and erase ------------------------------------------------------------------------------------------------


def test_what_was_written_and_erased_leaves_no_trace() -> None:
    extra = jnp.asarray(np.random.default_rng(1).choice([-1.0, 1.0], size=(2, SIGNS.shape[1])))
    hopfield = Hopfield.store(jnp.asarray(SIGNS))
    np.testing.assert_array_equal(hopfield.write(extra).erase(extra).couplings, hopfield.couplings)
    both = Hopfield.store(jnp.concatenate([jnp.asarray(SIGNS), extra]))
    np.testing.assert_array_equal(hopfield.write(extra).couplings, both.couplings)
    sparse = SparseDistributed.store((jnp.asarray(SIGNS) + 1) / 2, num_locations=200)
    np.testing.assert_array_equal(sparse.write((extra + 1) / 2).erase((extra + 1) / 2).counters, sparse.counters)
    features = RandomFeatures.store(jnp.asarray(LOC), num_features=100, gamma=0.5)
    erased = features.write(jnp.asarray(LOC[:1])).erase(jnp.asarray(LOC[:1]))
    np.testing.assert_allclose(erased.stored, features.stored, atol=1e-12)


def test_random_features_estimate_the_energy_of_clam() -> None:
    exact = energy(LOC, LOC, 0.25)
    estimate = RandomFeatures.store(jnp.asarray(LOC), num_features=50_000, gamma=0.5).energy(LOC)
    np.testing.assert_allclose(estimate, exact, atol=5 * 4 * 2 / 50_000**0.5)  # five standard errors of the log


# --- one of one's own -----------------------------------------------------------------------------------------------

OWN = """
from dataclasses import dataclass
import jax.numpy as jnp
from probam.energies.memory import REAL, Card, Memory
{decorator}
@dataclass(frozen=True, eq=False)
class Bowl(Memory):
    memories: object
    card = Card("bowl", REAL, "|v - m|^2", "half-way to the pattern", "one", "here")
    def energy(self, states):
        return jnp.sum((states - jnp.asarray(self.memories)[0]) ** 2, -1)
    def update(self, states):
        return (states + jnp.asarray(self.memories)[0]) / 2
"""


@pytest.mark.parametrize("decorator", ["", "from probam.pytrees import pytree\n@pytree"])
def test_a_memory_of_ones_own_is_one_file(tmp_path: Path, decorator: str) -> None:
    path = tmp_path / "bowl.py"
    path.write_text(OWN.format(decorator=decorator))
    found = find_memory(f"{path}:Bowl")
    memory = found(jnp.array([[1.0, 2.0]]))  # type: ignore[call-arg]
    np.testing.assert_allclose(recall(memory, jnp.array([[5.0, 5.0], [0.0, 0.0]])).states, [[1, 2], [1, 2]], atol=1e-9)


# --- bad input ------------------------------------------------------------------------------------------------------


def test_bad_input_gets_one_sentence_with_the_remedy() -> None:
    memory = Clam(LOC, 1.0)
    with pytest.raises(
        InputError, match=r"queries: expected shape \(..., 3\), as the memory's states have; got \(2,\)"
    ):
        recall(memory, jnp.array([1.0, 2.0]))
    with pytest.raises(InputError, match=r"patterns: expected shape \(K, D\), one pattern in each row; got \(3,\)"):
        Clam.store(jnp.ones(3))
    with pytest.raises(InputError, match=r"patterns: expected -1 and 1 only; row 1 has 0, 1, 1, 1, ...; 2 b - 1"):
        checked_patterns(np.array([[-1.0, 1, 1, 1, 1], [0, 1, 1, 1, 1]]), SIGN_ALPHABET)
    with pytest.raises(InputError, match=r"queries: expected -1 and 1 only; row 0 has 0, 1, 0, 0, ...; 2 b"):
        recall(Hopfield.store(jnp.asarray(SIGNS)), (SIGNS[0] + 1) / 2)
    with pytest.raises(InputError, match=r"queries: expected rows of length 1; row 0 has .*; divide each row"):
        recall(WITH_TWIN["spherical"][0], LOC)
    with pytest.raises(InputError, match=r"queries: expected parts of at least 0 with the sum 1; row 0 has"):
        recall(WITH_TWIN["composition"][0], jnp.array([[0.5, 0.2, 0.1]]))
    with pytest.raises(InputError, match=r"flip: expected a probability above 0 and below 0.5; got 0.7"):
        MEMORIES["hypercube"].store(jnp.asarray(BITS), flip=0.7)  # type: ignore[misc]


def test_more_patterns_than_a_rule_can_store_are_refused() -> None:
    four = jnp.asarray(np.array([[1.0, 1, 1], [1, -1, 1], [-1, 1, 1], [1, 1, -1]]))
    with pytest.raises(InputError, match="patterns: the rule pseudo_inverse can store 2 patterns of 3 numbers; got 4;"):
        Hopfield.store(four, rule="pseudo_inverse")
    with pytest.raises(InputError, match="patterns: the rule hebb can store 3 patterns of 3 numbers; got 4; store"):
        Hopfield.store(four)
    with pytest.raises(InputError, match="patterns: a sequence of degree 1 can store 3 patterns of 3 numbers; got 4"):
        Sequence.store(four, degree=1)
    with pytest.raises(InputError, match="rule: expected hebb or pseudo_inverse; got 'storkey'"):
        Hopfield.store(four, rule="storkey")  # type: ignore[arg-type]


def test_an_unknown_name_gets_close_matches(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="memory: there is none called 'hopfeld'; did you mean hopfield"):
        find_memory("hopfeld")
    with pytest.raises(InputError, match="none called 'xyzzy'; `probam memory list` has all"):
        find_memory("xyzzy")
    with pytest.raises(InputError, match=r"no such file: nowhere.py; a memory of your own is named FILE.py:Name"):
        find_memory("nowhere.py:Bowl")
    empty = tmp_path / "empty.py"
    empty.write_text("x = 1\n")
    with pytest.raises(InputError, match="has no Memory called 'Bowl'; name a subclass of Memory in it"):
        find_memory(f"{empty}:Bowl")
    empty.write_text("x = \n")
    with pytest.raises(InputError, match=r"cannot be imported \(SyntaxError: .*line 1\)\); correct "):
        find_memory(f"{empty}:Bowl")


# --- what is reached ------------------------------------------------------------------------------------------------


def _imported(path: Path) -> set[str]:
    """Modules of energies and dynamics that a file imports anywhere, by room and name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for room in ("probam.energies", "probam.dynamics"):
                if node.module == room:
                    found |= {f"{room}.{name.name}" for name in node.names}
                elif node.module.startswith(room + "."):
                    found.add(node.module)
    return found


def test_no_energy_or_dynamics_is_reached_from_the_court_and_the_tests_alone() -> None:
    """From what a person can run (commands, fits, experiments, benchmarks) every module is reached, step by step."""
    rooms = [path for path in (ROOT / "probam").iterdir() if path.is_dir() and not path.is_symlink()]
    outside = [ROOT / name for name in ("models", "inference", "reports", "benchmarks", "examples")]
    folders = [room for room in rooms if room.name not in ("claims", "energies", "dynamics")] + outside
    reached: set[str] = set()
    front = {module for folder in folders for path in folder.rglob("*.py") for module in _imported(path)}
    while front:
        reached |= front
        paths = [ROOT / (module.replace(".", "/") + ".py") for module in front]
        front = {module for path in paths for module in _imported(path)} - reached
    modules = {
        f"probam.{room}.{path.stem}"
        for room in ("energies", "dynamics")
        for path in (ROOT / "probam" / room).glob("[!_]*.py")
    }
    assert modules - reached == set()


def test_memories_are_told_apart_by_default_in_any_units() -> None:
    for unit in (1e-3, 1.0, 1e4):
        memory = Clam.store(jnp.asarray(unit * LOC))
        np.testing.assert_allclose(recall(memory, unit * (LOC + 0.1)).states, unit * LOC, atol=0.01 * unit)
    assert sharpness(jnp.ones((2, 3)), None) == 8
    assert isinstance(MEMORIES["clam"](LOC, 1.0), Memory)  # type: ignore[call-arg]
    assert len(jax.tree.leaves(Clam(LOC, 1.0))) == 2


@pytest.mark.parametrize("name", ["variational", "bayesian_predictive_coding", "predictive_coding"])
@pytest.mark.parametrize("seed", [-1, 2**32, 10**20])
def test_a_seed_out_of_range_is_refused(name: str, seed: int) -> None:
    store = MEMORIES[name].store
    assert store is not None
    with pytest.raises(InputError, match=r"seed: expected a whole number from 0 to 2\*\*32 - 1"):
        store(np.eye(3), seed=seed)


@pytest.mark.parametrize("width", [-1.0, 0.0, np.nan])
def test_a_width_that_is_no_standard_deviation_is_refused(width: float) -> None:
    with pytest.raises(InputError, match="width: expected finite values above 0"):
        MEMORIES["variational"].store(np.eye(3), width=width, num_steps=1)  # type: ignore[misc]
