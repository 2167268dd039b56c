r"""Where recall ends: more attractors than memories, basins other than Voronoi cells, a pitchfork (claims A6, A8, A9).

All with the energy of a clustering associative memory. Nothing is random: the queries form grids.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.tree_util import Partial
from jaxtyping import Array, Float
from scipy.optimize import brentq

from probam.dynamics.basins import Basins, basin, nearest
from probam.dynamics.recall import recall
from probam.energies import clam
from probam.experiments.experiment import Drawing, Experiment, Settings, register
from probam.experiments.finding import Finding, Measured, judged
from probam.reports.figures.style import GRID, INK, MEMORY_COLOURS, MUTED, PAPER, new_figure, quiet, styled
from probam.reports.page import number, percent, spelled, table

__all__ = ["ATTRACTORS", "triangle"]

_CORNERS = 0.9152145256
"""Value of beta R^2 from which the triangle has wells at its corners: the double root of m(v) = v on the way to one."""
_WELL = "#b3261e"
"""Colour of attractors in the plane, apart from those of basins."""
_ROWS = 16
"""Attractors whose curvature is computed together."""


def triangle(radius: float = 1.0) -> Float[np.ndarray, "3 2"]:
    """Corners of the equilateral triangle of that circumradius around the origin."""
    angles = np.pi / 2 + 2 * np.pi * np.arange(3) / 3
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _basins(
    queries: Float[np.ndarray, "Q D"], memories: Float[np.ndarray, "K D"], beta: float, **options: Any
) -> Basins:
    bank: dict[str, Any] = {"memories": jnp.asarray(memories), "beta": jnp.asarray(beta)}
    return basin(Partial(clam.update, **bank), Partial(clam.energy, **bank), queries, **options)


def run(settings: Settings) -> xr.DataTree:
    """Attractors of the triangle, basins on a line and in the plane, and the fixed points of two memories."""
    return xr.DataTree.from_dict(
        {
            "triangle": _triangle(settings),
            "line": _line(settings),
            "plane": _plane(settings),
            "pitchfork": _pitchfork(settings),
        }
    )


@jax.jit
def _curvatures(points: Array, memories: Array, beta: Array) -> Array:
    """Eigenvalues of the energy's Hessian at each point."""
    values: Array = jnp.linalg.eigvalsh(jax.vmap(jax.hessian(clam.energy), (0, None, None))(points, memories, beta))
    return values


def _is_minimum(points: Float[np.ndarray, "A D"], memories: Float[np.ndarray, "K D"], beta: float) -> np.ndarray:
    """Whether the energy's Hessian is positive definite at each point."""
    padded = np.resize(points, (_ROWS * -(-len(points) // _ROWS), points.shape[1]))
    least = [np.asarray(_curvatures(rows, memories, beta)).min(axis=-1) for rows in padded.reshape(-1, _ROWS, 2)]
    return np.asarray(np.concatenate(least)[: len(points)] > 1e-6)


def _triangle(settings: Settings) -> xr.Dataset:
    scaled = np.round(np.linspace(0.88, 1.04, 33 if settings.full else 17), 4)
    side = 41 if settings.full else 15
    corners = triangle()
    axis = np.linspace(-1.2, 1.2, side)
    queries = np.concatenate(
        [np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2) + 0.003, corners, 1e-3 * corners]
    )
    counts, centre = np.empty(len(scaled), int), np.empty(len(scaled), bool)
    for j, beta in enumerate(scaled):
        settings.progress(j, 3 * len(scaled), f"triangle, beta R² = {beta:g}")
        reached = _basins(queries, corners, float(beta), max_steps=200_000, link=1e-4)
        minima = reached.attractors[_is_minimum(reached.attractors, corners, float(beta))]
        counts[j] = len(minima)
        centre[j] = bool((np.linalg.norm(minima, axis=1) < 1e-3).any())
    return xr.Dataset(
        {
            "num_attractors": ("beta_r2", counts),
            "centre_attracts": ("beta_r2", centre.astype(np.int8)),
            "corner_wells_from": _corner_wells(corners),
        },
        coords={"beta_r2": scaled},
        attrs={"num_memories": 3},
    )


def _corner_wells(corners: Float[np.ndarray, "3 2"]) -> float:
    """Least beta R^2 at which the energy has a second minimum on the way from the centre to a corner."""
    heights = np.linspace(0.05, 1.0, 400)
    path = jnp.asarray(heights[:, None] * corners[0])
    slope = jax.jit(jax.vmap(jax.grad(clam.energy), (0, None, None)))

    def deepest_descent(beta: float) -> float:
        """Least slope outwards, sampled finely and refined by a parabola: negative where there is a well."""
        along = np.asarray(slope(path, corners, beta) @ corners[0])
        k = int(np.clip(np.argmin(along), 1, len(along) - 2))
        a, b, c = along[k - 1 : k + 2]
        return float(b - (c - a) ** 2 / (8 * (a - 2 * b + c)))

    return float(brentq(deepest_descent, 0.8, 0.99, xtol=1e-9))


def _line(settings: Settings) -> xr.Dataset:
    """Claim A6 on a line: where the basins meet, against the midpoint between the memories."""
    memories, beta = np.array([[0.0], [1.0], [1.3]]), 6.0
    settings.progress(1, 3, "basins on a line")
    queries = np.linspace(-0.3, 1.6, 381)[:, None]
    reached = _basins(queries, memories, beta)
    low, high = 0.0, 1.0
    for _ in range(40):  # bisection: which side does recall end on?
        middle = (low + high) / 2
        end = float(_basins(np.array([[middle]]), memories, beta).recall.states[0, 0])
        low, high = (middle, high) if end < 0.5 else (low, middle)
    doubled = float(_basins(np.array([[0.45]]), np.array([[0.0], [1.0], [1.0]]), 5.0).recall.states[0, 0])
    return xr.Dataset(
        {
            "recalled": ("query", np.asarray(reached.recall.states)[:, 0]),
            "nearest": ("query", np.asarray(nearest(queries, memories))),
            "memory_position": ("memory", memories[:, 0]),
            "boundary": (low + high) / 2,
            "doubled_recall": doubled,
        },
        coords={"query": queries[:, 0]},
        attrs={"beta": beta},
    )


def _plane(settings: Settings) -> xr.Dataset:
    """Basins and Voronoi cells of a few memories in the plane, over beta."""
    memories = np.array([[-1.0, 0.2], [0.1, 0.9], [0.5, -0.6], [0.9, -0.3], [0.7, -0.9]])
    side = 161 if settings.full else 81
    axis = np.linspace(-1.6, 1.6, side)
    queries = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    betas = np.array([0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 64.0])
    cells = np.asarray(nearest(queries, memories))
    labels = np.empty((len(betas), side, side), int)
    places = np.full((len(betas), len(memories), 2), np.nan)
    number_of, recalled = np.empty(len(betas), int), np.empty((len(betas), len(queries)), int)
    for j, beta in enumerate(betas):
        settings.progress(len(betas) + j, 3 * len(betas), f"basins in the plane, beta = {beta:g}")
        reached = _basins(queries, memories, float(beta), max_steps=50_000, link=1e-4)
        labels[j] = reached.labels.reshape(side, side)
        number_of[j] = len(reached.attractors)
        places[j, : number_of[j]] = reached.attractors[: len(memories)]
        recalled[j] = np.asarray(nearest(reached.recall.states, memories))
    differ = np.mean(recalled != cells, axis=1)
    bank: dict[str, Any] = {"memories": jnp.asarray(memories), "beta": jnp.asarray(4.0)}
    flow = recall(
        Partial(clam.update, **bank), Partial(clam.energy, **bank), queries[:: side // 8], step=0.1, record=200
    )
    assert flow.energies is not None
    return xr.Dataset(
        {
            "largest_rise": float(np.diff(np.asarray(flow.energies), axis=0).max()),
            "basin": (("beta", "y", "x"), labels),
            "cell": (("y", "x"), cells.reshape(side, side)),
            "num_attractors": ("beta", number_of),
            "differs": ("beta", differ),
            "position": (("memory", "axis"), memories),
            "attractor": (("beta", "memory", "axis"), places),
        },
        coords={"beta": betas, "x": axis, "y": axis},
    )


def _pitchfork(settings: Settings) -> xr.Dataset:
    """Fixed points of two memories at -a and a, for several a; recall starts close to the middle."""
    halves = np.array([0.5, 1.0, 2.0])
    scaled = np.round(np.linspace(0.5, 2.5, 81 if settings.full else 41), 6)  # 2 beta a^2
    arrived = np.empty((len(halves), len(scaled)))
    curvature = np.empty_like(arrived)
    for i, a in enumerate(halves):
        memories = np.array([[-a], [a]])
        settings.progress(2 * len(halves) + i, 3 * len(halves), f"pitchfork, memories at ±{a:g}")
        for j, value in enumerate(scaled):
            beta = float(value / (2 * a * a))
            reached = _basins(np.array([[0.1 * a]]), memories, beta, max_steps=100_000)
            arrived[i, j] = float(reached.recall.states[0, 0])
            curvature[i, j] = float(_curvatures(np.zeros((1, 1)), memories, beta)[0, 0])
    halfway = _basins(np.array([[0.0]]), np.array([[-1.0], [1.0]]), 2.0)
    return xr.Dataset(
        {
            "arrived": (("half", "scaled_beta"), arrived),
            "curvature": (("half", "scaled_beta"), curvature),
            "halfway_end": float(halfway.recall.states[0, 0]),
            "halfway_curvature": float(_curvatures(np.zeros((1, 1)), np.array([[-1.0], [1.0]]), 2.0)[0, 0]),
        },
        coords={"half": halves, "scaled_beta": scaled},
    )


# --- reading --------------------------------------------------------------------------------------------------


@styled
def figures(tree: xr.DataTree) -> Sequence[Drawing]:
    """Basins in the plane, the line, the number of attractors of the triangle, the pitchfork."""
    return [_plane_drawing(tree), _line_drawing(tree), _triangle_drawing(tree), _pitchfork_drawing(tree)]


def _plane_drawing(tree: xr.DataTree) -> Drawing:
    plane = tree["plane"].to_dataset()
    shown = [1.0, 4.0, 16.0]
    figure = new_figure(8.4, 3.4)
    for axes, beta in zip(figure.subplots(1, 3, sharey=True), shown, strict=True):
        labels = plane["basin"].sel(beta=beta).values
        num = int(plane["num_attractors"].sel(beta=beta))
        image = np.ones((*labels.shape, 4))
        for label in range(num):
            colour = MEMORY_COLOURS[label % len(MEMORY_COLOURS)]
            image[labels == label] = [*(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)), 0.28]
        image[labels < 0] = [1, 1, 1, 0]
        extent = (float(plane["x"][0]), float(plane["x"][-1]), float(plane["y"][0]), float(plane["y"][-1]))
        axes.imshow(image, origin="lower", extent=extent, interpolation="nearest")
        for k in range(plane.sizes["memory"]):
            mask = (plane["cell"].values == k).astype(float)
            axes.contour(plane["x"], plane["y"], mask, [0.5], colors=[INK], linewidths=0.7)
        axes.plot(*plane["position"].values.T, "o", ms=4, color=INK, label="memory")
        axes.plot(*plane["attractor"].sel(beta=beta).values.T, "x", ms=7, mew=1.8, color=_WELL, label="attractor")
        axes.set_xlabel("first coordinate")
        axes.set_title(f"beta = {beta:g}: {spelled(num, 'basin', 'basins')}")
    figure.axes[0].set_ylabel("second coordinate")
    figure.axes[0].legend(loc="upper left", frameon=True, facecolor=PAPER, edgecolor="none", framealpha=0.8)
    caption = (
        "Basins of recall (colours), attractors (crosses) and Voronoi cells of the memories (lines, dots). At small "
        "beta memories share a basin; as beta grows the borders approach those of the cells."
    )
    return Drawing("basins", figure, caption)


def _line_drawing(tree: xr.DataTree) -> Drawing:
    line = tree["line"].to_dataset()
    figure = new_figure(6.4, 3.0)
    axes = figure.subplots()
    axes.plot(line["query"], line["recalled"], color=MEMORY_COLOURS[0], label="where recall ends")
    cells = line["memory_position"].values[line["nearest"].values]
    axes.plot(line["query"], cells, color=MEMORY_COLOURS[1], lw=1, ls="--", label="memory nearest to the query")
    axes.plot(line["memory_position"], line["memory_position"], "o", color=INK, ms=5, mfc="none", label="memories")
    axes.axvline(float(line["boundary"]), color=MUTED, lw=0.7)
    axes.annotate(
        f"border of the basins, {float(line['boundary']):.3f}",
        (float(line["boundary"]) + 0.06, 0.5),
        color=MUTED,
        fontsize=8,
    )
    axes.set_xlabel("where recall starts (query)")
    axes.set_ylabel("where it ends")
    axes.legend()
    caption = (
        f"Three memories on a line, beta = {line.attrs['beta']:g}. The memories at 1 and 1.3 share one attractor "
        "between them, and the border of its basin (thin line) is not half-way to the memory at 0."
    )
    return Drawing("line", figure, caption)


def _triangle_drawing(tree: xr.DataTree) -> Drawing:
    corners = tree["triangle"].to_dataset()
    figure = new_figure(6.4, 2.6)
    axes = figure.subplots()
    axes.step(corners["beta_r2"], corners["num_attractors"], where="mid", color=MEMORY_COLOURS[0])
    axes.plot(corners["beta_r2"], corners["num_attractors"], "o", ms=3.5, color=MEMORY_COLOURS[0], label="attractors")
    axes.axhline(corners.attrs["num_memories"], color=MUTED, lw=0.8, ls="--", label="memories")
    wells = float(corners["corner_wells_from"])
    axes.axvspan(wells, 1.0, color=GRID, alpha=0.6, lw=0)
    axes.text((wells + 1) / 2, 1.5, "wells at the corners\nand in the centre", ha="center", va="center", color=MUTED)
    axes.legend(loc="center right")
    axes.set_yticks([1, 2, 3, 4])
    axes.set_xlabel("beta R²")
    axes.set_ylabel("number")
    quiet(axes, grid="y")
    caption = (
        "Attractors of three memories on an equilateral triangle of circumradius R. In the shaded range there are more "
        "attractors than memories (dashed): the corners already have wells, and the centre still has one."
    )
    return Drawing("triangle", figure, caption)


def _pitchfork_drawing(tree: xr.DataTree) -> Drawing:
    fork = tree["pitchfork"].to_dataset()
    figure = new_figure(6.4, 2.8)
    axes = figure.subplots()
    for i, half in enumerate(fork["half"].values):
        relative = fork["arrived"].sel(half=half) / half
        marks: dict[str, Any] = {"marker": "os."[i], "ms": (8, 4.5, 3)[i], "mfc": "none" if i < 2 else None, "ls": ""}
        axes.plot(fork["scaled_beta"], relative, color=MEMORY_COLOURS[i], label=f"a = {half:g}", **marks)
        axes.plot(fork["scaled_beta"], -relative, color=MEMORY_COLOURS[i], **marks)
    height = np.linspace(1e-3, min(0.995, float(np.abs(fork["arrived"] / fork["half"]).max())), 300)
    for sign in (1, -1):
        label = "exact" if sign == 1 else None
        axes.plot(np.arctanh(height) / height, sign * height, color=MUTED, lw=0.8, zorder=0, label=label)
    axes.axvline(1.0, color=MUTED, lw=0.8, ls="--")
    axes.set_xlabel("2 beta a²")
    axes.set_ylabel("fixed point / a")
    axes.legend(loc="upper left")
    caption = (
        "Stable fixed points of two memories at ±a (one branch computed, the other its mirror image); line: "
        "v / a = tanh(2 beta a v). The attractor in "
        "the middle splits in two at beta = 1 / (2a²), dashed."
    )
    return Drawing("pitchfork", figure, caption)


def _split(fork: xr.Dataset) -> tuple[float, float]:
    """Interval of 2 beta a^2 in which the fixed point leaves the middle, for the widest of the pairs."""
    away = np.abs(fork["arrived"].values / fork["half"].values[:, None]) > 1e-2
    at = fork["scaled_beta"].values
    return max(at[~row].max() for row in away), min(at[row].min() for row in away)


def findings(tree: xr.DataTree) -> Sequence[Finding]:
    """The paper's statements on where recall ends, one by one."""
    line, plane = tree["line"].to_dataset(), tree["plane"].to_dataset()
    corners, fork = tree["triangle"].to_dataset(), tree["pitchfork"].to_dataset()
    return [
        _descent_finding(plane),
        _saddle_finding(fork),
        _boundary_finding(line),
        _cells_finding(plane),
        *_triangle_findings(corners),
        _pitchfork_finding(fork),
    ]


def _descent_finding(plane: xr.Dataset) -> Finding:
    rise = float(plane["largest_rise"])
    return judged(
        "The energy does not rise during recall: the largest rise in any step of a tenth of tau, from queries all "
        f"over the plane, is {number(rise, 2)}.",
        Measured(rise, 0.0, "Largest rise of the energy in a step", "the largest over all queries and steps"),
        (-np.inf, 1e-12),
        "A rise beyond rounding in any step would have shown the opposite.",
    )


def _saddle_finding(fork: xr.Dataset) -> Finding:
    end, curvature = float(fork["halfway_end"]), float(fork["halfway_curvature"])
    return judged(
        "'The energy is guaranteed to converge to a local minimum': it converges to a stationary point. Half-way "
        f"between two memories recall stays at {number(end)}, where the curvature is {number(curvature, 3)} (memories "
        "at ±1, beta 2).",
        Measured(curvature, 0.0, "Curvature of the energy where recall stays", "a closed form; nothing is random"),
        (0.0, np.inf),
        "A positive curvature at every place where recall stays would have shown the opposite.",
    )


def _boundary_finding(line: xr.Dataset) -> Finding:
    return Finding(
        "'We assign the datum to the nearest memory' after recall: this need not be the nearest memory before recall. "
        f"Between memories at 0 and 1 (a third at 1.3, beta {line.attrs['beta']:g}) basins meet at "
        f"{number(float(line['boundary']), 6)}, not at 0.5; the query 0.45, nearest to 0, is recalled as "
        f"{number(float(line['doubled_recall']), 5)} where two memories are at 1 (beta 5).",
        "note",
    )


def _cells_finding(plane: xr.Dataset) -> Finding:
    coldest = plane["differs"].isel(beta=int(plane["beta"].values.argmax()))
    return Finding(
        "The nearest memory of the recalled state is not the nearest memory of the query for "
        f"{percent(float(plane['differs'].max()))} of a grid in the plane at the worst beta tried, and for "
        f"{percent(float(coldest))} at beta {float(coldest['beta']):g}.",
        "note",
    )


def _triangle_findings(corners: xr.Dataset) -> list[Finding]:
    scaled, counts = corners["beta_r2"].values, corners["num_attractors"].values
    most, wells = int(counts.max()), float(corners["corner_wells_from"])
    crowded, centre = scaled[counts == most], scaled[corners["centre_attracts"].values == 1]
    return [
        Finding(
            f"Three memories can have {spelled(most, 'attractor', 'attractors')}: on an equilateral triangle at "
            f"beta R² from {crowded.min():g} to {crowded.max():g}. An attractor need not be a memory, "
            "even without noise.",
            "note",
        ),
        Finding(
            f"The corners have wells from beta R² = {number(wells, 7)} on (exactly: {number(_CORNERS, 7)}); the "
            f"centre attracts up to {centre.max():g} of the values tried (exactly: below 1).",
            "note",
        ),
    ]


def _pitchfork_finding(fork: xr.Dataset) -> Finding:
    low, high = _split(fork)
    error = float(np.abs(fork["curvature"] - 2 * (1 - fork["scaled_beta"])).max())
    return Finding(
        f"Two memories at ±a split their common attractor between 2 beta a² = {low:g} and {high:g}, for all three "
        f"a, where theory puts it at 1; the curvature in the middle is 2 (1 − 2 beta a²) to {number(error, 2)}.",
        "note",
    )


def tables(tree: xr.DataTree) -> Sequence[str]:
    """Attractors in the plane and on the triangle."""
    plane, corners = tree["plane"].to_dataset(), tree["triangle"].to_dataset()
    rows = [
        [f"{float(beta):g}", str(int(count)), percent(float(share))]
        for beta, count, share in zip(
            plane["beta"].values, plane["num_attractors"].values, plane["differs"].values, strict=True
        )
    ]
    first = table(
        ["beta", "attractors", "recalled to another cell"], rows, caption="Five memories in the plane, by beta"
    )
    rows = [
        [f"{float(value):g}", str(int(count)), "yes" if centre else "no"]
        for value, count, centre in zip(
            corners["beta_r2"].values, corners["num_attractors"].values, corners["centre_attracts"].values, strict=True
        )
    ]
    return [first, table(["beta R²", "attractors", "centre attracts"], rows, caption="Three memories on a triangle")]


ATTRACTORS = register(
    Experiment(
        name="attractors",
        title="Where recall ends",
        question="Is every attractor a memory, and does recall end at the nearest one?",
        source="Schaeffer et al. (2023), Sec. 2 and 3",
        claims=("A5", "A6", "A8", "A9"),
        words=("attractor", "basin", "beta"),
        run=run,
        figures=figures,
        findings=findings,
        tables=tables,
    )
)
