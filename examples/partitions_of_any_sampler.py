"""Partitions from a file of draws that probam did not make: a NetCDF file as ArviZ writes it for PyMC, Stan or NumPyro.

`galaxies.nc` holds draws of a mixture of four normals for the velocities of 82 galaxies (Roeder 1990). Plain NumPyro
drew them by NUTS and `arviz.from_numpyro` wrote them; `draw_again` below is how, and the flag `--draw` does it again. A
file of PyMC or CmdStan has the same groups; only the names differ.

The sampler has summed the labels out and has no order of the components, so that their numbers mean nothing: R-hat of
`mu` says that the chains disagree, where they agree on all that can be asked.
"""

import sys
from pathlib import Path

import numpy as np
import xarray as xr
from scipy.special import log_softmax
from scipy.stats import norm

from probam import partitions
from probam.data.shipped import load_shipped

FILE = Path(__file__).with_name("galaxies.nc")
VELOCITY = load_shipped("galaxy82").values[:, 0]  # 1000 km/s


def draw_again() -> None:
    """Four chains of NUTS, thinned to 100 draws each."""
    import arviz
    import jax
    import numpyro
    import numpyro.distributions as dist

    def program(x: jax.Array) -> None:
        w = numpyro.sample("w", dist.Dirichlet(np.ones(4)))
        with numpyro.plate("component", 4):
            mu = numpyro.sample("mu", dist.Normal(20.0, 10.0))
            sigma = numpyro.sample("sigma", dist.LogNormal(0.5, 0.5))
        numpyro.sample("x", dist.MixtureSameFamily(dist.Categorical(w), dist.Normal(mu, sigma)), obs=x)

    kernel = numpyro.infer.NUTS(program, init_strategy=numpyro.infer.init_to_sample)
    run = numpyro.infer.MCMC(kernel, num_warmup=1000, num_samples=1000, thinning=10, num_chains=4, progress_bar=False)
    run.run(jax.random.key(4), VELOCITY, extra_fields=("potential_energy",))
    names = {name: ["component"] for name in ("w", "mu", "sigma")}
    arviz.from_numpyro(run, dims=names, log_likelihood=False).to_netcdf(str(FILE))


if "--draw" in sys.argv:
    draw_again()

with xr.open_dataset(FILE, group="posterior", engine="h5netcdf") as file:
    draws = file.load()
print(f"{draws.sizes['chain']} chains of {draws.sizes['draw']} draws of {', '.join(map(str, draws.data_vars))}\n")

# The probability of each component for each datum, (chain, draw, galaxy, component), and labels drawn from it.
log_joint = np.log(draws["w"].values)[:, :, None] + norm.logpdf(
    VELOCITY[:, None], draws["mu"].values[:, :, None], draws["sigma"].values[:, :, None]
)
responsibilities = np.exp(log_softmax(log_joint, axis=-1))
uniform = np.random.default_rng(0).random((*responsibilities.shape[:3], 1))
labels = xr.DataArray((responsibilities.cumsum(axis=-1) < uniform).sum(axis=-1), dims=("chain", "draw", "galaxy"))

# Do the chains agree? Ask what does not depend on numbering.
mu = partitions.convergence(draws[["mu"]])
invariant = partitions.convergence(partitions.quantities(labels, weights=draws["w"]))
print(f"largest R-hat of mu as numbered by the sampler: {mu['r_hat'].max():.2f}")
print(f"largest R-hat of what does not depend on numbering: {invariant['r_hat'].max():.2f}\n")
assert mu["r_hat"].max() > 1.5
assert invariant["r_hat"].max() < 1.05

# How many groups hold data, who belongs together, and how sure is that?
print(partitions.num_occupied(labels).round(3), "\n")
point = partitions.point_partition(labels)
ball = partitions.credible_ball(labels, point)
print(f"groups of the point partition: {np.bincount(point.values).tolist()} galaxies")
print(f"95 % of the draws are within {ball.radius:.2f} nats of it (variation of information)")
assert partitions.expected_loss(point, labels) <= partitions.distances(labels[0, 0], labels).mean().item()

# Number the components alike: three rules, which agree on most draws, and the locations make sense again.
orders = {
    method: partitions.relabel(responsibilities=responsibilities, parameters=draws["mu"].values, method=method)
    for method in ("stephens", "ecr", "pivotal")
}
print(f"Stephens' rule and ECR agree on {partitions.agreement(orders['stephens'], orders['ecr']):.0%} of the draws")
located = partitions.renumbered(draws["mu"].values, orders["stephens"])
print("locations after Stephens' rule, 1000 km/s:", np.median(located, axis=(0, 1)).round(1))
assert np.ptp(np.median(located[:, :, 0], axis=1)) < 1.0, "the largest component is the same in all chains"
