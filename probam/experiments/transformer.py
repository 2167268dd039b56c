r"""A transformer laboratory: does it help to untie what attention ties, or to change its similarity or its block?

Pre-LayerNorm attention is a mixture of von Mises-Fisher memories whose concentrations and mixing proportions are both
functions of the key. Schaeffer et al. (2023), Sec. 4: "one might want them to be independent; future work can easily
test separating them". Here it is tested, with as many parameters, the same steps and the same seeds, beside the
similarities of Millidge et al. (2022), App. F, the block of Hoover et al. (2023), and the factual memories of Nichani
et al. (2024). :mod:`probam.experiments.laboratory` has the layers, tasks and training.

Networks are trained in single precision, each a few seconds; heads are read in double precision. Where the run has a
folder, every training keeps a checkpoint in it and goes on from there.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
import xarray as xr

from probam.data.shipped import load_text
from probam.data.writing import netcdf, write_atomically
from probam.dynamics.patches import cut, patch_side
from probam.energies.similarities import SIMILARITIES
from probam.errors import InputError
from probam.experiments.experiment import Experiment, Settings, register
from probam.experiments.image_retrieval import images
from probam.experiments.transformer_figures import figures
from probam.experiments.transformer_findings import findings, sections, tables

if TYPE_CHECKING:
    from probam.experiments.laboratory.network import Shape
    from probam.experiments.laboratory.tasks import Task
    from probam.experiments.laboratory.training import Plan, Trained

__all__ = ["DEFAULT", "FULL", "TRANSFORMER", "Sizes"]

_HELD_WINDOWS, _READ_WINDOWS = 128, 4


class Sizes(NamedTuple):
    """How much of everything a run does. Plans are (steps, steps between measurements, largest rate, sequences)."""

    seeds: int = 5
    pairs: int = 2
    splits: int = 3
    length: int = 64
    widths: tuple[int, ...] = (32, 64)
    text: tuple[int, int, float, int] = (300, 50, 3e-3, 8)
    rms_widths: tuple[int, ...] = ()
    facts: tuple[int, int, int] = (128, 8, 8)
    fact_widths: tuple[int, ...] = (8, 16)
    fact_plan: tuple[int, int, float, int] = (800, 40, 1e-2, 64)
    similarity_width: int = 32
    similarity_length: int = 32
    similarity_layers: int = 1
    similarity: tuple[int, int, float, int] = (300, 50, 3e-3, 16)
    block_tasks: tuple[str, ...] = ("images",)
    block_width: int = 32
    block: tuple[int, int, float, int] = (2000, 200, 1e-2, 16)
    masked_width: int = 32
    masked_batch: int = 16
    turns: int = 3
    sums: tuple[int, ...] = (16, 24, 36, 54, 81)
    trained: tuple[int, ...] = (8, 12, 16, 24)
    hidden: tuple[int, ...] = (8, 16, 32)
    lists: int = 0
    list_widths: tuple[int, ...] = ()
    list_plan: tuple[int, int, float, int] = (2000, 250, 3e-3, 64)

    @property
    def normed(self) -> dict[str, tuple[int, ...]]:
        """Widths of the networks for characters by the norm of their layers."""
        return {norm: widths for norm, widths in (("layer", self.widths), ("rms", self.rms_widths)) if widths}


DEFAULT = Sizes()
FULL = Sizes(
    widths=(64, 128),
    text=(600, 50, 2e-3, 16),
    rms_widths=(64,),
    facts=(256, 16, 8),
    fact_widths=(16, 32),
    fact_plan=(2000, 50, 1e-2, 128),
    similarity_width=64,
    similarity_length=64,
    similarity_layers=2,
    similarity=(600, 100, 3e-3, 16),
    block_tasks=("images", "characters"),
    block_width=64,
    block=(1500, 250, 1e-2, 32),
    sums=(16, 24, 36, 54, 81, 122),
    trained=(8, 12, 16, 24, 32),
    hidden=(8, 16, 32, 64),
    lists=5000,
    list_widths=(8, 16, 32),
)


class _Run(NamedTuple):
    """One training of several seeds."""

    shape: "Shape"
    task: "Task"
    plan: "Plan"
    seeds: int


# --- what is trained ----------------------------------------------------------------------------------------------


def _text(settings: Settings) -> tuple[str, str]:
    """The name and the characters that are learned.

    Raises:
        InputError: where a folder is given that has no WikiText.
    """
    if settings.data is None:
        return "tinyshakespeare", load_text("tinyshakespeare")
    found = sorted(settings.data.glob("wikitext*/*.txt"))
    if not found:
        raise InputError(
            f"data: {settings.data} has no WikiText; expected a text in a folder of that name, wikitext*/*.txt"
        )
    return found[0].parent.name, found[0].read_text(encoding="utf-8")


def _runs(settings: Settings, sizes: Sizes, text: str) -> Iterator[tuple[str, _Run]]:
    """Every training by name: study, and the values of its dimensions, separated by slashes."""
    from probam.experiments.laboratory.attention import ENERGY, FORMS
    from probam.experiments.laboratory.network import matched, num_parameters, operations
    from probam.experiments.laboratory.tasks import OPERATIONS, Characters, Facts, Images, ListOps, encoded
    from probam.experiments.laboratory.training import Plan

    numbers, alphabet = encoded(text)
    chain = Characters(numbers, len(alphabet), sizes.length, windows=_HELD_WINDOWS)
    normed = [(norm, width) for norm, widths in sizes.normed.items() for width in widths]
    for (norm, width), form in product(normed, FORMS):
        largest = chain.shape(attention="untied", width=width, hidden=4 * width, norm=norm)
        shape = matched(largest._replace(attention=form), num_parameters, num_parameters(largest))
        yield f"characters_{norm}/{width}/{form}", _Run(shape, chain, Plan(*sizes.text), sizes.seeds)

    facts = Facts([settings.seed + i for i in range(sizes.seeds)], *sizes.facts)
    for width, form in product(sizes.fact_widths, FORMS):
        largest = facts.shape(attention="untied", width=width, hidden=4 * width, layers=1)
        shape = matched(largest._replace(attention=form), num_parameters, num_parameters(largest))
        yield f"facts/{width}/{form}", _Run(shape, facts, Plan(*sizes.fact_plan), sizes.seeds)

    short = Characters(numbers, len(alphabet), sizes.similarity_length, windows=2 * _HELD_WINDOWS)
    for kind in SIMILARITIES:
        width = sizes.similarity_width
        shape = short.shape(attention=kind, width=width, hidden=4 * width, layers=sizes.similarity_layers)
        yield f"similarities/{kind}", _Run(shape, short, Plan(*sizes.similarity), sizes.pairs)

    pixels = next(iter(images(None, 600).values()))
    patches = np.asarray(cut(pixels, patch_side(pixels.shape[1:])))
    hidden = Characters(numbers, len(alphabet), sizes.length, masked=True, windows=_HELD_WINDOWS)
    seeds = [settings.seed + i for i in range(sizes.splits)]
    tasks: dict[str, Images | Characters] = {"images": Images(patches, seeds), "characters": hidden}
    own = {"images": (sizes.block_width, sizes.block[3]), "characters": (sizes.masked_width, sizes.masked_batch)}
    for name in sizes.block_tasks:
        task, (width, batch) = tasks[name], own[name]
        standard = task.shape(width=width, hidden=4 * width)
        energy = standard._replace(attention=ENERGY, layers=1, turns=sizes.turns)
        energy = matched(energy, num_parameters, num_parameters(standard))
        wide = matched(standard, operations, operations(energy))
        for block, shape in (("standard", standard), (ENERGY, energy), ("standard, as much work", wide)):
            plan = Plan(*sizes.block)._replace(batch=batch)
            yield f"blocks/{name}/{block}", _Run(shape, task, plan, sizes.splits)

    for learned, width in product(("SUM alone", "all three"), sizes.list_widths):
        lists = ListOps(settings.seed, OPERATIONS if learned == "all three" else OPERATIONS[:1], number=sizes.lists)
        shape = lists.shape(width=width, hidden=4 * width)
        yield f"lists/{learned}/{width}", _Run(shape, lists, Plan(*sizes.list_plan), sizes.seeds)


def _trained(settings: Settings, runs: Mapping[str, _Run]) -> dict[str, "Trained"]:
    """All of it trained, one after the other."""
    from probam.experiments.laboratory.training import seeded, train

    total, done, made = sum(run.plan.steps for run in runs.values()), 0, {}
    for name, run in runs.items():
        keys = [seeded(settings.seed, number) for number in range(run.seeds)]

        def report(at: int, _: int, name: str = name, before: int = done) -> None:
            settings.progress(before + at, total, name.replace("/", ", ").replace("_", ", "))

        keep = None if settings.keep is None else settings.keep / f"{name.replace('/', '-').replace(' ', '_')}.eqx"
        made[name] = train(run.shape, run.task, run.plan, keys, keep=keep, report=report)
        done += run.plan.steps
    return made


# --- what is kept -------------------------------------------------------------------------------------------------


def _study(
    name: str, dims: Sequence[str], runs: Mapping[str, _Run], made: Mapping[str, "Trained"], measures: Sequence[str]
) -> xr.Dataset:
    """Curves and sizes of a study, with a dimension for each part of the names of its trainings."""
    from probam.experiments.laboratory.network import num_parameters, operations

    keys = [key for key in runs if key.startswith(f"{name}/")]
    parts = [key.split("/")[1:] for key in keys]
    labels = [list(dict.fromkeys(column)) for column in zip(*parts, strict=True)]
    sizes = tuple(map(len, labels))

    def grid(of: Any) -> np.ndarray:
        stacked = np.stack([np.asarray(of(key)) for key in keys])
        return stacked.reshape(*sizes, *stacked.shape[1:])

    coords: dict[str, Any] = {
        dim: [int(each) for each in column] if column[0].isdigit() else column
        for dim, column in zip(dims, labels, strict=True)
    }
    first = made[keys[0]]
    return xr.Dataset(
        {
            "curve": ((*dims, "seed", "step", "measure"), grid(lambda key: made[key].curve)),
            "parameters": (tuple(dims), grid(lambda key: num_parameters(runs[key].shape))),
            "operations": (tuple(dims), grid(lambda key: operations(runs[key].shape))),
            "hidden": (tuple(dims), grid(lambda key: runs[key].shape.hidden)),
        },
        coords={**coords, "step": first.steps, "measure": list(measures)},
        attrs={
            "batch": runs[keys[0]].plan.batch,
            "rate": runs[keys[0]].plan.rate,
            "length": runs[keys[0]].shape.length,
            "width": runs[keys[0]].shape.width,
        },
    )


def _without_context(runs: Mapping[str, _Run], sizes: Sizes) -> np.ndarray:
    """What the tasks of the blocks lose, seed by seed, to the same answer for every sequence."""
    tasks: list[Any] = [runs[f"blocks/{name}/standard"].task for name in sizes.block_tasks]
    return np.array([[task.without_context(jax.numpy.asarray(i)) for i in range(sizes.splits)] for task in tasks])


def _kept(settings: Settings, name: str, sizes: Sizes, make: Callable[[], xr.Dataset]) -> xr.Dataset:
    """What ``make`` makes, or what it made before for the same run, from the folder of checkpoints."""
    if settings.keep is None:
        return make()
    file, of_run = settings.keep / f"{name}.nc", repr((settings.seed, sizes, settings.data, jax.__version__))
    if file.exists():
        with xr.open_dataset(file, engine="h5netcdf") as stored:
            if stored.attrs["run"] == of_run:
                found = stored.load()
                del found.attrs["run"]
                return found
    made = make()
    with write_atomically(file) as temporary:
        temporary.write_bytes(netcdf(made.assign_attrs(run=of_run)))
    return made


def _heads(runs: Mapping[str, _Run], made: Mapping[str, "Trained"], width: int, norm: str) -> xr.Dataset:
    """The trained heads of the characters as mixtures, in double precision."""
    from probam.experiments.laboratory.attention import FORMS
    from probam.experiments.laboratory.reading import Reading, read

    found: list[list[Reading]] = []
    for form in FORMS:
        key = f"characters_{norm}/{width}/{form}"
        words = runs[key].task.held_out(jax.numpy.zeros((), int)).inputs[:: _HELD_WINDOWS // _READ_WINDOWS]
        found.append([read(made[key].network(number), words) for number in range(runs[key].seeds)])
    names = [name for name in Reading._fields if name not in ("seen", "gap")]
    values = {
        name: (("form", "seed", "layer", "head"), np.array([[getattr(one, name) for one in row] for row in found]))
        for name in names
    }
    gap = (("form", "seed"), np.array([[one.gap for one in row] for row in found]))
    return xr.Dataset(
        values | {"gap": gap}, coords={"form": list(FORMS)}, attrs={"width": width, "seen": found[0][0].seen}
    )


def _capacities(settings: Settings, sizes: Sizes) -> xr.Dataset:
    """Number of pairs of which half are recalled by sums, and nine tenths after training, by size.

    The number grows by factors of 2^(1/4) until every repetition recalls less than that.
    """
    from probam.experiments.laboratory.factual import crossing, recalled_by_sum, recalled_by_training

    keys = jax.random.split(jax.random.fold_in(jax.random.key(settings.seed), 99), sizes.seeds)

    def capacity(recalled: Any, expected: float, level: float) -> np.ndarray:
        numbers, shares, lowest = [max(2, round(expected / 4))], [], np.inf
        while True:
            shares.append(np.asarray(recalled(numbers[-1])))
            lowest = np.minimum(lowest, shares[-1])
            if (lowest < level).all():
                return np.array([crossing(np.array(numbers), row, level) for row in np.transpose(shares)])
            numbers.append(max(numbers[-1] + 1, round(numbers[-1] * 2**0.25)))

    by_sum = [capacity(partial(recalled_by_sum, keys, dim=dim), dim**2 / (4 * np.log(dim)), 0.5) for dim in sizes.sums]
    trained = [capacity(partial(recalled_by_training, keys, dim=dim), dim**2 / 2, 0.9) for dim in sizes.trained]
    dim = sizes.trained[1]
    perceptron = [capacity(partial(recalled_by_training, keys, dim=dim, hidden=m), m * dim, 0.9) for m in sizes.hidden]
    return xr.Dataset(
        {
            "by_sum": (("seed", "sum_dim"), np.stack(by_sum, axis=1)),
            "trained": (("seed", "dim"), np.stack(trained, axis=1)),
            "perceptron": (("seed", "hidden"), np.stack(perceptron, axis=1)),
        },
        coords={"sum_dim": list(sizes.sums), "dim": list(sizes.trained), "hidden": list(sizes.hidden)},
        attrs={"perceptron_dim": dim},
    )


def run(settings: Settings) -> xr.DataTree:
    """All studies of the default size, or of ``--full``."""
    return run_sizes(settings, FULL if settings.full else DEFAULT)


def run_sizes(settings: Settings, sizes: Sizes) -> xr.DataTree:
    """All studies of these sizes."""
    from probam.experiments.laboratory.tasks import Facts, ListOps

    source, text = _text(settings)
    with jax.enable_x64(False):
        runs = dict(_runs(settings, sizes, text))
        made = _trained(settings, runs)
        capacities = _kept(settings, "memories", sizes, lambda: _capacities(settings, sizes))
        groups = {
            f"characters_{norm}": _study(f"characters_{norm}", ("width", "form"), runs, made, ("loss",))
            for norm in sizes.normed
        }
        groups["facts"] = _study("facts", ("width", "form"), runs, made, Facts.measures)
        groups["facts"].attrs |= dict(zip(("subjects", "relations", "choices"), sizes.facts, strict=True))
        groups["similarities"] = _study("similarities", ("similarity",), runs, made, ("loss",))
        groups["blocks"] = _study("blocks", ("task", "block"), runs, made, ("loss",))
        groups["blocks"]["without_context"] = ("task", "seed"), _without_context(runs, sizes)
        widths = [runs[f"blocks/{name}/standard"].shape.width for name in sizes.block_tasks]
        groups["blocks"]["network_width"] = ("task", widths)
        if sizes.list_widths:
            groups["lists"] = _study("lists", ("learned", "width"), runs, made, ListOps.measures)
    groups["memories"] = capacities
    read = partial(_heads, runs, made, sizes.widths[-1], "layer")
    groups["heads"] = _kept(settings, "heads", sizes, read)
    tree = xr.DataTree.from_dict(groups)
    tree.attrs |= {"text": source, "device": jax.devices()[0].device_kind, "turns": sizes.turns}
    return tree


TRANSFORMER = register(
    Experiment(
        name="transformer",
        title="Transformers whose attention is a parameter",
        question="Does a transformer learn better where the concentrations and weights of its memories are freed "
        "from the keys, where its similarity is another one, or where its block descends an energy?",
        source="Schaeffer et al. (2023), Sec. 4; Millidge et al. (2022), App. F, arXiv:2202.04557; Hoover et al. "
        "(2023), arXiv:2302.07253; Nichani et al. (2024), arXiv:2412.06538; Both et al. (2025), arXiv:2505.18369",
        claims=("A12", "A13", "A14"),
        data="WikiText, the text of Millidge et al. (2022), as wikitext*/*.txt: it replaces the shipped plays",
        words=("nats", "standard error", "similarity", "token"),
        resumes=True,
        tested=("hypothesis", "hypotheses"),
        run=run,
        figures=figures,
        findings=findings,
        tables=tables,
        sections=sections,
    )
)
