"""How fast are large networks, generated ones and two published models, beside bngsim and rebop?

Generated mass-action networks of 100, 300 and 1,000 reactions (`generated.py`), and the SBML models
BIOMD0000000504 (132 reactions) and BIOMD0000000543 (199). Every simulator runs in a process of its
own on one core with 101 save points. The SBML models are made mass-action networks of molecules;
a model with more than 10**4 molecules of its largest species is taken in a smaller volume, every
simulator the same one, because exact simulation of 10**13 molecules ends for nobody.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.comparing import grid, simulators
from benchmarks.generated import write
from benchmarks.processes import measured
from benchmarks.question import Options, Question, Record
from benchmarks.rivals import (
    RIVALS,
    ReferenceModel,
    ReferenceReaction,
    is_installed,
    load_reference_model,
)

MODELS = ("BIOMD0000000504", "BIOMD0000000543")
NETWORKS = ("generated_100", "generated_300", "generated_1000", *MODELS)
ENGINE = "engine"
SIMULATORS = (ENGINE, "bngsim", "rebop", "rebop-sparse")
MODEL_END_TIME = 100.0
TRAJECTORIES = {ENGINE: 1024, "bngsim": 20, "rebop": 2, "rebop-sparse": 4}
LARGEST_COUNT = 1e4
REPEATS = 3


def imported(path: Path) -> ReferenceModel:
    """An SBML model as mass action between molecules, in a volume of at most 10**4 of a kind.

    A reaction's constant is what its law gives for one combination of reactants; laws that are not
    mass action become it, the same for every simulator.
    """
    import engine
    from engine.kinetics.evaluate import evaluate

    network = engine.read_sbml(path)
    initial = {s.name: float(network.initial_values[s.name]) for s in network.species}
    scale = min(1.0, LARGEST_COUNT / max(initial.values()))
    known = {**network.initial_values, **network.parameter_values, "time": 0.0}
    reactions = []
    for reaction in network.reactions:
        order = sum(reaction.reactants.values())
        # Unit amounts are large ones, where n (n - 1) / 2 is n**2 / 2.
        unit = {name: 1e6 for name in reaction.reactants}
        values = {name: np.float64(value) for name, value in {**known, **unit}.items()}
        for name, rule in network.rules.items():
            values[name] = evaluate(rule, values, np, np.float64)
        rate = float(evaluate(reaction.macroscopic_rate, values, np, np.float64))
        for count in reaction.reactants.values():
            rate *= float(np.prod(range(1, count + 1))) / 1e6**count
        changed = {n: int(c) for n, c in reaction.products.items()}
        taken = {n: int(c) for n, c in reaction.reactants.items()}
        reactions.append(
            ReferenceReaction(reaction.name, rate * scale ** (1 - order), taken, changed)
        )
    counts = tuple(round(value * scale) for value in initial.values())
    names = tuple(initial)
    return ReferenceModel(path.stem, names, counts, MODEL_END_TIME, tuple(reactions), path)


def model_of(name: str, models: Path) -> ReferenceModel:
    """The network of a given name."""
    if name in MODELS:
        return imported(models / f"{name}.xml")
    with tempfile.TemporaryDirectory() as folder:
        stem = write(int(name.removeprefix("generated_")), Path(folder) / name)
        return load_reference_model(stem.with_suffix(".json"))


def run_engine(model: ReferenceModel, num_trajectories: int) -> dict[str, Any]:
    """Time `engine.simulate` in this process, on the cores it was given."""
    import engine

    engine.configure_cpu()
    import jax

    def side(molecules: Any) -> str:
        return " + ".join(f"{count} {name}" for name, count in molecules.items()) or "0"

    network = engine.ReactionNetwork(
        dict(zip(model.species, model.initial_counts, strict=True)),
        [
            engine.Reaction(
                f"{side(r.reactants)} -> {side(r.products)}", engine.MassAction(f"k{i}")
            )
            for i, r in enumerate(model.reactions)
        ],
        {f"k{i}": r.rate for i, r in enumerate(model.reactions)},
    )
    ts = np.linspace(0.0, model.end_time, 101)

    def simulate(seed: int) -> tuple[float, "engine.Ensemble"]:
        start = time.perf_counter()
        ensemble = engine.simulate(
            network, engine.Direct(), ts, num_patients=num_trajectories, key=jax.random.key(seed)
        )
        return time.perf_counter() - start, ensemble

    first, _ = simulate(0)
    timed = [simulate(seed) for seed in range(1, REPEATS + 1)]
    seconds, ensemble = min(timed, key=lambda pair: pair[0])
    return {
        "seconds_per_trajectory": seconds / num_trajectories,
        "mean_events": float(ensemble.num_events.mean()),
        "compile_seconds": first - seconds,
    }


def run_one(name: str, simulator: str, models: Path) -> dict[str, Any]:
    """One simulator on one network, in this process."""
    model, count = model_of(name, models), TRAJECTORIES[simulator]
    record = {"model": name, "name": simulator, "num_reactions": len(model.reactions)}
    if simulator == ENGINE:
        return {**record, **run_engine(model, count)}
    rival = next(rival for rival in RIVALS if rival.name == simulator)
    if not is_installed(rival):
        return {**record, "installed": False}
    result = rival.run(model, count, 1)
    return {
        **record,
        "seconds_per_trajectory": result.seconds / count,
        "mean_events": result.mean_events,
        "compile_seconds": result.compile_seconds,
    }


def run(options: Options) -> list[Record]:
    """Every simulator on every network, each in a process of its own on one core."""
    folder = options.models.parent / "science" / "sbml"
    names = NETWORKS[:1] if options.is_quick else NETWORKS
    wanted = [s for s in SIMULATORS if s == ENGINE or options.rivals is None or s in options.rivals]
    records: list[Record] = []
    for name in names:
        events = None
        for simulator in wanted:
            arguments = ["benchmarks.large_networks", "--network", name, "--only", simulator]
            arguments += ["--models-directory", str(folder)]
            record = measured(arguments, options.one_core, {"ENGINE_NUM_THREADS": "1"})
            if record is None or not record.get("installed", True):
                continue
            # A rival that counts no events fires as many as the engine.
            events = events or record["mean_events"]
            fired = record["mean_events"] or events
            record["events_per_second"] = fired / record["seconds_per_trajectory"]
            records.append(record | {"simulator": simulator, "network": name})
    return records


def plot(result: dict[str, Any]) -> Figure:
    """Events a second by network."""
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    axis, records = figure.subplots(), result["records"]
    for name in simulators(records):
        line = [(r["network"], r["events_per_second"]) for r in records if r["simulator"] == name]
        axis.plot(*zip(*line, strict=True), marker="o", lw=2.2 if name == ENGINE else 1, label=name)
    axis.set(yscale="log", ylabel="events a second")
    axis.tick_params(axis="x", labelsize=7)
    axis.margins(x=0.08)
    axis.legend(fontsize=8, frameon=False)
    return figure


def table(result: dict[str, Any]) -> str:
    """Million events a second, then seconds of compilation."""
    records = result["records"]
    return (
        "One core, 101 save points. Million events a second:\n\n"
        f"{grid(records, 'network', 'events_per_second', 'network', 1e-6)}\n\n"
        "Seconds of compilation or set-up:\n\n"
        f"{grid(records, 'network', 'compile_seconds', 'network')}\n"
    )


QUESTION = Question(
    "large_networks",
    "events a second on networks of 100 to 1,000 reactions and two published models",
    run,
    plot,
    table,
)


def main() -> None:
    """One simulator on one network, in this process; prints its record."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--network", choices=NETWORKS, required=True)
    parser.add_argument("--only", choices=SIMULATORS, required=True)
    parser.add_argument("--models-directory", type=Path, required=True)
    options = parser.parse_args()
    print(json.dumps(run_one(options.network, options.only, options.models_directory)))


if __name__ == "__main__":
    main()
