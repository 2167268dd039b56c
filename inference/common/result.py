"""The result of an engine: draws, how they were made, and diagnostics."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float
from scipy.special import logsumexp

__all__ = ["APPROXIMATION", "EngineResult", "Evidence", "Restarts", "Survey", "combine_runs"]

APPROXIMATION = "draws from an approximation of the posterior"


class Evidence(NamedTuple):
    """Log evidence (nats, of the data in model units): the estimate of each run, all together, and its error."""

    runs: Float[np.ndarray, " C"]
    log_evidence: float
    se: float  # Monte Carlo standard error of log_evidence, NaN where it is not known
    method: str


def combine_runs(runs: Float[np.ndarray, " C"], method: str) -> Evidence:
    """Combine independent estimates of a log evidence: the log of their mean, and its error from their spread.

    The mean is over the evidences and not over their logs, since the estimates of the evidence are unbiased.
    """
    count = len(runs)
    combined = float(logsumexp(runs) - np.log(count))
    relative = np.exp(runs - combined)
    se = float(relative.std(ddof=1) / np.sqrt(count)) if count > 1 else float("nan")
    return Evidence(np.asarray(runs), combined, se, method)


class Survey(NamedTuple):
    """What one pass over all rows of data larger than memory says of the draws of a posterior."""

    log_lik: Float[Array | np.ndarray, " S"]
    """Log likelihood of all rows, nats, in the units of the model."""
    size: Float[Array | np.ndarray, "S K"]
    """Expected number of data of each memory; of a single draw the data whose most probable memory it is."""
    log_confidence: Float[Array | np.ndarray, " S"]
    """Sum over the rows, each as often as it counts, of the log of their largest responsibility."""


class Restarts(NamedTuple):
    """How each run of a search began."""

    kind: tuple[str, ...]
    """What kind of start it was."""
    round: tuple[int, ...]
    """0 for fresh starts; the number of the round for those that moved the memories of the best end before."""
    log_mass: Float[np.ndarray, " R"] | None
    """Log of the mass around each end (nats), where that is what ends are compared by."""


class EngineResult(NamedTuple):
    """Site values and statistics of every draw; optimisers return one chain.

    ``sites`` maps a site (or deterministic) to (C, S, ...) values in model units. ``stats`` maps a statistic to
    (C, S) values and always holds ``lp``, the log joint density in nats. ``objective`` (R, I) is the trace of
    each restart of an optimiser, NaN after its end, None for samplers; ``objective_name`` says what it is.
    ``estimate`` says in words what the values are: which maximum, or draws from what.
    ``status`` is ``"converged"``, ``"max_steps"`` or, for samplers, ``"sampled"``; ``"stopped"`` where a progress
    callback ended the run. ``note`` says in words where the engine's target differs from the model's own posterior;
    empty where it does not. ``evidence`` is what an engine that estimates it found, None for the others. ``pareto_k``
    is the tail shape of the importance ratios of approximate draws (None where none was computed); ``restart_status``
    says how each restart of an optimiser ended, ``restarts`` how it began and what its end is worth. ``survey`` is what
    all rows say of the draws, chain by chain, where only a sample of them is in memory.
    """

    sites: dict[str, np.ndarray]
    stats: dict[str, np.ndarray]
    objective: np.ndarray | None
    objective_name: str
    status: str
    note: str = ""
    evidence: Evidence | None = None
    pareto_k: float | None = None
    restart_status: tuple[str, ...] = ()
    restarts: Restarts | None = None
    estimate: str = "draws from the posterior"
    survey: Survey | None = None
