"""Commands on associative memories: list them, explain one, recall queries from one that stores patterns, check it."""

import inspect
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probam.cli.arguments import check_apart, check_output, values_in
from probam.cli.console import Bar, interruptible
from probam.cli.program import Commands, Json, Normalise, TableOutput, api_ready, app
from probam.cli.results import check_line, print_json, tell, write_result, wrote
from probam.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

    from probam.data.patterns import Patterns
    from probam.dynamics.memories import MemoryBasins
    from probam.energies.memory import Memory

__all__ = ["memories"]

memories = Commands(
    help="Associative memories: list them, explain one, store patterns in one and recall queries, or check one.",
    no_args_is_help=True,
)
app.add_typer(memories, name="memory")

_AT_MOST = 1000
"""Number of patterns for which it is looked up whether they recall themselves."""

NAME = "A memory that `probam memory list` has, or FILE.py:NAME for one of your own; that file is executed."
PATTERNS = "A file (CSV, TSV, Parquet, NPY, NPZ, NetCDF, IDX) or a folder of PNG images"
STEP = "Length of an update, above 0 and below 2; 1 is the update itself."
Stored = Annotated[
    str, typer.Option("--patterns", metavar="P", help=f"The patterns to store. {PATTERNS}.", show_default=False)
]
Parameter = Annotated[
    list[str] | None,
    typer.Option(
        "-p",
        "--parameter",
        metavar="NAME=VALUE",
        help="A parameter of the memory, as `probam memory show NAME` lists them; may be given more than once.",
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(help="Turn numbers into signs or bits: above it the upper one, else the lower one."),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help=NAME, show_default=False)]


@memories.command("list", epilog="Example:\n\n  probam memory list")
def list_(as_json: Json = False) -> None:
    """List the memories: name, states, energy and the density that it is."""
    api_ready()
    from probam.energies.registry import MEMORIES
    from probam.equivalence.memory_twins import twin_in_words

    cards = [(memory.card, twin_in_words(memory)) for memory in MEMORIES.values()]
    if as_json:
        keys = ("name", "energy", "update", "capacity", "source", "experiment")
        records = [
            {key: getattr(card, key) for key in keys} | {"states": card.states.name, "twin": twin}
            for card, twin in cards
        ]
        print_json(records)
        return
    width = max(len(card.name) for card, _ in cards)
    states = max(len(card.states.name) for card, _ in cards)
    for card, twin in cards:
        print(f"{card.name:<{width}}  {card.states.name:<{states}}  {card.energy}")
        density = "none" if twin.startswith("none: ") else twin
        print(f"{'':<{width}}  {'':<{states}}  density: {density}")
    print("\nprobam memory show NAME explains one, and why it has no density")
    print("probam memory recall NAME --patterns P --queries Q -o OUT stores patterns and recalls queries")


@memories.command(epilog="Examples:\n\n  probam memory show clam\n\n  probam memory show my_memory.py:Mine")
def show(name: Name, as_json: Json = False) -> None:
    """Explain a memory: equation, source, density, parameters, and an example with the number that it gives."""
    api_ready()
    from probam.cli.memory_page import description
    from probam.energies.registry import find_memory
    from probam.equivalence.memory_twins import twin_in_words

    memory = find_memory(name)
    card, told, parameters = memory.card, description(memory), _parameters(memory)
    record: dict[str, Any] = {
        "name": card.name,
        "states": card.states.name,
        "words": told.words,
        "equation": told.equation,
        "energy": card.energy + (f" ({memory.no_energy})" if memory.no_energy else ""),
        "update": card.update + (f" ({memory.no_update})" if memory.no_update else ""),
        "capacity": card.capacity,
        "density": twin_in_words(memory),
        "source": card.source,
        "experiment": card.experiment or "none",
        "parameters": ", ".join(f"{key}={value}" for key, value in parameters.items()) or memory.no_store,
        "example": [*told.imports, *told.example],
        "number": told.number,
    }
    if as_json:
        print_json(record)
        return
    example, number = record.pop("example"), record.pop("number")
    print(f"{record.pop('name')}: {record.pop('words')}\n")
    for key, value in record.items():
        print(f"{key:<12}{value}")
    if example:
        print("\nexample\n" + "\n".join(f"  {line}" for line in example) + f"\ngives       {number}")


def _parameters(memory: type["Memory"]) -> dict[str, Any]:
    """Names and defaults of what ``--parameter`` can set."""
    if memory.store is None:
        return {}
    known = inspect.signature(memory.store).parameters.values()
    return {one.name: one.default for one in known if one.kind is inspect.Parameter.KEYWORD_ONLY}


@memories.command(
    epilog="Examples:\n\n  probam memory recall clam --patterns stored.csv --queries cues.csv -o recalled.csv\n\n"
    "  probam memory recall hopfield -p rule=pseudo_inverse --threshold 0.5 --patterns faces/ --queries noisy/ "
    "-o out.csv\n\n"
    "  probam memory recall dense --threshold 127 --patterns train-images-idx3-ubyte --queries test.idx -o out.npz\n\n"
    "The output has the recalled states, then steps, residual, energy (where there is one), converged and basin, the "
    "number of the fixed point."
)
def recall(
    name: Name,
    patterns: Stored,
    queries: Annotated[str, typer.Option(metavar="Q", help=f"Where recall starts. {PATTERNS}.", show_default=False)],
    output: TableOutput,
    parameter: Parameter = None,
    threshold: Threshold = None,
    normalise: Normalise = False,
    step: Annotated[float, typer.Option(help=STEP)] = 1.0,
    max_steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Most steps of a query; by default 1000, and 1 for a memory that answers at once.",
            show_default=False,
        ),
    ] = None,
    flow: Annotated[
        bool, typer.Option("--flow", help="Integrate both layers of a two-layer network by their time constants.")
    ] = False,
    dimension: Annotated[
        bool,
        typer.Option("--dimension", help="Also write in how many directions the memory is soft where recall ends."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Store patterns in a memory, recall every query, and write where each one ends."""
    from probam.data.writing import TABLE_SUFFIXES

    check_output(output, TABLE_SUFFIXES, as_json=as_json)
    check_apart(output, patterns, queries)
    api_ready()
    from probam.dynamics.memories import basins
    from probam.energies.registry import find_memory

    kind = find_memory(name)
    stored, cues = _read(patterns, queries)
    rows, starts = (_states(kind, each, threshold, normalise) for each in (stored, cues))
    with Bar("recalling"):
        memory = _stored(kind, rows, parameter or [])
        states = starts.reshape(-1, *memory.shape)
        found = interruptible(lambda: basins(memory, states, step=step, max_steps=max_steps, flow=flow))
        kept = interruptible(lambda: _recalled_themselves(memory, rows, step)) if memory.settles else None
    columns = _dataset(found, stored)
    if dimension:
        from probam.dynamics.local_dimension import local_dimension

        columns["dimension"] = "datum", interruptible(lambda: local_dimension(memory, found.recall.states))
    write_result(columns, output, plain="state")
    record, text = _summary(memory, found, kept, len(rows))
    tell(text, record, as_json=as_json, output=output)


@memories.command(
    epilog="Examples:\n\n  probam memory landscape clam --patterns stored.csv -o landscape.html\n\n"
    "  probam memory landscape my_memory.py:Mine --patterns stored.csv --queries cues.csv -o landscape.html\n\n"
    "The page has the energy on the plane of the two widest directions, with patterns, paths of recall and fixed "
    "points, and a table of these. States that are signs, bits or sequences have no landscape."
)
def landscape(
    name: Name,
    patterns: Stored,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="PAGE", help="The page to write (.html).")],
    queries: Annotated[
        str | None,
        typer.Option(
            metavar="Q",
            help=f"Where recall starts; without it, points of the plane. {PATTERNS}.",
            show_default=False,
        ),
    ] = None,
    parameter: Parameter = None,
    normalise: Normalise = False,
    step: Annotated[float, typer.Option(help=STEP)] = 1.0,
    max_steps: Annotated[int, typer.Option(min=1, help="Most steps of a query.")] = 1000,
    as_json: Json = False,
) -> None:
    """Draw the energy landscape of a memory: patterns, recall and the fixed points where it ends, on one page."""
    from probam.data.patterns import read_patterns
    from probam.data.writing import check_writable

    check_writable(output, suffixes=(".html",))
    check_apart(output, patterns, *([] if queries is None else [queries]))
    api_ready()
    from probam.energies.registry import find_memory
    from probam.fits.memory_landscape import check_drawable, landscape_of
    from probam.reports.memory import write_memory_page

    kind = find_memory(name)
    check_drawable(kind.card.name, kind.card.states)
    read = (read_patterns(patterns),) if queries is None else _read(patterns, queries)
    rows, *cues = (_states(kind, each, None, normalise) for each in read)
    with Bar("drawing the landscape"):
        memory = _stored(kind, rows, parameter or [])
        tree = interruptible(
            lambda: landscape_of(
                memory,
                rows,
                cues[0] if cues else None,
                columns=read[0].columns,
                parameters=values_in(parameter or [], "parameter"),
                step=step,
                max_steps=max_steps,
            )
        )
    write_memory_page(tree, output)
    wrote(output, as_json=as_json)


@memories.command(
    epilog="Examples:\n\n  probam memory verify clam --patterns stored.csv --queries cues.csv\n\n"
    "Exit code 1: a check failed."
)
def verify(
    name: Name,
    patterns: Stored,
    queries: Annotated[
        str, typer.Option(metavar="Q", help=f"The states at which to check. {PATTERNS}.", show_default=False)
    ],
    parameter: Parameter = None,
    threshold: Threshold = None,
    normalise: Normalise = False,
    as_json: Json = False,
) -> None:
    """Check that the energy of a memory is its negative log density, and that its updates go downhill."""
    api_ready()
    from probam.energies.registry import find_memory
    from probam.equivalence.memory_check import verify_memory

    kind = find_memory(name)
    rows, states = (_states(kind, each, threshold, normalise) for each in _read(patterns, queries))
    with Bar("verifying"):
        memory = _stored(kind, rows, parameter or [])
        found = interruptible(lambda: verify_memory(memory, states.reshape(-1, *memory.shape)))
    passed = all(check.passed for check in found.checks)
    width = max((len(check.name) for check in found.checks), default=0)
    lines = [check_line(check, width) for check in found.checks] + [f"left out  {text}" for text in found.left_out]
    record = {
        "passed": passed,
        "checks": [check._asdict() for check in found.checks],
        "left_out": found.left_out,
    }
    tell("\n".join(lines), record, as_json=as_json)
    raise typer.Exit(0 if passed else 1)


def _read(patterns: str, queries: str) -> tuple["Patterns", "Patterns"]:
    """Patterns and queries of one width."""
    from probam.data.patterns import read_patterns

    stored, cues = read_patterns(patterns), read_patterns(queries)
    if stored.values.shape[1] != cues.values.shape[1]:
        raise InputError(
            f"queries: {queries} has {cues.values.shape[1]} numbers in a row and {patterns} {stored.values.shape[1]}; "
            "give both the same columns, or images of one size"
        )
    return stored, cues


def _states(kind: type["Memory"], patterns: "Patterns", threshold: float | None, normalise: bool) -> "np.ndarray":
    """The rows as states: numbers above the threshold as upper values, or directions."""
    import numpy as np

    from probam.energies.memory import SIGNS

    rows = patterns.values
    if threshold is not None:
        if not np.isfinite(threshold):
            raise InputError(f"--threshold: expected a finite number; got {threshold}")
        rows = np.where(rows > threshold, 1.0, -1.0 if kind.card.states == SIGNS else 0.0)
    if normalise:
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        if not lengths.all():
            row = int(np.flatnonzero(lengths == 0)[0])
            raise InputError(f"{patterns.source}: row {row} is all zeros and has no direction; leave it out")
        rows = rows / lengths
    return rows


def _stored(kind: type["Memory"], rows: "np.ndarray", given: list[str]) -> "Memory":
    """The memory of these patterns, with the parameters that were given."""
    from difflib import get_close_matches

    import jax.numpy as jnp

    if kind.store is None:
        why = kind.no_store or "it has no `store`; give the class one, `store(patterns, **parameters)`"
        raise InputError(f"memory: {kind.card.name} stores no patterns: {why}")
    known = _parameters(kind)
    parameters = values_in(given, "parameter")
    for name, value in parameters.items():
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(known) or 'none'}"
            raise InputError(f"parameter: {kind.card.name} has none called {name!r}; {hint}")
        _check_kind(name, value, known[name])
    try:
        memory = kind.store(rows, **parameters)
        function = memory.update if memory.energy is None else memory.energy
        if function is not None:
            function(jnp.asarray(rows[:1]))  # looks at values, which compiled programs do not
        return memory
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        name, said = kind.card.name, ", ".join(f"{key}={value!r}" for key, value in parameters.items())
        what = f"{name} cannot be made with {said or 'these patterns'} ({error})"
        raise InputError(f"parameter: {what}; see `probam memory show {name}`") from error


def _check_kind(name: str, value: Any, default: Any) -> None:
    """Raise an error for a value of another kind than the parameter's."""
    kinds = ((bool, "true or false"), (int, "a whole number"), (str, "a word"), (object, "a finite number"))
    kind, words = next((kind, words) for kind, words in kinds if isinstance(default, kind))
    fits = isinstance(value, int | float if kind is object else kind) and isinstance(value, bool) == (kind is bool)
    if isinstance(value, float) and not math.isfinite(value):
        fits = False
    if not (fits or (value is None and default is None)):
        raise InputError(f"parameter: {name} is {words}; got {value!r}")


def _recalled_themselves(memory: "Memory", rows: "np.ndarray", step: float) -> int:
    """How many of the first thousand patterns recall ends nearer to than to any other."""
    import numpy as np

    from probam.dynamics.memories import recall as recalled

    first = rows[:_AT_MOST]
    ended = np.asarray(recalled(memory, first, step=step).states)
    square = (ended**2).sum(axis=1)[:, None] - 2 * ended @ rows.T + (rows**2).sum(axis=1)
    own = square[np.arange(len(first)), np.arange(len(first))]
    return int((own <= square.min(axis=1) + 1e-9 * (1 + own)).sum())


def _dataset(found: "MemoryBasins", patterns: "Patterns") -> "xr.Dataset":
    import numpy as np
    import xarray as xr

    ended = found.recall
    columns = {
        "state": (("datum", "feature"), np.asarray(ended.states).reshape(len(found.labels), -1)),
        "steps": ("datum", np.asarray(ended.steps)),
        "residual": ("datum", np.asarray(ended.residual)),
        **({} if ended.energy is None else {"energy": ("datum", np.asarray(ended.energy))}),
        "converged": ("datum", np.asarray(ended.converged)),
        "basin": ("datum", found.labels),
    }
    return xr.Dataset(columns, coords={"feature": list(patterns.columns)})


def _summary(
    memory: "Memory", found: "MemoryBasins", kept: int | None, num_patterns: int
) -> tuple[dict[str, Any], str]:
    """Recall in numbers and in words; ``kept`` patterns recall themselves, None for a memory that does not settle."""
    import numpy as np

    converged = np.asarray(found.recall.converged)
    record: dict[str, Any] = {"num_queries": len(converged), "most_steps": int(found.recall.steps.max())}
    if kept is None:
        most = record["most_steps"]
        return record, f"{len(converged)} queries were updated {'once' if most == 1 else f'{most} times'}"
    record |= {
        "num_patterns_asked": min(num_patterns, _AT_MOST),
        "num_patterns_recalled": kept,
        "num_converged": int(converged.sum()),
        "num_fixed_points": len(found.attractors),
    }
    lines = ["{num_patterns_recalled} of {num_patterns_asked} patterns recall themselves".format(**record)]
    if kept < record["num_patterns_asked"]:
        lines.append(f"the others are not told apart; {memory.card.name} holds: {memory.card.capacity}")
    converge = "{num_converged} of {num_queries} queries converged, to {num_fixed_points} fixed points"
    lines.append(converge.format(**record))
    if not converged.all():
        lines.append("raise --max-steps for the others")
    return record, "\n".join(lines)
