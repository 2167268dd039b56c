"""Commands before a fit: the shipped data, and a prior that expects what a person expects."""

from pathlib import Path
from typing import Annotated, Any

import typer

from probam.cli.program import Json, app
from probam.cli.results import print_json
from probam.errors import InputError

__all__ = ["data", "prior"]

_KEYS = ("name", "shape", "licence", "summary", "source", "classes", "sha256")
"""What is said of a set, for machines."""


@app.command(epilog="Examples:\n\n  probam data\n\n  probam data comets\n\n  probam data iris --labels -o iris.csv")
def data(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The set to describe or to write.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Write the set here (.csv, .tsv, .parquet, .npz or .nc)."),
    ] = None,
    labels: Annotated[
        bool, typer.Option("--labels", help="Write the known classes as the last column (do not fit it).")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the data sets that are shipped with probam, describe one, or write it to a file."""
    from probam.data.shipped import load_labels, load_shipped, provenance, shipped
    from probam.data.writing import write_table

    if name is None:
        if output is not None:
            raise InputError("NAME: expected the name of a set to write; `probam data` lists them")
        records = shipped()
        if as_json:
            print_json([{key: getattr(record, key) for key in _KEYS} for record in records])
            return
        width = max(len(record.name) for record in records)
        for record in records:
            size = " x ".join(map(str, record.shape))
            print(f"{record.name:<{width}}  {size:>11}  {record.licence:<19}  {record.summary}")
        print("\nprobam data NAME describes a set, probam data NAME -o FILE.csv writes it, probam fit NAME fits it")
        return
    table = load_shipped(name)
    known = load_labels(name) if labels else None
    said = next({key: getattr(each, key) for key in _KEYS} for each in shipped() if each.name == name)
    if output is None:
        print_json(said) if as_json else print(provenance(name).strip())
        return
    write_table(table, output, labels=known)
    if as_json:
        print_json(said | {"wrote": output})
    else:
        print(f"wrote {table.num_data} rows, {table.num_features} columns to {output}")


@app.command(
    epilog="Examples:\n\n  probam prior --memories 12 --num-data 1000\n\n"
    "  probam prior --memories 12 --num-data 1000 --later-memories 22 --later-num-data 10000\n\n"
    "  probam prior --memories 12 --num-data 1000 --sd 6"
)
def prior(
    memories: Annotated[float, typer.Option(metavar="K", help="Number of memories that you expect the data to use.")],
    num_data: Annotated[int, typer.Option(metavar="N", help="Number of data for which you expect it.")],
    later_memories: Annotated[
        float | None,
        typer.Option(
            metavar="K",
            help="Number of memories that you expect for more data; this sets the length of the tail (pyp).",
        ),
    ] = None,
    later_num_data: Annotated[
        int | None, typer.Option(metavar="N", help="Number of data for --later-memories, more than --num-data.")
    ] = None,
    discount: Annotated[
        float | None, typer.Option(metavar="D", help="The discount in [0, 1) itself, instead of --later-memories.")
    ] = None,
    sd: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            help="Standard deviation of --memories: gives a Gamma prior on alpha instead of one value (dp).",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Choose alpha and discount from the number of memories that you expect."""
    from probam.distributions.growth import alpha_for, parameters_for

    if (later_memories is None) != (later_num_data is None):
        raise InputError("--later-memories, --later-num-data: give both or neither")
    if sum(value is not None for value in (later_memories, discount, sd)) > 1:
        raise InputError("--later-memories, --discount, --sd: give at most one of them; each determines the tail")
    if sd is not None:
        record, text = _gamma_prior(memories, sd, num_data)
    elif later_memories is not None and later_num_data is not None:
        record, text = _growth(*parameters_for(memories, num_data, later_memories, later_num_data), num_data)
    else:
        record, text = _growth(alpha_for(memories, num_data, discount or 0.0), discount or 0.0, num_data)
    print_json(record) if as_json else print(text)


def _gamma_prior(memories: float, sd: float, num_data: int) -> tuple[dict[str, Any], str]:
    """The Gamma prior on alpha that expects so many memories, with this standard deviation, as a record and as text."""
    from probam.distributions.growth import alpha_prior_for

    concentration, rate = alpha_prior_for(memories, sd, num_data)
    record = {"weights": "dp", "alpha_prior": {"law": "Gamma", "concentration": concentration, "rate": rate}}
    law = f"Gamma(concentration {concentration:.6g}, rate {rate:.6g})"
    prior = f"numpyro.distributions.Gamma({concentration:.6g}, {rate:.6g})"
    return record, (
        f"weights dp, alpha ~ {law}, mean alpha {concentration / rate:.4g}\n"
        f"in Python: fit(x, weights='dp', alpha={prior})"
    )


def _growth(alpha: float, discount: float, num_data: int) -> tuple[dict[str, Any], str]:
    """The process and the numbers of memories that it expects, as a record and as text."""
    from probam.distributions.growth import variance_num_components
    from probam.distributions.stick_breaking import expected_num_components

    weights = "pyp" if discount > 0 else "dp"
    growth = [
        (n, expected_num_components(alpha, discount, n), variance_num_components(alpha, discount, n) ** 0.5)
        for n in (num_data, 10 * num_data, 100 * num_data)
    ]
    expected = [dict(zip(("num_data", "memories", "sd"), row, strict=True)) for row in growth]
    record = {"weights": weights, "alpha": alpha, "discount": discount, "expected": expected}
    lines = [f"weights {weights}, alpha {alpha:.6g}" + (f", discount {discount:.6g}" if discount > 0 else "")]
    lines += [f"  {n:>12,} data: {mean:.4g} memories expected, standard deviation {sd:.3g}" for n, mean, sd in growth]
    option = f" --discount {discount:.6g}" if discount > 0 else ""
    lines.append(f"use it: probam fit DATA --weights {weights} --alpha {alpha:.6g}{option}")
    return record, "\n".join(lines)
