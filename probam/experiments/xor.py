r"""XOR in three neurons: which dense associative memories can recall it, as printed and exactly (claim B8).

The four memories are the states with \(s_1 s_2 s_3 = -1\). Recall clamps two neurons and reads the third.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from probam.energies import dense, hopfield
from probam.experiments.experiment import Drawing, Experiment, Settings, register
from probam.experiments.finding import Finding, Measured, judged
from probam.reports.figures.style import MEMORY_COLOURS, MUTED, new_figure, quiet, styled
from probam.reports.page import number, table

__all__ = ["XOR", "exact_energy"]

_MEMORIES = np.array([[-1.0, -1, -1], [-1, 1, 1], [1, -1, 1], [1, 1, -1]])
_STATES = np.array([[a, b, c] for a in (-1.0, 1) for b in (-1.0, 1) for c in (-1.0, 1)])
_KINDS = ("plain", "rectified")


def exact_energy(kind: str, degree: int, product: Float[np.ndarray, " S"]) -> Float[np.ndarray, " S"]:
    r"""Energy of a state by the product \(s_1 s_2 s_3\) of its neurons.

    Plain powers: \((3^n - 3) s_1 s_2 s_3\) for odd n, \(-(3^n + 3)\) for even n. Rectified powers, every n:
    \(-(3^n + 3) / 2 + (3^n - 3) / 2 \; s_1 s_2 s_3\).

    Args:
        kind: "plain" or "rectified" powers.
        degree: n.
        product: of each state, 1 or -1.
    """
    high, low = 3.0**degree + 3, 3.0**degree - 3
    if kind == "rectified":
        return np.asarray(-high / 2 + low / 2 * product)
    return np.asarray(low * product if degree % 2 else np.full(len(product), -high))


def run(settings: Settings) -> xr.DataTree:
    """Energies of all eight states and the answers of recall, for every degree and both kinds of power."""
    degrees = np.arange(1, 16 if settings.full else 8)
    product = _STATES.prod(axis=1)
    shape = (len(_KINDS), len(degrees))
    energies, exact = np.empty((*shape, 8)), np.empty((*shape, 8))
    solved = np.empty((*shape, 2), int)
    rules = {"difference": dense.difference_field, "derivative": dense.derivative_field}
    for i, kind in enumerate(_KINDS):
        for j, degree in enumerate(degrees):
            settings.progress(i * len(degrees) + j, 2 * len(degrees), f"{kind} powers, n = {degree}")
            separation = dense.Polynomial(int(degree), rectified=kind == "rectified")
            energies[i, j] = dense.energy(_STATES, _MEMORIES, separation)
            exact[i, j] = exact_energy(kind, int(degree), product)
            for r, field in enumerate(rules.values()):
                answer = np.sign(np.asarray(field(_STATES, _MEMORIES, separation))[:, 2])
                right = answer == -_STATES[:, 0] * _STATES[:, 1]
                solved[i, j, r] = right.reshape(4, 2).all(axis=1).sum()  # from both values of the third neuron
    numbers = xr.Dataset(
        {
            "energy": (("kind", "degree", "state"), energies),
            "exact": (("kind", "degree", "state"), exact),
            "solved": (("kind", "degree", "rule"), solved),
        },
        coords={
            "kind": list(_KINDS),
            "degree": degrees,
            "rule": list(rules),
            "is_memory": ("state", (product < 0).astype(np.int8)),
            "neurons": (("state", "neuron"), _STATES),
        },
    )
    numbers["energy"].attrs["long_name"] = "minus the sum over memories of F_n of the overlap"
    numbers["exact"].attrs["long_name"] = "the same by the closed form"
    numbers["solved"].attrs["long_name"] = "of the four pairs of inputs, those answered right"
    couplings = np.asarray(hopfield.couplings(jnp.asarray(_MEMORIES)))
    classical = xr.Dataset({"couplings": (("neuron", "neuron_bis"), couplings)})
    return xr.DataTree.from_dict({"xor": numbers, "hopfield": classical})


@styled
def figures(tree: xr.DataTree) -> Sequence[Drawing]:
    """Energies of memories and of the other states against the degree."""
    numbers = tree["xor"].to_dataset()
    degrees = numbers["degree"].values
    figure = new_figure(8.0, 3.0)
    for axes, kind in zip(figure.subplots(1, 2, sharey=True), _KINDS, strict=True):
        scaled = numbers["energy"].sel(kind=kind).values / 3.0 ** degrees[:, None]
        for is_memory, marker, label in ((1, "o", "the four memories"), (0, "s", "the four other states")):
            chosen = scaled[:, numbers["is_memory"].values == is_memory]
            colour = MEMORY_COLOURS[0] if is_memory else MEMORY_COLOURS[1]
            axes.plot(
                degrees, chosen[:, 0], marker=marker, color=colour, label=label, mfc="none" if not is_memory else colour
            )
        axes.axhline(0, color=MUTED, lw=0.6)
        axes.set_title(f"{kind} powers")
        axes.set_xlabel("degree n")
        quiet(axes, grid="y")
    figure.axes[0].set_ylabel("energy / 3ⁿ")
    figure.axes[1].legend()
    caption = (
        "Energy of the states that obey exclusive-or and of those that do not. Where the two coincide nothing is "
        "stored: plain powers of even degree and degree 1. Rectified powers separate them from degree 2 on."
    )
    return [Drawing("energies", figure, caption)]


def findings(tree: xr.DataTree) -> Sequence[Finding]:
    """The slide's three forms and its conclusion, one by one."""
    numbers = tree["xor"].to_dataset()
    return [
        _classical_finding(tree),
        *_plain_form_findings(numbers),
        _rectified_form_finding(numbers),
        *_solved_findings(numbers),
        _closed_form_finding(numbers),
    ]


_EVERY = "every state was tried, so that there is no error"


def _classical_finding(tree: xr.DataTree) -> Finding:
    largest = np.abs(tree["hopfield"].to_dataset()["couplings"].values).max()
    return judged(
        f"The classical net of three neurons cannot recall exclusive-or: its couplings are all {largest:g}.",
        Measured(float(largest), 0.0, "Largest coupling by size", "computed exactly"),
        (0.0, 0.0),
        "A coupling other than zero would have shown the opposite.",
    )


def _plain_form_findings(numbers: xr.Dataset) -> list[Finding]:
    energy = numbers["energy"].sel(kind="plain")
    constants = [float(energy.sel(degree=n).values[0]) for n in (2, 3)]
    return [
        judged(
            "Plain powers have the printed forms (0, a constant, a multiple of s1 s2 s3) at degrees 1 to "
            f"{numbers['degree'].values[-1]}.",
            Measured(_departure(energy), 0.0, "Largest relative departure from these forms", _EVERY),
            (0.0, 1e-12),
            "A departure beyond rounding at any degree would have shown the opposite.",
        ),
        Finding(
            "The printed C stands for two constants: the factor 3ⁿ − 3 of s1 s2 s3 at odd n, and −(3ⁿ + 3) at even n "
            f"(n = 2: {number(constants[0])}; n = 3: {number(constants[1])} for a state with s1 s2 s3 = −1).",
            "note",
        ),
    ]


def _rectified_form_finding(numbers: xr.Dataset) -> Finding:
    energy = numbers["energy"].sel(kind="rectified")
    one, two = np.abs(energy.sel(degree=1).values).max(), energy.sel(degree=2).values
    return judged(
        "Rectified powers, which the slides define, do not have the printed forms: at n = 1 the energy is "
        f"{number(-float(one))}, not 0; at n = 2 it is {number(float(two.min()))} on the memories and "
        f"{number(float(two.max()))} elsewhere, not one constant.",
        Measured(_departure(energy), 0.0, "Largest relative departure from the printed forms", _EVERY),
        (0.0, 1e-12),
        "Energies of the printed forms at every degree would have shown the opposite.",
    )


def _solved_findings(numbers: xr.Dataset) -> list[Finding]:
    degrees = numbers["degree"].values
    odd, even = _odd_and_even(degrees)
    plain, rectified = (numbers["solved"].sel(kind=kind, rule="difference") for kind in _KINDS)
    as_printed = (plain.sel(degree=odd) == 4).sum() + (plain.sel(degree=even) == 0).sum()
    even_solved = int((rectified.sel(degree=even) == 4).sum())
    num_even, num_both = len(even), len(odd) + len(even)
    return [
        judged(
            f"Plain powers solve all four cases at n = {_listed(degrees[plain == 4])} and none at even n: higher odd "
            "degrees are needed.",
            Measured(
                float(as_printed) / num_both,
                0.0,
                "Share of the degrees from 2 on that behave as the slides say",
                _EVERY,
            ),
            (1.0, 1.0),
            "An odd degree from 3 on that fails, or an even one that solves a case, would have shown the opposite.",
        ),
        judged(
            f"Rectified powers solve all four cases at n = {_listed(degrees[rectified == 4])}; the slides name odd n "
            "only.",
            Measured(even_solved / num_even, 0.0, "Share of the even degrees that solve all cases", _EVERY),
            (0.0, 0.0),
            "No even degree that solves all four cases would have shown the opposite.",
        ),
    ]


def _closed_form_finding(numbers: xr.Dataset) -> Finding:
    energy, exact = numbers["energy"], numbers["exact"]
    error = float(np.abs(energy - exact).max() / np.abs(exact).max())
    return Finding(
        "The closed forms (3ⁿ − 3) s1 s2 s3, −(3ⁿ + 3), and −(3ⁿ + 3)/2 + (3ⁿ − 3)/2 s1 s2 s3 for rectified powers "
        f"hold for all eight states, relative error {number(error, 2)}.",
        "note",
    )


def _odd_and_even(degrees: Int[np.ndarray, " n"]) -> tuple[Int[np.ndarray, " odd"], Int[np.ndarray, " even"]]:
    """Odd degrees above one, and even degrees."""
    return degrees[(degrees % 2 == 1) & (degrees > 1)], degrees[degrees % 2 == 0]


def _departure(energy: xr.DataArray) -> float:
    """Largest relative departure from zero at degree 1, one constant at even n and a multiple of s1 s2 s3 at odd n."""
    odd, even = (energy.sel(degree=chosen).values for chosen in _odd_and_even(energy["degree"].values))
    size_odd, size_even = (np.abs(values).max(axis=-1) for values in (odd, even))
    one = np.abs(energy.sel(degree=1).values).max() / 3  # the overlaps are at most 3
    multiple = np.abs(odd.mean(axis=-1)) / size_odd  # of a sum to zero over all states
    return float(max(one, (np.ptp(even, axis=-1) / size_even).max(), multiple.max()))


def tables(tree: xr.DataTree) -> Sequence[str]:
    """Energies by degree and kind, beside the printed form, and the cases solved."""
    numbers = tree["xor"].to_dataset()
    is_memory = numbers["is_memory"].values == 1
    rows = []
    for kind in _KINDS:
        for degree in numbers["degree"].values:
            at = numbers.sel(kind=kind, degree=degree)
            values = at["energy"].values
            printed = "0" if degree == 1 else "C" if degree % 2 == 0 else "C s₁s₂s₃"
            rows.append(
                [
                    f"{kind}, n = {degree}",
                    number(float(values[is_memory][0]), 8),
                    number(float(values[~is_memory][0]), 8),
                    printed,
                    _closed_form(kind, int(degree)),
                    *(f"{int(at['solved'].sel(rule=rule))} of 4" for rule in ("difference", "derivative")),
                ]
            )
    header = ["power", "E on memories", "E elsewhere", "printed", "exact", "solved by difference", "by derivative"]
    return [table(header, rows, caption="Energies of the eight states, and how many of four questions are answered")]


def _closed_form(kind: str, degree: int) -> str:
    high, low = 3**degree + 3, 3**degree - 3
    if kind == "rectified":
        return f"{number(-high // 2)} + {number(low // 2)} s₁s₂s₃"
    return f"{number(low)} s₁s₂s₃" if degree % 2 else number(-high)


def _listed(degrees: Int[np.ndarray, " n"]) -> str:
    return ", ".join(map(str, degrees)) if len(degrees) else "no degree"


XOR = register(
    Experiment(
        name="xor",
        title="Exclusive-or in three neurons",
        question="Can a dense associative memory recall exclusive-or, and is its energy what the slides print?",
        source="Yang (2020), slides on large associative memory, 'The case of XOR problem'",
        claims=("B8",),
        words=("plain power", "rectified power"),
        run=run,
        figures=figures,
        findings=findings,
        tables=tables,
    )
)
