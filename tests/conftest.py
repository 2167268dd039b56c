"""Test configuration: double precision, one seed, no progress bars."""

import jax

jax.config.update("jax_enable_x64", True)
