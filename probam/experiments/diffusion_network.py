r"""A trained score network as a memory: the same phases as those of the exact score, by number of data.

A small perceptron (:mod:`probam.experiments.score_network`) learns to denoise N images. Images are then drawn by the
probability flow from pure noise and judged as Pham et al. (2025) do, with one distance: a third of that between
neighbouring images. A drawn image is *memorised* if a training image is nearer, *spurious* if none is but another drawn
image is (the diffusion leads there again and again), and *generalised* otherwise. The exact score of the same images,
and other real images, are judged beside them.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Int

from probam.dynamics.annealed import flow, noise_levels
from probam.energies import clam
from probam.experiments.diffusion_findings import over, shown_shares, told
from probam.experiments.diffusion_phases import PHASES, by_phase
from probam.experiments.experiment import Drawing, Experiment, Settings, register
from probam.experiments.finding import Finding, judged, over_repeats
from probam.experiments.image_retrieval import IMAGE_SETS, distances, images, neighbour_distance, of_the_paper
from probam.experiments.score_network import Network, Training, denoise, trained
from probam.reports.figures.style import MEMORY_COLOURS, log_axis, new_figure, quiet, styled
from probam.reports.page import number, table

__all__ = ["DIFFUSION_NETWORK", "by_distance"]

_CLOSE = 1 / 3
"""Distance of a copy, in distances of neighbours."""
_DRAWN = 192
_LEVELS = 40
_MOVES = np.array([0.15, 0.3, 0.6])
"""Noise that is added to a drawn image before the flow takes it away, in distances of neighbours."""
_PROBES = 8
_TICKS = (10, 100, 1000)


def by_distance(
    drawn: Float[np.ndarray, "M D"], data: Float[np.ndarray, "N D"], close: float, *, repeated: bool = True
) -> Int[np.ndarray, " M"]:
    """Number of the phase of each drawn image, in the order of ``PHASES``.

    Args:
        drawn: images that were drawn.
        data: those that were learned.
        close: distance below which two images are one.
        repeated: whether a twin among the drawn ones makes an image spurious.

    >>> drawn = np.array([[0.1], [5.0], [5.1], [9.0]])
    >>> by_distance(drawn, np.array([[0.0]]), 0.5).tolist()
    [0, 1, 1, 2]
    """
    stored = distances(drawn, data).min(axis=1) < close
    twins = distances(drawn, drawn)
    np.fill_diagonal(twins, np.inf)
    again = (twins.min(axis=1) < close) & repeated
    return np.where(stored, 0, np.where(again, 1, 2))


@jax.jit
def _drawn(network: Network, starts: Float[Array, "M D"], levels: Float[Array, " L"]) -> Float[Array, "M D"]:
    return flow(partial(denoise, network), starts, levels)


@jax.jit
def _drawn_exactly(
    data: Float[Array, "N D"], present: Float[Array, " N"], starts: Float[Array, "M D"], levels: Float[Array, " L"]
) -> Float[Array, "M D"]:
    return flow(lambda x, s: clam.update(x, data, 0.5 / s**2, present), starts, levels)


@jax.jit
def _left(network: Network, states: Float[Array, "M D"], noise: Array, key: jax.Array) -> Float[Array, " M"]:
    """Trace of the denoiser's Jacobian at each state: in how many directions a displacement is left."""
    probes = jax.random.rademacher(key, (_PROBES, *states.shape), states.dtype)

    def one(probe: Array) -> Array:
        tangent: Array = jax.jvp(lambda x: denoise(network, x, noise), (states,), (probe,))[1]
        return jnp.sum(probe * tangent, axis=-1)

    return jnp.mean(jax.lax.map(one, probes), axis=0)


def _measured(
    key: jax.Array, rows: Float[np.ndarray, "P D"], count: int, total: int, unit: float, how: Training
) -> xr.Dataset:
    """One network on the first ``count`` of the rows: phases of what it draws, basins and soft directions."""
    key_train, key_start, key_move, key_probe = jax.random.split(key, 4)
    data, held = rows[:total].astype(np.float32), rows[total:]
    present = jnp.asarray(np.arange(total) < count, jnp.float32)
    network, losses = trained(key_train, jnp.asarray(data), present, how)
    spread = network.spread
    levels = noise_levels(how.noise[1] * spread, how.noise[0] * spread, _LEVELS).astype(jnp.float32)
    starts = network.mean + levels[0] * jax.random.normal(key_start, (_DRAWN, data.shape[1]), jnp.float32)
    drawn = _drawn(network, starts, levels)
    images_drawn, learned, close = np.asarray(drawn, float), data[:count].astype(float), _CLOSE * unit
    phase = by_distance(images_drawn, learned, close)
    exact = by_distance(np.asarray(_drawn_exactly(jnp.asarray(data), present, starts, levels), float), learned, close)
    real = by_distance(held[:_DRAWN], learned, close, repeated=False)
    back = []
    for move in _MOVES * unit / data.shape[1] ** 0.5:
        down = noise_levels(move, how.noise[0] * spread, _LEVELS).astype(jnp.float32)
        again = _drawn(network, drawn + down[0] * jax.random.normal(key_move, drawn.shape, jnp.float32), down)
        back.append(by_phase(phase, np.linalg.norm(np.asarray(again) - images_drawn, axis=1) < close))
    left = np.asarray(_left(network, drawn, how.noise[0] * spread, key_probe))
    shares = [np.bincount(one, minlength=len(PHASES)) / len(one) for one in (phase, exact, real)]
    equal = min(len(learned), len(held))  # the nearest of more images is nearer
    pairs = (distances(images_drawn, some[:equal]).min(axis=1) for some in (learned, held))
    nearest = [float(np.median(gaps) / unit) for gaps in pairs]
    return xr.Dataset(
        {
            "share": (("who", "phase"), np.stack(shares)),
            "returned": (("move", "phase"), np.stack(back)),
            "left": ("phase", by_phase(phase, left)),
            "nearest": ("to", nearest),
            "loss": ((), float(losses[-how.steps // 10 :].mean())),
        },
        coords={"who": ["network", "exact", "real"], "phase": list(PHASES), "move": _MOVES, "to": ["learned", "held"]},
    )


def run(settings: Settings) -> xr.DataTree:
    """Phases by number of images and network, for each set of images."""
    counts = [8, 32, 64, 128, 256, 1024]
    how, repeats = (Training(width=512, steps=20_000), 8) if settings.full else (Training(), 3)
    made = {}
    for name, pool in images(settings.data, counts[-1] + _DRAWN).items():
        rows = pool.reshape(len(pool), -1)
        unit = neighbour_distance(rows[: counts[-1]].astype(float))
        cells = []
        for i, count in enumerate(counts):
            for r in range(repeats):
                settings.progress(i * repeats + r, len(counts) * repeats, f"{name}, {count} images")
                order = np.random.default_rng([settings.seed, r]).permutation(len(rows))
                key = jax.random.fold_in(jax.random.key(settings.seed), 100 * i + r)
                cells.append(_measured(key, rows[order], count, counts[-1], unit, how))
        lines = [xr.concat(cells[i * repeats : (i + 1) * repeats], "repeat") for i in range(len(counts))]
        made[name] = (
            xr.concat(lines, "count")
            .assign_coords(count=counts)
            .assign_attrs(
                neighbour=unit, judged=int(_of_the_paper(name, pool.shape[1:])), width=how.width, steps=how.steps
            )
        )
    return xr.DataTree.from_dict(made)


def _of_the_paper(name: str, shape: tuple[int, ...]) -> bool:
    """Whether findings are judged: on MNIST, CIFAR-10 and Tiny ImageNet (:func:`of_the_paper`), and Fashion-MNIST."""
    return of_the_paper(name, shape) or ("fashion" in name.lower() and shape == (28, 28, 1))


# --- reading --------------------------------------------------------------------------------------------------


def _sets(tree: xr.DataTree) -> dict[str, xr.Dataset]:
    return {str(name): node.to_dataset() for name, node in tree.children.items()}


@styled
def figures(tree: xr.DataTree) -> Sequence[Drawing]:
    """Phases of what the networks draw, and how far they come back and in how many directions they are soft."""
    drawn = []
    for name, found in _sets(tree).items():
        figure = new_figure(7.6, 3.0)
        left, middle, right = figure.subplots(1, 3)
        shown_shares(left, found["count"].values, found["share"].sel(who="network"))
        left.set_ylabel("share of the drawn images")
        log_axis(left, "x", _TICKS)
        for p, phase in enumerate(PHASES):
            line: dict[str, Any] = {"fmt": "o-", "ms": 3, "lw": 0.9, "color": MEMORY_COLOURS[p], "label": phase}
            at = found.sel(phase=phase)
            mean, error = over(at["returned"], "repeat", "count")
            middle.errorbar(found["move"], mean, 2 * error, **line)
            mean, error = over(at["left"], "repeat")
            right.errorbar(found["count"], mean, 2 * error, **line)
        middle.set(xlabel="noise / distance of neighbours", ylabel="share that comes back", ylim=(-0.05, 1.05))
        right.set(xlabel="number of data", ylabel="soft directions")
        log_axis(right, "x", _TICKS)
        figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=len(PHASES))
        for axes in (middle, right):
            quiet(axes, grid="y")
        caption = (
            f"{name}: images drawn by a perceptron trained on so many. Left: which of them are memorised, spurious and "
            "generalised. Middle: the share that the flow leads back after noise was added. Right: trace of the "
            "denoiser's Jacobian, the number of directions in which a displacement is left. Bars: two standard errors."
        )
        drawn.append(Drawing(f"phases_{name}", figure, caption))
    return drawn


def findings(tree: xr.DataTree) -> Sequence[Finding]:
    """Few data, the boundary, many data, and the exact score, for each set of images."""
    made = []
    for name, found in _sets(tree).items():
        own = found["share"].sel(who="network")
        one = [_few(name, found, own), _between(name, found, own), _many(name, found, own), _exact(name, found)]
        made += one if found.attrs["judged"] else [replace(finding, verdict="note") for finding in one]
    return made


def _few(name: str, found: xr.Dataset, own: xr.DataArray) -> Finding:
    back = told(found["returned"].isel(count=0, move=-1).sel(phase="memorised"), "repeat")
    return judged(
        f"{name}, few data: the network has a basin around each training image. Trained on {int(found['count'][0])} of "
        f"them, it draws these; after noise of {_MOVES[-1]:g} distances of neighbours a share of {back} comes back.",
        over_repeats(own.isel(count=0).sel(phase="memorised").values, "Share of memorised images", "networks"),
        (0.9, 1.0 + 1e-9),
        "A share below 0.9 would have shown a network that does not store its few data.",
    )


def _between(name: str, found: xr.Dataset, own: xr.DataArray) -> Finding:
    spurious = own.sel(phase="spurious")
    peak = int(spurious.mean("repeat").values.argmax())
    top, ends = spurious.isel(count=peak), np.maximum(spurious.isel(count=0), spurious.isel(count=-1))
    at = found.isel(count=peak)
    back = [told(at["returned"].isel(move=-1).sel(phase=phase), "repeat") for phase in PHASES]
    return judged(
        f"{name}, at the boundary: spurious images, which were not learned and are drawn again and again. Their share "
        f"is largest with {int(at['count'])} images, {told(top, 'repeat')}. Their basins are between those of the "
        f"others: after noise of {_MOVES[-1]:g} distances of neighbours a share of {back[0]} of the memorised images "
        f"comes back, {back[1]} of the spurious ones and {back[2]} of the generalised ones.",
        over_repeats((top - ends).values, "Share of spurious images there, less that at either end", "networks"),
        (0.0, np.inf),
        "A share that is as large with the fewest or with the most data would have shown the opposite.",
    )


def _many(name: str, found: xr.Dataset, own: xr.DataArray) -> Finding:
    last = found.isel(count=-1)
    gaps = [told(last["nearest"].sel(to=to), "repeat") for to in ("learned", "held")]
    first = told(found["left"].isel(count=0).sel(phase="memorised"), "repeat")
    left = told(last["left"].sel(phase="generalised"), "repeat")
    return judged(
        f"{name}, many data: the drawn images are new, and each is another. With {int(last['count'])} the nearest "
        f"learned image is {gaps[0]} distances of neighbours away, and the nearest of as many that were not learned "
        f"{gaps[1]} (medians); the denoiser leaves {left} directions at them, and {first} at the memorised ones of the "
        "fewest data.",
        over_repeats(own.isel(count=-1).sel(phase="generalised").values, "Share of generalised images", "networks"),
        (0.9, 1.0 + 1e-9),
        "A share below 0.9 would have shown that data or repeated images are left.",
    )


def _exact(name: str, found: xr.Dataset) -> Finding:
    exact = found["share"].sel(who="exact", phase="memorised")
    real = found["share"].sel(who="real", phase="memorised").isel(count=-1)
    return judged(
        f"{name}, the exact score: with it the same flow draws training images only, however many there are. What "
        f"generalises is the network. Of real images that were not learned a share of {told(real, 'repeat')} counts as "
        f"memorised by this rule with {int(found['count'][-1])}.",
        over_repeats(exact.mean("count").values, "Share of memorised images with the exact score", "sets of data"),
        (0.99, 1.0 + 1e-9),
        "A share below 0.99 with many data would have shown an exact score that generalises.",
    )


def tables(tree: xr.DataTree) -> Sequence[str]:
    """Phases, basins and soft directions by number of images."""
    made = []
    for name, found in _sets(tree).items():
        rows = []
        for i, count in enumerate(found["count"].values):
            at = found.isel(count=i)
            own = at["share"].sel(who="network")
            back = [(at["returned"].isel(move=m) * own).sum("phase") for m in (0, -1)]
            cells = [own.sel(phase=phase) for phase in PHASES] + [*back, (at["left"] * own).sum("phase")]
            cells += [at["nearest"].sel(to=to) for to in ("learned", "held")]
            loss = number(float(at["loss"].mean()), 3)
            rows.append([str(int(count)), *(told(cell, "repeat") for cell in cells), loss])
        header = [
            "images",
            *PHASES,
            *(f"back from {_MOVES[m]:g}" for m in (0, -1)),
            "soft directions",
            "to learned",
            "to others",
            "loss",
        ]
        made.append(table(header, rows, caption=f"{name}: a perceptron of width {found.attrs['width']}"))
    return made


DIFFUSION_NETWORK = register(
    Experiment(
        name="diffusion_network",
        title="A trained score network as a memory",
        question="Does a network that is trained on more and more images memorise, then repeat states of its own, and "
        "then generalise, where the exact score memorises?",
        source="Pham et al. (2025), Memorization to generalization: emergence of diffusion models from associative "
        "memory, arXiv:2505.21777",
        claims=("D1",),
        words=("basin", "standard error"),
        data=IMAGE_SETS,
        run=run,
        figures=figures,
        findings=findings,
        tables=tables,
    )
)
