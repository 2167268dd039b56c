"""How far an engine has come, told to a listener that may stop it."""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from probam.errors import Stop
from probam.inference.common.checkpoint import Phase, Saves, identity_of, unsaved
from probam.options import number

__all__ = ["Listener", "Progress", "Reporter", "ended", "highest_of", "known_tolerance", "resumable", "silent"]


_IN_WORDS = {
    "objective": "objective {:.1f}",
    "elbo": "evidence bound {:.1f}",
    "divergences": "{:.0f} divergences",
    "acceptance": "acceptance {:.2f}",
    "memories": "{:.3g} memories",
    "inverse_temperature": "inverse temperature {:.2g}",
}


class Progress(NamedTuple):
    """How far the work has come: what a progress callback is called with.

    Attributes:
        done: steps done.
        total: steps at most; an engine that converges ends before. 0 where the number is not known.
        text: what is being done.
        values: numbers that are known at this step, by name; those that are not finite are left out. ``objective``:
            the highest log joint density or log likelihood (nats); ``elbo``: the highest evidence lower bound (nats);
            ``divergences``: divergent draws so far; ``acceptance``: mean acceptance rate since the last report;
            ``memories``: memories that hold data; ``inverse_temperature``: of the tempered posterior, from 0 to 1.
    """

    done: int
    total: int
    text: str
    values: Mapping[str, float] = {}

    @property
    def numbers(self) -> str:
        """The values in words; empty where there are none."""
        return ", ".join(words.format(self.values[name]) for name, words in _IN_WORDS.items() if name in self.values)

    @property
    def line(self) -> str:
        """All of it in one line.

        >>> Progress(1200, 2000, "NUTS sampling", {"divergences": 3.0, "acceptance": 0.8249}).line
        'NUTS sampling, 1200 of 2000, 3 divergences, acceptance 0.82'
        """
        steps = f"{self.done} of {self.total}" if self.total else f"{self.done}"
        return ", ".join(part for part in (self.text, steps, self.numbers) if part)


Listener = Callable[[Progress], object]
"""A progress callback. It may raise :class:`probam.errors.Stop` to end the work with what is there."""


class Reporter:
    """Tells a listener how far the work has come, remembers whether it said stop, and has what is kept of the work.

    A loop that keeps what it has asks for ``stopped`` after each report. Once stopped, the listener is not called any
    more.

    Args:
        listener: called with a :class:`Progress`; None for nobody.
        nothing_kept: why nothing can be kept if the work stops before its end; :class:`probam.errors.Stop` is then
            raised with this sentence. Empty for work that keeps what it has.
        saves: the checkpoint of the work.
    """

    def __init__(self, listener: Listener | None = None, *, nothing_kept: str = "", saves: Saves = unsaved) -> None:
        self._listener = listener
        self._saves = saves
        self._nothing_kept = nothing_kept
        self.stopped = False

    @property
    def goes_on(self) -> str:
        """What is said behind a sentence on why nothing was kept: where the checkpoint is, if there is one."""
        return "" if self._saves.place is None else f"; the same call goes on from {self._saves.place}"

    def phase(self, name: str) -> Phase:
        """The next loop of this name, as the checkpoint has it and will have it."""
        return self._saves.phase(name)

    def __call__(self, done: int, total: int, text: str, **values: float) -> None:
        """Report that ``done`` of ``total`` steps are done; ``values`` are those of :class:`Progress`."""
        if self._listener is None or self.stopped:
            return
        known = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        try:
            self._listener(Progress(done, total, text, known))
        except Stop as stop:
            self.stopped = True
            if self._nothing_kept:
                raise Stop(f"{self._nothing_kept}{self.goes_on}") from stop


@contextmanager
def resumable(
    listener: Listener | None,
    checkpoint: str | os.PathLike[str] | None,
    engine: str,
    key: jax.Array,
    model: object,
    x: object,
    options: Mapping[str, object],
    *,
    nothing_kept: str = "",
    together: bool = False,
) -> Iterator[Reporter]:
    """A reporter of a run whose phases are kept in a checkpoint, which is up to date when the context ends.

    Args:
        listener: see :class:`Reporter`.
        checkpoint: the file; None keeps nothing.
        engine: name of the engine.
        key: of the run.
        model: the mixture.
        x: data in model units.
        options: all others that the numbers of the run depend on.
        nothing_kept: see :class:`Reporter`.
        together: whether several processes make this run, see :class:`probam.inference.common.checkpoint.Saves`.

    Raises:
        InputError: for a checkpoint that cannot be used, see :class:`probam.inference.common.checkpoint.Saves`.
    """
    identity = {} if checkpoint is None else identity_of(engine, key, model, x, options)
    with Saves(checkpoint, identity, together=together) as saves:
        yield Reporter(listener, nothing_kept=nothing_kept, saves=saves)


silent = Reporter()
"""Reports to nobody."""


def known_tolerance(tolerance: float | None, dtype: np.dtype[Any], double: float) -> float:
    """The tolerance of a search, nats per datum: by default ``double`` in double precision and 1e-6 in single.

    Raises :class:`probam.errors.InputError` for one below zero, but for minus infinity, with which no run ends early.
    """
    if tolerance is None:
        return double if dtype == np.float64 else 1e-6
    if tolerance != -math.inf:
        number(least=0)("tolerance", tolerance)
    return tolerance


def ended(converged: bool, progress: Reporter) -> str:
    """The status of a search: ``stopped``, ``converged`` or ``max_steps``."""
    return "stopped" if progress.stopped else "converged" if converged else "max_steps"


def highest_of(trace: Float[np.ndarray, "..."], before: float = -math.inf) -> float:
    """The highest finite value of a trace and of what came before; minus infinity where there is none."""
    return max(before, float(np.max(np.where(np.isfinite(trace), trace, -np.inf), initial=-np.inf)))
