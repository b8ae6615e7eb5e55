"""Many starts of an optimiser side by side, with checkpoints."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from engine.errors import InvalidInput
from engine.optimise.objective import Objective
from engine.optimise.status import FitStatus

Array = Any
_FINISHED = "starts.npz"
_RUNNING = "running.npz"
_SAVE_SECONDS = 5.0


class Optimiser(Protocol):
    """One algorithm: a state with point, value, status and num_steps, advanced step by step."""

    def start(self, objective: Objective, point: Array) -> Any:
        """The state before the first evaluation."""

    def step(self, objective: Objective, state: Any) -> Any:
        """The state one evaluation later."""


@dataclass(frozen=True, eq=False)
class Fits:
    """What many starts found, N of them, in the order they were given.

    Attributes:
        starts: where they started, (N, P), transformed scale.
        points: the best point of each, (N, P), transformed scale.
        values: the objective there, (N,); infinite where a start failed.
        statuses: `FitStatus` of each, (N,).
        num_steps: steps of each, (N,).
    """

    starts: np.ndarray
    points: np.ndarray
    values: np.ndarray
    statuses: np.ndarray
    num_steps: np.ndarray

    @property
    def best(self) -> int:
        """The position of the best start."""
        return int(np.argmin(self.values))

    @property
    def order(self) -> np.ndarray:
        """Positions from the best to the worst, (N,)."""
        return np.argsort(self.values, kind="stable")

    def num_at_best(self, within: float = 0.1) -> int:
        """How many starts ended within a distance of the best objective."""
        return int(np.sum(self.values <= self.values[self.best] + within))

    def diagnosis(self) -> str:
        """One line: what the starts say together and what to do."""
        failed = int(np.sum(self.statuses == FitStatus.NOT_FINITE))
        if failed == len(self.values):
            return "every start failed: " + FitStatus.NOT_FINITE.message
        found = self.num_at_best()
        unfinished = int(np.sum(self.statuses == FitStatus.OUT_OF_STEPS))
        parts = [f"{found} of {len(self.values)} starts ended within 0.1 of the best"]
        if found < 3 and len(self.values) > 2:
            parts.append("the best may not be the optimum: more starts, or narrower bounds")
        if FitStatus(int(self.statuses[self.best])) is FitStatus.OUT_OF_STEPS:
            parts.append("the best was still improving: raise max_steps")
        elif unfinished:
            parts.append(f"{unfinished} ran out of steps")
        if failed:
            parts.append(f"{failed} could not start (the objective is not finite there)")
        return "; ".join(parts)


def multi_start(
    objective: Objective,
    optimiser: Optimiser,
    starts: np.ndarray,
    *,
    batch: int = 8,
    folder: Path | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> Fits:
    """Minimise from many starts, `batch` of them vmapped; a finished one makes room for the next.

    Args:
        objective: what to minimise; traced once.
        optimiser: the algorithm.
        starts: points, (N, P), transformed scale.
        batch: starts that advance together.
        folder: where finished and running starts are kept; the same call again continues there.
        progress: called before the first step and after every step with the finished, the total
            and the best value so far, that of running starts too.

    Returns:
        What was found. A start that fails is reported in its status; others go on.

    Raises:
        InvalidInput: starts of the wrong shape, or a folder of another fit.

    Example:
        >>> from engine.optimise.gauss_newton import GaussNewton
        >>> from engine.optimise.objective import LeastSquares
        >>> from engine.optimise.space import Bounded, Space
        >>> space = Space([Bounded("a", -3.0, 3.0)])
        >>> objective = LeastSquares(space, lambda values: values - 2.0)
        >>> fits = multi_start(objective, GaussNewton(), space.sample(4, seed=0))
        >>> bool(abs(fits.points[fits.best, 0] - 2.0) < 1e-6)
        True
    """
    starts = np.asarray(starts, np.float64)
    num_parameters = len(objective.space.names)
    if starts.ndim != 2 or not len(starts) or starts.shape[1] != num_parameters:
        raise InvalidInput(f"starts have shape {starts.shape}; give (starts, {num_parameters})")
    run = _Run(objective, optimiser, starts, min(batch, len(starts)), folder)
    with jax.enable_x64(True):
        return run.finished(progress)


class _Run:
    """The loop's mutable side: slots, queue, results."""

    def __init__(
        self,
        objective: Objective,
        optimiser: Optimiser,
        starts: np.ndarray,
        batch: int,
        folder: Path | None,
    ) -> None:
        self.starts, self.batch, self.folder = starts, batch, folder
        self.begin = partial(optimiser.start, objective)
        self.advance = jax.jit(jax.vmap(partial(optimiser.step, objective)))
        self.identity = json.dumps([type(optimiser).__name__, *objective.space.names])
        num = len(starts)
        self.results: dict[str, np.ndarray] = {
            "points": np.array(starts),
            "values": np.full(num, np.inf),
            "statuses": np.zeros(num, np.int64),
            "num_steps": np.zeros(num, np.int64),
        }
        self.slots = np.full(batch, -1)  # the start in each slot
        self.states: Any = None
        self.saved_at = time.monotonic()

    def finished(self, progress: Callable[[int, int, float], None] | None) -> Fits:
        done = self._restored()
        pending = [i for i in range(len(self.starts)) if not done[i] and i not in self.slots]
        self._saved(done)
        while True:
            for slot in np.flatnonzero(self.slots < 0):
                if pending:
                    self._fill(int(slot), pending.pop(0))
            if progress is not None:
                progress(int(done.sum()), len(done), self._best())
            if np.all(self.slots < 0):
                break
            self.states = self._advanced()
            if self._collected(done):
                self._saved(done)
            if time.monotonic() - self.saved_at > _SAVE_SECONDS:
                self._saved_running()
        return Fits(starts=self.starts, **self.results)

    def _best(self) -> float:
        """The least value so far, of running starts too."""
        values = [self.results["values"]]
        if self.states is not None:
            values.append(np.asarray(self.states.value)[self.slots >= 0])
        return float(np.nanmin(np.concatenate(values)))

    def _fill(self, slot: int, start: int) -> None:
        state = self.begin(jnp.asarray(self.starts[start], jnp.float64))
        if self.states is None:
            self.states = jax.tree.map(lambda a: jnp.stack([a] * self.batch), state)
        self.states = jax.tree.map(lambda all_, one: all_.at[slot].set(one), self.states, state)
        self.slots[slot] = start

    def _advanced(self) -> Any:
        """The states one step later; a start whose evaluation stops the program ends there."""
        try:
            return jax.block_until_ready(self.advance(self.states))
        except (jax.errors.JaxRuntimeError, ValueError):
            return self._advanced_apart()

    def _advanced_apart(self) -> Any:
        """Slot by slot, to find the ones that cannot go on."""
        found = self.states
        for slot in range(self.batch):
            alone = jax.tree.map(lambda a, s=slot: jnp.stack([a[s]] * self.batch), self.states)
            try:
                one = jax.tree.map(lambda a: a[0], jax.block_until_ready(self.advance(alone)))
            except (jax.errors.JaxRuntimeError, ValueError):
                one = jax.tree.map(lambda a: a[0], alone)
                ended = FitStatus.STALLED if np.isfinite(one.value) else FitStatus.NOT_FINITE
                one = one._replace(status=jnp.asarray(int(ended), one.status.dtype))
            found = jax.tree.map(lambda all_, new, s=slot: all_.at[s].set(new), found, one)
        return found

    def _collected(self, done: np.ndarray) -> bool:
        """Whether some start ended; its slot is free then."""
        statuses = np.asarray(self.states.status)
        ended = [s for s in range(self.batch) if self.slots[s] >= 0 and statuses[s]]
        for slot in ended:
            start = self.slots[slot]
            self.results["points"][start] = np.asarray(self.states.point[slot])
            self.results["values"][start] = float(self.states.value[slot])
            self.results["statuses"][start] = int(statuses[slot])
            self.results["num_steps"][start] = int(self.states.num_steps[slot])
            done[start] = True
            self.slots[slot] = -1
        return bool(ended)

    # Checkpoints.

    def _restored(self) -> np.ndarray:
        done = np.zeros(len(self.starts), bool)
        if self.folder is None or not (self.folder / _FINISHED).exists():
            return done
        with np.load(self.folder / _FINISHED) as kept:
            known = kept["starts"]
            shared = min(len(known), len(self.starts))
            if str(kept["identity"]) != self.identity or not np.array_equal(
                known[:shared], self.starts[:shared]
            ):
                raise InvalidInput(f"{self.folder} holds another fit; give another folder")
            for name, values in self.results.items():
                values[:shared] = kept[name][:shared]
            done[:shared] = kept["done"][:shared]
        self._restore_running(done)
        return done

    def _restore_running(self, done: np.ndarray) -> None:
        """States that were running, where they fit this batch."""
        path = self.folder / _RUNNING if self.folder is not None else None
        if path is None or not path.exists():
            return
        with np.load(path) as kept:
            slots = kept["slots"]
            if len(slots) != self.batch or slots.max() >= len(done):
                return
            model = self.begin(jnp.asarray(self.starts[0], jnp.float64))
            count = len(jax.tree.leaves(model))
            leaves = [jnp.asarray(kept[f"leaf{i}"]) for i in range(count)]
        self.states = jax.tree.unflatten(jax.tree.structure(model), leaves)
        self.slots = np.array([s if s >= 0 and not done[s] else -1 for s in slots])

    def _saved(self, done: np.ndarray) -> None:
        content = {**self.results, "done": done, "starts": self.starts, "identity": self.identity}
        self._write(_FINISHED, content)

    def _saved_running(self) -> None:
        self.saved_at = time.monotonic()
        leaves = jax.tree.leaves(self.states)
        content = {f"leaf{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
        self._write(_RUNNING, {**content, "slots": self.slots})

    def _write(self, name: str, content: dict[str, Any]) -> None:
        """In one move: a run that is killed leaves the old file or the new."""
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / f"part_{name}"
        np.savez(part, **content)
        part.replace(self.folder / name)
