"""The example on a file of draws runs as it is, its facts hold, and the file is what it says."""

import runpy
from pathlib import Path

import pytest
import xarray as xr

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "partitions_of_any_sampler.py"


def test_what_the_file_asserts_is_true(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", [str(EXAMPLE)])
    assert EXAMPLE.read_text().count("assert ") >= 3
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    said = capsys.readouterr().out
    assert "4 chains of 100 draws of mu, sigma, w" in said
    assert "num_occupied" in said


def test_the_draws_were_written_by_arviz_from_a_run_of_numpyro() -> None:
    with xr.open_dataset(EXAMPLE.with_name("galaxies.nc"), group="posterior", engine="h5netcdf") as file:
        assert file.attrs["inference_library"] == "numpyro"
        assert file.attrs["arviz_version"]
        assert dict(file.sizes) == {"chain": 4, "draw": 100, "component": 4}
