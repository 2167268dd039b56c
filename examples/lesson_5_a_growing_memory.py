"""Lesson 5: a memory that grows from a stream.

Rows arrive one after the other. A new memory is made when it explains a row better than the existing ones do. Only the
sums of each memory are kept, so the stream may be endless. It can be stopped, saved and resumed.
"""

import tempfile
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)  # double precision; set it before the first array

import numpy as np

import probam
from probam.distributions.stick_breaking import expected_num_components

# Three sources of readings. The third one starts after 400 rows.
rng = np.random.default_rng(0)
centers = np.array([[-4.0, 0.0], [4.0, 0.0], [0.0, 6.0]])
source = np.concatenate([rng.integers(0, 2, 400), rng.integers(0, 3, 400)])
rows = centers[source] + rng.normal(size=(800, 2))
first = int(np.flatnonzero(source == 2)[0])  # the row that is the first of the third source


def new_stream() -> probam.Stream:
    """A stream that has seen nothing; the first 100 rows set the scale of its prior."""
    return probam.Stream(covariance="diagonal", alpha=0.5, warm=100)


stream = new_stream().partial_fit(rows[:400])
print(f"after 400 rows:\n{stream.memories().round(2)}\n")
assert stream.num_memories == 2

# Ask before learning: a row that no memory explains most probably belongs to a new memory.
asked = stream.predict([centers[0], centers[2]])
print("probability of a new memory, at an old source and at the new one:", asked["probability_new"].values.round(3))
assert asked["probability_new"][0] < 0.01
assert asked["probability_new"][1] > 0.9

stream.partial_fit(rows[400:])
memories = stream.memories()
print(f"\nafter 800 rows:\n{memories.round(2)}\n")
largest = memories.head(3)
assert first in largest["born"].values, "the first row of the third source makes the third memory"

# Label all rows by what the stream knows now, and compare with their sources.
nearest = stream.predict(rows)["memory"].values
agreement = np.mean([np.bincount(source[nearest == memory]).max() for memory in largest.index]) * 3 / len(rows)
print(f"rows that share their memory's main source: {agreement:.1%}")
assert agreement > 0.97

# How many memories the prior expects of so many rows, before it sees them.
print(f"memories a priori: {expected_num_components(0.5, 0.0, len(rows)):.1f}; made: {stream.num_memories}\n")

# Stop anywhere, save and resume: the result has the same bits.
with tempfile.TemporaryDirectory() as folder:
    new_stream().partial_fit(rows[:333]).save(Path(folder) / "stream.nc")
    resumed = probam.Stream.load(Path(folder) / "stream.nc").partial_fit(rows[333:])
np.testing.assert_array_equal(resumed.memories().values, memories.values)
assert resumed.log_predictive == stream.log_predictive

# A stream can be turned into a fit at any time, and is then verified and reported like any other.
fitted = stream.to_fit(num_draws=50)
assert all(check.passed for check in fitted.verify())
print(fitted.summary_text(most=3))
