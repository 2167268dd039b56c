"""A stream of data and the memories that it makes: learn by parts, ask at any time, save, load and go on.

The engine is :mod:`probam.inference.stream.engine`. What this file adds: data units, a default prior, questions,
and the way to a :class:`probam.fits.fitted.Fit`; files are those of :mod:`probam.streams.storage`.
"""

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr
from numpyro.distributions import Distribution

import probam.inference.stream.engine as engine
import probam.inference.stream.particles as particle_filter
from probam.data.blocks import row_blocks
from probam.data.standardise import Standardiser, identity, standardiser
from probam.data.table import Table, as_table
from probam.errors import InputError
from probam.family import Family
from probam.fits.assemble import fit_tree
from probam.fits.choices import double_precision, find_family
from probam.fits.fitted import Fit
from probam.fits.prepared import Prepared
from probam.inference.common.result import EngineResult, Progress, silent
from probam.inference.stream.hyper import Hyper
from probam.inference.stream.kernel import Kernel, check_kernel
from probam.inference.stream.particles import Filter, Particles, leader, start_particles
from probam.inference.stream.rejuvenation import Moves, check_moves
from probam.inference.stream.resampling import RESAMPLINGS
from probam.inference.stream.state import StreamState
from probam.inference.stream.tidy import Tidy, check_tidy
from probam.inference.stream.weights import PitmanYor, check_pitman_yor
from probam.models.mixture import Mixture, mixture
from probam.models.weights import weight_prior
from probam.streams.options import (
    Changing,
    changing_kernel,
    check_changing,
    last_partition,
    places,
    tail_warnings,
    worth,
)
from probam.streams.prior import stream_pair
from probam.streams.sketch import Growth, Reservoir
from probam.streams.storage import Learned, learned_arrays, read_stream, refill, stream_group, write_stream
from probam.streams.to_fit import (
    draw_sites,
    fit_attributes,
    particle_totals,
    slots_by_size,
    weights_name,
    weights_options,
)

__all__ = ["Stream", "run_stream"]


class Stream:
    """An associative memory that makes memories as its data call for them.

    The default prior is scaled to the first ``warm`` rows, which are held back until they have all come (or until
    something is asked): the result does not depend on how the data are cut. The same seed and data give the same bits.

    Args:
        family: a name, ``"file.py:Name"`` or a Family with a conjugate pair (Gaussian, vMF, Bernoulli, multinomial).
        covariance: of Gaussian memories: "isotropic" (known variance), "spherical", "diagonal" or "full" (unknown).
        alpha: strength of the two-parameter Chinese restaurant process; larger makes more memories.
        discount: 0 for the Dirichlet process, towards 1 for a longer tail of small memories.
        rule: "map" (the most probable memory) or "sample" (one drawn from the probabilities). Default: "map" for one
            particle, "sample" for several, which admit nothing else.
        energy: "collapsed" (places integrated out: exact), "conditional" (Eq. 12 with its normaliser, places at their
            posterior means) or "printed" (Eq. 12 as printed); the last two for Gaussians of known variance.
        seed: of the rule "sample", of the sample of rows that is kept, and of the draws of :meth:`to_fit`.
        prior: NumPyro distributions that replace the default priors of the family's sites.
        known: values of sites that are not learned (``{"beta": 2.0}``, ``{"precision": [...]}``,
            ``{"concentration": 50.0}``), in model units. Where a family has no pair without one (isotropic Gaussians,
            vMF) the default is the middle of its prior.
        standardise: use (x - mean) / sd of the first ``warm`` rows.
        warm: rows from which the default prior and the units are taken.
        tidy_every: prune and merge after every so many data; 0 never does.
        merge: whether tidying merges memories whose joint posterior gains by it.
        prune_count: tidying forgets memories with at most so many data ...
        prune_age: ... that were made more than so many data ago.
        reservoir: rows kept as a uniform sample of all that came (bounded memory), which :meth:`to_fit` shows.
        capacity: slots to begin with; they double when they are taken.
        particles: streams of the same data that are weighted and resampled: a posterior of partitions and an unbiased
            evidence at that many times the cost and memory.
        resampling: of several particles: "systematic" (a seat is drawn in each), or "optimal" (of all seats in all
            particles the best are kept and of the rest some drawn, so that no two particles are alike): a smaller error
            for as many particles, at a greater cost.
        rejuvenate_every: after every so many data, seat the rows of the window anew and split or merge memories by
            moves that leave the posterior as it is; 0 never does. A memory that took in two groups is cured by it
            while the rows are still in the window.
        window: rows that rejuvenation keeps: the last that came.
        half_life: data after which a datum counts half towards the weight of its memory, so that memories fade and
            revive; their places stay. None never fades.
        fading: how counts fade: "exponential", or "power" for a long memory (1 + age / tau)^-exponent.
        fading_exponent: of the power law.
        drift: variance by which each memory's place moves with every datum (a random walk, data units), for Gaussians
            of known variance.
        forget: half-life in data of what a memory has learned: one that is not used returns to the prior.
        forgetting: "statistics" (a datum's likelihood is raised to a power that falls with its age; any family) or
            "diffusion" (places diffuse so that the prior is their stationary law; Gaussians of known variance).
        slots: most memories that are kept; the one that weighs least gives way to a new one. 0 sets no limit.
        learn_alpha: draw alpha from its posterior as data come: True for the prior Gamma(1, 1), or (shape, rate). Each
            particle (rule "sample", or several) begins with a draw from the prior, and learns its own.
        learn_discount: the same of the discount: True for the prior Beta(1, 3), or (a, b).
        learn_every: data between two such draws.

    Raises:
        InputError: naming the argument, what was expected, what came and what to do.
    """

    def __init__(
        self,
        *,
        family: str | Family = "gaussian",
        covariance: str | None = None,
        alpha: float = 1.0,
        discount: float = 0.0,
        rule: str | None = None,
        energy: str = "collapsed",
        seed: int = 0,
        prior: Mapping[str, Distribution] | None = None,
        known: Mapping[str, Any] | None = None,
        standardise: bool = False,
        warm: int = 1000,
        tidy_every: int = 0,
        merge: bool = True,
        prune_count: int = 0,
        prune_age: int = 0,
        reservoir: int = 2000,
        capacity: int = 128,
        particles: int = 1,
        resampling: str = "systematic",
        rejuvenate_every: int = 0,
        window: int = 500,
        half_life: float | None = None,
        fading: str = "exponential",
        fading_exponent: float = 1.0,
        drift: float = 0.0,
        forget: float | None = None,
        forgetting: str = "statistics",
        slots: int = 0,
        learn_alpha: bool | Sequence[float] = False,
        learn_discount: bool | Sequence[float] = False,
        learn_every: int = 100,
    ) -> None:
        self.family = find_family(family, covariance)
        check_pitman_yor(alpha, discount)
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
            raise InputError(f"seed: expected a whole number from 0 to 2^32 - 1; got {seed!r}")
        for name, value, least in (("warm", warm, 2), ("reservoir", reservoir, 2), ("tidy_every", tidy_every, 0)):
            if value < least:
                raise InputError(f"{name}: expected a number of rows of at least {least}; got {value}")
        if standardise and self.family.as_they_are:
            raise InputError(f"standardise: family {self.family.name!r} takes the data as they are; leave it out")
        if rejuvenate_every < 0:
            raise InputError(f"rejuvenate_every: expected a number of rows of at least 0; got {rejuvenate_every}")
        self._moves = Moves(rejuvenate_every) if rejuvenate_every else None
        self._is_filtered = particles != 1 or self._moves is not None
        if resampling not in RESAMPLINGS:
            raise InputError(f"resampling: expected one of {', '.join(RESAMPLINGS)}; got {resampling!r}")
        if resampling != "systematic" and particles == 1:
            raise InputError("resampling: one particle is never resampled; give more particles, or leave it out")
        if self._is_filtered and tidy_every:
            raise InputError("tidy_every: particles and rejuvenation merge and split memories themselves; leave it out")
        self._tidying = Tidy(tidy_every, merge, prune_count, prune_age) if tidy_every else None
        if self._tidying is None and prune_count:
            raise InputError("prune_count: memories are pruned at intervals; say how often with tidy_every")
        if self._tidying is not None:
            check_tidy(self._tidying)
        self._changing = Changing.of(
            half_life=half_life, fading=fading, fading_exponent=fading_exponent, drift=drift, forget=forget,
            forgetting=forgetting, slots=slots, learn_alpha=learn_alpha, learn_discount=learn_discount,
            learn_every=learn_every,
        )  # fmt: skip
        check_changing(
            self._changing, alpha=alpha, energy=energy, tidy_every=tidy_every, rejuvenate_every=rejuvenate_every
        )
        self._said: dict[str, Any] = {
            "family": family if isinstance(family, str) else self.family.signature,
            "covariance": covariance,
            "alpha": float(alpha),
            "discount": float(discount),
            "rule": rule or ("map" if particles == 1 else "sample"),
            "energy": energy,
            "seed": int(seed),
            "standardise": bool(standardise),
            "warm": int(warm),
            "tidy_every": int(tidy_every),
            "merge": bool(merge),
            "prune_count": int(prune_count),
            "prune_age": int(prune_age),
            "reservoir": int(reservoir),
            "capacity": int(capacity),
            "particles": int(particles),
            "resampling": resampling,
            "rejuvenate_every": int(rejuvenate_every),
            "window": int(window),
        } | self._changing.said()
        self._given_prior = dict(prior or {})
        self._known = {name: np.asarray(value, np.float64) for name, value in (known or {}).items()}
        self._waiting: list[np.ndarray] = []  # rows before the prior is known, data units
        self._warm_rows: np.ndarray | None = None
        self._columns: tuple[str, ...] = ()
        self._dtype: np.dtype[Any] | None = None
        self._kernel: Kernel | None = None
        self._state: StreamState | None = None  # of several particles the one of largest weight
        self._filter: Filter | None = None
        self._particles: Particles | None = None
        self._units: Standardiser | None = None
        self._is_approximate = False  # the pair of the kernel
        self._reservoir = Reservoir(int(reservoir), int(seed))
        self._growth = Growth()
        self.recent: engine.Absorbed | None = None
        """What became of the rows that the last :meth:`partial_fit` took in; None while they are held back."""
        self.seconds = 0.0
        """Time spent learning."""

    def __repr__(self) -> str:
        return f"<probam.Stream: {self.family.signature}, {self.num_data} data, {self.num_memories} memories>"

    # --- learning ----------------------------------------------------------------------------------------------

    def partial_fit(self, data: Any, *, progress: Progress = silent) -> "Stream":
        """Learn from more rows, one after the other; anything that ``probam.fit`` reads. Returns the stream itself."""
        table = as_table(data, prefer=self._columns or None)
        if self._dtype is None:
            double = double_precision() and table.values.dtype != np.float32
            self._dtype = np.dtype(np.float64 if double else np.float32)
            self._columns = table.columns
        elif table.num_features != len(self._columns):
            raise InputError(f"data: the stream has {len(self._columns)} features; got {table.num_features}")
        rows = table.astype(self._dtype).values
        self.family.check_support(rows, self._columns)
        self.recent = None
        if self._kernel is None:
            self._waiting.append(rows)
            if sum(map(len, self._waiting)) < self._said["warm"]:
                return self
            rows = self._begin()
        self._absorb(rows, progress)
        return self

    def flush(self) -> "Stream":
        """Take in the rows that were held back, with a prior scaled to as many as have come."""
        if self._kernel is None:
            if not self._waiting:
                raise InputError("stream: no data have come yet; call partial_fit first")
            self._absorb(self._begin(), silent)
        return self

    def _begin(self) -> np.ndarray:
        """Prior, units and an empty state from the first rows; all rows that wait."""
        rows = np.concatenate(self._waiting)
        self._waiting = []
        self._set_up(rows[: self._said["warm"]])
        with self._precision():
            key = jax.random.key(self._said["seed"])
            assert self._kernel is not None
            self._start(rows.shape[1], key)
        return rows

    def _start(self, num_features: int, key: jax.Array) -> None:
        """A state without memories."""
        assert self._kernel is not None
        capacity = self._changing.slots + 1 if self._changing.slots else self._said["capacity"]
        if not self._is_filtered:
            self._state = engine.start(self._kernel, num_features, self._dtype, key, capacity=capacity)
            return
        self._filter, self._particles = start_particles(
            self._kernel, num_features, self._dtype, key, capacity=capacity, num_particles=self._said["particles"],
            window=self._said["window"] if self._moves else 1, resampling=self._said["resampling"],
        )  # fmt: skip
        self._state = leader(self._particles)

    def _set_up(self, warm: np.ndarray) -> None:
        """What follows from the first rows alone."""
        assert self._dtype is not None
        self._warm_rows = warm
        table = Table(warm, self._columns, "data")
        self.family.check_data(warm, self._columns)
        self._units = standardiser(table) if self._said["standardise"] else identity(warm.shape[1], self._dtype)
        with self._precision():
            x = np.asarray(self._units.apply(warm), self._dtype)
            self._prior = mixture(
                x, family=self.family, weights=weight_prior("dp"), num_components=1, prior=self._given_prior
            ).prior
            law = PitmanYor(*(jnp.asarray(self._said[name], self._dtype) for name in ("alpha", "discount")))
            found = stream_pair(self.family, self._prior, self._known, 1, self._dtype)
            self._is_approximate = found.is_approximate
            kernel = Kernel(found.pair, law, self._said["energy"], self._said["rule"])
            self._kernel = changing_kernel(self._changing, kernel, self._units.scale, self._dtype)
            check_kernel(self._kernel)
            if self._moves is not None:
                check_moves(self._moves, self._kernel)

    def _absorb(self, rows: np.ndarray, progress: Progress) -> None:
        assert self._kernel is not None
        assert self._state is not None
        assert self._units is not None
        began = time.perf_counter()
        seen = int(self._state.seen)
        with self._precision():
            x = np.asarray(self._units.apply(rows), self._dtype)
            if self._filter is None or self._particles is None:
                self._state, self.recent = engine.absorb(
                    self._kernel, self._state, x, tidying=self._tidying, progress=progress
                )
            else:
                self._particles, self.recent = particle_filter.absorb(
                    self._filter, self._particles, x, moves=self._moves, progress=progress
                )
                self._state = leader(self._particles)
        self._growth.add(seen, self.recent.size, self.recent.log_predictive + self._units.log_jacobian())
        self._reservoir.add(seen, rows)
        self.seconds += time.perf_counter() - began

    def _precision(self) -> Any:
        return jax.enable_x64(self._dtype == np.float64)

    # --- questions ---------------------------------------------------------------------------------------------

    @property
    def num_data(self) -> int:
        """Rows that have come, those held back included."""
        return (0 if self._state is None else int(self._state.seen)) + sum(map(len, self._waiting))

    @property
    def num_memories(self) -> int:
        """Memories alive (of several particles: in the one of largest weight)."""
        return 0 if self._state is None else int(self._state.size)

    @property
    def log_predictive(self) -> float:
        """Prequential log score: sum over the data of log p(x_n | the data before, as they were labelled), nats.

        In data units. With energy "collapsed" each term is a density, and the sum the log evidence as one particle
        estimates it; "printed" has no normaliser, and its sum means nothing on its own.
        """
        return self._growth.log_score

    @property
    def log_evidence(self) -> float | None:
        """Log density of all data under the model, nats, its exponential unbiased; None where it is not estimated.

        That is :attr:`log_predictive` where seats are drawn (rule "sample") by exact densities (energy "collapsed") and
        no memory was pruned or merged; the more particles, the smaller its error.
        """
        exact = self._said["rule"] == "sample" and self._said["energy"] == "collapsed" and self._tidying is None
        if self._kernel is not None:
            is_averaged = self._kernel.learning is None or self._is_filtered
            exact &= is_averaged and self._kernel.slots is None
        return self.log_predictive if exact else None

    @property
    def alpha(self) -> float:
        """Strength of the process; where it is learned, as it stands (the mean of particles by weight)."""
        return self._process()["alpha"]

    @property
    def discount(self) -> float:
        """Discount of the process; where it is learned, as it stands (the mean of particles by weight)."""
        return self._process()["discount"]

    def _process(self) -> dict[str, float]:
        if self._particles is not None and isinstance(self._particles.states.hyper, Hyper):
            share = np.exp(np.asarray(self._particles.log_weights, np.float64))
            return {name: float(share @ value) for name, value in self._particles.states.hyper._asdict().items()}
        if self._state is not None and isinstance(self._state.hyper, Hyper):
            return {name: float(value) for name, value in self._state.hyper._asdict().items()}
        return {name: self._said[name] for name in ("alpha", "discount")}

    def warnings(self) -> list[str]:
        """Sentences on what the data say against the stream's assumptions; nothing wrong was found where it is empty.

        The sizes of the memories are tested for a power-law tail, which contradicts a Dirichlet process (p < 0.01). A
        family that is streamed by an approximation is named too.
        """
        self.flush()
        assert self._kernel is not None
        assert self._state is not None
        said = tail_warnings(self._state, self._kernel)
        if self._is_approximate:
            name = self.family.name
            said.append(
                f"family {name!r} has no exact predictive density: memories are Gaussians of the same variances"
            )
        return said

    def number_of_memories(self) -> pd.Series:
        """Posterior probability of each number of memories, as the particles have it."""
        self.flush()
        if self._particles is None:
            law = np.eye(self.num_memories + 1)[-1]
        else:
            law = particle_filter.number_of_memories(self._particles)
        held = np.flatnonzero(law)
        return pd.Series(law[held], index=pd.Index(held, name="memories"), name="probability")

    @property
    def growth(self) -> pd.DataFrame:
        """Memories alive and prequential log score after n data, for n evenly spaced in log n."""
        self.flush()
        return self._growth.frame()

    def predict(self, data: Any) -> xr.Dataset:
        """What the memories say of each row, nothing learned.

        ``memory`` (number in order of creation), ``probability`` of it, ``probability_new`` (that the row is of no
        memory yet), ``log_predictive`` (log density of the row given all data so far, data units, nats). Several
        particles are averaged by weight; ``memory`` and ``probability`` are of the one of largest weight.
        """
        self.flush()
        assert self._kernel is not None
        assert self._state is not None
        assert self._units is not None
        table = as_table(data, prefer=self._columns)
        if table.num_features != len(self._columns):
            raise InputError(f"data: the stream has {len(self._columns)} features; got {table.num_features}")
        rows = table.values.astype(self._dtype)
        self.family.check_support(rows, self._columns)
        with self._precision():
            x = np.asarray(self._units.apply(rows), self._dtype)
            if self._filter is None or self._particles is None:
                found = engine.recall(self._kernel, self._state, x)
            else:
                found = particle_filter.recall(self._filter, self._particles, x)
        return xr.Dataset(
            {
                "memory": ("datum", found.ident),
                "probability": ("datum", found.probability),
                "probability_new": ("datum", found.probability_new),
                "log_predictive": ("datum", found.log_predictive + self._units.log_jacobian()),
            },
            coords={"datum": np.arange(table.num_data)},
        )

    def memories(self) -> pd.DataFrame:
        """Memories alive, largest first: data, probability before the next datum is seen, birth, last use, mean.

        Counts are of all data; the probability and the mean are as they have come to be by now.
        """
        self.flush()
        assert self._kernel is not None
        assert self._state is not None
        assert self._units is not None
        slots = slots_by_size(self._state)
        counts = np.asarray(self._state.counts)
        with self._precision():
            weights, means = worth(self._kernel, self._state), places(self._kernel, self._state)
        frame = pd.DataFrame(
            {
                "count": counts[slots],
                "weight": weights[slots],
                "born": np.asarray(self._state.born)[slots],
                "last": np.asarray(self._state.last)[slots],
            },
            index=pd.Index(np.asarray(self._state.ident)[slots], name="memory"),
        )
        if means is None:
            return frame
        found = pd.DataFrame(self._units.invert(means[slots]), columns=list(self._columns), index=frame.index)
        return pd.concat([frame, found], axis=1)

    # --- files -------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the stream as NetCDF4, whole or not at all; :meth:`load` goes on where it stood, bit for bit."""
        if self._given_prior:
            raise InputError(
                "prior: a stream with priors of your own cannot be saved; give known values, or the default"
            )
        write_stream(path, self._group())

    def _learned(self) -> Learned:
        assert self._state is not None
        assert self._kernel is not None
        return Learned(self._state, self._particles, self._kernel.pair)

    def _group(self) -> xr.Dataset:
        """Everything, as arrays that NetCDF can hold."""
        arrays = {f"known_{name}": value for name, value in self._known.items()}
        if self._waiting:
            arrays["waiting"] = np.concatenate(self._waiting)
        if self._kernel is not None:
            assert self._warm_rows is not None
            arrays |= {"warm_rows": self._warm_rows} | learned_arrays(self._learned())
        attributes = {
            "options": json.dumps(self._said),
            "columns": json.dumps(list(self._columns)),
            "dtype": "" if self._dtype is None else self._dtype.name,
            "seconds": self.seconds,
            "num_data": self.num_data,
            "num_memories": self.num_memories,
            "log_predictive": self.log_predictive,
        }
        return stream_group(arrays | self._reservoir.arrays() | self._growth.arrays(), attributes)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Stream":
        """A stream that was saved, by itself or within the fit that :meth:`to_fit` made.

        Raises :class:`probam.errors.InputError` for a file that is missing, damaged or holds no stream.
        """
        saved = read_stream(path)
        stream = cls(**saved.options, known=saved.known)
        stream._columns, stream._dtype, stream.seconds = saved.columns, saved.dtype, saved.seconds
        if "waiting" in saved.arrays:
            stream._waiting = [saved.arrays["waiting"]]
        if "warm_rows" in saved.arrays:
            stream._restore(saved.arrays, os.fspath(path))
        stream._reservoir.restore(saved.arrays)
        stream._growth.restore(saved.arrays)
        return stream

    def _restore(self, arrays: Mapping[str, np.ndarray], path: str) -> None:
        """Kernel and state, with the very numbers that were saved."""
        self._set_up(arrays["warm_rows"])
        assert self._kernel is not None
        with self._precision():
            self._start(len(self._columns), jax.random.key(0))
            learned = refill(self._learned(), arrays, path)
        self._state, self._particles = learned.state, learned.particles
        self._kernel = replace(self._kernel, pair=learned.pair)
        if self._filter is not None:
            self._filter = replace(self._filter, kernel=self._kernel)

    # --- to a fit ----------------------------------------------------------------------------------------------

    def to_fit(self, *, num_draws: int = 200, progress: Progress = silent) -> Fit:
        """A :class:`probam.fits.fitted.Fit`: draws of all sites given the stream's final partition.

        One memory more than there are stands for those that are yet to come (it takes the rest of the weights). The
        draws of one particle know nothing of other partitions: they are an approximation of the posterior, and count as
        one. Of several particles, each draw is given the partition of one that is drawn by weight. The fit
        shows a uniform sample of the rows (``reservoir``), and its group ``stream`` is this stream as :meth:`save`
        writes it, so that :meth:`load` can go on from the saved fit.
        """
        if num_draws < 1:
            raise InputError(f"num_draws: expected at least 1; got {num_draws}")
        self.flush()
        assert self._units is not None
        assert self._dtype is not None
        said, began = self._said | self._process(), time.perf_counter()
        table = Table(self._reservoir.rows(), self._columns, "stream")
        law = weight_prior(weights_name(said), **weights_options(said))
        with self._precision():
            model = Mixture(self.family, law, self._most_memories() + 1, self._prior)
            key_draw, key_read = jax.random.split(jax.random.fold_in(jax.random.key(said["seed"]), 2**31))
            prepared = Prepared.of(table, self._units)
            result = self._draws(key_draw, model, prepared.x, num_draws)
            attributes = fit_attributes(said, model, table, result, num_data=self.num_data, dtype=self._dtype)
            attributes["engine_options"] |= self._changing.said()
            tree = fit_tree(model, prepared, result, key_read, attributes, progress)
        tree["observed_data"].attrs["sample"] = (
            f"{table.num_data} of the {self.num_data} rows of the stream, drawn uniformly"
        )
        tree["stream"] = xr.DataTree(self._group())
        tree.attrs["seconds"] = self.seconds + time.perf_counter() - began
        return Fit(tree, model)

    def _most_memories(self) -> int:
        """Memories alive in the particle that has most."""
        return self.num_memories if self._particles is None else int(self._particles.size)

    def _draws(self, key: jax.Array, model: Mixture, x: np.ndarray, num_draws: int) -> EngineResult:
        """Draws of the sites given the partitions that the stream has come to."""
        assert self._state is not None
        came = f"{self.num_memories} memories, drawn given"
        pair = seats = None
        if self._particles is None or self._changing.moves or self._changing.half_life is not None:
            assert self._kernel is not None
            last = last_partition(self._kernel, self._state, model.num_components)
            pair = last.pair
            counts, sums, seats = (np.stack([leaf] * num_draws) for leaf in last[1:])
            note = f"{came} the last partition"
        else:
            key_particles, key = jax.random.split(key)
            counts, sums = particle_totals(key_particles, self._particles, num_draws, model.num_components)
            particles = self._said["particles"]
            note = (
                f"{came} the partitions of {particles} weighted particles"
                if particles > 1
                else f"{came} the last partition"
            )
        sites, lp = draw_sites(key, model, self._known, x, counts, sums, pair=pair, seats=seats)
        return EngineResult(
            sites=sites, stats={"lp": lp}, objective=None, objective_name="", status="streamed", note=note
        )


def run_stream(
    source: Any,
    *,
    columns: Sequence[str] | None = None,
    rows: int = 50_000,
    begun: Stream | None = None,
    progress: Progress = silent,
    **options: Any,
) -> Stream:
    """A :class:`Stream` (with its ``options``) after one pass over a source, in blocks of ``rows`` rows.

    Args:
        source: a path (CSV, TSV, Parquet and NPY are read block by block), ``"-"`` for CSV on standard input, or
            anything that ``probam.fit`` reads.
        columns: which columns to use.
        rows: how many rows are held at once.
        begun: the stream to go on with, in place of a new one.
        progress: called with (data so far, data in all or 0 where that is not known, text with the live number of
            memories).
    """
    stream = Stream(**options) if begun is None else begun
    first = stream.num_data
    blocks, total = row_blocks(source, rows=rows, columns=columns)
    for table in blocks:
        stream.partial_fit(table)
        progress(stream.num_data - first, total or 0, f"{stream.num_data} data, {stream.num_memories} memories")
    stream.flush()
    progress(stream.num_data, stream.num_data, f"{stream.num_data} data, {stream.num_memories} memories")
    return stream
