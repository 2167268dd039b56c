"""Bad words of commands, bad files of ``probam run``, bad patterns, bad standard input."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.image import imsave

from tests.hostile.arrays import X
from tests.hostile.case import Case, Good, Kind
from tests.hostile.files import written

__all__ = ["COMMANDS"]

QUICK = "--engine em --covariance isotropic --weights dirichlet --components 2 --restarts 1"


def command(words: str, *says: str, make: Callable[[], object] | None = None, stdin: bytes | None = None) -> Case:
    return Case(f"probam {words}", words, says, make, stdin)


FIT = (
    command("fit", "Missing argument 'DATA'", "probam fit --help"),
    command("fit rows.csv rows.csv", "unexpected extra argument"),
    command("fit rows.csv --colour red", "No such option: --colour"),
    command("fit rows.csv --components two", "--components", "valid integer"),
    command("fit rows.csv --components 0", "components: expected a whole number of at least 1; got 0"),
    command("fit rows.csv --seed -1", "seed: expected a whole number from 0 to 2^32 - 1"),
    command("fit rows.csv --seed 1e3", "--seed"),
    command(f"fit rows.csv {QUICK} --restarts 0", "restarts: expected a whole number of at least 1; got 0"),
    command(f"fit rows.csv {QUICK} --restarts -1", "restarts: expected a whole number of at least 1; got -1"),
    command("fit rows.csv --engine gibs", "engine: expected one of em"),
    command("fit rows.csv --alpha nan", "alpha: ", "nan"),
    command("fit rows.csv --weights fixed --given-weights 1,x", "given-weights: expected numbers separated by commas"),
    command("fit faithfull", "faithfull: no such file", "did you mean 'faithful'?"),
    command("fit rows.csv --device tpu", "--device: expected cpu or gpu"),
    command("fit rows.csv -o rows.csv", "rows.csv: unknown kind of output"),
)

NAME_VALUE = (
    command(f"fit rows.csv {QUICK} --option tolerance", "option: expected NAME=VALUE"),
    command(f"fit rows.csv {QUICK} --option =3", "option: expected NAME=VALUE"),
    command(f"fit rows.csv {QUICK} --option tolerance=nan", "tolerance: ", "nan"),
    command(f"fit rows.csv {QUICK} --option tolerance=-1", "tolerance: ", "-1"),
    command(f"fit rows.csv {QUICK} --option colour=red", "colour: engine 'em' has no such option"),
    command(f"fit rows.csv {QUICK} --option output=x.nc", "output: ", "-o"),
    command(f"fit rows.csv {QUICK} --option progress=3", "progress: "),
    command(f"fit rows.csv {QUICK} --option data=3", "data: "),
    command(f"fit rows.csv {QUICK} --option family=vmf", "family: ", "--family"),
    command(f"fit rows.csv {QUICK} --option components=3", "components: ", "--components"),
    command(f"fit rows.csv {QUICK} --option max_iterations=[1]", "max_iterations: expected a whole number"),
    command(f"fit rows.csv {QUICK} --option max_iterations={{}}", "max_iterations: expected a whole number"),
    command(f"fit rows.csv {QUICK} --option stop=null", "stop: "),
    command(f"fit rows.csv {QUICK} --option sample_weight=a", "sample_weight: "),
    command(f"fit rows.csv {QUICK} --option key=3", "key: "),
)


def prior(law: str, *says: str) -> Case:
    return Case(f"--prior {law}", f"fit rows.csv {QUICK} --prior {law.replace(' ', '|')}", ("prior: ", *says))


LAWS = (
    prior("loc", "expected site=Distribution(numbers)"),
    prior("loc=", "write for example"),
    prior("=Normal(0,1)", "expected site=Distribution(numbers)"),
    prior("loc=Normal(0,1", "cannot read"),
    prior("loc=Gaussian(0,1)", "NumPyro has no distribution called 'Gaussian'"),
    prior("loc=Normal(0,-1)", "Normal does not take the arguments"),
    prior("loc=Normal(0,1,2,3,4)", "Normal does not take the arguments"),
    prior("loc=Normal(nan,1)", "arguments are"),
    prior("loc=Normal(1e999,1)", "arguments are finite numbers"),
    prior("loc=Normal(x,1)", "arguments are numbers"),
    prior("loc=Normal(__import__('os').getcwd(),1)", "arguments are numbers"),
    prior("loc=__import__('os').system('true')", "expected site=Distribution(numbers)"),
    prior("place=Normal(0,1)", "family 'gaussian' has no site 'place'"),
    prior("loc=Normal([0,0,0],1)", "site 'loc' of one memory has shape (2,)"),
    prior("loc=Normal(" + "[" * 300 + "0" + "]" * 300 + ",1)", "prior"),
)

ASKING = (
    command("predict", "Missing argument 'FIT.nc'"),
    command("predict fit.nc rows.csv", "Missing option '-o'"),
    command("predict gone.nc rows.csv -o out.csv", "gone.nc", "no such file"),
    command("predict fit.nc gone.csv -o out.csv", "gone.csv: no such file"),
    command(
        "predict fit.nc three.csv -o out.csv",
        "three.csv: expected the 2 features",
        make=written("three.csv", "p,q,r\n1,2,3\n"),
    ),
    command("predict fit.nc rows.csv -o rows.csv", "rows.csv: this file is the input"),
    command("predict fit.nc rows.csv -o fit.nc", "fit.nc: this file is the input"),
    command("predict fit.nc rows.csv -o out.xlsx", "out.xlsx: unknown kind of output"),
    command("predict fit.nc rows.csv -o none/out.csv", "none/out.csv: the folder none does not exist"),
    command("predict fit.nc rows.csv -o - --json", "-o -: --json writes the results to standard output too"),
    command("predict fit.nc rows.csv --above 2 -o out.csv", "--above: expected a number of at least 0 and below 1"),
    command("predict fit.nc rows.csv --above nan -o out.csv", "--above: "),
    command("predict fit.nc rows.csv --all --above 0.1 -o out.csv", "--all, --above: give at most one"),
    command("predict fit.nc rows.csv --id who -o out.csv", "id: rows.csv has no column 'who'"),
    command("predict fit.nc rows.csv --labels who -o out.csv", "labels: rows.csv has no column 'who'"),
)

RECALLING = (
    command("recall fit.nc rows.csv --step 0 -o out.csv", "step: "),
    command("recall fit.nc rows.csv --step nan -o out.csv", "step: "),
    command("recall fit.nc rows.csv --step 2 -o out.csv", "step: "),
    command("recall fit.nc rows.csv --max-steps 0 -o out.csv", "--max-steps"),
    command("recall fit.nc rows.csv --annealed tin -o out.csv", "--annealed: expected ode or sde"),
    command("recall fit.nc rows.csv --annealed ode -o out.csv", "--annealed: say how noisy"),
    command("recall fit.nc rows.csv --annealed ode --noise -1 -o out.csv", "noise: "),
    command("recall fit.nc rows.csv --annealed ode --noise nan -o out.csv", "noise: "),
    command("recall fit.nc rows.csv --noise 1 -o out.csv", "--noise", "add --annealed"),
    command(
        "recall fit.nc gaps.csv -o out.csv",
        "gaps.csv: column 'b' has a missing value",
        make=written("gaps.csv", "a,b\n1,\n"),
    ),
    command("complete fit.nc rows.csv --by guess -o out.csv", "--by: expected mean or descent"),
    command("complete fit.nc rows.csv --quantiles 0.5,x -o out.csv", "--quantiles: "),
    command("complete fit.nc rows.csv --quantiles 1.5 -o out.csv", "--quantiles: "),
    command("complete fit.nc rows.csv --draws -1 -o out.csv", "--draws"),
    command("recall fit.nc rows.csv --family gausian -o out.csv", "family: "),
)

WRITING = (
    command("sample fit.nc 0 -o out.csv", "'N'"),
    command("sample fit.nc many -o out.csv", "'N'"),
    command("sample fit.nc 3 --by eye -o out.csv", "--by: expected draws, ode or sde"),
    command("sample fit.nc 3 --seed -1 -o out.csv", "--seed"),
    command("report gone.nc", "gone.nc", "no such file"),
    command("report fit.nc -o page.pdf", "page.pdf: unknown kind of output"),
    command("report fit.nc fit.nc", "FIT.nc: the same fit is named twice"),
    command("report fit.nc --labels who", "labels: ", "has no column 'who'"),
    command("report fit.nc --labels short.csv", "labels: ", make=written("short.csv", "label\n1\n2\n")),
    command("report fit.nc --labels broken.csv", "broken.csv", make=written("broken.csv", 'a\n"1\n')),
    command("export fit.nc -o out.txt", "out.txt: unknown kind of output"),
    command("export fit.nc --draw 7 -o out.json", "draw: expected the number of a thinned draw"),
    command("export fit.nc --draw 0 -o model.py", "--draw: a program has no numbers of a draw"),
    command("verify gone.nc", "gone.nc", "no such file"),
    command("verify --claim A99", "A99"),
)

OTHERS = (
    command("nothing", "No such command 'nothing'"),
    command("data faithfull", "faithfull", "did you mean 'faithful'?"),
    command("data faithful -o x.pickle", "x.pickle: unknown kind of output"),
    command("data faithful --labels -o x.csv", "faithful: it has no labels"),
    command("prior --memories 3 --num-data 1", "num_data: expected at least 2"),
    command("prior --memories nan --num-data 100", "memories: "),
    command("prior --memories 3 --num-data 100 --discount 1", "discount: expected a number in [0, 1)"),
    command("prior --memories 3 --num-data 100 --sd -1", "sd: "),
    command("prior --memories 3 --num-data 100 --sd nan", "sd: "),
    command("prior --memories 300 --num-data 100", "memories: "),
    command("prior --memories 3 --num-data 100 --later-memories 4", "--later-memories, --later-num-data: give both"),
    command("experiment xorr", "xorr: no such experiment; did you mean 'xor'?"),
    command("experiment xor --seed -1 -o out", "seed: "),
    command("experiment xor -o rows.csv", "rows.csv"),
)

COMPARING = (
    command("compare", "Missing argument"),
    command("compare gone.nc", "gone.nc", "no such file"),
    command("compare fit.nc fit.nc", "FIT.nc: the same fit is named twice"),
    command("compare fit.nc --held-out gone.csv", "gone.csv: no such file"),
    command("compare fit.nc --components 3", "--components: ", "--engines or --covariances"),
    command("compare fit.nc --labels who", "--labels: who is neither a file nor a shipped set"),
    command("compare fit.nc --seed -1", "seed: "),
    command("compare rows.csv --engines gibs", "engines: expected one of"),
    command("compare rows.csv rows.csv --engines em", "DATA: expected one with --engines; got 2"),
    command("compare rows.csv --engines em --held-out most", "--held-out: with --engines expected a share"),
    command("compare rows.csv --engines em --held-out 1 --components 2", "held_out: expected a share between 0 and 1"),
    command("compare rows.csv --covariances --evidence", "--evidence: not with --covariances"),
    command("compare rows.csv --covariances --criteria aic", "criteria: expected one of"),
    command("compare fit.nc -o page.pdf", "page.pdf: unknown kind of output"),
    command("compare rows.csv", "rows.csv"),
)

STREAMING = (
    command("stream", "Missing argument 'DATA'"),
    command("stream gone.csv", "gone.csv: no such file"),
    command("stream rows.csv --alpha -1", "alpha: "),
    command("stream rows.csv --particles 0", "particles: "),
    command("stream rows.csv --warm 1", "warm: expected a number of rows of at least 2"),
    command("stream rows.csv --rule golden", "rule: expected one of map, sample"),
    command("stream rows.csv --drift 0.1 --covariance full", "drift"),
    command("stream rows.csv --resume gone.nc", "gone.nc", "no such file"),
    command("stream rows.csv --resume fit.nc", "fit.nc"),
    command("stream rows.csv --resume stream.nc --alpha 2", "--alpha: --resume goes on with the stream's own"),
    command(
        "stream three.csv --resume stream.nc",
        "three.csv: expected the 2 features",
        make=written("three.csv", "p,q,r\n1,2,3\n"),
    ),
    command("stream rows.csv -o rows.nc.csv", "rows.nc.csv: unknown kind of output"),
    command("stream late.csv", "late.csv", make=written("late.csv", "a,b\n" + "1,2\n2,4\n" * 30 + "3\n")),
    command("stream rows.csv --columns c", "columns: rows.csv has no column 'c'"),
    command("stream one.csv", "column 'a' is constant", make=written("one.csv", "a,b\n1,2\n")),
)

PIPED = (
    command("fit -", "standard input: it is empty", stdin=b""),
    command("fit -", "standard input: it has only blank lines", stdin=b"\n\n"),
    command("fit -", "standard input: it has a header and no rows", stdin=b"a,b\n"),
    command("fit -", "standard input: row 2", stdin=b"a,b\n1,2\n3\n"),
    command("fit -", "standard input: it is not UTF-8", stdin=b"a,b\n\xff,2\n"),
    command("fit -", "standard input: column 'b' holds text", stdin=b"a,b\n1,x\n2,3\n"),
    command("predict fit.nc - -o out.csv", "standard input: expected the 2 features", stdin=b"p,q,r\n1,2,3\n"),
    command("fit - --variable x", "variable: only NPZ and NetCDF", stdin=b"a,b\n1,2\n3,4\n"),
)

# --- probam run -----------------------------------------------------------------------------------------------


def toml(what: str, content: str | bytes, *says: str) -> Case:
    return Case(what, "run a.toml", ("a.toml", *says), written("a.toml", content))


TOML = (
    Case("no file", "run gone.toml", ("gone.toml: it cannot be read", "probam init")),
    Case("a folder", "run d", ("d: it cannot be read",), lambda: Path("d").mkdir()),
    toml("no TOML", "fit data rows.csv", "it is not TOML"),
    toml("not UTF-8", b"\xff\xfe", "it is not UTF-8 text"),
    toml("zeros", b"\0\0", "it is not TOML"),
    toml("nothing", "", "fit: this table is missing"),
    toml("another table", "[fits]\ndata = 'rows.csv'\n", "fits: no such table; did you mean fit?"),
    toml("a key outside", "data = 'rows.csv'\n", "data: this key belongs into a table"),
    toml("no data", "[fit]\nseed = 1\n", "fit.data: this key is missing"),
    toml("another key", "[fit]\ndata = 'rows.csv'\ncolour = 1\n", "fit.colour: no such key"),
    toml("a number as text", "[fit]\ndata = 'rows.csv'\ncomponents = '2'\n", "fit.components: expected a whole number"),
    toml("text as a number", "[fit]\ndata = 3\n", "fit.data: expected text"),
    toml("a table as text", "[fit]\ndata = 'rows.csv'\nfamily = {a = 1}\n", "fit.family: expected text"),
    toml("twice", "[fit]\ndata = 'a'\n[fit]\ndata = 'b'\n", "it is not TOML"),
    toml("a date", "[fit]\ndata = 2024-01-01\n", "fit.data: expected text"),
)


def running(what: str, content: str, *says: str) -> Case:
    return Case(what, "run a.toml", says, written("a.toml", content))


TOML_VALUES = (
    running("no such data", "[fit]\ndata = 'gone.csv'\n", "gone.csv: no such file"),
    running("no such set", "[fit]\ndata = 'faithfull'\n", "faithfull: no such file", "did you mean 'faithful'?"),
    running(
        "another kind of output", "[fit]\ndata = 'rows.csv'\noutput = 'fit.csv'\n", "fit.csv: unknown kind of output"
    ),
    running(
        "no folder", "[fit]\ndata = 'rows.csv'\noutput = 'none/fit.nc'\n", "none/fit.nc: the folder none does not exist"
    ),
    running(
        "no components",
        "[fit]\ndata = 'rows.csv'\ncomponents = 0\n",
        "components: expected a whole number of at least 1",
    ),
    running("a seed below zero", "[fit]\ndata = 'rows.csv'\nseed = -1\n", "seed: "),
    running("an engine that is not there", "[fit]\ndata = 'rows.csv'\nengine = 'gibs'\n", "engine: expected one of"),
    running("NaN", "[fit]\ndata = 'rows.csv'\nalpha = nan\n", "alpha: ", "nan"),
    running("infinity", "[fit]\ndata = 'rows.csv'\nalpha = inf\n", "alpha: ", "inf"),
    running("a prior of junk", "[fit]\ndata = 'rows.csv'\nprior = {loc = 'Nrml(0,1)'}\n", "prior: "),
    running(
        "a page of another kind",
        "[fit]\ndata = 'rows.csv'\n[report]\noutput = 'x.pdf'\n",
        "x.pdf: unknown kind of output",
    ),
    running(
        "code that is not there",
        "[fit]\ndata = 'rows.csv'\nfamily = 'gone.py:Mine'\n",
        "family: no such file",
        "gone.py",
    ),
)

# --- patterns of memories -------------------------------------------------------------------------------------

RECALL = "memory recall clam --patterns {0} --queries {0} -o out.csv"


def patterns(what: str, name: str, *says: str, make: Callable[[], object] | None = None) -> Case:
    return Case(what, RECALL.format(name), says, make)


def idx(what: str, content: bytes, *says: str) -> Case:
    return patterns(what, "x.idx", "x.idx", *says, make=written("x.idx", content))


def images(*shapes: tuple[int, int]) -> Callable[[], None]:
    """Makes a folder of PNG images of these sizes."""

    def make() -> None:
        Path("d").mkdir()
        for number, shape in enumerate(shapes):
            imsave(f"d/{number}.png", np.random.default_rng(0).random(shape), cmap="gray")

    return make


def _image_of_text() -> None:
    Path("d").mkdir()
    Path("d/0.png").write_bytes(b"no image")


def _half_an_image() -> None:
    images((9, 9))()
    content = Path("d/0.png").read_bytes()
    Path("d/0.png").write_bytes(content[: len(content) // 2])


PATTERNS = (
    patterns("nothing there", "gone.csv", "gone.csv: no such file"),
    patterns("an empty folder", "d", "d: this folder has no PNG images", make=lambda: Path("d").mkdir()),
    patterns("images of two sizes", "d", "images of one size are needed", make=images((4, 4), (5, 5))),
    patterns("an image of text", "d", "0.png: it cannot be read as a PNG image", make=_image_of_text),
    patterns("half an image", "d", "0.png: it cannot be read as a PNG image", make=_half_an_image),
    idx("IDX of nothing", b"", "it is not an IDX file"),
    idx("IDX of text", b"hello", "it is not an IDX file"),
    idx("IDX of another type", b"\0\0\x07\x01" + struct.pack(">I", 2) + b"ab", "it is not an IDX file"),
    idx("IDX that is cut", b"\0\0\x08\x02" + struct.pack(">II", 3, 4) + b"abc", "it may be truncated"),
    idx(
        "IDX that promises too much", b"\0\0\x08\x03" + struct.pack(">III", 2**31, 2**31, 2**31), "it may be truncated"
    ),
    idx("labels in IDX", b"\0\0\x08\x01" + struct.pack(">I", 3) + b"abc", "expected images"),
    idx("IDX without axes", b"\0\0\x08\x00a", "x.idx"),
    patterns("gaps", "x.csv", "x.csv: column 'b' has a missing value", make=written("x.csv", "a,b\n1,\n2,3\n")),
    patterns(
        "NPY of infinite images", "x.npy", "not finite", make=lambda: np.save("x.npy", np.full((2, 3, 3), np.inf))
    ),
    Case(
        "queries of another width",
        "memory recall clam --patterns rows.csv --queries three.csv -o out.csv",
        ("queries: three.csv has 3 numbers in a row",),
        written("three.csv", "p,q,r\n1,2,3\n"),
    ),
)

MEMORY = "memory recall {} --patterns rows.csv --queries rows.csv -o out.csv"


def memory(name: str, *says: str) -> Case:
    return Case(name, MEMORY.format(name), says)


MEMORIES = (
    memory("clamm", "memory: there is none called 'clamm'", "did you mean clam"),
    memory("clam -p beta", "option: expected NAME=VALUE")._replace(says=("expected NAME=VALUE",)),
    memory("clam -p beta=much", "parameter: beta is a finite number; got 'much'"),
    memory("clam -p beta=NaN", "parameter: beta is a finite number"),
    memory("clam -p beta=-1", "beta"),
    memory("clam -p beta=0", "beta"),
    memory("clam -p colour=1", "parameter: clam has none called 'colour'"),
    memory("clam --threshold nan", "--threshold: expected a finite number"),
    memory("clam --step 0", "step: "),
    memory("clam --step nan", "step: "),
    memory("clam --max-steps 0", "--max-steps"),
    memory("clam --flow", "flow"),
    memory("hopfield", "rows.csv")._replace(says=("-1",)),
    Case("a landscape of bits", "memory landscape hopfield --patterns rows.csv -o x.html", ("hopfield", "landscape")),
    Case(
        "a landscape in a PDF", "memory landscape clam --patterns rows.csv -o x.pdf", ("x.pdf: unknown kind of output",)
    ),
)

GOOD_TOML = """
verify = false
report = false

[fit]
data = "rows.csv"
output = "new.nc"
engine = "em"
covariance = "isotropic"
weights = "dirichlet"
components = 2
restarts = 1
"""

COMMANDS: dict[str, Kind] = {
    "flags of fit": Kind(FIT, Good(f"fit rows.csv {QUICK} --seed 4294967295 -o new.nc")),
    "NAME=VALUE": Kind(
        NAME_VALUE, Good(f"fit rows.csv {QUICK} --option max_iterations=3 --option stop=aitken -o new.nc")
    ),
    "priors as text": Kind(LAWS, Good(f"fit rows.csv {QUICK} --prior loc=Normal([0,1],|scale=3) -o new.nc")),
    "flags of predict": Kind(ASKING, Good("predict fit.nc rows.csv --above 0 --with-inputs -o out.csv")),
    "flags of recall and complete": Kind(RECALLING, Good("recall fit.nc rows.csv --step 0.5 -o out.csv")),
    "flags of sample, report, export and verify": Kind(WRITING, Good("export fit.nc --draw 0 -o out.json")),
    "flags of other commands": Kind(OTHERS, Good("prior --memories 3 --num-data 100 --sd 1.5")),
    "flags of compare": Kind(COMPARING, Good("compare fit.nc draws.nc --held-out rows.csv")),
    "flags of stream": Kind(STREAMING, Good("stream rows.csv --resume stream.nc -o new.nc")),
    "standard input": Kind(
        PIPED, Good(f"fit - {QUICK} -o new.nc", None, b"a,b\n" + b"".join(b"%f,%f\n" % tuple(row) for row in X))
    ),
    "TOML": Kind(TOML, Good("run a.toml", written("a.toml", GOOD_TOML))),
    "values in TOML": Kind(TOML_VALUES, Good("run a.toml", written("a.toml", GOOD_TOML + "alpha = 2\n"))),
    "patterns": Kind(PATTERNS, Good(RECALL.format("d"), images((4, 4), (4, 4), (4, 4)))),
    "memories": Kind(MEMORIES, Good(MEMORY.format("clam -p beta=2"))),
}
