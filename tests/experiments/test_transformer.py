"""The transformer laboratory: its verdicts follow the numbers, and a small run of all of it makes its page."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from probam.errors import InputError, Stop
from probam.experiments.experiment import Settings, html, write
from probam.experiments.transformer import TRANSFORMER, Sizes, run_sizes
from probam.experiments.transformer_findings import findings, knows, learned_at
from probam.inference.common.progress import Progress, Reporter

FORMS = ["tied", "untied concentrations", "untied proportions", "untied"]
SIMILAR = ["dot", "manhattan", "euclidean", "cosine"]
BLOCKS = ["standard", "energy transformer", "standard, as much work"]
IDS = ["findings", "setup", "limits", "figures", "numbers"]
MEASURES = ["loss", "accuracy", "of the relation", "from the marginal"]


def _study(curve: np.ndarray, dims: tuple[str, ...], coords: dict[str, list[object]], **attrs: object) -> xr.Dataset:
    sizes = tuple(len(coords[dim]) for dim in dims)
    shape = (dims, np.full(sizes, 1000))
    return xr.Dataset(
        {"curve": ((*dims, "seed", "step", "measure"), curve), "parameters": shape, "operations": shape},
        coords={**coords, "step": [0, 10, 20]},
        attrs={"batch": 4, "rate": 0.1, "length": 8, "width": 8, **attrs},
    )


def _tree(gain: float, together: bool, power: float) -> xr.DataTree:
    """Made-up numbers: gains of the freed forms over tied attention, facts learned with the relation, exponents."""
    rng = np.random.default_rng(0)

    def noisy(*shape: int) -> np.ndarray:
        return 2 + 0.001 * rng.normal(size=shape)

    text = noisy(2, 4, 5, 3, 1)
    text[:, 1:] -= gain
    facts = noisy(2, 4, 5, 3, 4) / 4
    facts[:, 1:, ..., 1] += gain
    facts[..., 2] = [0.1, 0.95, 1.0]
    facts[..., 1] += np.array([0.125, 0.9 if together else 0.13, 0.95]) - 0.5
    widths: list[object] = [8, 16]
    sizes = np.array([8.0, 16.0, 32.0])
    stored = 3 * sizes**power * np.exp(0.01 * rng.normal(size=(5, 3)))
    units = 3 * sizes ** (power - 1) * np.exp(0.01 * rng.normal(size=(5, 3)))
    heads = {
        name: (("form", "seed", "layer", "head"), noisy(4, 5, 2, 2))
        for name in (
            "concentration",
            "log_concentration_sd",
            "free_concentration_sd",
            "log_weight_sd",
            "free_weight_sd",
            "correlation",
            "memories",
            "energy",
        )
    }
    tree = xr.DataTree.from_dict(
        {
            "characters_layer": _study(
                text, ("width", "form"), {"width": widths, "form": [*FORMS], "measure": ["loss"]}
            ),
            "facts": _study(
                facts,
                ("width", "form"),
                {"width": widths, "form": [*FORMS], "measure": [*MEASURES]},
                subjects=4,
                relations=3,
                choices=8,
            ),
            "similarities": _study(noisy(4, 2, 3, 1), ("similarity",), {"similarity": [*SIMILAR], "measure": ["loss"]}),
            "blocks": _study(
                noisy(2, 3, 3, 3, 1),
                ("task", "block"),
                {"task": ["images", "characters"], "block": [*BLOCKS], "measure": ["loss"]},
            ).assign(
                without_context=(("task", "seed"), noisy(2, 3) + np.array([[1.0], [-1.0]])),
                network_width=("task", [16, 8]),
            ),
            "memories": xr.Dataset(
                {
                    "by_sum": (("seed", "sum_dim"), stored),
                    "trained": (("seed", "dim"), stored),
                    "perceptron": (("seed", "hidden"), units),
                },
                coords={"sum_dim": sizes, "dim": sizes, "hidden": sizes},
                attrs={"perceptron_dim": 12},
            ),
            "heads": xr.Dataset(
                heads | {"gap": (("form", "seed"), np.full((4, 5), 1e-14))},
                coords={"form": FORMS},
                attrs={"width": 16, "seen": 4.5},
            ),
        }
    )
    tree.attrs |= {"text": "wikitext2", "device": "cpu", "turns": 3, "seed": 0, "full": 0, "with_data": 1}
    tree.attrs |= {"seconds": 1.0, "versions": "{}"}
    return tree


def test_every_verdict_follows_its_numbers() -> None:
    ahead, behind = (
        findings(_tree(gain, together, power)) for gain, together, power in ((0.1, False, 1.8), (-0.1, True, 1.2))
    )
    for one, other in zip(ahead, behind, strict=True):
        if one.verdict == "note" or "competitive" in one.text:
            assert other.verdict == one.verdict
        else:
            assert (one.verdict, other.verdict) == ("agrees", "differs"), one.text
    assert sum(one.verdict == "agrees" for one in ahead) == 3 + 3 + 2 + 3 + 1
    none = findings(_tree(0.0, together=False, power=1.8))
    assert {one.verdict for one in none[:6]} <= {"undecided", "agrees", "differs"}
    assert sum(one.verdict == "undecided" for one in none[:6]) >= 3


def test_similarities_are_judged_on_the_text_of_the_paper_only() -> None:
    tree = _tree(0.1, together=False, power=1.8)
    judged = [one for one in findings(tree) if "competitive" in one.text]
    assert [one.verdict for one in judged] == ["agrees", "agrees"]
    tree.attrs["text"] = "tinyshakespeare"
    noted = [one for one in findings(tree) if "competitive" in one.text]
    assert [one.verdict for one in noted] == ["note", "note"]


def test_blocks_that_learned_nothing_are_said_not_to_be_compared() -> None:
    images, characters = (one.text for one in findings(_tree(0.1, together=False, power=1.8)) if "Masked" in one.text)
    assert "No block is better" not in images
    assert "No block is better" in characters


def test_facts_are_counted_when_the_relation_is_first_known() -> None:
    curve = xr.DataArray(
        [[[0.0, 0.1], [0.3, 0.95], [1.0, 1.0]], [[0.0, 0.1], [0.1, 0.2], [0.2, 0.3]]],
        dims=("seed", "step", "measure"),
        coords={"measure": ["accuracy", "of the relation"]},
    )
    np.testing.assert_array_equal(learned_at(curve), [1, np.nan])
    np.testing.assert_allclose(knows(curve, 0.125), [(0.3 - 0.125) / 0.875, np.nan])


def test_the_page_has_question_set_up_results_and_limits() -> None:
    text = html(TRANSFORMER, _tree(0.1, together=False, power=1.8))
    places = [text.index(part) for part in ("Does a transformer", *(f'id="{name}"' for name in IDS))]
    assert places == sorted(places)
    assert "would have shown the opposite" in text


def test_a_folder_without_wikitext_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no WikiText"):
        TRANSFORMER.run(Settings(data=tmp_path))


@pytest.mark.slow
@pytest.mark.timeout(900)  # it compiles some thirty trainings
def test_a_small_run_of_all_of_it_goes_on_after_a_pause_and_makes_its_page(tmp_path: Path) -> None:
    short = (4, 2, 3e-3, 4)
    sizes = Sizes(
        seeds=2,
        pairs=2,
        splits=2,
        length=12,
        widths=(8,),
        text=short,
        facts=(4, 3, 2),
        fact_widths=(8,),
        fact_plan=short,
        similarity_width=8,
        similarity_length=8,
        similarity=short,
        block_tasks=("images", "characters"),
        block_width=8,
        block=short,
        sums=(8, 12),
        trained=(4, 6),
        hidden=(4, 8),
        lists=200,
        list_widths=(8,),
        list_plan=short,
    )

    def stop(progress: Progress) -> None:
        if progress.done > 30:
            raise Stop("enough")

    with pytest.raises(Stop):
        run_sizes(Settings(progress=Reporter(stop, nothing_kept="stopped"), keep=tmp_path), sizes)
    done = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.eqx")}
    whole = run_sizes(Settings(keep=tmp_path), sizes)
    unfinished = [file for file, written in done.items() if file.stat().st_mtime_ns != written]
    assert len(done) > 4
    assert len(unfinished) <= 1
    again = run_sizes(Settings(keep=tmp_path), sizes)
    xr.testing.assert_identical(again, whole)
    whole.attrs |= {"seed": 0, "full": 0, "with_data": 0, "seconds": 1.0, "versions": "{}"}
    assert write(TRANSFORMER, whole, tmp_path)[-1].read_text().count("<svg role") == 7
