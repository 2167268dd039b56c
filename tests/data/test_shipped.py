"""The sets inside the package are the ones their provenance names."""

import hashlib
import re
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from probam.data.shipped import Shipped, load_labels, load_shipped, load_text, load_texts, provenance, shipped
from probam.data.table import as_table
from probam.data.writing import write_table
from probam.errors import InputError

ARCHIVES = files("probam.data.shipped")
ORIGINALS = Path(__file__).resolve().parents[3] / "shared" / "data"
SETS = shipped()


@pytest.mark.parametrize("record", SETS, ids=lambda record: record.name)
def test_a_set_is_what_its_record_says(record: Shipped) -> None:
    table = load_shipped(record.name)
    assert table.values.shape == record.shape
    assert table.source == record.name
    assert table.values.dtype == (np.float32 if record.name == "banking77" else np.float64)
    if record.classes:
        labels = load_labels(record.name)
        assert labels.shape == record.shape[:1]
        assert len(np.unique(labels)) == record.classes
    else:
        with pytest.raises(InputError, match="no labels; data sets with labels are iris"):
            load_labels(record.name)


@pytest.mark.parametrize("record", SETS, ids=lambda record: record.name)
def test_the_archive_has_the_checksum_of_its_record_and_of_its_provenance(record: Shipped) -> None:
    assert hashlib.sha256((ARCHIVES / record.file).read_bytes()).hexdigest() == record.sha256
    text = provenance(record.name)
    assert re.search(rf"^# .*\b{record.name}\b", text)
    assert f"- sha256: {record.sha256}\n" in text
    licence = re.search(r"^- licence: (.*)$", text, re.MULTILINE)
    assert licence is not None
    assert licence[1].startswith(record.licence.split(" (")[0])
    assert "- source: " in text


@pytest.mark.skipif(not ORIGINALS.is_dir(), reason="the originals in ../shared/data are not here")
@pytest.mark.parametrize("record", SETS, ids=lambda record: record.name)
def test_the_archive_is_the_original(record: Shipped) -> None:
    stem = {"banking77.npz": "emb_banking77_train3k"}.get(record.file, record.file.removesuffix(".npz"))
    assert (ORIGINALS / stem / "data.npz").read_bytes() == (ARCHIVES / record.file).read_bytes()


def test_the_questions_stand_in_the_order_of_the_rows() -> None:
    texts = load_texts("banking77")
    assert len(texts) == 3000
    labels = load_labels("banking77")
    lost = [text.lower() for text, label in zip(texts, labels, strict=True) if label == "lost_or_stolen_card"]
    assert sum("lost" in text or "stolen" in text or "stole" in text for text in lost) > 0.6 * len(lost)
    with pytest.raises(InputError, match="sets with texts are banking77"):
        load_texts("iris")


@pytest.mark.skipif(not ORIGINALS.is_dir(), reason="the originals in ../shared/data are not here")
def test_the_questions_are_the_original_ones() -> None:
    original = pd.read_csv(ORIGINALS / "banking77_train" / "data.csv.gz")
    rows = np.sort(np.random.default_rng(1).permutation(len(original))[:3000])
    assert (original["category"].to_numpy()[rows] == load_labels("banking77")).all()
    assert [" ".join(text.split()) for text in original["text"].to_numpy()[rows]] == load_texts("banking77")


def test_the_package_grows_by_less_than_three_megabytes() -> None:
    sizes = [len((ARCHIVES / name).read_bytes()) for name in {record.file for record in SETS}]
    assert sum(sizes) < 3e6


def test_directions_have_length_one() -> None:
    for name in ("comets", "comets_with_fragments", "household_directions"):
        np.testing.assert_allclose(np.linalg.norm(load_shipped(name).values, axis=1), 1.0, rtol=1e-15)
    norms = np.linalg.norm(load_shipped("banking77").values.astype(np.float64), axis=1)
    np.testing.assert_allclose(norms, 1.0, rtol=2e-7)


def test_the_two_galaxy_sets_differ_in_value_78_alone() -> None:
    measured, printed = (load_shipped(name).values[:, 0] for name in ("galaxy82", "galaxy82_richardson_green"))
    np.testing.assert_array_equal(np.flatnonzero(measured != printed), [77])
    assert (measured[77], printed[77]) == (26.690, 26.960)


def test_comets_are_those_with_fragments_without_them() -> None:
    every = {tuple(row) for row in load_shipped("comets_with_fragments").values}
    whole = {tuple(row) for row in load_shipped("comets").values}
    assert whole < every
    assert len(load_labels("comets")) == len(load_shipped("comets").values)


def test_household_directions_are_the_proportions_of_household() -> None:
    raw = load_shipped("household").select(["housing", "food", "service"]).values
    directions = load_shipped("household_directions")
    assert directions.columns == ("housing", "food", "service")
    np.testing.assert_allclose(directions.values[:, :2] / directions.values[:, 2:], raw[:, :2] / raw[:, 2:], rtol=1e-13)


def test_iris_has_the_means_fisher_printed() -> None:
    table, labels = load_shipped("iris"), load_labels("iris")
    means = pd.DataFrame(table.values, columns=list(table.columns)).groupby(labels).mean()
    printed = {
        "setosa": [5.006, 3.428, 1.462, 0.246],
        "versicolor": [5.936, 2.770, 4.260, 1.326],
        "virginica": [6.588, 2.974, 5.552, 2.026],
    }
    for species, row in printed.items():
        np.testing.assert_allclose(means.loc[species], row, rtol=1e-12)


def test_an_unknown_name_is_told_the_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown data set 'faithfull'; .* \(did you mean 'faithful'\?\)"):
        load_shipped("faithfull")


@pytest.mark.parametrize("suffix", [".csv", ".npz", ".parquet"])
def test_a_set_written_out_reads_back_the_same(tmp_path: Path, suffix: str) -> None:
    for name in ("faithful", "letter20k", "household_directions"):
        table = load_shipped(name)
        write_table(table, tmp_path / f"{name}{suffix}")
        again = as_table(tmp_path / f"{name}{suffix}")
        np.testing.assert_array_equal(again.values, table.values)
        assert again.columns == table.columns


def test_the_shipped_text_is_the_one_of_its_provenance() -> None:
    text, said = load_text("tinyshakespeare"), provenance("tinyshakespeare")
    assert (len(text), len(set(text))) == (1115394, 65)
    assert f"- sha256 of the text: {hashlib.sha256(text.encode()).hexdigest()}\n" in said
    packed = hashlib.sha256((ARCHIVES / "tinyshakespeare.txt.gz").read_bytes()).hexdigest()
    assert f"- sha256: {packed}\n" in said
    with pytest.raises(InputError, match="unknown text 'hamlet'; the shipped texts are tinyshakespeare"):
        load_text("hamlet")
