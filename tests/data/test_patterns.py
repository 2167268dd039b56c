"""Patterns are rows of tables, images of IDX files and PNG images; a damaged source is named with what to do."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imsave

from probam.data.patterns import read_patterns
from probam.errors import InputError

IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    """An IDX file, by its definition."""
    head = bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize("name", ["a.idx", "train-images-idx3-ubyte", "a.idx.gz", "train-images-idx3-ubyte.gz"])
def test_images_of_an_idx_file_are_rows(tmp_path: Path, name: str) -> None:
    content = idx(IMAGES)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    patterns = read_patterns(str(tmp_path / name))
    np.testing.assert_array_equal(patterns.values, IMAGES.reshape(2, 12))
    assert patterns.shape == (3, 4)
    assert patterns.columns[:2] == ("x0", "x1")


def test_numbers_of_an_idx_file_are_big_endian(tmp_path: Path) -> None:
    values = np.array([[1.5, -300.25], [1e6, 0.0]], np.float32)
    (tmp_path / "f.idx").write_bytes(idx(values, 13))
    np.testing.assert_array_equal(read_patterns(str(tmp_path / "f.idx")).values, values)


def test_png_images_are_grey_and_in_the_order_of_their_names(tmp_path: Path) -> None:
    colours = np.zeros((3, 4, 3))
    colours[0, 0] = [1.0, 0.0, 0.5]
    imsave(tmp_path / "b.png", colours)
    imsave(tmp_path / "a.png", np.ones((3, 4, 3)))
    (tmp_path / "notes.txt").write_text("not an image")
    patterns = read_patterns(str(tmp_path))
    np.testing.assert_allclose(patterns.values[0], np.ones(12))
    np.testing.assert_allclose(patterns.values[1], [0.5, *[0] * 11], atol=1 / 255)


def test_tables_and_arrays_of_images(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3,4\n")
    table = read_patterns(str(tmp_path / "t.csv"))
    assert (table.columns, table.values.tolist(), table.shape) == (("a", "b"), [[1, 2], [3, 4]], None)
    np.save(tmp_path / "i.npy", IMAGES)
    np.testing.assert_array_equal(read_patterns(str(tmp_path / "i.npy")).values, IMAGES.reshape(2, 12))
    np.save(tmp_path / "m.npy", IMAGES[0].astype(float))
    np.testing.assert_array_equal(read_patterns(str(tmp_path / "m.npy")).values, IMAGES[0])


def test_a_damaged_source_gets_one_sentence_with_the_remedy(tmp_path: Path) -> None:
    def refused(name: str, content: bytes | None = None) -> str:
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError) as caught:
            read_patterns(str(tmp_path / name))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "no such file; check the path" in refused("gone.idx")
    assert "it is not an IDX file" in refused("b.idx", b"PNG...")
    assert "got 30; it may be truncated" in refused("c.idx", idx(IMAGES)[:30])
    assert "may be truncated" in refused("d.idx", idx(IMAGES)[:6])
    assert "cannot be read" in refused("e.idx.gz", b"no gzip")
    assert "it may be the file of labels" in refused("l.idx", idx(np.array([1, 2], np.uint8)))
    assert "not finite" in refused("n.idx", idx(np.array([[np.nan, 1]], np.float32), 13))
    (tmp_path / "empty").mkdir()
    assert "this folder has no PNG images" in refused("empty")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"text")
    assert "it cannot be read as a PNG image" in refused("bad")
    (tmp_path / "sizes").mkdir()
    imsave(tmp_path / "sizes" / "a.png", np.ones((2, 3, 3)))
    imsave(tmp_path / "sizes" / "b.png", np.ones((3, 3, 3)))
    assert "images of one size are needed; got 3 x 2 and 3 x 3; resize" in refused("sizes")
