"""Lesson 2: how many memories? A Dirichlet process mixture under NUTS, and how to judge what it says.

The data are 272 eruptions of Old Faithful: the length of each and the time until the next one. The number of memories
is not given: the process has infinitely many, and the first five are kept.
"""

import json
import tempfile
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)  # double precision; set it before the first array

import numpy as np

import probam
from probam.data.shipped import load_shipped

eruptions = load_shipped("faithful")  # a table of 272 rows with named columns; a path or an array would do as well
fitted = probam.fit(
    eruptions,
    weights="dp",
    components=5,
    engine="nuts",
    standardise=True,  # results are in the units of the data (minutes) all the same
    num_warmup=150,
    num_draws=200,
    num_chains=2,
)
print(fitted.summary_text(most=4), "\n")

# The answer is a distribution: how likely each number of memories is that hold data.
occupied = fitted.tree["invariant"]["num_occupied"].values.ravel().astype(int)
shares = np.bincount(occupied) / occupied.size
print("memories that hold data:", {k: f"{share:.0%}" for k, share in enumerate(shares) if share > 0})
assert shares[0] == shares[1] == 0, "one memory cannot explain two kinds of eruption"

# Judge the sampler. Memories can swap their labels, so look only at quantities that do not depend on labels. These
# chains are short; the advice above says how much longer they should be (R-hat at most 1.01, ESS at least 400).
judged = fitted.summary()
print(judged[["mean", "ess_bulk", "r_hat"]].round(3), "\n")
assert judged.loc["log_lik", "r_hat"] < 1.2
assert fitted.tree["sample_stats"]["diverging"].mean() < 0.02

# Judge the truncation: a bound on how much it changes the prior distribution of the data (total variation).
cost = json.loads(fitted.tree.attrs["truncation"])
print(f"five memories instead of infinitely many: at most {cost['tv_bound']:.2f} in total variation\n")

# Judge the model: at draws of the posterior, is the energy of the physics the negative log density of the program?
for check in fitted.verify():
    print(f"{check.name:18} {check.relation:32} error {check.error:.0e}, allowed {check.tolerance:.0e}")
    assert check.passed

# Use it: label a new eruption, and complete eruptions of which one number is missing.
short = fitted.predict([[1.8, 52.0]])
print(f"\na short eruption, a short wait: memory {int(short['label'][0])}, sure to {float(short['confidence'][0]):.0%}")
completed = fitted.complete([[4.5, np.nan], [np.nan, 52.0]])
wait, spread = float(completed["conditional_mean"][0, 1]), float(completed["conditional_sd"][0, 1])
print(f"after an eruption of 4.5 minutes the next one takes {wait:.0f} +- {spread:.0f} minutes to come")
assert 70 < wait < 90

# A fit is one file in ArviZ's schema; a loaded fit gives the same answers.
with tempfile.TemporaryDirectory() as folder:
    fitted.save(Path(folder) / "fit.nc")
    again = probam.load(Path(folder) / "fit.nc")
np.testing.assert_array_equal(again.log_prob(eruptions), fitted.log_prob(eruptions))
