"""Runners for rival exact stochastic simulators.

Every rival simulates the same reaction network from the same initial counts, keeps the counts at
101 equally spaced times (``--intervals`` says otherwise), and is driven the way its own
documentation drives many trajectories on one core. A rival's package is imported only
inside its runner, so a missing package is reported and does not break the rest. Pin the process to
one core from outside (``taskset -c 1``) to time it:

    taskset -c 1 python -m benchmarks.rivals --model vilar --rival bngsim --trajectories 20
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import importlib.util
import json
import math
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

NUM_INTERVALS = 100
NUM_REPEATS = 3
MAX_STEPS = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class ReferenceReaction:
    """One elementary reaction; its propensity is ``rate * prod binomial(count, order)``.

    Attributes:
        name: Name of the reaction.
        rate: Stochastic rate constant.
        reactants: Number of molecules of each species consumed.
        products: Number of molecules of each species produced.
    """

    name: str
    rate: float
    reactants: Mapping[str, int]
    products: Mapping[str, int]

    @property
    def falling_rate(self) -> float:
        """Rate constant for packages whose propensity is ``rate * x * (x - 1)`` for a pair."""
        return self.rate / math.prod(math.factorial(order) for order in self.reactants.values())


@dataclasses.dataclass(frozen=True)
class ReferenceModel:
    """A reference network.

    Attributes:
        name: Name of the network.
        species: Names of the species, in the order of every array of counts.
        initial_counts: Counts at time zero.
        end_time: End of the simulated interval.
        reactions: The reactions.
        sbml_path: The same network as an SBML file, for packages that read nothing else.
        num_intervals: Equal intervals between the save times.
        num_repeats: Timed calls after the first one; without any the first one is timed.
    """

    name: str
    species: tuple[str, ...]
    initial_counts: tuple[int, ...]
    end_time: float
    reactions: tuple[ReferenceReaction, ...]
    sbml_path: Path
    num_intervals: int = NUM_INTERVALS
    num_repeats: int = NUM_REPEATS

    @property
    def num_save_points(self) -> int:
        """Number of save times, both ends included."""
        return self.num_intervals + 1

    def net_change(self) -> np.ndarray:
        """Returns the change of the counts, of shape ``(num_reactions, num_species)``."""
        return np.array(
            [
                [r.products.get(s, 0) - r.reactants.get(s, 0) for s in self.species]
                for r in self.reactions
            ]
        )


@dataclasses.dataclass(frozen=True)
class RivalResult:
    """What one rival did.

    Attributes:
        num_trajectories: Number of trajectories of one timed call.
        seconds: Wall time of the fastest timed call.
        compile_seconds: Wall time of the set-up and of whatever the first call did besides
            simulating (compilation, mostly).
        final_means: Mean count of each species at the end time, in the order of the model.
        final_variances: Variance of the same counts between trajectories.
        mean_events: Mean number of reaction firings of a trajectory, if the rival counts them.
    """

    num_trajectories: int
    seconds: float
    compile_seconds: float
    final_means: tuple[float, ...]
    final_variances: tuple[float, ...]
    mean_events: float | None = None


@dataclasses.dataclass(frozen=True)
class Rival:
    """A rival simulator.

    Attributes:
        name: Name of this entry; a package may have several.
        requirement: Name of the distribution to install.
        module: Name of the module to import.
        run: Runs ``(model, num_trajectories, seed)``.
    """

    name: str
    requirement: str
    module: str
    run: Callable[[ReferenceModel, int, int], RivalResult]


def load_reference_model(path: Path) -> ReferenceModel:
    """Loads a reference network.

    Args:
        path: The JSON file; the SBML file of the same stem must lie beside it.

    Returns:
        The network.
    """
    record = json.loads(path.read_text())
    reactions = tuple(
        ReferenceReaction(r["name"], float(r["k"]), r["reactants"], r["products"])
        for r in record["reactions"]
    )
    return ReferenceModel(
        name=record["name"],
        species=tuple(record["species"]),
        initial_counts=tuple(record["x0"]),
        end_time=float(record["T"]),
        reactions=reactions,
        sbml_path=path.with_suffix(".xml"),
    )


def default_models_directory() -> Path:
    """Returns the directory of the reference networks under ``ENGINE_SHARED``."""
    return Path(os.environ.get("ENGINE_SHARED", "../shared")) / "reference_models"


def is_installed(rival: Rival) -> bool:
    """Returns whether the package of a rival can be imported."""
    return importlib.util.find_spec(rival.module) is not None


def _measure(
    model: ReferenceModel,
    simulate: Callable[[int, int], Any],
    final_counts: Callable[[Any], np.ndarray],
    num_trajectories: int,
    seed: int,
    setup_start: float,
    count_events: Callable[[Any], float] | None = None,
) -> RivalResult:
    """Times a rival: one call to warm up, then the best of a few calls.

    Every call has the same seed, so that all of them do the same work and the best of them is not
    the one that happened to draw the fewest events.

    Args:
        model: What is simulated, and how often.
        simulate: Simulates ``(num_trajectories, seed)``; this alone is timed.
        final_counts: Turns the output of ``simulate`` into the final counts of each trajectory,
            of shape ``(num_trajectories, num_species)``.
        num_trajectories: Number of trajectories of one call.
        seed: The seed.
        setup_start: Reading of ``time.perf_counter`` before the rival was set up.
        count_events: Turns the same output into the mean number of events per trajectory, for a
            rival that counts them.

    Returns:
        The result.
    """
    start = time.perf_counter()
    output = simulate(num_trajectories, seed)
    prepared_seconds = time.perf_counter() - setup_start
    seconds = math.inf if model.num_repeats else time.perf_counter() - start
    for _ in range(model.num_repeats):
        start = time.perf_counter()
        output = simulate(num_trajectories, seed)
        seconds = min(seconds, time.perf_counter() - start)
    counts = np.asarray(final_counts(output), dtype=float)
    variances = counts.var(axis=0, ddof=1) if num_trajectories > 1 else np.zeros(counts.shape[1])
    return RivalResult(
        num_trajectories=num_trajectories,
        seconds=seconds,
        compile_seconds=max(prepared_seconds - seconds, 0.0),
        final_means=tuple(counts.mean(axis=0).tolist()),
        final_variances=tuple(variances.tolist()),
        mean_events=None if count_events is None else count_events(output),
    )


def _repeat_names(stoichiometry: Mapping[str, int]) -> list[str]:
    """Returns ``["A", "A", "B"]`` for two molecules of A and one of B."""
    return [name for name, order in stoichiometry.items() for _ in range(order)]


def _run_rebop(
    model: ReferenceModel, num_trajectories: int, seed: int, sparse: bool | None
) -> RivalResult:
    """Runs rebop's Python interface, one call per trajectory as it has no batch call."""
    setup_start = time.perf_counter()
    import rebop

    system = rebop.Gillespie()
    for reaction in model.reactions:
        system.add_reaction(
            reaction.falling_rate,
            _repeat_names(reaction.reactants),
            _repeat_names(reaction.products),
        )
    initial_counts = dict(zip(model.species, model.initial_counts, strict=True))

    def simulate(count: int, seed: int) -> list[Any]:
        rng = np.random.default_rng(seed)
        return [
            system.run(initial_counts, model.end_time, model.num_intervals, rng=rng, sparse=sparse)
            for _ in range(count)
        ]

    def final_counts(datasets: list[Any]) -> np.ndarray:
        return np.array([[d[name].values[-1] for name in model.species] for d in datasets])

    return _measure(model, simulate, final_counts, num_trajectories, seed, setup_start)


def run_rebop(model: ReferenceModel, num_trajectories: int, seed: int) -> RivalResult:
    """Runs rebop with its own choice between sparse and dense reactions."""
    return _run_rebop(model, num_trajectories, seed, sparse=None)


def run_rebop_sparse(model: ReferenceModel, num_trajectories: int, seed: int) -> RivalResult:
    """Runs rebop with sparse reactions."""
    return _run_rebop(model, num_trajectories, seed, sparse=True)


def run_gillespy2(model: ReferenceModel, num_trajectories: int, seed: int) -> RivalResult:
    """Runs GillesPy2's C++ direct method, compiled once for the network."""
    setup_start = time.perf_counter()
    # Its build tool is found on the PATH only: an environment that is not activated hides it.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    import gillespy2

    network = gillespy2.Model(name=model.name)
    for name, count in zip(model.species, model.initial_counts, strict=True):
        network.add_species(gillespy2.Species(name=name, initial_value=count, mode="discrete"))
    for index, reaction in enumerate(model.reactions):
        rate = gillespy2.Parameter(name=f"rate_{index}", expression=reaction.falling_rate)
        network.add_parameter(rate)
        network.add_reaction(
            gillespy2.Reaction(
                name=f"reaction_{index}",
                reactants=dict(reaction.reactants),
                products=dict(reaction.products),
                rate=rate,
            )
        )
    network.timespan(
        gillespy2.TimeSpan.linspace(t=model.end_time, num_points=model.num_save_points)
    )
    solver = gillespy2.SSACSolver(model=network)

    def simulate(count: int, seed: int) -> Any:
        return solver.run(number_of_trajectories=count, seed=seed)

    def final_counts(results: Any) -> np.ndarray:
        return np.array([[trajectory[s][-1] for s in model.species] for trajectory in results])

    return _measure(model, simulate, final_counts, num_trajectories, seed, setup_start)


def _run_copasi(
    model: ReferenceModel, num_trajectories: int, seed: int, method_name: str
) -> RivalResult:
    """Runs COPASI's time-course task, which keeps the time series of one trajectory at a time."""
    setup_start = time.perf_counter()
    import COPASI

    data_model = COPASI.CRootContainer.addDatamodel()
    if not data_model.importSBML(str(model.sbml_path)):
        raise RuntimeError(f"COPASI cannot read the network {model.name}")
    task = data_model.getTask("Time-Course")
    task.setMethodType(getattr(COPASI.CTaskEnum, method_name))
    problem = task.getProblem()
    problem.setDuration(model.end_time)
    problem.setStepNumber(model.num_intervals)
    problem.setTimeSeriesRequested(True)
    method = task.getMethod()
    method.getParameter("Use Random Seed").setBoolValue(True)

    def simulate(count: int, seed: int) -> list[list[float]]:
        finals = []
        for index in range(count):
            # Every trajectory is a run of its own and needs a seed of its own.
            method.getParameter("Random Seed").setIntValue(seed * count + index)
            if not task.process(True):
                raise RuntimeError(f"COPASI failed on {model.name}")
            series = task.getTimeSeries()
            last = series.getRecordedSteps() - 1
            finals.append([series.getData(last, j) for j in range(series.getNumVariables())])
        return finals

    def final_counts(finals: list[list[float]]) -> np.ndarray:
        series = task.getTimeSeries()
        titles = [series.getTitle(j) for j in range(series.getNumVariables())]
        return np.array(finals)[:, [titles.index(name) for name in model.species]]

    return _measure(model, simulate, final_counts, num_trajectories, seed, setup_start)


def run_copasi_direct(model: ReferenceModel, num_trajectories: int, seed: int) -> RivalResult:
    """Runs COPASI's direct method."""
    return _run_copasi(model, num_trajectories, seed, "Method_directMethod")


def run_copasi_next_reaction(
    model: ReferenceModel, num_trajectories: int, seed: int
) -> RivalResult:
    """Runs COPASI's next-reaction method, which is exact as well."""
    return _run_copasi(model, num_trajectories, seed, "Method_stochastic")


def bionetgen_network(model: ReferenceModel) -> str:
    """Writes a network in BioNetGen's ``.net`` format.

    Args:
        model: The network.

    Returns:
        The text of the file.
    """
    index = {name: position + 1 for position, name in enumerate(model.species)}

    def members(stoichiometry: Mapping[str, int]) -> str:
        return ",".join(str(index[name]) for name in _repeat_names(stoichiometry)) or "0"

    parameters = [f"{j} k{j} {r.falling_rate!r}" for j, r in enumerate(model.reactions, 1)]
    species = [
        f"{index[name]} {name}() {count}"
        for name, count in zip(model.species, model.initial_counts, strict=True)
    ]
    reactions = [
        f"{j} {members(r.reactants)} {members(r.products)} k{j}"
        for j, r in enumerate(model.reactions, 1)
    ]
    groups = [f"{index[name]} {name} {index[name]}" for name in model.species]
    blocks = {
        "parameters": parameters,
        "species": species,
        "reactions": reactions,
        "groups": groups,
    }
    lines = []
    for block, rows in blocks.items():
        lines += [f"begin {block}", *(f"  {row}" for row in rows), f"end {block}"]
    return "\n".join(lines) + "\n"


def run_bngsim(model: ReferenceModel, num_trajectories: int, seed: int) -> RivalResult:
    """Runs bngsim on its native network format, which it simulates faster than SBML."""
    with tempfile.TemporaryDirectory() as directory:
        # Compiled propensities are cached between processes, which would hide the compile time.
        os.environ["BNGSIM_CODEGEN_CACHE_DIR"] = directory
        setup_start = time.perf_counter()
        import bngsim

        path = Path(directory) / f"{model.name}.net"
        path.write_text(bionetgen_network(model))
        simulator = bngsim.Simulator(bngsim.Model.from_net(path), method="ssa")

        def simulate(count: int, seed: int) -> list[Any]:
            # Trajectory i takes seed + i, so the seeds of different calls must lie apart.
            return simulator.run_replicates(
                count,
                t_span=(0.0, model.end_time),
                n_points=model.num_save_points,
                seed=seed * count,
            )

        def final_counts(results: list[Any]) -> np.ndarray:
            return np.array([result.species[-1] for result in results])

        def count_events(results: list[Any]) -> float:
            return float(np.mean([result.solver_stats["n_steps"] for result in results]))

        return _measure(
            model, simulate, final_counts, num_trajectories, seed, setup_start, count_events
        )


def run_roadrunner(model: ReferenceModel, num_trajectories: int, seed: int) -> RivalResult:
    """Runs libRoadRunner's Gillespie integrator, the engine of Tellurium."""
    setup_start = time.perf_counter()
    import roadrunner

    runner = roadrunner.RoadRunner(str(model.sbml_path))
    runner.setIntegrator("gillespie")
    runner.integrator.variable_step_size = False
    # A bare name selects the amount; the default selection is the concentration.
    runner.timeCourseSelections = ["time", *model.species]

    def simulate(count: int, seed: int) -> list[np.ndarray]:
        runner.integrator.seed = seed
        series = []
        for _ in range(count):
            runner.reset()
            series.append(np.array(runner.simulate(0, model.end_time, model.num_save_points)))
        return series

    def final_counts(series: list[np.ndarray]) -> np.ndarray:
        return np.array(series)[:, -1, 1:]

    return _measure(model, simulate, final_counts, num_trajectories, seed, setup_start)


def run_bioscrape(model: ReferenceModel, num_trajectories: int, seed: int) -> RivalResult:
    """Runs bioscrape's Cython direct method on one compiled interface."""
    setup_start = time.perf_counter()
    from bioscrape.random import py_seed_random
    from bioscrape.simulator import ModelCSimInterface, SSASimulator
    from bioscrape.types import Model

    network = Model(
        species=list(model.species),
        reactions=[
            (
                _repeat_names(reaction.reactants),
                _repeat_names(reaction.products),
                "massaction",
                {"k": reaction.falling_rate},
            )
            for reaction in model.reactions
        ],
        initial_condition_dict=dict(zip(model.species, model.initial_counts, strict=True)),
    )
    interface = ModelCSimInterface(network)
    simulator = SSASimulator()
    times = np.linspace(0.0, model.end_time, model.num_save_points)
    positions = [network.get_species_index(name) for name in model.species]

    def simulate(count: int, seed: int) -> list[np.ndarray]:
        py_seed_random(seed)
        return [simulator.py_simulate(interface, times).py_get_result() for _ in range(count)]

    def final_counts(series: list[np.ndarray]) -> np.ndarray:
        return np.array([counts[-1, positions] for counts in series])

    return _measure(model, simulate, final_counts, num_trajectories, seed, setup_start)


def _keep_jax_on_processor() -> None:
    """Keeps JAX off an accelerator, as one core is what is compared; call before importing it.

    `benchmarks.gpu` compares on the accelerator and says so in the environment.
    """
    if "BENCHMARK_ON_DEVICE" not in os.environ:
        os.environ["JAX_PLATFORMS"] = "cpu"


def _jax_propensities(model: ReferenceModel) -> Callable[[Any], Any]:
    """Returns the propensities written out term by term, as the JAX rivals' examples do."""
    import jax.numpy as jnp

    positions = {name: position for position, name in enumerate(model.species)}

    def propensities(counts: Any) -> Any:
        terms = []
        for reaction in model.reactions:
            term = reaction.falling_rate
            for name, order in reaction.reactants.items():
                for used in range(order):
                    term = term * (counts[positions[name]] - used)
            terms.append(term)
        return jnp.array(terms)

    return propensities


def _measure_jax(
    model: ReferenceModel,
    simulate_one: Callable[[Any], Any],
    species: Sequence[str],
    num_trajectories: int,
    seed: int,
    setup_start: float,
) -> RivalResult:
    """Times a vectorised and compiled function of a random key.

    Args:
        model: The network.
        simulate_one: Returns the saved counts for a key, the last ones being final.
        species: Order of the species in those counts.
        num_trajectories: Number of trajectories of one call.
        seed: The seed.
        setup_start: Reading of ``time.perf_counter`` before the rival was set up.

    Returns:
        The result.
    """
    import jax

    simulate_all = jax.jit(jax.vmap(simulate_one))
    positions = [list(species).index(name) for name in model.species]

    def simulate(count: int, seed: int) -> np.ndarray:
        return np.asarray(simulate_all(jax.random.split(jax.random.PRNGKey(seed), count)))

    def final_counts(series: np.ndarray) -> np.ndarray:
        return series[:, -1, positions]

    return _measure(model, simulate, final_counts, num_trajectories, seed, setup_start)


def run_stochastix(model: ReferenceModel, num_trajectories: int, seed: int) -> RivalResult:
    """Runs stochastix's direct method from save point to save point.

    Its function that keeps a trajectory keeps every event, which does not fit in memory for many
    trajectories; its fast function keeps only the last state, so it is called per interval.
    """
    setup_start = time.perf_counter()
    _keep_jax_on_processor()
    import jax
    import jax.numpy as jnp
    import stochastix

    def side(stoichiometry: Mapping[str, int]) -> str:
        return " + ".join(f"{order} {name}" for name, order in stoichiometry.items()) or "0"

    network = stochastix.ReactionNetwork(
        [
            stochastix.Reaction(
                f"{side(reaction.reactants)} -> {side(reaction.products)}",
                stochastix.kinetics.MassAction(k=reaction.rate),
            )
            for reaction in model.reactions
        ]
    )
    initial = dict(zip(model.species, model.initial_counts, strict=True))
    initial_counts = jnp.array([initial[name] for name in network.species], dtype=float)
    times = jnp.linspace(0.0, model.end_time, model.num_save_points)
    solver = stochastix.DirectMethod()

    def simulate_one(key: Any) -> Any:
        def advance(counts: Any, interval: Any) -> Any:
            key, start, end = interval
            solution = stochastix.faststochsimsolve(
                key,
                network,
                counts,
                t0=start,
                T=end,
                max_steps=MAX_STEPS,
                solver=solver,
                save_propensities=False,
            )
            return solution.x[-1], solution.x[-1]

        keys = jax.random.split(key, model.num_intervals)
        return jax.lax.scan(advance, initial_counts, (keys, times[:-1], times[1:]))[1]

    return _measure_jax(model, simulate_one, network.species, num_trajectories, seed, setup_start)


def run_crn_jax(model: ReferenceModel, num_trajectories: int, seed: int) -> RivalResult:
    """Runs crn-jax's trajectory function under ``vmap``.

    Its ready-made batch function is the same but silently stops after 10,000 events in an
    interval, which the Vilar network exceeds.
    """
    setup_start = time.perf_counter()
    _keep_jax_on_processor()
    import jax.numpy as jnp
    from crn_jax.gillespie import simulate_trajectory
    from crn_jax.models import make_apply_reaction
    from crn_jax.types import State

    apply_reaction = make_apply_reaction(tuple(map(tuple, model.net_change().tolist())))
    propensities = _jax_propensities(model)
    state = State(
        time=jnp.array(0.0),
        x=jnp.array(model.initial_counts, dtype=jnp.float32),
        next_reaction_time=jnp.array(jnp.inf),
    )

    def simulate_one(key: Any) -> Any:
        return simulate_trajectory(
            key,
            state,
            timestep=model.end_time / model.num_intervals,
            n_steps=model.num_intervals,
            compute_propensities_fn=lambda state, _: propensities(state.x),
            apply_reaction_fn=apply_reaction,
            max_steps=MAX_STEPS,
        ).x

    return _measure_jax(model, simulate_one, model.species, num_trajectories, seed, setup_start)


def run_jsmfsb(model: ReferenceModel, num_trajectories: int, seed: int) -> RivalResult:
    """Runs jsmfsb's time series of its Gillespie step under ``vmap``."""
    setup_start = time.perf_counter()
    _keep_jax_on_processor()
    import jsmfsb

    propensities = _jax_propensities(model)
    network = jsmfsb.Spn(
        list(model.species),
        [reaction.name for reaction in model.reactions],
        [[r.reactants.get(s, 0) for s in model.species] for r in model.reactions],
        [[r.products.get(s, 0) for s in model.species] for r in model.reactions],
        lambda counts, _: propensities(counts),
        list(model.initial_counts),
    )
    step = network.step_gillespie()
    interval = model.end_time / model.num_intervals
    # It takes floor(end / interval) steps, which rounding can make one too few.
    end_time = model.end_time + interval / 2

    def simulate_one(key: Any) -> Any:
        return jsmfsb.sim_time_series(key, network.m, 0.0, end_time, interval, step)

    return _measure_jax(model, simulate_one, model.species, num_trajectories, seed, setup_start)


RIVALS: list[Rival] = [
    Rival("bngsim", "bngsim", "bngsim", run_bngsim),
    Rival("rebop", "rebop", "rebop", run_rebop),
    Rival("rebop-sparse", "rebop", "rebop", run_rebop_sparse),
    Rival("gillespy2", "gillespy2", "gillespy2", run_gillespy2),
    Rival("copasi-direct", "python-copasi", "COPASI", run_copasi_direct),
    Rival("copasi-next-reaction", "python-copasi", "COPASI", run_copasi_next_reaction),
    Rival("roadrunner", "libroadrunner", "roadrunner", run_roadrunner),
    Rival("bioscrape", "bioscrape", "bioscrape", run_bioscrape),
    Rival("crn-jax", "crn-jax", "crn_jax", run_crn_jax),
    Rival("stochastix", "stochastix", "stochastix", run_stochastix),
    Rival("jsmfsb", "jsmfsb", "jsmfsb", run_jsmfsb),
]


def check_agreement(
    model: ReferenceModel, results: Mapping[str, RivalResult], num_sigmas: float = 5.0
) -> list[str]:
    """Compares the mean final counts of every pair of rivals.

    The variance between trajectories is pooled over all rivals, since a rival that ran only a few
    trajectories cannot estimate it.

    Args:
        model: The network that they simulated.
        results: Results by name of the rival.
        num_sigmas: Largest accepted difference, in standard errors of the difference.

    Returns:
        One sentence per disagreement; empty if all agree.
    """
    sizes = np.array([result.num_trajectories for result in results.values()], dtype=float)
    means = np.array([result.final_means for result in results.values()])
    variances = np.array([result.final_variances for result in results.values()])
    freedom = max(float(np.sum(sizes - 1)), 1.0)
    pooled = np.sum((sizes[:, None] - 1) * variances, axis=0) / freedom
    # A rare state that nobody visited has no variance, yet one visit must not be a disagreement.
    errors = np.sqrt(pooled / sizes[:, None] + 1.0 / sizes[:, None] ** 2)
    names = list(results)
    complaints = []
    for i, first in enumerate(names):
        for j, second in enumerate(names[:i]):
            sigmas = np.abs(means[i] - means[j]) / np.hypot(errors[i], errors[j])
            for position in np.flatnonzero(~(sigmas <= num_sigmas)):
                complaints.append(
                    f"{model.name}: {first} and {second} differ in {model.species[position]} by "
                    f"{sigmas[position]:.1f} standard errors "
                    f"({means[i, position]:.6g} and {means[j, position]:.6g})"
                )
    return complaints


def result_record(
    rival: Rival, model: ReferenceModel, result: RivalResult, mean_events: float | None
) -> dict[str, Any]:
    """Describes a result for a JSON line.

    Args:
        rival: The rival.
        model: The network.
        result: Its result.
        mean_events: Mean number of events per trajectory, used if the rival does not count them.

    Returns:
        The record; ``events_per_second`` is null if the number of events is unknown, and the
        peak memory is that of this process without its children.
    """
    mean_events = mean_events if result.mean_events is None else result.mean_events
    trajectories_per_second = result.num_trajectories / result.seconds
    peak_memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "name": rival.name,
        "installed": True,
        "requirement": rival.requirement,
        "version": importlib.metadata.version(rival.requirement),
        "model": model.name,
        **dataclasses.asdict(result),
        "trajectories_per_second": trajectories_per_second,
        "events_per_second": None if mean_events is None else mean_events * trajectories_per_second,
        "peak_memory_mebibytes": peak_memory,
    }


def parse_record(record: Mapping[str, Any]) -> RivalResult:
    """Recovers the result from a record that was read back from JSON."""
    fields = {field.name: record[field.name] for field in dataclasses.fields(RivalResult)}
    fields["final_means"] = tuple(fields["final_means"])
    fields["final_variances"] = tuple(fields["final_variances"])
    return RivalResult(**fields)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one rival on one network and prints one JSON line."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--model", required=True, help="name of the reference network")
    parser.add_argument("--rival", required=True, choices=[rival.name for rival in RIVALS])
    parser.add_argument("--trajectories", required=True, type=int)
    parser.add_argument("--seed", default=1, type=int)
    parser.add_argument("--mean-events", type=float, help="events per trajectory, if known")
    parser.add_argument("--intervals", type=int, default=NUM_INTERVALS)
    parser.add_argument("--repeats", type=int, default=NUM_REPEATS)
    parser.add_argument("--models-directory", type=Path, default=default_models_directory())
    options = parser.parse_args(arguments)
    rival = next(rival for rival in RIVALS if rival.name == options.rival)
    if not is_installed(rival):
        record = {"name": rival.name, "installed": False, "requirement": rival.requirement}
    else:
        model = load_reference_model(options.models_directory / f"{options.model}.json")
        model = dataclasses.replace(
            model, num_intervals=options.intervals, num_repeats=options.repeats
        )
        result = rival.run(model, options.trajectories, options.seed)
        record = result_record(rival, model, result, options.mean_events)
    print(json.dumps(record))


if __name__ == "__main__":
    main()
