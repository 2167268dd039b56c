"""``probam compare --covariances``: the shape of the covariance and the number of memories, by criteria."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from probam.cli.arguments import table_to_fit
from probam.cli.console import Bar, interruptible
from probam.cli.results import print_json
from probam.errors import InputError
from probam.fits.options import FitOptions

if TYPE_CHECKING:
    from probam.comparison.covariances import Selection

__all__ = ["choose_covariance"]

_OWN = ("covariance", "components", "standardise", "columns", "drop", "variable", "missing", "sample_weight")
"""Options of a fit that go with the choice."""


def choose_covariance(
    data: list[str], model: dict[str, Any], criteria: str, seed: int, *, as_json: bool, output: list[Path]
) -> None:
    """Print, and write, what the criteria say of every shape and number of memories."""
    from probam.comparison.covariances import (
        SHAPES,
        compare_covariances,
        selection_record,
        selection_text,
    )

    if len(data) != 1:
        raise InputError(f"DATA: expected one with --covariances; got {len(data)}")
    shapes, most = _grid(model)
    table, _ = table_to_fit(data[0], model, None)
    with Bar("comparing") as bar:
        selection = interruptible(
            lambda: compare_covariances(
                table,
                shapes or SHAPES,
                range(1, min(most, table.num_data) + 1),
                criteria=[name.strip() for name in criteria.split(",") if name.strip()],
                seed=seed,
                progress=bar,
                **model,
            )
        )
    for path in output:
        _write(selection, path)
    if as_json:
        print_json(selection_record(selection))
        return
    print("\n".join([selection_text(selection), *(f"wrote {path}" for path in output)]))


def _grid(model: dict[str, Any]) -> tuple[list[str] | None, int]:
    """The shapes that were named, and the largest number of memories; both are taken out of the options."""
    from probam.comparison.covariances import MOST_MEMORIES

    foreign = [name for name in FitOptions(**model).changed() if name not in _OWN]
    if foreign:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in foreign)
        raise InputError(f"{flags}: --covariances chooses among Gaussian memories with free weights; leave it out")
    named, most = model.pop("covariance", None), model.pop("components", None)
    for name in set(model) - set(_OWN):
        del model[name]
    shapes = None if named is None else [name.strip() for name in named.split(",") if name.strip()]
    return shapes, MOST_MEMORIES if most is None else int(most)


def _write(selection: "Selection", output: Path) -> None:
    """The table as CSV, the page, or the fit of the best model by the first criterion."""
    from probam.comparison.scores_page import write_selection
    from probam.data.writing import write_atomically

    kind = output.suffix.lower()
    if kind == ".html":
        write_selection(selection, output)
    elif kind == ".nc":
        selection.chosen.save(output)
    else:
        with write_atomically(output) as temporary:
            selection.table.to_csv(temporary)
