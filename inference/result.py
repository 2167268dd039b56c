"""What an engine hands back: draws, how they were made, and whether to believe them."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

__all__ = ["EngineResult", "Progress", "silent"]

Progress = Callable[[int, int, str], None]
"""Called with (done, total, text) while an engine works."""


def silent(done: int, total: int, text: str) -> None:
    """Progress that nobody watches."""


class EngineResult(NamedTuple):
    """Site values and statistics of every draw; optimisers return one chain.

    ``sites`` maps a site (or deterministic) to (C, S, ...) values in model units. ``stats`` maps a statistic to
    (C, S) values and always holds ``lp``, the log joint density in nats. ``objective`` (R, I) is the trace of
    each restart of an optimiser, NaN after its end, None for samplers; ``objective_name`` says what it is.
    ``status`` is ``"converged"``, ``"max_steps"`` or, for samplers, ``"sampled"``. ``note`` says in words where the
    engine's target differs from the model's own posterior; empty where it does not.
    """

    sites: dict[str, np.ndarray]
    stats: dict[str, np.ndarray]
    objective: np.ndarray | None
    objective_name: str
    status: str
    note: str = ""
