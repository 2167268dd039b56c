"""Memories on the command line: all are listed and explained, patterns of any kind are recalled, mistakes are named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imsave

from probam.cli.main import main
from probam.cli.memory_page import description, list_of_memories
from probam.energies.registry import MEMORIES
from tests.cli.conftest import Refusal
from tests.data.test_patterns import idx

ROOT = Path(__file__).resolve().parents[2]
OWN = f"{ROOT / 'examples' / 'a_memory_of_your_own.py'}:Phases"
RNG = np.random.default_rng(0)
SIGNS = RNG.choice([-1.0, 1.0], size=(3, 48))
NOISY = SIGNS * np.where(np.arange(48) < 5, -1, 1)


def test_all_are_listed_with_states_energy_and_density(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["memory", "list"]) == 0
    printed = capsys.readouterr().out
    for name, memory in MEMORIES.items():
        assert any(line.startswith(name) and memory.card.states.name in line for line in printed.splitlines())
    assert printed.count("density: ") == len(MEMORIES)
    assert main(["memory", "list", "--json"]) == 0
    records = {record["name"]: record for record in json.loads(capsys.readouterr().out)}
    assert list(records) == list(MEMORIES)
    assert records["random_features"]["twin"].startswith("none: the estimated kernel sum is negative")
    assert records["clam"]["twin"].startswith("A Gaussian mixture")


def test_one_is_explained_with_its_example_and_number(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["memory", "show", "clam"]) == 0
    printed = capsys.readouterr().out
    for words in ("clam: Clustering associative memory", "\\frac{1}{\\beta}", "Gaussian mixture", "3.915", "beta=None"):
        assert words in printed
    assert main(["memory", "show", "decoder", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["parameters"].startswith("it needs a decoder and an observation")
    assert main(["memory", "show", OWN]) == 0
    printed = capsys.readouterr().out
    assert "from a_memory_of_your_own import Phases" in printed
    assert "A mixture of products of von Mises laws" in printed


def test_the_page_lists_every_memory_as_the_registry_has_it() -> None:
    page = (ROOT / "docs" / "memories.md").read_text()
    listed = page.partition("<!-- memories -->\n\n")[2].partition("\n<!-- end of memories -->")[0]
    assert listed == list_of_memories(), "run: python -m probam.cli.memory_page docs/memories.md"
    front = page.partition("## In Python")[0]
    tasks = set(MEMORIES) - {name for name in MEMORIES if f"`{name}`" in front}
    assert tasks <= {"generalized_normal", "radial", "levy"}, "which memory for which task names all others"
    assert page.count("ClAM is") == 1


@pytest.mark.parametrize("name", MEMORIES)
def test_the_printed_example_runs_alone_and_gives_the_number(name: str) -> None:
    """Without the names of the module: what a reader pastes."""
    told = description(MEMORIES[name])
    scope: dict[str, object] = {}
    exec("\n".join([*told.imports, *told.example[:-1]]), scope)
    assert repr(eval(told.example[-1], scope)) == told.number
    assert len(told.imports) + len(told.example) <= 10


def test_the_python_of_the_page_runs() -> None:
    page = (ROOT / "docs" / "memories.md").read_text()
    code = page.partition("## In Python")[2].partition("```python\n")[2].partition("```")[0]
    scope: dict[str, object] = {}
    exec(code, scope)
    recalled: Any = scope["recalled"]
    np.testing.assert_allclose(recalled.states, np.array([[4.0, 0.0]]), atol=0.01)


def test_rows_of_a_table_are_recalled(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("p.csv").write_text("x,y\n0,0\n4,0\n0,5\n")
    Path("q.csv").write_text("x,y\n3.2,1\n0.3,4\n")
    words = ["memory", "recall", "clam", "--patterns", "p.csv", "--queries", "q.csv", "-o", "out.csv"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "3 of 3 patterns recall themselves\n2 of 2 queries converged, to 2 fixed points\nwrote out.csv" in printed
    frame = pd.read_csv("out.csv")
    assert list(frame.columns) == ["x", "y", "steps", "residual", "energy", "converged", "basin"]
    np.testing.assert_allclose(frame[["x", "y"]], [[4, 0], [0, 5]], atol=0.01)
    assert frame["basin"].tolist() == [0, 1]
    assert main([*words, "-p", "beta=1e-4"]) == 0
    printed = capsys.readouterr().out
    assert "1 of 3 patterns recall themselves\nthe others are not told apart; clam holds: every pattern" in printed
    assert sorted(path.name for path in here.iterdir()) == ["out.csv", "p.csv", "q.csv"]


@pytest.mark.usefixtures("here")
def test_the_dimension_where_recall_ends_is_written() -> None:
    """Patterns in a row: soft along it, stiff across."""
    np.save("p.npy", np.stack([np.linspace(-3, 3, 31), np.zeros(31)], axis=1))
    np.save("q.npy", np.array([[0.3, 0.4], [-0.2, -0.1]]))
    words = ["memory", "recall", "clam", "--patterns", "p.npy", "--queries", "q.npy", "-o", "out.csv"]
    assert main([*words, "-p", "beta=1.0", "--dimension"]) == 0
    assert pd.read_csv("out.csv")["dimension"].tolist() == [1, 1]


@pytest.mark.usefixtures("here")
def test_images_of_every_kind_are_recalled_as_signs(capsys: pytest.CaptureFixture[str]) -> None:
    images, noisy = (((rows + 1) * 127.5).astype(np.uint8).reshape(-1, 6, 8) for rows in (SIGNS, NOISY))
    Path("p-idx3-ubyte").write_bytes(idx(images))
    np.save("q.npy", noisy)
    Path("p").mkdir()
    for i, image in enumerate(images):
        imsave(f"p/{i}.png", np.repeat(image[..., None], 3, axis=2))
    words = ["--queries", "q.npy", "-o", "out.npz", "--threshold"]
    for patterns, threshold in (("p-idx3-ubyte", "127"), ("p", "0.5")):
        level = ["0.5", "--queries", "q.npz"] if threshold == "0.5" else [threshold]
        np.savez("q.npz", noisy.reshape(3, -1) / 255)
        for name in ("hopfield", "dense"):
            assert main(["memory", "recall", name, "--patterns", patterns, *words, *level]) == 0
            np.testing.assert_array_equal(np.load("out.npz")["state"], SIGNS)
    assert "3 of 3 queries converged, to 3 fixed points" in capsys.readouterr().out


@pytest.mark.usefixtures("here")
def test_a_sequence_takes_one_step_and_a_memory_of_ones_own_is_recalled(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("p.npy", SIGNS)
    np.save("q.npy", NOISY)
    files = ["--patterns", "p.npy", "--queries", "q.npy", "-o", "out.npz"]
    assert main(["memory", "recall", "sequences", *files]) == 0
    assert "3 queries were updated once" in capsys.readouterr().out
    np.testing.assert_array_equal(np.load("out.npz")["state"], np.roll(SIGNS, -1, axis=0))
    assert main(["memory", "recall", OWN, *files]) == 0
    np.testing.assert_allclose(np.load("out.npz")["state"], SIGNS, atol=0.01)


@pytest.mark.usefixtures("here")
def test_a_memory_is_verified_at_the_queries(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("p.npy", SIGNS[:, :4] + 0.3 * NOISY[:, 4:8])
    np.save("q.npy", NOISY[:, 8:12])
    files = ["--patterns", "p.npy", "--queries", "q.npy"]
    assert main(["memory", "verify", "clam", *files]) == 0
    printed = capsys.readouterr().out
    assert [line.split()[:2] for line in printed.splitlines()] == [["passed", n] for n in ("energy", "force", "update")]
    assert "probam.energies (clam) against NumPyro (MemoryMixture)" in printed
    assert main(["memory", "verify", "random_features", *files]) == 0
    printed = capsys.readouterr().out
    assert "left out  density: the estimated kernel sum is negative" in printed


@pytest.mark.usefixtures("here")
def test_the_landscape_of_a_memory_is_a_page(refusal: Refusal, capsys: pytest.CaptureFixture[str]) -> None:
    Path("p.csv").write_text("x,y\n0,0\n4,0\n0,5\n")
    Path("q.csv").write_text("x,y\n3.2,1\n0.3,4\n")
    words = ["--patterns", "p.csv", "--queries", "q.csv", "-o", "page.html"]
    assert main(["memory", "landscape", "clam", *words, "-p", "beta=2.0"]) == 0
    assert "wrote page.html" in capsys.readouterr().out
    page = Path("page.html").read_text()
    assert "Three of three patterns are recalled as themselves; three fixed points were found from 5 starts." in page
    assert "beta = 2.0" in page
    assert page.count('role="img"') == 1
    np.save("p.npy", SIGNS)
    words = ["--patterns", "p.npy", "-o", "page.html"]
    assert "the states of dense are signs, and there is no landscape between them" in refusal(
        "memory", "landscape", "dense", *words
    )
    assert "expected a name that ends in .html" in refusal("memory", "landscape", "clam", *words[:3], "page.csv")


@pytest.mark.usefixtures("here")
def test_mistakes_get_one_line_with_the_remedy(refusal: Refusal) -> None:
    np.save("p.npy", SIGNS)
    np.save("q.npy", NOISY)
    np.save("three.npy", NOISY[:, :3])
    np.save("zeros.npy", np.zeros((2, 48)))
    np.save("many.npy", RNG.choice([-1.0, 1.0], size=(5, 3)))

    Path("p.csv").write_text("x,y\n0,1\n")

    def refused(name: str, *more: str, patterns: str = "p.npy", queries: str = "q.npy", output: str = "o.csv") -> str:
        return refusal("memory", "recall", name, "--patterns", patterns, "--queries", queries, "-o", output, *more)

    assert "there is none called 'hopfeld'; did you mean hopfield" in refused("hopfeld")
    assert "none called 'clem'; did you mean clam" in refusal("memory", "show", "clem")
    assert "three.npy has 3 numbers in a row and p.npy 48; give both the same columns" in refused(
        "clam", queries="three.npy"
    )
    assert "expected 0 and 1 only; row 0 has" in refused("hypercube")
    assert "--threshold turns numbers into bits" in refused("hypercube")
    assert "queries: expected -1 and 1 only; row 0 has 0, 0, 0, 0, ..." in refused("hopfield", queries="zeros.npy")
    assert "expected rows of length 1" in refused("spherical")
    assert "row 0 is all zeros and has no direction" in refused("spherical", "--normalise", queries="zeros.npy")
    assert "the rule pseudo_inverse can store 2 patterns of 3 numbers; got 5; store fewer" in refused(
        "hopfield", "-p", "rule=pseudo_inverse", patterns="many.npy", queries="three.npy"
    )
    assert "clam has none called 'bta'; did you mean beta?" in refused("clam", "-p", "bta=2")
    assert "beta is a finite number; got 'x'" in refused("clam", "-p", "beta=x")
    assert "beta is a finite number; got inf" in refused("clam", "-p", "beta=Infinity")
    Path("gap.csv").write_text("a,b\n1,2\n3,\n")
    said = refused("clam", patterns="gap.csv")
    assert "gap.csv: column 'b' has a missing value in row 2 (line 3)" in said
    assert "--missing" not in said
    assert "beta: expected finite values above 0; got -1.0" in refused("clam", "-p", "beta=-1")
    assert "rule is a word; got 3" in refused("hopfield", "-p", "rule=3")
    assert "seed is a whole number; got 2.5" in refused("sparse_distributed", "--threshold", "0", "-p", "seed=2.5")
    assert "cyclic is true or false; got 1" in refused("sequences", "-p", "cyclic=1")
    assert "degree: expected a whole number n >= 1; got 0" in refused("dense", "-p", "degree=0")
    assert "decoder stores no patterns: it needs a decoder" in refused("decoder")
    assert "box has no recall: the energy is flat" in refused("box")
    assert "clam has one layer; only two_layer has two to integrate" in refused("clam", "--flow")
    assert "step: expected a number in (0, 2)" in refused("clam", "--step", "3")
    assert "gone.csv: no such file" in refused("clam", patterns="gone.csv")
    assert "this file is the input; choose another name" in refused("clam", patterns="p.csv", output="p.csv")
    assert "no such file: gone.py" in refused("gone.py:Mine")


def test_the_landscape_of_signs_is_refused_for_what_it_is(here: Path, refusal: Refusal) -> None:
    pd.DataFrame([[0.2, 0.8], [0.9, 0.1]]).to_csv("p.csv", index=False)
    said = refusal("memory", "landscape", "hopfield", "--patterns", "p.csv", "-o", "page.html")
    assert "memory: the states of hopfield are signs, and there is no landscape between them" in said
    assert "--threshold" not in said
    assert [path.name for path in here.iterdir()] == ["p.csv"]
