"""The landscape of a memory: its energy on the plane, paths that recall takes, and the fixed points where it ends."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import logsumexp

from probam.energies.clam import Clam
from probam.energies.composition import Composition
from probam.energies.dense import Network as Dense
from probam.energies.energy_transformer import EnergyTransformer
from probam.energies.memory import REAL, Card, Memory
from probam.energies.sequences import Sequence
from probam.energies.spherical import Spherical
from probam.energies.supports import Box
from probam.errors import InputError
from probam.fits.memory_landscape import landscape_of
from probam.reports.memory import memory_html, write_memory_page

RNG = np.random.default_rng(4)
PATTERNS = RNG.normal(size=(5, 4))
BETA = 0.8


@pytest.fixture(scope="module")
def memory() -> Clam:
    return Clam.store(PATTERNS, beta=BETA)


def test_the_energy_of_the_picture_is_that_of_its_points(memory: Clam) -> None:
    drawn = landscape_of(memory, PATTERNS)["recall"].to_dataset()
    for i, j in ((0, 0), (10, 50), (71, 30)):
        point = drawn["plane_origin"].values + drawn["grid_x"].values[j] * drawn["axis"].values[0]
        point = point + drawn["grid_y"].values[i] * drawn["axis"].values[1]
        expected = -logsumexp(-BETA * ((point - PATTERNS) ** 2).sum(axis=1)) / BETA
        assert drawn["grid_energy"].values[i, j] == pytest.approx(expected, rel=1e-5)
    _, _, directions = np.linalg.svd(PATTERNS - PATTERNS.mean(axis=0))
    np.testing.assert_allclose(np.abs(np.sum(drawn["axis"].values * directions[:2], axis=1)), 1)


def test_paths_end_at_fixed_points_and_go_downhill(memory: Clam) -> None:
    queries = PATTERNS + 0.3
    drawn = landscape_of(memory, PATTERNS, queries)["recall"].to_dataset()
    paths = drawn["trajectory"].values
    np.testing.assert_array_equal(paths[:, 0], queries)
    heights = np.asarray(memory.energy(jnp.asarray(paths)))
    assert np.diff(heights, axis=1).max() < 1e-12
    ends = drawn["attractor"].values[drawn["query_attractor"].values]
    np.testing.assert_allclose(memory.update(ends), ends, atol=1e-6)  # fixed points
    np.testing.assert_array_equal(paths[:, 1], memory.update(queries))
    assert (np.linalg.norm(paths[:, -1] - ends, axis=1) < 1e-2).all()


def test_the_border_of_a_basin_on_a_line_is_where_the_slope_vanishes_between_two_wells() -> None:
    places, beta = np.array([[0.0], [1.0], [1.3]]), 6.0
    line = Clam.store(places, beta=beta)
    drawn = landscape_of(line, places)["recall"].to_dataset()
    top = brentq(lambda v: float(jax.grad(lambda s: line.energy(s[None])[0])(jnp.array([v]))[0]), 0.3, 0.7)
    across, basin = drawn["grid_x"].values, drawn["grid_basin"].values[0]
    step = across[1] - across[0]
    first = across[np.flatnonzero(basin != 0)[0]]
    assert first - step <= top <= first
    middle = across[np.flatnonzero(drawn["grid_responsible"].values[0] != 0)[0]]
    assert middle - step <= 0.5 <= middle


def test_the_picture_ends_at_the_edge_of_the_simplex_and_of_the_sphere() -> None:
    parts = RNG.dirichlet(np.ones(3), 4)
    drawn = landscape_of(Composition.store(parts), parts)["recall"].to_dataset()
    plane = np.stack(np.meshgrid(drawn["grid_x"], drawn["grid_y"]), axis=-1) @ drawn["axis"].values
    inside = (plane + drawn["plane_origin"].values > 0).all(axis=-1)
    seen = np.isfinite(drawn["grid_energy"].values)
    assert 0.3 < seen.mean() < 0.98
    assert (seen == inside).mean() > 0.99  # the rim itself may be in or out
    units = PATTERNS / np.linalg.norm(PATTERNS, axis=1, keepdims=True)
    drawn = landscape_of(Spherical.store(units), units)["recall"].to_dataset()
    assert drawn.attrs["spherical"] == 1
    np.testing.assert_allclose(np.linalg.norm(drawn["trajectory"].values, axis=-1), 1, atol=1e-6)


def test_the_page_counts_fixed_points_and_says_why_nothing_moves(memory: Clam, tmp_path: Path) -> None:
    text = memory_html(landscape_of(memory, PATTERNS, columns=["<a>", "b", "c", "d"], parameters={"beta": BETA}))
    assert "Five patterns of four numbers are stored" in text
    assert "beta = 0.8" in text
    assert "<a>" not in text
    still = memory_html(landscape_of(Box.store(PATTERNS), PATTERNS))
    assert "Nothing moves: the energy is flat inside a box" in still
    assert "Squares" not in still
    with pytest.raises(InputError, match=r"the folder .*none does not exist"):
        write_memory_page(landscape_of(Box.store(PATTERNS), PATTERNS), tmp_path / "none" / "page.html")


class NoEnergy(Memory):
    """Recall without an energy."""

    card = Card("no_energy", REAL, "none", "none", "none", "none")
    no_energy = "its links are not symmetric"

    @property
    def shape(self) -> tuple[int, ...]:
        return (4,)


SIGNS = np.where(PATTERNS > 0, 1.0, -1.0)


@pytest.mark.parametrize(
    ("made", "rows", "said"),
    [
        (Dense.store(SIGNS), SIGNS, "the states of dense are signs, and there is no landscape between them"),
        (Sequence(SIGNS), SIGNS, "the states of sequences are signs"),
        (NoEnergy(), PATTERNS, "no_energy has no landscape, as it has no energy: its links are not symmetric"),
        (Clam.store(PATTERNS[:1]), PATTERNS[:1], "a landscape needs two different patterns"),
        (Clam.store(PATTERNS), PATTERNS[:, :2], r"patterns: expected shape \(..., 4\)"),
    ],
)
def test_what_has_no_landscape_says_so(made: Memory, rows: np.ndarray, said: str) -> None:
    with pytest.raises(InputError, match=said):
        landscape_of(made, rows)


def test_a_state_that_is_a_table_has_no_plane() -> None:
    block = EnergyTransformer(jnp.ones((1, 2, 3)), jnp.ones((1, 2, 3)), jnp.ones((4, 3)), beta=1.0, num_tokens=2)
    with pytest.raises(InputError, match="a state of energy_transformer is a table"):
        landscape_of(block, np.ones((2, 3)))
