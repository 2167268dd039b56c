"""Runs of the laboratory: the same bits after a pause, tasks that are what they say, heads that are mixtures."""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import ive, softmax

from probam.energies import attention as physics
from probam.energies.attention import untie
from probam.errors import InputError, NumericalError, Stop
from probam.experiments.laboratory.attention import FORMS
from probam.experiments.laboratory.factual import crossing, exponents, recalled_by_sum, recalled_by_training
from probam.experiments.laboratory.network import build
from probam.experiments.laboratory.reading import head_scores, norm_of, read
from probam.experiments.laboratory.tasks import (
    OPERATIONS,
    Characters,
    Facts,
    Images,
    ListOps,
    encoded,
    expression,
    worked,
)
from probam.experiments.laboratory.training import Plan, Trained, seeded, train
from probam.models.attention import posterior

TEXT = "the quick brown fox jumps over the lazy dog. " * 30
PLAN = Plan(steps=6, every=2, batch=4)
SIZE = {"width": 8, "heads": 2, "layers": 1, "hidden": 8}


def _characters(**options: bool) -> Characters:
    numbers, alphabet = encoded(TEXT)
    return Characters(numbers, len(alphabet), 8, windows=4, **options)


def _leaves(trained: Trained) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(eqx.filter(trained.networks, eqx.is_array))]


def test_a_run_goes_on_from_its_checkpoint_in_the_same_bits(tmp_path: Path) -> None:
    with jax.enable_x64(False):
        task = _characters()
        shape, keys = task.shape(attention="untied", **SIZE), [seeded(0, i) for i in range(2)]
        whole = train(shape, task, PLAN, keys)

        def interrupted(done: int, _: int) -> None:
            if done == 4:
                raise Stop("enough")

        file = tmp_path / "run.eqx"
        with pytest.raises(Stop):
            train(shape, task, PLAN, keys, keep=file, report=interrupted)
        seen: list[int] = []
        resumed = train(shape, task, PLAN, keys, keep=file, report=lambda done, total: seen.append(done))
        assert seen == [4, 6]
        read_only = train(shape, task, PLAN, keys, keep=file, report=lambda done, total: seen.append(done))
        assert seen == [4, 6, 6]
        other = train(shape, task, PLAN, [seeded(1, 0), seeded(1, 1)], keep=file)
    for again in (resumed, read_only):
        np.testing.assert_array_equal(again.curve, whole.curve)
        for one, two in zip(_leaves(again), _leaves(whole), strict=True):
            assert one.dtype == np.float32
            np.testing.assert_array_equal(one, two)
    assert not np.array_equal(other.curve, whole.curve)  # of other seeds: the file was not gone on with
    assert whole.curve.shape == (2, 4, 1)
    assert whole.steps.tolist() == [0, 2, 4, 6]


def test_a_damaged_checkpoint_is_named_and_a_loss_that_is_not_finite_too(tmp_path: Path) -> None:
    task, file = _characters(), tmp_path / "run.eqx"
    train(task.shape(**SIZE), task, PLAN, [seeded(0, 0)], keep=file)
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"run\.eqx: .* remove it"):
        train(task.shape(**SIZE), task, PLAN, [seeded(0, 0)], keep=file)
    with pytest.raises(NumericalError, match="lower plan"):
        train(task.shape(**SIZE), task, PLAN._replace(rate=float("inf")), [seeded(0, 0)])


def test_training_lowers_the_loss_of_every_seed_to_below_that_of_letters_alone() -> None:
    task = _characters()
    trained = train(task.shape(**SIZE), task, Plan(steps=150, every=50, rate=0.02), [seeded(0, i) for i in range(2)])
    _, counts = np.unique(encoded(TEXT)[0], return_counts=True)
    shares = counts / counts.sum()
    assert (trained.curve[:, -1, 0] < -np.sum(shares * np.log(shares))).all()
    again = task.loss(trained.network(1), task.held_out(jnp.zeros((), int)))
    assert float(again) == pytest.approx(trained.curve[1, -1, 0], rel=1e-6)


@pytest.mark.parametrize(("form", "norm"), [*((form, "layer") for form in FORMS), ("untied", "rms")])
def test_a_trained_head_is_a_mixture_whose_posterior_is_its_attention(form: str, norm: str) -> None:
    task = _characters()
    shape = task.shape(attention=form, norm=norm, **SIZE)
    network = train(shape, task, Plan(30, 30, 0.03, 4), [seeded(0, 0)]).network(0)
    found = read(network, task.held_out(jnp.zeros((), int)).inputs)
    assert found.gap < 1e-11
    assert (found.free_concentration_sd.max() > 1e-3) == ("concentrations" in form or form == "untied")
    assert (found.free_weight_sd.max() > 1e-3) == ("proportions" in form or form == "untied")
    assert ((found.memories >= 1) & (found.memories <= found.seen)).all()


def test_the_reading_of_a_head_is_the_printed_formula_with_its_normaliser() -> None:
    task = _characters()
    network = train(task.shape(attention="untied", **SIZE), task, Plan(30, 30, 0.03, 4), [seeded(0, 0)]).network(0)
    words = task.held_out(jnp.zeros((), int)).inputs[0]
    block, tokens = network.attending[0], network.layers(words)[0]
    asked = head_scores(block, tokens, 1)
    weights = np.asarray(block.attention.weights(*block.normed(tokens), seen=None))[1]
    np.testing.assert_allclose(posterior(asked, tokens, norm_of(block)), weights, atol=1e-12)

    x = np.asarray(tokens)
    x = x - x.mean(axis=1, keepdims=True)
    slopes = np.asarray(asked.slopes) - np.asarray(asked.slopes).mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(slopes, axis=1)
    order = (x.shape[1] - 1) / 2 - 1
    for row, expected in zip(x, weights, strict=True):
        radius = np.sqrt(8 * row.var() / (row.var() + 1e-5))
        kappa = radius * lengths
        log_c = order * np.log(kappa) - np.log(ive(order, kappa)) - kappa  # of the sphere in seven dimensions
        log_pi = np.asarray(asked.offsets) - log_c  # CLAIMS A12 and A13
        cosines = slopes @ row / (lengths * np.linalg.norm(row))
        np.testing.assert_allclose(softmax(log_pi + log_c + kappa * cosines), expected, atol=1e-12)
        without = softmax(np.asarray(asked.offsets) + log_c + kappa * cosines)  # the printed weights
        assert np.abs(without - expected).max() > 1e-3


def test_the_tied_parts_are_those_of_the_physics() -> None:
    task = _characters()
    network = train(task.shape(**SIZE), task, Plan(30, 30, 0.03, 4), [seeded(0, 0)]).network(0)
    words = task.held_out(jnp.zeros((), int)).inputs[0]
    block, tokens = network.attending[0], network.layers(words)[0]
    attention, (normed, shift) = block.attention, block.normed(tokens)
    assert attention.query.bias is not None
    head = physics.Head(
        physics.LayerNorm(block.scale, shift, block.first.eps),
        query_projection=attention.query.weight[:4],
        key_projection=attention.key.weight[:4],
        query_bias=attention.query.bias[:4],
    )
    free, _ = untie(head, normed)
    asked = head_scores(block, tokens, 0)
    np.testing.assert_allclose(asked.offsets, free.log_weights, atol=1e-12)
    inside = np.asarray(asked.slopes) - np.asarray(asked.slopes).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(np.log(np.sqrt(8) * np.linalg.norm(inside, axis=1)), free.log_concentrations, atol=1e-12)


def test_a_similarity_that_is_no_mixture_is_not_read() -> None:
    task = _characters()
    network = build(jax.random.key(0), task.shape(attention="manhattan", **SIZE))
    with pytest.raises(InputError, match="block: expected attention by dot products"):
        read(network, task.held_out(jnp.zeros((), int)).inputs)


# --- tasks --------------------------------------------------------------------------------------------------------


def test_characters_ask_for_the_next_one_or_the_hidden_ones() -> None:
    numbers, alphabet = encoded(TEXT)
    none = jnp.zeros((), int)
    batch = _characters().draw(jax.random.key(0), none, 50)
    np.testing.assert_array_equal(batch.inputs[:, 1:], batch.targets[:, :-1])
    joined = "".join(alphabet[i] for i in numbers)
    assert joined == TEXT
    for row in np.asarray(batch.inputs):
        assert "".join(alphabet[i] for i in row) in TEXT[: len(TEXT) * 9 // 10]
    masked = _characters(masked=True)
    batch = masked.draw(jax.random.key(0), none, 50)
    hidden = np.asarray(batch.inputs) == len(alphabet)
    np.testing.assert_array_equal(hidden, np.asarray(batch.weights) == 1)
    np.testing.assert_array_equal(np.asarray(batch.inputs)[~hidden], np.asarray(batch.targets)[~hidden])
    assert 0.15 < hidden.mean() < 0.35
    with pytest.raises(InputError, match="text: expected at least"):
        Characters(numbers[:50], len(alphabet), 8)


def test_facts_have_their_answer_and_nothing_else_that_tells_it() -> None:
    task = Facts([3, 4], subjects=5, relations=3, choices=4, length=6, noise=7)
    batch = task.held_out(jnp.ones((), int))
    words, answers = np.asarray(batch.inputs), np.asarray(task.answers)[1]
    for row, target, weight in zip(words, np.asarray(batch.targets), np.asarray(batch.weights), strict=True):
        (subject,), (relation,) = row[row < 5], row[(row >= 5) & (row < 8)] - 5
        assert target[-1] == 8 + relation * 4 + answers[subject, relation]
        assert row[-1] == 8 + 12 + 7
        noise = row[(row >= 8) & (row != row[-1])]
        assert len(noise) == 3
        assert (noise >= 20).all()
        np.testing.assert_array_equal(weight, [0, 0, 0, 0, 0, 1])
    assert len({tuple(row[row < 8]) for row in words}) == 15
    assert not np.array_equal(task.answers[0], task.answers[1])


def test_the_measures_of_facts_are_those_of_a_network_that_knows_only_the_relation() -> None:
    task = Facts([0], subjects=6, relations=2, choices=3, length=5, noise=4)
    _, subjects, relations = task.answers.shape
    shares = np.stack([np.bincount(task.answers[0, :, r], minlength=3) / subjects for r in range(relations)])

    def hallucinating(words: jax.Array) -> jax.Array:
        relation = jnp.max(jnp.where((words >= 6) & (words < 8), words - 6, 0))
        row = jnp.log(jnp.asarray(shares) + 1e-30)[relation]
        return jnp.full((5, 19), -1e9).at[:, jnp.arange(3) + 8 + 3 * relation].set(row)

    nats, accuracy, inside, gap = task.measure(hallucinating, jnp.zeros((), int))
    entropy = -np.sum(shares * np.log(np.where(shares > 0, shares, 1)), axis=1).mean()
    assert float(nats) == pytest.approx(entropy)
    assert float(inside) == pytest.approx(1)
    assert float(gap) == pytest.approx(0, abs=1e-12)
    assert float(accuracy) == pytest.approx(shares.max(axis=1).mean())


def _valued(words: list[str]) -> int:
    """Value of a nested list by a stack, which the generator does not use."""
    stack: list[list[str | int]] = [[]]
    for word in words:
        if word == "(":
            stack.append([])
        elif word == ")":
            name, *entries = stack.pop()
            x = sorted(int(entry) for entry in entries)
            stack[-1].append({"SUM": sum(x) % 10, "MAX": x[-1], "MIN": x[0]}[str(name)])
        else:
            stack[-1].append(word)
    (value,) = stack[0]
    return int(value)


def test_nested_lists_have_their_values_at_every_step() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        words, value = expression(rng, OPERATIONS, 3)
        steps = " ".join(worked(words)).split(" = ")
        assert steps[0] == " ".join(words)
        assert [_valued(step.split()) for step in steps] == [value] * len(steps)
        assert len(steps) <= 4
        assert steps[-1] == str(value)


def test_held_out_lists_are_not_learned_and_half_of_them_have_sums_alone() -> None:
    task, none = ListOps(0, OPERATIONS, number=300, held=50), jnp.zeros((), int)
    assert len({tuple(row) for row in np.asarray(task.words)}) == 400
    batch, held = task.draw(jax.random.key(0), none, 100), task.held_out(none)
    rows = np.asarray(held.inputs)
    assert not {tuple(row) for row in np.asarray(batch.inputs)} & {tuple(row) for row in rows}
    numbers = {word: int(task.words[0, place]) for place, word in ((0, "("), (1, "SUM"))}
    used = [set(row) for row in rows[:50]]
    assert not any(number in row for row in used for number in range(numbers["SUM"] + 1, numbers["("]))


def test_a_list_is_right_where_all_of_its_answer_is() -> None:
    task, none = ListOps(0, OPERATIONS[:1], number=100, held=20), jnp.zeros((), int)
    held = task.held_out(none)
    spoiled = np.array(held.targets)
    spoiled[3, np.nonzero(np.asarray(held.weights)[3])[0][-1]] += 1  # the value of one of the sums alone
    spoiled[np.asarray(held.weights) == 0] = 0  # what is not asked may be anything

    def network(words: jax.Array) -> jax.Array:
        place = jnp.argmax(jnp.all(held.inputs == words, axis=-1))
        return 100 * jax.nn.one_hot(jnp.asarray(spoiled)[place], task.shape().outputs)

    loss, right, sums = np.asarray(task.measure(network, none))
    assert right == 1
    assert sums == pytest.approx(19 / 20)
    assert loss < 1e-9


def test_images_hide_half_of_the_patches_of_images_that_are_not_held_out() -> None:
    patches = np.arange(30 * 4 * 2.0).reshape(30, 4, 2)
    task = Images(patches, [0, 1], held=10)
    batch = task.draw(jax.random.key(0), jnp.ones((), int), 64)
    held = np.asarray(task.held_out(jnp.ones((), int)).targets)
    assert not {row[0, 0] for row in held} & {row[0, 0] for row in np.asarray(batch.targets)}
    hidden = np.asarray(batch.inputs)[..., -1] == 1
    assert (hidden.sum(axis=1) == 2).all()
    assert (np.asarray(batch.inputs)[hidden][:, :-1] == 0).all()
    np.testing.assert_array_equal(np.asarray(batch.inputs)[~hidden][:, :-1], np.asarray(batch.targets)[~hidden])
    off = task.loss(lambda x: jnp.zeros((4, 2)), batch)
    assert float(off) == pytest.approx(float(np.mean(np.asarray(batch.targets)[hidden] ** 2)))


def test_without_context_the_loss_is_that_of_frequencies_or_of_the_mean_image() -> None:
    numbers, alphabet = encoded(TEXT)
    task, none = _characters(masked=True), jnp.zeros((), int)
    batch = task.held_out(none)
    learned = numbers[: len(numbers) - len(numbers) // 10].tolist()
    logs = [np.log((learned.count(i) + 1) / (len(learned) + len(alphabet))) for i in range(len(alphabet))]
    asked = np.asarray(batch.targets)[np.asarray(batch.weights) == 1]
    assert float(task.without_context(none)) == pytest.approx(-np.mean([logs[i] for i in asked]))
    patches = np.random.default_rng(0).normal(size=(30, 4, 2))
    images = Images(patches, [0, 1], held=10)
    own = {row.tobytes() for row in np.asarray(images.held_out(none).targets)}
    of_others = np.mean([image for image in np.asarray(images.patches) if image.tobytes() not in own], axis=0)
    held = images.held_out(none)
    errors = ((np.asarray(held.targets) - of_others) ** 2)[np.asarray(held.weights) == 1]
    assert float(images.without_context(none)) == pytest.approx(float(errors.mean()))


# --- factual memories ---------------------------------------------------------------------------------------------


def test_the_sum_of_pairs_recalls_half_of_them_where_its_noise_is_as_large_as_the_answer() -> None:
    keys = jax.random.split(jax.random.key(0), 4)
    numbers = np.array([64, 128, 256, 512, 1024])
    shares = np.stack([np.asarray(recalled_by_sum(keys, int(n), 48)) for n in numbers], axis=1)
    assert (np.diff(shares.mean(axis=0)) < 0).all()
    found = np.array([crossing(numbers, row, 0.5) for row in shares])
    assert (np.abs(found * np.log(found) / 48**2 - 0.5) < 0.25).all()  # in high dimensions 1/2


def test_training_recalls_more_than_the_sum_and_a_perceptron_with_its_parameters() -> None:
    keys = jax.random.split(jax.random.key(0), 2)
    trained = recalled_by_training(keys, 32, 12, steps=150)
    assert (np.asarray(trained) > np.asarray(recalled_by_sum(keys, 32, 12)) + 0.2).all()
    few, many = (recalled_by_training(keys, 64, 8, m, 150).mean() for m in (4, 32))
    assert many > few + 0.2


def test_crossings_and_exponents_are_those_of_a_power_law() -> None:
    assert np.isnan(crossing(np.array([2, 4]), np.array([1.0, 0.9]), 0.5))
    assert np.isnan(crossing(np.array([2, 4]), np.array([0.4, 0.1]), 0.5))
    sizes = np.array([8.0, 16.0, 32.0])
    np.testing.assert_allclose(exponents(sizes, 3 * sizes[None] ** 1.7, logs=False), 1.7)
