"""NUTS on the marginalised density: least bulk ESS over the parameters, a second, everything compiled.

The same model on every side: K Gaussians with free means ~ N(0, 2), scales ~ half-N(0, 2) and weights ~ Dirichlet(5,
..., 5) (at K = 2 posteriordb's program, Beta(5, 5); its ordering only names the memories, so means are unordered here,
and sorted before effective sizes are computed). The same number of chains, warm-up and draws, a diagonal mass matrix,
target acceptance 0.8 and double precision. Peers' chains start at the centres of k-means, which is not timed; ours
start at optima of EM, which is. From uniform starts some chains of every sampler end in a minor mode.
"""

import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.contest import OURS, Task
from benchmarks.floor import FLOOR
from benchmarks.mixture_data import four_clusters, two_gaussians

CHAINS, WARMUP, DRAWS = 4, 1000, 1000
TARGET = 0.8

TWO_DEVICES = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
DEVICE_A_CHAIN = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={CHAINS}"}

Draws = dict[str, np.ndarray]
"""``mu`` and ``sigma`` (chain, draw, K, D), ``theta`` (chain, draw, K)."""


def least_ess(draws: Draws) -> float:
    """Least bulk ESS over all scalar parameters; memories sorted by their first mean in every draw."""
    import arviz_stats

    order = np.argsort(draws["mu"][..., 0], axis=-1)
    columns = [np.take_along_axis(draws["theta"], order, 2)[..., :-1]]  # the last weight follows from the others
    for name in ("mu", "sigma"):
        ordered = np.take_along_axis(draws[name], order[..., None], axis=2)
        columns.append(ordered.reshape(*ordered.shape[:2], -1))
    return min(float(arviz_stats.ess(column)) for part in columns for column in np.moveaxis(part, -1, 0))


def _rate(sample: Callable[[int], Draws]) -> Callable[[], float]:
    """ESS per second of a whole run (warm-up and draws), with another seed each time; the first run compiles."""
    sample(0)
    seeds = iter(range(1, 10_000))

    def figure() -> float:
        seed = next(seeds)
        start = time.perf_counter()
        draws = sample(seed)
        seconds = time.perf_counter() - start
        return least_ess(draws) / seconds

    return figure


def _program(x: np.ndarray, memories: int) -> Callable[[], None]:
    """The model as a NumPyro user writes it."""
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist

    features = x.shape[1]

    def program() -> None:
        theta = numpyro.sample("theta", dist.Dirichlet(jnp.full(memories, 5.0)))
        with numpyro.plate("memory", memories):
            mu = numpyro.sample("mu", dist.Normal(jnp.zeros(features), 2.0).to_event(1))
            sigma = numpyro.sample("sigma", dist.HalfNormal(2.0 * jnp.ones(features)).to_event(1))
        with numpyro.plate("data", len(x)):
            law = dist.MixtureSameFamily(dist.Categorical(probs=theta), dist.Normal(mu, sigma).to_event(1))
            numpyro.sample("x", law, obs=x)

    return program


def _centres(x: np.ndarray, memories: int) -> np.ndarray:
    from sklearn.cluster import KMeans

    return np.asarray(KMeans(memories, n_init=3, random_state=0).fit(x).cluster_centers_)


def _starts(program: Callable[[], None], x: np.ndarray, memories: int) -> Callable[[int], Any]:
    """Unconstrained values for every chain of a NumPyro program: k-means centres and a little noise."""
    import jax
    from numpyro.infer.util import unconstrain_fn

    centres = _centres(x, memories)
    free = unconstrain_fn(
        program, (), {}, {"mu": centres, "sigma": np.ones_like(centres), "theta": np.full(memories, 1 / memories)}
    )

    def start(seed: int) -> Any:
        random = np.random.default_rng(seed)
        return jax.tree.map(lambda leaf: np.asarray(leaf) + 0.1 * random.normal(size=(CHAINS, *leaf.shape)), free)

    return start


def _spread(chains: Callable[..., Any]) -> Callable[..., Any]:
    """A function of chains (leading axis) on all JAX devices at once."""
    import jax
    from jax.sharding import Mesh, PartitionSpec

    mesh = Mesh(np.asarray(jax.devices()), ("chain",))
    over = PartitionSpec("chain")
    return jax.jit(jax.shard_map(chains, mesh=mesh, in_specs=over, out_specs=over, check_vma=False))


def _our_sampler(x: np.ndarray, memories: int) -> tuple[Any, Callable[[int], tuple[Draws, dict[str, np.ndarray]]]]:
    """The model, and the draws of a seed with their statistics."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp
    import numpyro.distributions as dist

    from probam.inference.nuts.engine import run
    from probam.models.gaussian import Gaussian
    from probam.models.mixture import mixture
    from probam.models.weights import Dirichlet

    features = x.shape[1]
    precision = dist.TransformedDistribution(  # sigma ~ half-N(0, 2), and the site is sigma^-2
        dist.HalfNormal(2.0 * jnp.ones(features)), dist.transforms.PowerTransform(jnp.full(features, -2.0))
    )
    model = mixture(
        x,
        family=Gaussian("diagonal"),
        weights=Dirichlet(5.0),
        num_components=memories,
        prior={"loc": dist.Normal(jnp.zeros(features), 2.0).to_event(1), "precision": precision.to_event(1)},
    )
    data = jnp.asarray(x)

    def sample(seed: int) -> tuple[Draws, dict[str, np.ndarray]]:
        key = jax.random.key(seed)
        result = run(key, model, data, num_chains=CHAINS, num_warmup=WARMUP, num_draws=DRAWS, target_accept=TARGET)
        sites = result.sites
        return {"mu": sites["loc"], "sigma": sites["precision"] ** -0.5, "theta": sites["weights"]}, result.stats

    return model, sample


def _ours(x: np.ndarray, memories: int) -> Callable[[], float]:
    _, sample = _our_sampler(x, memories)
    return _rate(lambda seed: sample(seed)[0])


def _floor(x: np.ndarray, memories: int) -> Callable[[], float]:
    """ESS per second if a run consisted of its gradients alone, on two devices.

    Steps of the warm-up, which are not kept, are assumed to be as long as the later ones.
    """
    model, sample = _our_sampler(x, memories)
    import jax
    import jax.numpy as jnp

    from probam.inference.common.coordinates import Coordinates
    from probam.inference.common.start import starting_params

    repeats = 2000
    coordinates = Coordinates(model)
    draws, stats = sample(0)
    gradients = float(np.mean(stats["n_steps"])) * (WARMUP + DRAWS) * CHAINS
    ess = least_ess(draws)
    data = jnp.asarray(x)
    start = coordinates.flatten(coordinates.unconstrain(starting_params(jax.random.key(0), model, data)))

    @jax.jit
    def many(start: jax.Array) -> jax.Array:
        log_joint = coordinates.log_joint_given(data)  # what depends only on the data is computed once, as in a run
        gradient = jax.grad(lambda at: log_joint(coordinates.unflatten(at)))
        return jnp.asarray(jax.lax.fori_loop(0, repeats, lambda _, at: at + 1e-9 * gradient(at), start))

    many(start).block_until_ready()

    def figure() -> float:
        began = time.perf_counter()
        many(start).block_until_ready()
        return ess / (gradients * (time.perf_counter() - began) / repeats / 2)

    return figure


def _numpyro(x: np.ndarray, memories: int) -> Callable[[], float]:
    import jax

    jax.config.update("jax_enable_x64", True)
    from numpyro.infer import MCMC, NUTS

    program = _program(x, memories)
    start = _starts(program, x, memories)
    # one device per chain: on two cores twice as fast as vectorized or sequential chains
    mcmc = MCMC(
        NUTS(program, target_accept_prob=TARGET),
        num_warmup=WARMUP,
        num_samples=DRAWS,
        num_chains=CHAINS,
        chain_method="parallel",
        progress_bar=False,
    )

    def sample(seed: int) -> Draws:
        mcmc.run(jax.random.key(seed), init_params=start(seed))
        return {site: np.asarray(value) for site, value in mcmc.get_samples(group_by_chain=True).items()}

    return _rate(sample)


def _blackjax(x: np.ndarray, memories: int) -> Callable[[], float]:
    import blackjax
    import jax

    jax.config.update("jax_enable_x64", True)
    from numpyro.infer.util import initialize_model

    program = _program(x, memories)
    start = _starts(program, x, memories)
    info = initialize_model(jax.random.key(0), program)

    def log_density(free: Any) -> jax.Array:
        return -info.potential_fn(free)

    def chain(key_and_start: tuple[jax.Array, Any]) -> Any:
        key, position = key_and_start
        key_adapt, key_run = jax.random.split(key)
        nothing = blackjax.adaptation.base.get_filter_adapt_info_fn()
        warmup = blackjax.window_adaptation(
            blackjax.nuts, log_density, target_acceptance_rate=TARGET, adaptation_info_fn=nothing
        )
        (state, parameters), _ = warmup.run(key_adapt, position, num_steps=WARMUP)
        kernel = blackjax.nuts(log_density, **parameters).step

        def step(state: Any, key: jax.Array) -> tuple[Any, Any]:
            state, _ = kernel(key, state)
            return state, state.position

        _, positions = jax.lax.scan(step, state, jax.random.split(key_run, DRAWS))
        return jax.vmap(info.postprocess_fn)(positions)

    # one chain after another on each device: lock-step chains wait for the longest tree among them
    chains = _spread(partial(jax.lax.map, chain))

    def sample(seed: int) -> Draws:
        drawn = chains((jax.random.split(jax.random.key(seed), CHAINS), start(seed)))
        return {site: np.asarray(value) for site, value in drawn.items()}

    return _rate(sample)


def _nutpie(x: np.ndarray, memories: int) -> Callable[[], float]:
    import nutpie
    import pymc
    import pytensor.tensor as pt

    warnings.simplefilter("ignore")
    centres = _centres(x, memories)
    with pymc.Model() as model:
        theta = pymc.Dirichlet("theta", a=np.full(memories, 5.0), initval=np.full(memories, 1 / memories))
        mu = pymc.Normal("mu", 0.0, 2.0, shape=centres.shape, initval=centres)
        sigma = pymc.HalfNormal("sigma", 2.0, shape=centres.shape, initval=np.ones_like(centres))
        # as one would write it by hand: faster than pymc.Mixture
        logits = pt.log(theta) - pt.log(sigma).sum(axis=1)
        for d in range(x.shape[1]):
            logits = logits - 0.5 * ((x[:, d, None] - mu[:, d]) / sigma[:, d]) ** 2
        pymc.Potential("x", pt.logsumexp(logits, axis=1).sum())
    compiled = nutpie.compile_pymc_model(model, backend="numba", jitter_rvs=set())

    def sample(seed: int) -> Draws:
        posterior = nutpie.sample(
            compiled,
            draws=DRAWS,
            tune=WARMUP,
            chains=CHAINS,
            cores=2,
            seed=seed,
            progress_bar=False,
            save_warmup=False,
            target_accept=TARGET,
        ).posterior
        return {site: np.asarray(posterior[site]) for site in ("mu", "sigma", "theta")}

    return _rate(sample)


def _task(name: str, x: np.ndarray, memories: int, source: str) -> Task:
    size = f"N={len(x)} D={x.shape[1]} K={memories} float64, {CHAINS} x ({WARMUP} + {DRAWS}), {source}"
    makers = {OURS: _ours, "numpyro": _numpyro, "blackjax": _blackjax, "nutpie": _nutpie, FLOOR: _floor}
    sides = {side: partial(maker, x, memories) for side, maker in makers.items()}
    environment = {OURS: TWO_DEVICES, "numpyro": DEVICE_A_CHAIN, "blackjax": TWO_DEVICES, FLOOR: TWO_DEVICES}
    return Task(name, size, "1/s", sides, "least bulk ESS a second, diagonal mass matrix", environment)


def two_gaussians_on_a_line() -> Task:
    """posteriordb's low_dim_gauss_mix."""
    x, source = two_gaussians()
    return _task("nuts", x, 2, source)


def four_gaussians_on_a_plane() -> Task:
    """Free scales and weights."""
    return _task("nuts-2d", four_clusters(), 4, "four clusters")
