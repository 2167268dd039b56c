"""No file of code is opened because a file of data names it; an analysis is the person's own word, and names code.

``tests/fits/test_loading.py`` and ``tests/fits/test_files_choose_no_code.py`` have more on fits and streams.
"""

import json
import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet as parquet
import pytest
import xarray as xr
from h5netcdf.core import File

import probam
from probam.cli.main import main
from probam.data.table import as_table
from probam.errors import InputError
from probam.streams.stream import Stream
from tests.hostile.arrays import FIT, X
from tests.hostile.saved import FAMILY, GOOD_BANK, GOOD_PRIOR
from tests.hostile.watched import Watched

PA: Any = pyarrow  # not all of it has types
EVIL = "evil.py:Mine"
EXECUTED = "open('executed', 'w').write('yes')\n"
QUICK = (
    "--engine",
    "em",
    "--covariance",
    "isotropic",
    "--weights",
    "dirichlet",
    "--components",
    "2",
    "--restarts",
    "1",
)


class _Trap:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (exec, (EXECUTED,))


_WATCHED = Watched()  # its hook stays as long as the process


@pytest.fixture
def watched() -> Watched:
    _WATCHED.seen.clear()
    return _WATCHED


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with code that says if it was run, under every name that a file could give it."""
    monkeypatch.chdir(tmp_path)
    for name in ("evil.py", "X.py", "rows.py", "fit.py", "stream.py", "sitecustomize.py"):
        Path(name).write_text(EXECUTED)
    return tmp_path


def _csv() -> str:
    Path("rows.csv").write_text(f"{EVIL},=cmd|'/c calc'!A1\n1,2\n2,4\n3,1\n")
    return "rows.csv"


def _npz() -> str:
    np.savez("rows.npz", X=X, features=np.array([EVIL, "b"]), meta=np.array([_Trap()], object), loader=np.array(EVIL))
    return "rows.npz"


def _netcdf() -> str:
    data = xr.Dataset({"x": (("datum", "feature"), X)}, coords={"feature": [EVIL, "b"]})
    data.attrs = {"family": EVIL, "engine": EVIL, "loader": "evil", "_FillValue": 0, "model": "evil.py"}
    data["x"].attrs = {"units": EVIL, "family": EVIL}
    data.to_netcdf("rows.nc", engine="h5netcdf")
    return "rows.nc"


def _parquet() -> str:
    metadata = {
        "name": EVIL, "field_name": EVIL, "pandas_type": EVIL, "numpy_type": EVIL, "metadata": {"loader": EVIL},
    }  # fmt: skip
    about = {"columns": [metadata], "index_columns": [], "column_indexes": [], "creator": {"library": EVIL}}
    extension = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": pickle.dumps(_Trap()),
    }
    schema = PA.schema([PA.field(EVIL, PA.float64(), metadata=extension), PA.field("b", PA.float64())])
    table = PA.table([X[:, 0], X[:, 1]], schema=schema)
    parquet.write_table(table.replace_schema_metadata({b"pandas": json.dumps(about).encode()}), "rows.parquet")
    return "rows.parquet"


def _npy() -> str:
    np.save("rows.npy", X.astype([("evil.py:Mine", float)]))
    return "rows.npy"


@pytest.mark.parametrize("make", [_csv, _npz, _netcdf, _parquet, _npy], ids=lambda make: make.__name__[1:])
def test_a_table_runs_nothing(make: Callable[[], str], here: Path, watched: Watched) -> None:
    as_table(X)  # what reading needs is imported
    name = make()
    pd.DataFrame(X).to_parquet("plain.parquet")
    as_table("plain.parquet")
    Path("plain.parquet").unlink()
    with watched:
        for read in (as_table, Stream(warm=2).partial_fit):
            with suppress(InputError):
                read(name)
    _no_code(watched, here)


def _no_code(watched: Watched, here: Path) -> None:
    """No code of the working directory was opened, imported or run."""
    own = [each for each in watched.seen if "evil" in each or (each.endswith(".py") and str(here) in each)]
    assert own == []
    assert not any(each in ("import X", "import rows", "import fit", "import stream") for each in watched.seen)
    assert not any(each.startswith(("subprocess", "os.", "pickle")) for each in watched.seen)
    assert not (here / "executed").exists()
    watched.seen.clear()


def test_every_text_of_a_fit_may_name_code(here: Path, watched: Watched) -> None:
    """Each attribute of the file in turn; what is let through answers as before."""
    fitted = probam.fit(X, **FIT)
    fitted.save("fit.nc")
    whole = Path("fit.nc").read_bytes()
    expected = probam.load("fit.nc").predict(X)["label"].values
    names = [str(name) for name, value in fitted.tree.attrs.items() if isinstance(value, str)]
    assert len(names) > 10
    for name in names:
        Path("fit.nc").write_bytes(whole)
        with File("fit.nc", "r+") as file:
            file.attrs[name] = EVIL
        with watched, suppress(InputError):
            np.testing.assert_array_equal(probam.load("fit.nc").predict(X)["label"].values, expected)
        _no_code(watched, here)


def test_every_text_of_a_stream_may_name_code(here: Path, watched: Watched) -> None:
    stream = Stream(covariance="diagonal", warm=20).partial_fit(X)
    stream.save("stream.nc")
    whole = Path("stream.nc").read_bytes()
    options = json.loads(stream._group(stream._life).attrs["options"])
    for name in options:
        Path("stream.nc").write_bytes(whole)
        with File("stream.nc", "r+") as file:
            file.groups["stream"].attrs["options"] = json.dumps(options | {name: EVIL})
        with watched, pytest.raises(InputError):
            Stream.load("stream.nc")
        _no_code(watched, here)


def test_a_checkpoint_runs_nothing(here: Path, watched: Watched) -> None:
    how: dict[str, Any] = FIT | {"engine": "nuts", "restarts": None, "num_warmup": 2, "num_draws": 2, "num_chains": 1}
    probam.fit(X, checkpoint="run.npz", **how)
    head = {"format": EVIL, "identity": {"family": EVIL}, "states": 1, "done": 1, "schema": 1}
    for arrays in ({"head": np.array(json.dumps(head)), "state_0": np.zeros(2)}, {"head": np.array([_Trap()], object)}):
        Path("run.npz.previous").unlink(missing_ok=True)  # which would take over
        np.savez("run.npz", **arrays)  # type: ignore[arg-type]
        with watched, pytest.raises(InputError, match="checkpoint: "):
            probam.fit(X, checkpoint="run.npz", **how)
        _no_code(watched, here)


@pytest.mark.parametrize("key", ["data", "output", "labels", "covariance", "engine", "weights", "variable"])
def test_an_analysis_names_code_by_its_family_alone(key: str, here: Path, watched: Watched) -> None:
    values = {"data": "rows.csv", "engine": "em", "weights": "dirichlet", "components": 2} | {key: EVIL}
    Path("rows.csv").write_text("a,b\n" + "".join(f"{a},{b}\n" for a, b in X))
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    Path("analysis.toml").write_text("\n".join(["verify = false", "report = false", "[fit]", *lines]))
    main(["run", "analysis.toml", "--quiet"])
    with watched:
        assert main(["run", "analysis.toml", "--quiet"]) == 2
    _no_code(watched, here)


def test_the_family_of_an_analysis_is_the_persons_own_word(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is run, from the folder of the analysis; the fit then keeps the text, and nobody runs it from there."""
    (here / "sub").mkdir()
    code = EXECUTED + FAMILY.format(name="of an analysis", prior=GOOD_PRIOR, bank=GOOD_BANK)
    Path("sub/mine_of_an_analysis.py").write_text(code)
    Path("sub/rows.csv").write_text("a,b\n" + "".join(f"{a},{b}\n" for a, b in X))
    Path("sub/analysis.toml").write_text(
        "verify = false\nreport = false\n[fit]\ndata = 'rows.csv'\nfamily = 'mine_of_an_analysis.py:Mine'\n"
        "engine = 'gradient_em'\nweights = 'dirichlet'\ncomponents = 2\nrestarts = 1\noutput = 'fit.nc'\n"
    )
    assert main(["run", "sub/analysis.toml", "--quiet"]) == 0
    assert Path("executed").read_text() == "yes"
    Path("executed").unlink()
    monkeypatch.setattr("probam.family._FAMILIES", dict(probam.families()))
    assert main(["predict", "sub/fit.nc", "sub/rows.csv", "-o", "labels.csv", "--quiet"]) in (0, 2)
    assert not Path("executed").exists()
