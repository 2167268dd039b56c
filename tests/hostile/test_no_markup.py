"""What people call their columns, labels, rows and files is text on every page, whatever it says."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from probam.cli.main import main

HOSTILE = "</td></script><script>alert(1)</script><img src=x onerror=alert(2)>"
ACTIVE = re.compile(r"<script>alert|<img[^>]*onerror|</td></script>")
"""What a browser would run, or end another element with."""

EM = ["--engine", "em", "--covariance", "isotropic", "--weights", "dirichlet", "--components", "2", "--restarts", "1"]

PAGES = {
    "the report of a fit": ["report", "fit.nc", "--labels", "rows.csv:kind", "-o", "page.html"],
    "fits side by side": ["report", "fit.nc", "<img src=x onerror=alert(2)>.nc", "-o", "page.html"],
    "scores": ["compare", "fit.nc", "<img src=x onerror=alert(2)>.nc", "-o", "page.html"],
    "covariances": [
        "compare",
        "<img src=x onerror=alert(2)>.csv",
        "--covariances",
        "--components",
        "1",
        "-o",
        "page.html",
    ],
    "a memory": ["memory", "landscape", "clam", "--patterns", "patterns.csv", "-o", "page.html"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows with hostile names, fits of them, and patterns to store."""
    folder = tmp_path_factory.mktemp("markup")
    x = np.concatenate([np.random.default_rng(0).normal(c, 0.5, (20, 2)) for c in (-2, 2)])
    names = [f"a{HOSTILE}", f"b{HOSTILE}"]
    pd.DataFrame(x[:6], columns=names).to_csv(folder / "patterns.csv", index=False)
    pd.DataFrame(x, columns=names).to_csv(folder / "<img src=x onerror=alert(2)>.csv", index=False)
    rows = pd.DataFrame(x, columns=names).assign(kind=[HOSTILE] * 20 + [f"other{HOSTILE}"] * 20)
    rows.to_csv(folder / "rows.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("fit.nc", "<img src=x onerror=alert(2)>.nc"):
            assert main(["fit", "rows.csv", "--drop", "kind", *EM, "-o", name]) == 0
    return folder


@pytest.mark.parametrize("what", PAGES)
def test_markup_of_others_is_text_on(what: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert main(PAGES[what]) == 0
    page = Path("page.html").read_text()
    assert "alert(" in page.replace("&#x27;", "'"), "the names are not on this page, so that it shows nothing"
    assert not ACTIVE.search(page)
