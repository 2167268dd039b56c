"""A fit on disk: what goes in comes out, anyone can read it, and a bad file gets one clear sentence."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from probam.errors import InputError
from probam.reports.tree import build_tree, has, read_tree, variable, write_tree


def small(**groups: object) -> xr.DataTree:
    arguments: dict[str, object] = {
        "attributes": {"probam_version": "0.1.0"},
        "data": np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], np.float32),
        "columns": ["a", "b", "Größe <m²>"],
        "center": np.zeros(3),
        "scale": np.ones(3),
        "posterior": {"loc": (np.arange(24.0).reshape(1, 2, 4, 3), ("chain", "draw", "memory", "feature"))},
    }
    return build_tree(**(arguments | groups))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, posterior_tree: xr.DataTree) -> Path:
    path = tmp_path_factory.mktemp("fit") / "fit.nc"
    write_tree(posterior_tree, path)
    return path


def assert_same_bytes(left: xr.DataTree, right: xr.DataTree) -> None:
    for node in left.subtree:
        other = right[node.path].to_dataset() if node.path != "/" else right.to_dataset()
        for name, one in node.to_dataset().variables.items():
            assert one.dtype == other.variables[name].dtype, (node.path, name)
            assert one.values.tobytes() == other.variables[name].values.tobytes(), (node.path, name)


def test_a_fit_survives_the_disk_bit_for_bit(posterior_tree: xr.DataTree, saved: Path) -> None:
    loaded = read_tree(saved)
    xr.testing.assert_identical(posterior_tree, loaded)
    assert_same_bytes(posterior_tree, loaded)


def test_a_loaded_fit_can_be_saved_again(saved: Path, tmp_path: Path) -> None:
    loaded = read_tree(saved)
    write_tree(loaded, tmp_path / "again.nc")
    xr.testing.assert_identical(loaded, read_tree(tmp_path / "again.nc"))


def test_saving_over_the_file_that_was_loaded_works(saved: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.nc"
    copy.write_bytes(saved.read_bytes())
    loaded = read_tree(copy)
    write_tree(loaded, copy)
    xr.testing.assert_identical(loaded, read_tree(copy))


def test_odd_values_survive_the_disk(tmp_path: Path) -> None:
    tree = small(
        sample_stats={
            "diverging": (np.array([[True, False]]), ("chain", "draw")),
            "lp": (np.array([[np.nan, -np.inf]], np.float32), ("chain", "draw")),
            "n_steps": (np.array([[7, 2**40]]), ("chain", "draw")),
        },
        optimisation={"objective": (np.zeros((0, 5)), ("restart", "iteration"))},
        verification={"relation": (np.array(["E = −log p", ""]), ("check",))},
        coordinates={"check": ["A2", "Ünïcode"]},
        attributes={"probam_version": "0", "empty": "", "seed": 7, "seconds": 0.1, "none": None, "json": {"b": [1, 2]}},
    )
    write_tree(tree, tmp_path / "odd.nc")
    loaded = read_tree(tmp_path / "odd.nc")
    xr.testing.assert_identical(tree, loaded)
    assert_same_bytes(tree, loaded)
    assert {name: type(value) for name, value in loaded.attrs.items()} == {
        "probam_version": str,
        "empty": str,
        "seed": int,
        "seconds": float,
        "none": str,
        "json": str,
    }
    assert loaded.attrs["json"] == '{"b": [1, 2]}'


def test_large_arrays_are_compressed(tmp_path: Path) -> None:
    zeros = {"loc": (np.zeros((4, 500, 4, 3)), ("chain", "draw", "memory", "feature"))}
    write_tree(small(posterior=zeros), tmp_path / "fit.nc")
    assert (tmp_path / "fit.nc").stat().st_size < zeros["loc"][0].nbytes / 4


def test_plain_xarray_reads_a_fit_where_probam_is_not_installed(saved: Path) -> None:
    code = (
        "import sys, xarray; tree = xarray.open_datatree(sys.argv[1]); "
        "print(tree.attrs['engine'], tree['posterior']['loc'].dims, tree['observed_data'].feature.values[1]); "
        "assert not any(name == 'probam' or name.startswith('probam.') for name in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(saved)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "gibbs ('chain', 'draw', 'memory', 'feature') mass & co."


def test_every_dimension_has_labels() -> None:
    tree = small(
        partition={"coclustering": (np.eye(2), ("row", "row_bis")), "label": ([0, 1], ("datum",))},
        posterior_predictive={"x": (np.zeros((1, 5, 2, 3)), ("chain", "draw", "datum", "feature"))},
        coordinates={"partition/row": [0, 7], "draw": np.arange(2), "posterior_predictive/draw": [1, 3, 5, 7, 9]},
    )
    assert variable(tree, "partition", "row_bis").values.tolist() == [0, 7]
    assert variable(tree, "posterior_predictive", "draw").values.tolist() == [1, 3, 5, 7, 9]
    assert variable(tree, "posterior", "feature").values.tolist() == ["a", "b", "Größe <m²>"]
    assert variable(tree, "posterior", "memory").values.tolist() == [0, 1, 2, 3]
    assert variable(tree, "observed_data", "x").dtype == np.float32
    assert has(tree, "partition", "label")
    assert not has(tree, "partition", "memory")
    assert not has(tree, "recall")


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"data": np.zeros(3)}, r"data: expected shape \(N, 3\).*got \(3,\)"),
        ({"columns": ["a"]}, r"data: expected shape \(N, 1\).*got \(2, 3\)"),
        ({"memory": {"weight": (np.ones(3), ("memory", "feature"))}}, r"memory/weight: 2 dimensions"),
        ({"memory": {"mean": (np.ones((4, 2)), ("memory", "feature"))}}, r"'feature' has 3 entries, the array has 2"),
        (
            {"sample_stats": {"lp": (np.ones((1, 2)), ("chain", "draw")), "energy": (np.ones(3), ("draw",))}},
            r"sample_stats/energy: dimension 'draw' has 2",
        ),
        ({"coordinates": {"memory": ["one"]}}, r"coordinates: 'memory' of group 'posterior' needs 4 labels"),
        ({"group_attributes": {"posterior": {}, "psoterior": {}}}, r"group_attributes: no such group psoterior"),
        ({"memroy": {"weight": (np.ones(3), ("memory",))}}, r"groups: no such group memroy; known: sample_stats, "),
    ],
)
def test_shapes_that_do_not_fit_are_named(groups: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        small(**groups)


def test_a_truncated_file_is_refused_wherever_it_was_cut(saved: Path, tmp_path: Path) -> None:
    whole = saved.read_bytes()
    for share in np.linspace(0, 0.999, 15):
        cut = tmp_path / "cut.nc"
        cut.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(InputError, match=r"cut\.nc: not a readable NetCDF4 file, or a truncated one"):
            read_tree(cut)


def test_damage_inside_a_file_never_escapes_as_a_foreign_error(saved: Path, tmp_path: Path) -> None:
    whole = bytearray(saved.read_bytes())
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(12):
        damaged = bytearray(whole)
        for at in rng.integers(0, len(whole), 40):
            damaged[at] ^= 0xFF
        path = tmp_path / "damaged.nc"
        path.write_bytes(damaged)
        try:
            read_tree(path)
        except InputError:
            refused += 1
    assert refused >= 6  # 40 flipped bytes nearly always hit something that is checked


@pytest.mark.parametrize("content", [b"", b"eruptions,waiting\n3.6,79\n", b"\x89HDF\r\n\x1a\n"])
def test_a_foreign_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "foreign.nc"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"foreign\.nc: not a readable NetCDF4 file"):
        read_tree(path)


def test_a_netcdf_file_of_someone_else_is_refused(tmp_path: Path) -> None:
    xr.Dataset({"t": ("time", [1.0, 2.0])}).to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    with pytest.raises(InputError, match="no fit of probam"):
        read_tree(tmp_path / "other.nc")


def test_a_fit_without_its_posterior_is_refused(tmp_path: Path) -> None:
    tree = small()
    del tree["posterior"]
    write_tree(tree, tmp_path / "half.nc")
    with pytest.raises(InputError, match="lacks the group posterior"):
        read_tree(tmp_path / "half.nc")


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.nc: no such file"):
        read_tree(tmp_path / "none.nc")
    with pytest.raises(InputError, match="this is a folder"):
        read_tree(tmp_path)
    with pytest.raises(InputError, match=r"the folder .*nowhere does not exist"):
        write_tree(small(), tmp_path / "nowhere" / "fit.nc")
    with pytest.raises(InputError, match="it is a folder"):
        write_tree(small(), tmp_path)
