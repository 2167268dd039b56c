"""What the prior says, as groups of a fit: its draws, data that it would give, and its log density at the draws.

They are made of the program that was fitted. Their random numbers have a fixed key, so that the prior of a model has
the same draws in every fit of it.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpyro import handlers
from numpyro.infer.util import log_density

import probam.fits.posterior as posterior
from probam.compiled import compiled_by_work, compiled_quickly
from probam.errors import InputError, NumericalError
from probam.family import Params
from probam.fits.groups import Group, sites_group
from probam.fits.prior_text import check_prior_is_known
from probam.fits.saved import Saved, on_device, saved_sites, site_names
from probam.models.mixture import Mixture
from probam.placement import each
from probam.reports.summaries.quantities import evenly
from probam.reports.tree import variable

__all__ = ["log_prior_group", "prior_group", "prior_predictive_group"]

_DRAWS = 1000
"""Draws of the prior, where they are not too large."""

_NUMBERS = 2_000_000
"""About so many numbers are drawn from the prior, and as many for data that it would give."""

_FEWEST = 20
"""Fewest draws from the prior that say something of it."""


def prior_group(saved: Saved) -> Group:
    """Draws from the prior, in the units of the model, with the variables of the group ``posterior``.

    Raises:
        InputError: where the file does not hold the prior that was fitted, or a draw has too many numbers.
        NumericalError: where draws leave the finite numbers.
    """
    return sites_group(saved.model, {name: value[None] for name, value in _prior_draws(saved).items()})


def prior_predictive_group(saved: Saved) -> Group:
    """Data that the prior would give, one set for each of its draws or for some of them, in the units of the data."""
    sites, names = _prior_draws(saved), site_names(saved.model)
    num_data = len(saved.x)
    chosen = evenly(len(next(iter(sites.values()))), int(np.clip(_NUMBERS // saved.x.size, 2, _DRAWS)))
    params = on_device({name: value[chosen] for name, value in sites.items() if name in names})
    rows = np.asarray(posterior.replicate(saved.model, params, jax.random.key(1), num_data))
    in_units = saved.units.invert(rows).astype(np.float32)
    if not np.isfinite(in_units).all():
        raise NumericalError("data drawn from the prior left the finite numbers; its tails are too heavy")
    return Group({"x": (in_units[None], ("chain", "draw", "datum", "feature"))}, coordinates={"draw": chosen})


def log_prior_group(saved: Saved) -> Group:
    """Log prior density of each site at every draw, nats, in the units of the model; one number for each memory.

    That of a site that depends on another one (``sticks`` on ``alpha``) is its density given the other.
    """
    check_prior_is_known(saved.tree)
    sizes = saved.tree["posterior"].sizes
    shape = (sizes["chain"], sizes["draw"])
    sites = saved_sites(saved.tree, site_names(saved.model), thinned=False)
    densities = {name: np.asarray(values) for name, values in _log_prior(saved.model, on_device(sites)).items()}
    variables = {
        name: (values.reshape(*shape, *values.shape[1:]), ("chain", "draw", *(["memory"] if values.ndim > 1 else [])))
        for name, values in densities.items()
    }
    return Group(variables, coordinates={"draw": variable(saved.tree, "posterior", "draw").values})


def _prior_draws(saved: Saved) -> dict[str, np.ndarray]:
    """Draws of all sites and of what follows from them, name -> (S, ...)."""
    check_prior_is_known(saved.tree)
    one = jax.eval_shape(_draw, saved.model, jax.random.key(0))
    numbers = sum(int(np.prod(value.shape)) for value in one.values())
    count = min(_DRAWS, _NUMBERS // numbers)
    if count < _FEWEST:
        raise InputError(f"a draw of the prior has {numbers} numbers, and {_FEWEST} draws would be too large")
    drawn = {name: np.asarray(value) for name, value in _many(saved.model, jax.random.key(0), count).items()}
    for name, value in drawn.items():
        if not np.isfinite(value).all():
            raise NumericalError(f"draws of {name!r} from its prior left the finite numbers; its tails are too heavy")
    return drawn


def _draw(model: Mixture, key: jax.Array) -> Params:
    trace = handlers.trace(handlers.seed(model.sites, key)).get_trace()
    params = {name: site["value"] for name, site in trace.items() if site["type"] == "sample"}
    return params | model.deterministics(params)


@compiled_quickly(static_argnames="count")
def _many(model: Mixture, key: jax.Array, count: int) -> Params:
    drawn: Params = jax.lax.map(lambda own: _draw(model, own), jax.random.split(key, count), batch_size=_FEWEST)
    return drawn


@compiled_by_work(lambda _, sites: (sites, 1))
def _log_prior(model: Mixture, sites: Params) -> Params:
    """Log density of every site at draws (leaves lead with their axis): (S,), or (S, K) where each memory has one."""

    def one(params: Params) -> dict[str, Float[Array, "..."]]:
        _, trace = log_density(model.sites, (), {}, params)
        owned = set(model.prior) - model.family.shared
        found = {}
        for name, site in trace.items():
            if site["type"] == "sample":
                own = jnp.asarray(site["fn"].log_prob(site["value"]))
                found[name] = own.reshape(model.num_components, -1).sum(axis=1) if name in owned else own.sum()
        return found

    numbers = sum(value[0].size for value in sites.values())
    densities: Params = each(one, sites, numbers=numbers)
    return densities
