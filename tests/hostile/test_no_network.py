"""No command and no import opens a connection: a process whose sockets raise does everything that it does otherwise."""

import subprocess
import sys
from pathlib import Path

import numpy as np

WATCH = """
import sys

tried = []

def forbid(event, arguments):
    if event.startswith("socket.") and event != "socket.gethostname":
        tried.append(f"{event} {arguments}")
        raise OSError(f"the network was asked for: {event}")

sys.addaudithook(forbid)
"""

USE = """
import pkgutil

from probam.cli.main import main

QUICK = "--engine em --covariance isotropic --weights dirichlet --components 2 --restarts 1".split()
for words in (
    ["fit", "rows.csv", *QUICK, "-o", "fit.nc"],
    ["stream", "rows.csv", "-o", "stream.nc"],
    ["predict", "fit.nc", "rows.csv", "-o", "labels.csv"],
    ["recall", "fit.nc", "rows.csv", "-o", "ends.csv"],
    ["report", "fit.nc"],
    ["verify", "fit.nc"],
    ["compare", "fit.nc", "stream.nc"],
    ["data"],
    ["memory", "list"],
    ["experiment", "--list"],
):
    assert main(words) == 0, words

import probam.experiments

for module in pkgutil.iter_modules(probam.experiments.__path__, "probam.experiments."):
    __import__(module.name)
"""

ASK = """
import socket, urllib.request

for ask in (lambda: socket.create_connection(("127.0.0.1", 9)), lambda: urllib.request.urlopen("http://localhost:9")):
    try:
        ask()
    except OSError as error:
        assert "the network was asked for" in str(error), error
"""


def tried_by(program: str, folder: Path) -> list[str]:
    """The uses of sockets that a program tried, of which each raised."""
    code = f"{WATCH}\n{program}\nprint('tried', len(tried), *tried, sep='\\n')"
    run = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    return lines[lines.index("tried") + 2 :]


def test_everything_works_without_a_socket(tmp_path: Path) -> None:
    rows = np.concatenate([np.random.default_rng(0).normal(c, 0.5, (20, 2)) for c in (-2, 2)])
    np.savetxt(tmp_path / "rows.csv", rows, delimiter=",", header="a,b", comments="")
    assert tried_by(USE, tmp_path) == []
    assert {"fit.nc", "stream.nc", "labels.csv", "ends.csv", "fit.html"} <= {path.name for path in tmp_path.iterdir()}


def test_a_use_of_the_network_would_be_seen(tmp_path: Path) -> None:
    tried = tried_by(ASK, tmp_path)
    assert any("socket.getaddrinfo" in each or "socket.connect" in each for each in tried)
    assert len(tried) >= 2
