"""The parts of the experiment on consolidated memory: the stream, and recall by a window of the last tokens."""

import numpy as np

from probam.energies.novelty import Similarity
from probam.experiments.consolidated_memory import recalled, stream


def test_a_stream_says_which_tokens_had_come_before() -> None:
    keys, values, labels, repeated = stream(np.random.default_rng(0), 200)
    assert keys.shape == values.shape == (200, 12)
    seen: set[int] = set()
    for label, again in zip(np.asarray(labels).tolist(), repeated, strict=True):
        assert (label in seen) == again
        seen.add(label)
    assert seen == set(range(len(seen)))


def test_with_everything_new_the_slots_are_a_window_of_the_last_tokens() -> None:
    keys, values, labels, _ = (np.asarray(part) for part in stream(np.random.default_rng(1), 60))
    right = np.asarray(recalled(keys, values, labels, Similarity(2.0), 5))
    assert not right[0]
    for t in range(1, 60):
        last = slice(max(0, t - 5), t)
        heights = np.exp(-2 * np.sum((keys[last] - keys[t]) ** 2, axis=1))  # beta = 2 for a noise of 1/2
        read = heights @ values[labels[last]] / heights.sum()
        assert right[t] == (np.argmin(np.sum((values - read) ** 2, axis=1)) == labels[t])
    assert 0 < right.sum() < 60
