"""`simulate`: join a network, a method, patients, doses and a key into an ensemble."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from engine.cohort import Cohort, prepare
from engine.dosing.pharmacokinetics import Pharmacokinetics
from engine.dosing.regimen import Regimen
from engine.ensemble import Ensemble, concatenate, raise_failures
from engine.errors import InvalidInput
from engine.execute import LaneMethod, Task, lane_tasks, ode_tasks
from engine.kernel.tallies import Tally
from engine.methods.langevin import Langevin
from engine.methods.linear_noise import LinearNoise
from engine.methods.ode import ODE
from engine.network.network import ReactionNetwork

Progress = Callable[[int, int], None]


def simulate(
    network: ReactionNetwork,
    method: LaneMethod | LinearNoise | ODE,
    ts: Sequence[float] | np.ndarray,
    *,
    key: Any,
    num_patients: int = 1,
    num_replicates: int = 1,
    patient_ids: Sequence[int] | np.ndarray | None = None,
    params: Mapping[str, Any] | None = None,
    x0: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Pharmacokinetics] | None = None,
    regimen: Regimen | Sequence[Regimen] | None = None,
    tallies: Mapping[str, Tally] | None = None,
    record: Sequence[str] | None = None,
    is_trough_saved: bool = False,
    start: float = 0.0,
    is_failure_raised: bool = True,
    progress: Progress | None = None,
) -> Ensemble:
    """Simulate a cohort of virtual patients.

    Trajectory n = patient * num_replicates + replicate. Its randomness depends on the key, the
    patient's id and the replicate alone: not on the number of patients, chunks, lanes or threads.
    Another `ts` restarts the exponential clock elsewhere and so is another path of the same law.

    Args:
        network: what reacts.
        method: `Direct()` (exact), `TauLeaping()` (many firings a step), `Hybrid()` (exact jumps,
            plentiful species integrated), `Langevin(dt=...)` (real numbers with noise),
            `LinearNoise()` (means and covariances; no tallies) or `ODE()` (rate equations).
        ts: increasing save times in the network's time unit, (T,); the last is the horizon. At a
            dose time the state after the dose is saved.
        key: `jax.random.key(seed)`.
        num_patients: number of patients.
        num_replicates: trajectories per patient: the same patient, other reaction noise.
        patient_ids: (num_patients,) identities below 2**32; default 0, 1, ...
        params: parameter name -> scalar or (num_patients,); default the network's values.
        x0: species name -> initial count, scalar or (num_patients,); default the network's.
        inputs: input name -> pharmacokinetics (`OneCompartment(...)`, `ConstantLevel(...)`, ...).
        regimen: doses of all patients, or one `Regimen` per patient.
        tallies: name -> `TimeIntegral(...)`, `Maximum(...)`, ...: path functionals, exact.
        record: species to save at `ts`; default all. With `()` nothing is saved, variables and
            inputs neither (tallies only).
        start: when the trajectories begin: there `x0` holds, and tallies begin. Earlier doses have
            only shaped the inputs. Doses and `ts` keep counting from time 0. Default 0.
        is_trough_saved: at a dose time save the state before the dose (the trough).
        is_failure_raised: raise `SimulationFailed` where a trajectory does not end; otherwise
            look at `ensemble.status`.
        progress: called with (trajectories done, trajectories in all) after every chunk.

    Returns:
        An `Ensemble`.

    Raises:
        InvalidInput: unknown names, negative or fractional counts, times that do not increase, ...
        SimulationFailed: a trajectory failed; its `ensemble` keeps the others.

    Example:
        >>> import jax, engine
        >>> network = engine.ReactionNetwork(
        ...     species={"X": 100},
        ...     parameters={"k": 0.1},
        ...     reactions=[engine.Reaction("X -> 0", engine.MassAction("k"))],
        ... )
        >>> ensemble = simulate(
        ...     network, Direct(), [0.0, 10.0], num_patients=5, key=jax.random.key(0)
        ... )
        >>> ensemble.counts.shape
        (5, 2, 1)
    """
    pieces = list(
        simulate_chunks(
            network,
            method,
            ts,
            key=key,
            num_patients=num_patients,
            num_replicates=num_replicates,
            patient_ids=patient_ids,
            params=params,
            x0=x0,
            inputs=inputs,
            regimen=regimen,
            tallies=tallies,
            record=record,
            is_trough_saved=is_trough_saved,
            start=start,
            progress=progress,
        )
    )
    ensemble = concatenate(pieces)
    if is_failure_raised:
        raise_failures(ensemble)
    return ensemble


def simulate_chunks(
    network: ReactionNetwork,
    method: LaneMethod | LinearNoise | ODE,
    ts: Sequence[float] | np.ndarray,
    *,
    key: Any,
    num_patients: int = 1,
    num_replicates: int = 1,
    patient_ids: Sequence[int] | np.ndarray | None = None,
    params: Mapping[str, Any] | None = None,
    x0: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Pharmacokinetics] | None = None,
    regimen: Regimen | Sequence[Regimen] | None = None,
    tallies: Mapping[str, Tally] | None = None,
    record: Sequence[str] | None = None,
    is_trough_saved: bool = False,
    start: float = 0.0,
    progress: Progress | None = None,
) -> Iterator[Ensemble]:
    """The same as `simulate`, as a stream of ensembles in order of the rows.

    Memory does not grow with the number of patients; a failed trajectory is not raised but stands
    in `status`. Arguments as in `simulate`.

    Yields:
        An `Ensemble` per chunk of consecutive trajectories.
    """
    cohort = prepare(
        network,
        ts,
        num_patients,
        num_replicates,
        patient_ids,
        params,
        x0,
        inputs,
        regimen,
        start,
        is_counting=not isinstance(method, ODE | LinearNoise | Langevin),
    )
    words = key_words(key)
    if isinstance(method, ODE | LinearNoise):
        if isinstance(method, LinearNoise):
            _refuse_paths(tallies, is_trough_saved)
        tasks = ode_tasks(method, cohort, dict(tallies or {}), record, is_trough_saved)
    elif isinstance(method, LaneMethod):
        tasks = lane_tasks(
            method,
            cohort,
            words,
            dict(tallies or {}),
            record,
            is_trough_saved,
            num_workers(),
        )
    else:
        raise InvalidInput(
            f"method {method!r} is not a method; give engine.Direct(), engine.ODE(), ..."
        )
    yield from in_order(tasks, cohort, progress)


def in_order(
    tasks: Sequence[Task], cohort: Cohort, progress: Progress | None
) -> Iterator[Ensemble]:
    """Run tasks on all cores, a few ahead of the consumer, and yield their results in order."""
    workers = min(num_workers(), len(tasks))
    done = 0
    with ThreadPoolExecutor(max_workers=max(workers, 1)) as pool:
        waiting = [pool.submit(task) for task in tasks[: 2 * workers]]
        following = iter(tasks[2 * workers :])
        try:
            while waiting:
                ensemble = waiting.pop(0).result()
                for task in following:
                    waiting.append(pool.submit(task))
                    break
                done += len(ensemble)
                if progress is not None:
                    progress(done, cohort.num_rows)
                yield ensemble
        finally:
            for future in waiting:
                future.cancel()


def num_workers() -> int:
    """Cores this process may use; `ENGINE_NUM_THREADS` overrides."""
    given = os.environ.get("ENGINE_NUM_THREADS")
    if given:
        if not given.isdigit() or int(given) < 1:
            raise InvalidInput(f"ENGINE_NUM_THREADS={given}: give a whole number of at least 1")
        return int(given)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def key_words(key: Any) -> np.ndarray:
    """Two uint32 words from a JAX key of any implementation.

    Raises:
        InvalidInput: something that is not one key.
    """
    try:
        data = (
            jax.random.key_data(key)
            if jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key)
            else key
        )
        words = np.asarray(data)
    except (AttributeError, TypeError):
        raise InvalidInput(f"key={key!r} is not a key; give jax.random.key(seed)") from None
    if words.dtype != np.uint32 or words.ndim != 1 or len(words) < 2:
        raise InvalidInput(f"key of shape {words.shape} is not one key; give jax.random.key(seed)")
    folded = words[:2].copy()
    for extra in words[2:].reshape(-1, 2) if len(words) % 2 == 0 else ():
        folded ^= extra
    return folded


def _refuse_paths(tallies: Mapping[str, Tally] | None, is_trough_saved: bool) -> None:
    if tallies:
        raise InvalidInput(
            f"tally '{next(iter(tallies))}': LinearNoise follows no paths and has no tallies; use "
            "engine.Direct(), or engine.ODE() for the mean field"
        )
    if is_trough_saved:
        raise InvalidInput(
            "is_trough_saved=True: LinearNoise saves after doses only; save just before them"
        )
