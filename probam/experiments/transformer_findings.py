"""What the transformer laboratory found: findings, tables, the set-up and its limits, all read from stored numbers."""

from collections.abc import Iterator, Sequence

import numpy as np
import xarray as xr

from probam.experiments.finding import Finding, Measured, judged, mean_with_error, over_repeats, standard_errors
from probam.reports.page import Section, count, enumerated, escape, number, percent, table

__all__ = [
    "HIDDEN",
    "LIMITS",
    "PLAIN",
    "findings",
    "gains",
    "knows",
    "last",
    "learned_at",
    "learns",
    "sections",
    "tables",
    "tree_studies",
]

PLAIN = "tied"
"""The form that the others are compared with."""

_RELATION_KNOWN = 0.9
"""Probability on the answers of the relation from which a network counts as knowing the relation."""

_FREED = {"untied": "concentrations and proportions untied"}
"""How a form is called in a sentence, where not by its name."""

HIDDEN = {"images": "squared error of a hidden pixel", "characters": "nats of a hidden character"}
"""What the tasks of the blocks measure."""

_LEARNED = 0.9
"""Share of new lists from which a network has learned them."""

_COMPETITIVE = 0.05
"""Nats by which a similarity may be behind the dot product and still be competitive with it."""

LIMITS = (
    "Networks of this size learn in seconds on a CPU. They show which differences are large from the start; they say "
    "nothing about differences that grow with width, data or training.",
    "One learning rate for all, chosen for tied attention by a few trials: whatever needs another one is at a "
    "disadvantage. Millidge et al. vary the rate.",
    "Freed concentrations and weights are linear functions of the token in each head. Others may do better.",
    "The query bias of usual attention already frees the weights as far as the key tells them (b_Q . k_i). What is "
    "freed here is what the key does not tell.",
    "Trained matrices and perceptrons make 400 steps of Adam: what they store is what these steps find, and others may "
    "find more.",
    "Each form is judged on its own, by few seeds: among several comparisons one may pass by chance.",
    "Errors are over seeds of weights and batches on one text, not over texts.",
)


def _dataset(tree: xr.DataTree, name: str) -> xr.Dataset:
    return tree[name].to_dataset()


def last(data: xr.Dataset, measure: str = "loss") -> xr.DataArray:
    """A measure at the end of training."""
    return data["curve"].sel(measure=measure).isel(step=-1)


def gains(data: xr.Dataset, measure: str = "loss") -> xr.DataArray:
    """The measure of each freed form less that of the tied one, seed by seed."""
    at = last(data, measure)
    freed = at.sel(form=[form for form in at["form"].values if form != PLAIN])
    return freed - at.sel(form=PLAIN)


def findings(tree: xr.DataTree) -> Sequence[Finding]:
    """Verdicts on what the papers say, and notes where they leave the answer open."""
    made = [*_forms(tree), *_heads(tree), *_similarities(tree), *_blocks(tree), *_memories(tree), *_hallucination(tree)]
    return [*made, *_lists(tree)]


# --- freed concentrations and weights -----------------------------------------------------------------------------


def _characters(tree: xr.DataTree) -> Iterator[tuple[str, xr.Dataset]]:
    """Name of the text, with the normalisation where it is not the usual one, and the study."""
    for name in tree.children:
        if name.startswith("characters_"):
            norm = "" if name.endswith("layer") else " behind an RMS norm"
            yield f"{tree.attrs['text']}{norm}", _dataset(tree, name)


def _forms(tree: xr.DataTree) -> Iterator[Finding]:
    for name, data in _characters(tree):
        yield from _compared(f"Characters of {name}", data, "loss", "Held-out nats a character", "nats", more=False)
    yield from _compared("Facts", _dataset(tree, "facts"), "accuracy", "Share of facts recalled", "", more=True)


def _compared(name: str, data: xr.Dataset, measure: str, what: str, unit: str, *, more: bool) -> Iterator[Finding]:
    """A verdict for each freed form at the largest width."""
    widths, at, gained = data["width"].values, last(data, measure), gains(data, measure)
    better, worse = ("more", "fewer") if more else ("fewer", "more")
    for form in map(str, gained["form"].values):
        pairs = [(width, at.sel(width=width, form=form), at.sel(width=width, form=PLAIN)) for width in widths]
        shown = [f"{mean_with_error(one)} against {mean_with_error(two)} at width {w}" for w, one, two in pairs]
        values = gained.sel(form=form, width=widths[-1]).values
        yield judged(
            f"{name}: attention with {_FREED.get(form, form)} learns better than tied attention with as many "
            f"parameters. {what}: "
            f"{enumerated(shown)}.",
            over_repeats(values, f"{what}, less that of tied attention, at width {widths[-1]}", "seeds", unit),
            (0, np.inf) if more else (-np.inf, 0),
            f"{worse.capitalize()} {'facts' if more else 'nats'} than tied attention would have shown the opposite, "
            f"{better} support it.",
        )


def _heads(tree: xr.DataTree) -> Iterator[Finding]:
    heads = _dataset(tree, "heads")
    gap = float(heads["gap"].max())
    yield Finding(
        f"The posterior of the mixture that is read from a trained head is its attention: over all heads, queries and "
        f"keys they differ by {number(gap, 2)} at most (claims A12 and A13).",
        "note",
        Measured(gap, 0.0, "Largest difference of a weight", "every head, in double precision"),
    )
    spread = heads.mean(("layer", "head"))
    tied, both = (spread["correlation"].sel(form=form).values for form in (PLAIN, "untied"))
    factor, weight = (
        float(spread[name].sel(form="untied").mean()) for name in ("free_concentration_sd", "free_weight_sd")
    )
    yield Finding(
        f"What training makes of the freedom: in the untied form the freed parts of the log concentrations and log "
        f"weights vary over the tokens of a sequence by {number(factor, 3)} and {number(weight, 3)} (standard "
        f"deviations). The correlation of the two logs is {mean_with_error(both)}, and {mean_with_error(tied)} where "
        "they are tied.",
        "note",
        over_repeats(both - tied, "Correlation, untied less tied", "seeds"),
        "Freed parts that stay near zero would have shown that training has no use for them.",
    )
    seen, recalled = heads.attrs["seen"], spread["memories"]
    yield Finding(
        f"Of {number(float(seen))} tokens that a query sees on average attention mixes "
        f"{mean_with_error(recalled.sel(form=PLAIN))} where tied, "
        f"{mean_with_error(recalled.sel(form='untied'))} where untied (exponential of the entropy).",
        "note",
        over_repeats((recalled.sel(form="untied") - recalled.sel(form=PLAIN)).values, "Untied less tied", "seeds"),
        "A number near one would be recall of single memories.",
    )


# --- similarities and blocks --------------------------------------------------------------------------------------


def _similarities(tree: xr.DataTree) -> Iterator[Finding]:
    at = last(_dataset(tree, "similarities"))
    of_paper = "wikitext" in str(tree.attrs["text"])
    why = "" if of_paper else " The paper's text is WikiText, which --data gives."
    for name in ("manhattan", "euclidean"):
        values = (at.sel(similarity=name) - at.sel(similarity="dot")).values
        text = (
            f"Attention by {name.title()} distance is competitive with the dot product: "
            f"{mean_with_error(at.sel(similarity=name))} held-out nats a character against "
            f"{mean_with_error(at.sel(similarity='dot'))}."
        )
        measured = over_repeats(values, f"Nats of {name.title()} less those of the dot product", "seeds", "nats")
        opposite = f"More than {_COMPETITIVE} nats behind would have shown the opposite."
        if of_paper:
            yield judged(text, measured, (-np.inf, _COMPETITIVE), opposite)
        else:
            yield Finding(text + why, "note", measured, opposite)
    means = at.mean("seed")
    order = [str(name) for name in means["similarity"].values[np.argsort(means.values)]]
    best, worst = order[0], order[-1]
    yield Finding(
        f"Of eleven similarities {best} has the fewest nats ({number(float(means.min()), 4)}) and {worst} the most "
        f"({number(float(means.max()), 4)}).",
        "note",
        over_repeats((at.sel(similarity=worst) - at.sel(similarity=best)).values, "Worst less best", "seeds", "nats"),
        "Figure 9 of the paper shows similar results for all similarities that learn.",
    )


def learns(loss: xr.DataArray, constant: xr.DataArray) -> xr.DataArray:
    """For each block, whether it loses less than a constant answer, by two standard errors over seeds."""
    gained = constant - loss
    better: xr.DataArray = gained.mean("seed") > 2 * standard_errors(gained, "seed")
    return better


def _warning(learned: xr.DataArray) -> str:
    """Which blocks did not learn from what they see, in a sentence; nothing where all did."""
    if learned.all():
        return ""
    if not learned.any():
        return " No block is better than that by two standard errors: this compares nothing that was learned."
    able = [str(name) for name in learned["block"].values[learned.values]]
    return f" Only {enumerated(able)} is better than that by two standard errors."


def _blocks(tree: xr.DataTree) -> Iterator[Finding]:
    data = _dataset(tree, "blocks")
    at, work = last(data), data["operations"]
    for task in map(str, data["task"].values):
        row, constant = at.sel(task=task), data["without_context"].sel(task=task)
        energy, standard = row.sel(block="energy transformer"), row.sel(block="standard")
        ratio = work.sel(task=task)
        times = float(ratio.sel(block="energy transformer") / ratio.sel(block="standard"))
        yield Finding(
            f"Masked {task}: {HIDDEN[task]} {mean_with_error(energy)} with a block of the Energy Transformer, "
            f"{mean_with_error(standard)} with two standard blocks of as many parameters, and "
            f"{mean_with_error(row.sel(block='standard, as much work'))} with standard blocks that compute as much as "
            f"the energy block, {number(times, 2)} times as much. The same answer whatever is seen has "
            f"{mean_with_error(constant)}.{_warning(learns(row, constant))}",
            "note",
            over_repeats((energy - standard).values, "Energy block less standard blocks", "seeds"),
            "A difference of the other sign would have shown the opposite.",
        )


# --- factual memories ---------------------------------------------------------------------------------------------


def _memories(tree: xr.DataTree) -> Iterator[Finding]:
    from probam.experiments.laboratory.factual import exponents

    data = _dataset(tree, "memories")
    statements = (
        ("by_sum", "sum_dim", "A matrix that is the sum of the products of its pairs", "dimensions", 2.0),
        ("trained", "dim", "A matrix that is trained on its pairs", "dimensions", 2.0),
        ("perceptron", "hidden", f"A perceptron in {data.attrs['perceptron_dim']} dimensions", "hidden units", 1.0),
    )
    for name, dim, subject, of, power in statements:
        capacity, sizes = data[name], data[dim].values
        found, plain = (exponents(sizes, capacity.values, logs=logs) for logs in (True, False))
        parameters = sizes**2 if power == 2 else 2 * sizes * data.attrs["perceptron_dim"]
        shares = capacity.mean("seed").values / parameters
        yield judged(
            f"{subject} stores a number of pairs that grows, up to logarithms, as the power {power:.0f} of its {of}: N "
            f"log N grows as the power {mean_with_error(found)} and N as {mean_with_error(plain)}, from {sizes[0]} to "
            f"{sizes[-1]}. That is {number(shares[0], 2)} to {number(shares[-1], 2)} pairs a parameter.",
            over_repeats(found, "Exponent of N log N", "sets of pairs"),
            (power - 0.2, power + 0.2),
            f"An exponent below {power - 0.2:.1f} or above {power + 0.2:.1f} would have shown the opposite.",
        )


def learned_at(curve: xr.DataArray) -> xr.DataArray:
    """The first measurement at which a network knows the relation; NaN where none is."""
    known = curve.sel(measure="of the relation") >= _RELATION_KNOWN
    first: xr.DataArray = known.reduce(np.argmax, "step").where(known.any("step"))
    return first


def knows(curve: xr.DataArray, chance: float) -> xr.DataArray:
    """Accuracy above chance, as a share of what is above chance, when a network first knows the relation."""
    at = learned_at(curve)
    first = curve.sel(measure="accuracy").isel(step=at.fillna(0).astype(int))
    return ((first - chance) / (1 - chance)).where(at.notnull())


def _hallucination(tree: xr.DataTree) -> Iterator[Finding]:
    data = _dataset(tree, "facts")
    chance, width = 1 / data.attrs["choices"], int(data["width"].values[-1])
    curve = data["curve"].sel(form=PLAIN, width=width)
    shares = knows(curve, chance).dropna("seed").values
    nearest = curve.sel(measure="from the marginal").min("step")
    start, end = (curve.sel(measure="from the marginal").isel(step=i) for i in (0, -1))
    yield judged(
        "A transformer learns the relation before the fact, and in between says the answers of the relation by their "
        f"frequency (hallucination): when {percent(_RELATION_KNOWN)} of its probability is first on answers of the "
        f"relation, it recalls a share of {number(float(np.mean(shares)) if shares.size else np.nan, 3)} of what is "
        f"above chance. Its divergence from the marginal given the relation is {mean_with_error(start)} nats before "
        f"training, falls to {mean_with_error(nearest)} and is {mean_with_error(end)} at the end.",
        over_repeats(shares if shares.size else [np.nan], "Share of facts above chance at that time", "seeds"),
        (-np.inf, 0.1),
        "A share above a tenth would have shown that relation and facts are learned together.",
    )
    facts = int(np.prod([data.attrs[name] for name in ("subjects", "relations")]))
    accuracy = last(data, "accuracy").sel(form=PLAIN)
    sizes = data["parameters"].sel(form=PLAIN)
    shown = [
        f"{percent(float(accuracy.sel(width=each).mean()))} with {count(int(sizes.sel(width=each)))}"
        for each in data["width"].values
    ]
    yield Finding(
        f"Of {count(facts)} facts a one-layer transformer recalls, by its parameters (embeddings among them): "
        f"{enumerated(shown)}.",
        "note",
    )


def _lists(tree: xr.DataTree) -> Iterator[Finding]:
    if "lists" not in tree.children:
        return
    at = last(_dataset(tree, "lists"), "accuracy of SUM")
    alone, together = (at.sel(learned=learned) for learned in ("SUM alone", "all three"))
    smallest = {str(name): _smallest(at.sel(learned=name).mean("seed")) for name in at["learned"].values}
    yield judged(
        "ListOps: sums are learned better together with MAX and MIN than alone. The smallest width at which more than "
        f"nine tenths of new sums are right, learned as {'; '.join(f'{name}: {at}' for name, at in smallest.items())}.",
        over_repeats(
            (together - alone).mean("width").values, "Share of new sums, mean over widths, less alone", "seeds"
        ),
        (0.0, np.inf),
        "A smaller share than of sums learned alone would have shown the opposite.",
    )


def _smallest(share: xr.DataArray) -> str:
    """The smallest width at which a task is learned, in words."""
    able = [int(width) for width in share["width"].values if float(share.sel(width=width)) > _LEARNED]
    return f"width {min(able)}" if able else "none"


# --- tables and sections ------------------------------------------------------------------------------------------


def tables(tree: xr.DataTree) -> Sequence[str]:
    """Sizes, work and losses of every training; capacities; and the heads as mixtures."""
    made = [
        _table(f"Characters of {name}: held-out nats a character", data, "loss") for name, data in _characters(tree)
    ]
    made += [
        _table("Facts: share recalled", _dataset(tree, "facts"), "accuracy"),
        _table("Similarities: held-out nats a character", _dataset(tree, "similarities"), "loss"),
        _table(f"Blocks: {_hidden(_dataset(tree, 'blocks'))}", _dataset(tree, "blocks"), "loss"),
        _capacities(_dataset(tree, "memories")),
        _read(_dataset(tree, "heads")),
    ]
    if "lists" in tree.children:
        made.append(_table("ListOps: share of new sums that are right", _dataset(tree, "lists"), "accuracy of SUM"))
    return made


def _table(caption: str, data: xr.Dataset, measure: str) -> str:
    """One row for each training: its names, size, work and result."""
    at = last(data, measure)
    dims = list(data["parameters"].dims)
    rows = []
    for place in np.ndindex(*data["parameters"].shape):
        chosen = dict(zip(dims, place, strict=True))
        names = [escape(str(data[dim].values[i])) for dim, i in chosen.items()]
        size, work = (float(data[name].isel(chosen)) for name in ("parameters", "operations"))
        rows.append([*names, count(int(size)), number(work / 1e6, 3), mean_with_error(at.isel(chosen))])
    heads = ["parameters", "operations a token, millions", measure]
    return table([*map(str, dims), *heads], rows, caption=f"{caption}, ± one standard error over seeds")


def _hidden(blocks: xr.Dataset) -> str:
    return ", ".join(HIDDEN[task] for task in blocks["task"].values)


def _capacities(data: xr.Dataset) -> str:
    rows = [
        [f"{what}, {size}", mean_with_error(data[name].sel({dim: size}))]
        for name, dim, what in (
            ("by_sum", "sum_dim", "sum of products, dimensions"),
            ("trained", "dim", "trained matrix, dimensions"),
            ("perceptron", "hidden", "perceptron, hidden units"),
        )
        for size in data[dim].values
    ]
    return table(
        ["factual memory", "pairs"], rows, caption="Pairs of which half (sum) or nine tenths (trained) are recalled"
    )


def _read(heads: xr.Dataset) -> str:
    names = {
        "concentration": "concentration",
        "log_concentration_sd": "sd of its log",
        "free_concentration_sd": "of it freed",
        "log_weight_sd": "sd of the log weight",
        "free_weight_sd": "of it freed",
        "correlation": "correlation of the logs",
        "memories": "memories a query",
        "energy": "energy, nats",
    }
    means = heads.mean("head")
    rows = [
        [
            f"{form}, layer {layer + 1}",
            *(mean_with_error(means[name].sel(form=form).isel(layer=layer)) for name in names),
        ]
        for form in heads["form"].values
        for layer in range(heads.sizes["layer"])
    ]
    return table(
        ["heads", *names.values()], rows, caption=f"Trained heads as mixtures, width {heads.attrs['width']}, over seeds"
    )


def sections(tree: xr.DataTree) -> Sequence[Section]:
    """The set-up and its limits."""
    characters, facts, blocks = (_dataset(tree, name) for name in ("characters_layer", "facts", "blocks"))
    similar = _dataset(tree, "similarities")
    widths = enumerated([str(width) for width in characters["width"].values])
    parts = {"images": "half of the patches of 8 x 8 digits", "characters": "a quarter of the characters"}
    sized = [
        f"{parts[str(task)]} (width {int(blocks['network_width'].sel(task=task))})" for task in blocks["task"].values
    ]
    hidden = f"{', or '.join(sized)} are"
    steps = {name: int(data["step"].values[-1]) for name, data in tree_studies(tree).items()}
    setup = [
        "Pre-LayerNorm transformers (attention, then a perceptron, each behind a normalisation), trained by Adam with "
        "a short warm-up and a rate that falls along a cosine, in single precision. All that is compared has the same "
        "seeds and sees the same batches. Hidden units make the numbers of parameters equal; the tables print them, "
        "with the floating-point operations of a token as XLA counts them.",
        f"Characters of {tree.attrs['text']}: two layers of widths {widths}, four heads, windows of "
        f"{characters.attrs['length']}, {steps['characters_layer']} steps of {characters.attrs['batch']} windows, "
        f"{characters.sizes['seed']} seeds; the last tenth of the text is held out.",
        "Forms: logit = exp(u.y) (slope . query) + offset + v.y for a key of token y. u frees the concentration, v the "
        "mixing proportion; both are zero before training, where the form is the tied one. The paper "
        "proposes this test and states no outcome; that freed attention learns better is the hypothesis judged here.",
        f"Facts: {facts.attrs['subjects']} subjects, {facts.attrs['relations']} relations, "
        f"{facts.attrs['choices']} answers each; subject and relation stand in noise; one layer, {steps['facts']} "
        f"steps of {facts.attrs['batch']}.",
        f"Similarities: width {similar.attrs['width']}, {steps['similarities']} steps, {similar.sizes['seed']} seeds, "
        "with a learned temperature in each head.",
        f"Blocks: {hidden} hidden; every token sees all "
        f"others; the energy block makes {tree.attrs['turns']} steps of one energy; {steps['blocks']} steps of "
        f"training, {blocks.sizes['seed']} seeds. An energy block cannot predict the next character, since keys move "
        "with the queries that see them.",
        *_of_lists(tree),
        f"Device: {escape(str(tree.attrs['device']))}.",
    ]
    return [
        Section("setup", "Set-up", _listed(setup)),
        Section("limits", "What this cannot say", _listed(LIMITS)),
    ]


def _of_lists(tree: xr.DataTree) -> list[str]:
    """The set-up of the study of nested lists, if there is one."""
    if "lists" not in tree.children:
        return []
    data = _dataset(tree, "lists")
    return [
        "ListOps: nested lists of two entries under SUM (modulo 10), MAX and MIN. A network writes how a list is "
        "worked out, innermost lists first, and is right where all that it writes is. The new sums are the same lists "
        f"however it learned; two layers, {int(data['step'].values[-1])} steps of {data.attrs['batch']} lists, "
        f"{data.sizes['seed']} seeds. The paper has up to three entries, and more operations."
    ]


def tree_studies(tree: xr.DataTree) -> dict[str, xr.Dataset]:
    """The studies that were trained step by step."""
    return {name: _dataset(tree, name) for name in tree.children if "curve" in tree[name].data_vars}


def _listed(sentences: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{sentence}</li>' for sentence in sentences)}</ul>"
