"""Bad files of the program's own kinds: fits, streams, checkpoints; outputs that cannot be; code of one's own."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from h5netcdf.core import File

import probam
from probam.data.table import as_table
from probam.data.writing import write_table
from probam.energies.registry import find_memory
from probam.streams.stream import Stream
from tests.hostile.arrays import FIT, X, fitted
from tests.hostile.case import Case, Good, Kind, Place
from tests.hostile.files import written

__all__ = ["SAVED"]


def load(_: Place) -> object:
    return probam.load("fit.nc")


def load_stream(_: Place) -> object:
    return Stream.load("stream.nc")


def changed(path: str, change: Callable[[Any], object]) -> Callable[[], object]:
    """Changes a file of HDF5 in place."""

    def make() -> None:
        with File(path, "r+") as file:
            change(file)

    return make


def attribute(path: str, group: str, name: str, value: Any) -> Callable[[], object]:
    return changed(path, lambda file: (file if group == "/" else file.groups[group]).attrs.__setitem__(name, value))


def without(path: str, name: str) -> Callable[[], object]:
    return changed(path, lambda file: file._h5file.__delitem__(name))


def cut(path: str, part: float) -> Callable[[], object]:
    def make() -> None:
        content = Path(path).read_bytes()
        Path(path).write_bytes(content[: int(part * len(content))])

    return make


def bent(path: str, at: float) -> Callable[[], object]:
    """Turns 200 bytes over."""

    def make() -> None:
        content = bytearray(Path(path).read_bytes())
        begin = int(at * len(content))
        content[begin : begin + 200] = bytes(255 - byte for byte in content[begin : begin + 200])
        Path(path).write_bytes(content)

    return make


FITS = (
    Case("nothing there", lambda _: probam.load("gone.nc"), ("gone.nc", "no such file")),
    Case("a number", lambda _: probam.load(3), ("path: expected the path of a file",)),  # type: ignore[arg-type]
    Case("text", load, ("fit.nc",), written("fit.nc", "hello")),
    Case("empty", load, ("fit.nc",), written("fit.nc", b"")),
    Case("cut in half", load, ("fit.nc",), cut("fit.nc", 0.5)),
    Case("without its end", load, ("fit.nc",), cut("fit.nc", 0.98)),
    Case("bytes turned over", load, ("fit.nc",), bent("fit.nc", 0.7)),
    Case(
        "data",
        lambda _: probam.load("rows.nc"),
        ("rows.nc",),
        lambda: xr.Dataset({"x": (("i", "j"), X)}).to_netcdf("rows.nc", engine="h5netcdf"),
    ),
    Case("a stream", lambda _: probam.load("stream.nc"), ("stream.nc",)),
    Case("no posterior", load, ("fit.nc", "posterior"), without("fit.nc", "posterior")),
    Case("no site", load, ("fit.nc", "posterior"), without("fit.nc", "posterior/loc")),
    Case("another family", load, ("fit.nc", "gausian"), attribute("fit.nc", "/", "family", "gausian")),
    Case("no number of memories", load, ("fit.nc",), attribute("fit.nc", "/", "num_components", -2)),
    Case("a version to come", load, ("fit.nc", "newer version"), attribute("fit.nc", "/", "schema", 999)),
    Case("a digest of junk", load, ("fit.nc", "digest"), attribute("fit.nc", "/", "digest", "junk")),
)

STREAMS = (
    Case("text", load_stream, ("stream.nc",), written("stream.nc", "hello")),
    Case("empty", load_stream, ("stream.nc",), written("stream.nc", b"")),
    Case("cut in half", load_stream, ("stream.nc",), cut("stream.nc", 0.5)),
    Case("bytes turned over", load_stream, ("stream.nc",), bent("stream.nc", 0.7)),
    Case("a fit", lambda _: Stream.load("fit.nc"), ("fit.nc", "stream")),
    Case("no group", load_stream, ("stream.nc",), without("stream.nc", "stream")),
    Case(
        "options of junk", load_stream, ("stream.nc", "options"), attribute("stream.nc", "stream", "options", "{junk")
    ),
    Case(
        "options of another stream",
        load_stream,
        ("stream.nc", "'colour'"),
        attribute("stream.nc", "stream", "options", json.dumps({"family": "gaussian", "colour": 1})),
    ),
    Case("columns of junk", load_stream, ("stream.nc", "columns"), attribute("stream.nc", "stream", "columns", "?")),
    Case("another number of rows", load_stream, ("stream.nc",), attribute("stream.nc", "stream", "num_data", 7)),
    Case("another type of numbers", load_stream, ("stream.nc",), attribute("stream.nc", "stream", "dtype", "int8")),
    Case("a version to come", load_stream, ("stream.nc", "newer version"), attribute("stream.nc", "/", "schema", 999)),
    Case(
        "alpha below zero",
        load_stream,
        ("alpha",),
        attribute("stream.nc", "stream", "options", json.dumps({"family": "gaussian", "alpha": -1.0})),
    ),
)


def resumed(name: str = "run.npz", **options: Any) -> Callable[[Place], object]:
    """A short run of NUTS that would go on from a file."""
    how = FIT | {"engine": "nuts", "restarts": None, "num_warmup": 2, "num_draws": 2, "num_chains": 1}
    return lambda _: probam.fit(X, checkpoint=name, **(how | options))


def packed_npz(**arrays: Any) -> Callable[[], object]:
    return lambda: np.savez("run.npz", **arrays)


def head(**keys: Any) -> np.ndarray:
    return np.array(json.dumps(keys))


CHECKPOINTS = (
    Case("text", resumed(), ("checkpoint: run.npz", "delete it to start again"), written("run.npz", "hello")),
    Case("empty", resumed(), ("checkpoint: run.npz",), written("run.npz", b"")),
    Case("an archive of nothing", resumed(), ("checkpoint: run.npz",), packed_npz()),
    Case("another archive", resumed(), ("checkpoint: run.npz",), packed_npz(X=X)),
    Case("a head of junk", resumed(), ("checkpoint: run.npz",), packed_npz(head=np.array("{"))),
    Case(
        "a head that lies",
        resumed(),
        ("checkpoint: run.npz",),
        packed_npz(head=head(format="x", identity={}, states=9, done=1)),
    ),
    Case(
        "another format",
        resumed(),
        ("checkpoint: ", "run.npz"),
        packed_npz(head=head(format="x", identity={}, states=0, done=1)),
    ),
    Case("Python objects", resumed(), ("checkpoint: run.npz",), packed_npz(head=np.array([{}], object))),
    Case("a folder", resumed("d"), ("d",), lambda: Path("d").mkdir()),
    Case("no folder", resumed("none/run.npz"), ("none/run.npz: the folder none does not exist",)),
    Case("a number", resumed(3), ("checkpoint: ",)),  # type: ignore[arg-type]
)

TABLE = as_table(X)


def into(name: str, *says: str, make: Callable[[], object] | None = None) -> Case:
    return Case(f"into {name[:20]!r}", lambda _: write_table(TABLE, name), says, make)


OUTPUTS = (
    into("none/x.csv", "none/x.csv: the folder none does not exist", "create it first"),
    into("x.xlsx", "x.xlsx: unknown kind of output"),
    into("x", "x: unknown kind of output"),
    into("d.csv", "d.csv: it is a folder", make=lambda: Path("d.csv").mkdir()),
    into("d.csv/", "d.csv/: unknown kind of output"),
    into("y" * 300 + ".csv", "cannot be written", "name too long"),
    into("a\0.csv", "cannot be written"),
    into("l.csv", "l.csv: it cannot be written", make=lambda: os.symlink("l.csv", "l.csv")),
    into("p.csv", "p.csv: it is not a regular file", make=lambda: os.mkfifo("p.csv")),
    into("rows.csv/x.csv", "rows.csv/x.csv: it cannot be written"),
    Case("a fit into a folder", fitted(X, output="d"), ("d: it is a folder",), lambda: Path("d").mkdir()),
    Case("a fit into nothing", fitted(X, output=""), ("output: the path is empty",)),
    Case("a fit into no folder", fitted(X, output="none/fit.nc"), ("none/fit.nc: the folder none does not exist",)),
)

# --- code of one's own ----------------------------------------------------------------------------------------

FAMILY = """
import numpyro.distributions as dist
import jax.numpy as jnp
from dataclasses import dataclass
from typing import ClassVar
from probam.family import Family, register

@register
@dataclass(frozen=True)
class Mine(Family):
    name: ClassVar[str] = "{name}"

    def prior(self, x):
        {prior}

    def bank(self, params):
        {bank}
"""
GOOD_PRIOR = 'return {"loc": dist.Normal(jnp.zeros(x.shape[1]), 3.0).to_event(1)}'
GOOD_BANK = 'return dist.Normal(params["loc"], 1.0).to_event(1)'
_NUMBER = iter(range(1000))


def own(what: str, code: str, *says: str, ask: str = "Mine") -> Case:
    """A fit with a family of one's own in a file of this text."""
    file = f"family_{next(_NUMBER)}.py"
    ask_fit = fitted(X, family=f"{file}:{ask}", covariance=None, engine="gradient_em")
    return Case(what, ask_fit, (file, *says), written(file, code))


def family(what: str, *says: str, prior: str = GOOD_PRIOR, bank: str = GOOD_BANK) -> Case:
    return own(what, FAMILY.format(name=f"mine {next(_NUMBER)}", prior=prior, bank=bank), *says)


OWN_FAMILIES = (
    own("no Python", "this is no code (", "cannot be imported"),
    own("an import that fails", "import no_such_module_of_mine\n", "cannot be imported", "no_such_module_of_mine"),
    own("code that raises", "raise ValueError('no luck')\n", "no luck"),
    own("code that divides by zero", "1 / 0\n", "division by zero"),
    own("code that ends the program", "raise SystemExit(3)\n", "cannot be imported"),
    own("no such class", "class Other:\n    pass\n", "has no Family called 'Mine'"),
    own("a class that is no family", "class Mine:\n    pass\n", "has no Family called 'Mine'"),
    own(
        "a family that is not registered",
        FAMILY.format(name="mine alone", prior=GOOD_PRIOR, bank=GOOD_BANK).replace("@register\n", ""),
        "is not registered",
    ),
    own("zeros", "\0\0\0", "cannot be imported"),
    family("a prior that raises", "ZeroDivisionError", "prior", prior="return 1 / 0"),
    family("a prior that is no mapping", "prior", prior="return 3"),
    family("a prior of numbers", "prior", prior='return {"loc": 3.0}'),
    family("a bank that raises", "KeyError", "bank", bank='return dist.Normal(params["place"], 1.0).to_event(1)'),
    family("a bank that is no distribution", "bank", bank="return 3"),
    family("a bank without its event", "bank", bank='return dist.Normal(params["loc"], 1.0)'),
)


def named(what: str, name: str, *says: str) -> Case:
    return Case(what, fitted(X, family=name, covariance=None), says)


NAMES_OF_CODE = (
    named("no file", "gone.py:Mine", "family: no such file: gone.py"),
    named("no module", "no_such_module_of_mine:Mine", "family: no_such_module_of_mine cannot be imported"),
    named("a module without families", "json:JSONEncoder", "family: json has no Family called 'JSONEncoder'"),
    named("nothing before the colon", ":Mine", "family: "),
    named("nothing behind the colon", "json:", "family: json has no Family called ''"),
    named("dots alone", "..:Mine", "family: "),
    named("a folder", ".py:Mine", "family: "),
    named("a name with a blank", "my module:Mine", "family: "),
    Case("a memory of no file", lambda _: find_memory("gone.py:Mine"), ("memory: no such file: gone.py",)),
    Case(
        "another memory", lambda _: find_memory("clamm"), ("memory: there is none called 'clamm'", "did you mean clam")
    ),
    Case("a memory of broken code", lambda _: find_memory("m.py:Mine"), ("m.py",), written("m.py", "(")),
    Case(
        "a memory of code that raises",
        lambda _: find_memory("m.py:Mine"),
        ("m.py", "no luck"),
        written("m.py", "raise ValueError('no luck')"),
    ),
    Case(
        "a memory that imports nothing",
        lambda _: find_memory("m.py:Mine"),
        ("m.py",),
        written("m.py", "import no_such_module"),
    ),
    Case(
        "a file without memories",
        lambda _: find_memory("m.py:Mine"),
        ("m.py has no Memory called 'Mine'",),
        written("m.py", ""),
    ),
    Case("a memory of zeros", lambda _: find_memory("m.py:Mine"), ("m.py",), written("m.py", "\0")),
)

GOOD_FAMILY = Good(
    fitted(X, family="good_family.py:Mine", covariance=None, engine="gradient_em", max_iterations=2),
    written("good_family.py", FAMILY.format(name="good one", prior=GOOD_PRIOR, bank=GOOD_BANK)),
)

SAVED: dict[str, Kind] = {
    "files of fits": Kind(FITS, Good(load)),
    "files of streams": Kind(STREAMS, Good(load_stream)),
    "checkpoints": Kind(CHECKPOINTS, Good(resumed())),
    "outputs": Kind(OUTPUTS, Good(lambda _: write_table(TABLE, "l.csv"), lambda: os.symlink("new.csv", "l.csv"))),
    "families of one's own": Kind(OWN_FAMILIES, GOOD_FAMILY),
    "names of code": Kind(NAMES_OF_CODE, Good(fitted(X, family="probam.models.gaussian:Gaussian", covariance=None))),
}
