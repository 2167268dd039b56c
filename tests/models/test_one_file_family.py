"""The test of the architecture: a family in one file gets engines, weights, recall, verify, a name and a report."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import probam.fits.fit as api
from probam.cli.main import main
from probam.errors import InputError
from tests.models.logistic import Logistic

HERE = Path(__file__).parent
LOGISTIC = f"{HERE / 'logistic.py'}:Logistic"
KNOWN = f"{HERE / 'known_precision.py'}:KnownPrecision"


def _data() -> np.ndarray:
    rng = np.random.default_rng(4)
    return np.concatenate([rng.laplace(-4, 0.5, (60, 2)), rng.laplace(4, 0.8, (40, 2))])


def test_the_files_are_short_and_touch_nothing_else() -> None:
    for name in ("logistic.py", "known_precision.py"):
        text = (HERE / name).read_text()
        assert len(text.splitlines()) <= 120
        ours = {line.split()[1] for line in text.splitlines() if line.startswith("from probam")}
        assert ours == {"probam.family"}


@pytest.mark.parametrize(
    ("engine", "weights", "options"),
    [
        ("gradient_em", "dirichlet", {"max_iterations": 200, "restarts": 2, "components": 2}),
        pytest.param(
            "svi",
            "pyp",
            {"num_steps": 600, "num_draws": 100, "restarts": 1, "components": 4},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "nuts",
            "dp",
            {"num_warmup": 150, "num_draws": 100, "num_chains": 2, "components": 3},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_family_without_closed_form_is_fitted_recalled_and_verified(
    engine: str, weights: str, options: dict[str, int], tmp_path: Path
) -> None:
    x = _data()
    fitted = api.fit(x, family=LOGISTIC, weights=weights, engine=engine, **options)
    frame = fitted.memories()
    right = frame["x0"] > 0
    np.testing.assert_allclose(frame["weight"][right].sum(), 0.4, atol=0.1)
    for side, centre in ((right, 4), (~right, -4)):
        middle = np.average(frame[side][["x0", "x1"]], axis=0, weights=frame[side]["weight"])
        np.testing.assert_allclose(middle, centre, atol=0.6)
    queries = np.array([[-3.0, -3.5], [3.0, 5.0]])
    found = fitted.recall(queries)
    np.testing.assert_allclose(found["state"].values, [[-4, -4], [4, 4]], atol=1)
    assert np.all(found["energy"].values < fitted.energy(queries))
    checks = fitted.verify()
    assert checks
    assert all(check.passed for check in checks), checks
    fitted.save(tmp_path / "fit.nc")
    loaded = api.load(tmp_path / "fit.nc")
    np.testing.assert_array_equal(loaded.log_prob(x), fitted.log_prob(x))


def test_em_says_what_works_for_a_family_without_closed_form() -> None:
    with pytest.raises(
        InputError, match=r"'logistic' has no closed-form M-step.*use engine 'gradient_em', 'svi' or 'nuts'"
    ):
        api.fit(_data(), family=LOGISTIC, engine="em", components=2)


def test_a_family_without_the_site_of_its_location_is_told_to_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Logistic, "location", "center")
    with pytest.raises(InputError, match=r"the prior of 'logistic' has no site 'center'.*it has loc, scale; set `loc"):
        api.fit(_data(), family=Logistic(), engine="gradient_em", components=2)


def test_a_family_with_an_m_step_gets_em_the_command_line_and_the_report(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "x.csv", _data(), delimiter=",", header="a,b", comments="")
    fit, page = tmp_path / "fit.nc", tmp_path / "report.html"
    arguments = ["--family", KNOWN, "--engine", "em", "--weights", "pyp", "--components", "4", "--complete"]
    assert main(["fit", str(tmp_path / "x.csv"), *arguments, "-o", str(fit)]) == 0
    with xr.open_datatree(fit) as tree:
        assert tree.attrs["family"] == KNOWN
        assert bool(tree["verification"]["passed"].all())
    assert main(["report", str(fit), "-o", str(page)]) == 0
    assert "known_precision" in page.read_text()
