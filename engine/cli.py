"""The command `engine`: parse, build objects, call, write; no science."""

import math
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.configure import configure_cpu
from engine.errors import InvalidInput
from engine.terminal import open_console, showing_progress

app = typer.Typer(
    help="Exact stochastic simulation of cytokine signalling in virtual patients.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
# Typer carries its own copy of click, or uses the installed one: this is ClickException of either.
_UsageError: Any = typer.BadParameter.__mro__[2]
_SHOWN_SPECIES = 40


class Method(StrEnum):
    """Algorithms of `engine simulate`."""

    direct = "direct"
    tau_leaping = "tau-leaping"
    hybrid = "hybrid"
    langevin = "langevin"
    linear_noise = "linear-noise"
    ode = "ode"


@app.command()
def simulate(
    model: Annotated[str, typer.Argument(help="an SBML file, or a model of the library")],
    until: Annotated[float, typer.Option(help="horizon, in the model's time unit")],
    method: Annotated[Method, typer.Option(help="direct is exact")] = Method.direct,
    dt: Annotated[float | None, typer.Option(help="time step of --method langevin")] = None,
    points: Annotated[int, typer.Option(help="save times, from 0 to the horizon")] = 51,
    patients: Annotated[int, typer.Option(help="number of patients")] = 1000,
    seed: Annotated[int, typer.Option(help="of all random numbers")] = 0,
    out: Annotated[Path | None, typer.Option(help="zarr store to write; must not exist")] = None,
    copies_per_unit: Annotated[
        float | None, typer.Option(help="molecules of one unit of an SBML amount")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE of a parameter, initial count or input; repeatable"),
    ] = None,
) -> None:
    """Simulate a cohort of a model and show the final counts."""
    if out is not None and out.exists():
        raise InvalidInput(f"{out} exists; give another --out, nothing was written")
    if points < 2:
        raise InvalidInput(f"--points {points}: give at least 2, the start and the end")
    if not 0 < until < float("inf"):
        raise InvalidInput(f"--until {until:g}: give a positive horizon")
    if not 0 <= seed < 2**32:
        raise InvalidInput(f"--seed {seed}: give a whole number from 0 to 2**32 - 1")
    began = time.perf_counter()
    import jax
    import numpy as np

    import engine
    from engine.ensemble import raise_failures, write_zarr

    network = _network(model, copies_per_unit)
    params, x0, inputs = _settings(network, set_ or [])
    with showing_progress("trajectories") as report:
        ensemble = engine.simulate(
            network,
            _method(method, dt),
            np.linspace(0.0, until, points),
            key=jax.random.key(seed),
            num_patients=patients,
            params=params,
            x0=x0,
            inputs=inputs,
            is_failure_raised=False,
            progress=report,
        )
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_zarr(ensemble.to_xarray(), out)
    _show_final(ensemble, until)
    _show_speed(int(ensemble.num_events.sum()), time.perf_counter() - began)
    if out is not None:
        print(f"written: {out}")
    raise_failures(ensemble)


@app.command()
def trial(
    spec: Annotated[Path, typer.Argument(help="the trial, a TOML file")],
    out: Annotated[Path, typer.Option(help="folder of its results; the same again continues")],
    patients: Annotated[int | None, typer.Option(help="instead of the file's number")] = None,
    seed: Annotated[int | None, typer.Option(help="instead of the file's seed")] = None,
) -> None:
    """Run a virtual trial, or continue one that was stopped."""
    began = time.perf_counter()
    from engine.trial.biology import read_spec
    from engine.trial.trial import run_trial

    chosen = read_spec(spec).with_overrides(patients, seed)
    fired = 0
    with showing_progress("units of work") as report:

        def progress(done: int, total: int, events: int) -> None:
            nonlocal fired
            fired = events
            report(done, total, events)

        summary = run_trial(chosen, out, progress)
    from engine.report.html import write_figure
    from engine.report.tables import incomplete_lines

    _show_trial(summary)
    if fired:
        _show_speed(fired, time.perf_counter() - began)
    else:
        print("This trial was finished already; nothing was simulated.")
    print(f"written: {write_figure(out)} and beside it the tables and trajectories")
    failed = incomplete_lines(summary)
    if failed:
        number = sum(arm["num_incomplete"] for arm in summary["arms"].values())
        raise InvalidInput(f"{number} patients are incomplete, the others are kept: {failed[0]}")


@app.command()
def fit(
    problem: Annotated[Path, typer.Argument(help="a PEtab problem, its YAML file")],
    out: Annotated[Path, typer.Option(help="folder of the results; the same again continues")],
    starts: Annotated[int, typer.Option(help="random starts")] = 20,
    seed: Annotated[int, typer.Option(help="of the starts")] = 0,
    draws: Annotated[int, typer.Option(help="each start is the best of so many points")] = 1,
    batch: Annotated[int, typer.Option(help="starts that advance together")] = 8,
) -> None:
    """Fit a PEtab problem from random starts, or continue a fit that was stopped."""
    if starts < 1 or batch < 1:
        raise InvalidInput(f"--starts {starts} --batch {batch}: give at least 1")
    began = time.perf_counter()
    import engine
    from engine.fitting.petab_fit import fit_petab
    from engine.report.fit_figure import write_fit_figure
    from engine.report.fit_table import fit_table

    read = engine.read_petab(problem)
    counts = f"{len(read.estimated)} parameters, {len(read.tables.measurements)} measurements"
    print(
        f"{read.name}: {counts}, {len(read.tables.lanes.names)} conditions; compiling the first "
        "step of a large problem takes minutes",
        file=sys.stderr,
        flush=True,
    )
    with showing_progress("starts") as report:
        found = fit_petab(
            read,
            out,
            num_starts=starts,
            seed=seed,
            draws=draws,
            batch=batch,
            progress=lambda done, total, best: report(
                done, total, note=f"best {best:.6g}" if math.isfinite(best) else "first values"
            ),
        )
    open_console().print(fit_table(found))
    for line in (found.fits.diagnosis(), *found.information.remarks()):
        print(line)
    seconds = time.perf_counter() - began
    print(f"{starts} starts in {seconds:.1f} s (compilation included)")
    print(f"written: {write_fit_figure(out)} and beside it the tables of all starts")


@app.command()
def design(
    spec: Annotated[Path, typer.Argument(help="what to maximise and to bound, a TOML file")],
    out: Annotated[Path, typer.Option(help="folder of its results")],
) -> None:
    """Design a therapy: the largest benefit under a bound on the risk."""
    from engine.design.run import num_finished, run_design
    from engine.design.spec import read_design
    from engine.report.design import design_figure, design_tables
    from engine.report.tables import to_rich

    chosen, problem = read_design(spec)
    if (out / "design.json").exists():
        print(f"{out} holds a finished design; what it found follows")
    elif done := num_finished(out):
        print(f"{out} holds a design that was stopped; {done} stages are done, going on")
    with showing_progress("steps") as report:
        result = run_design(chosen, problem, out, report)
    design_figure(result, out / "design.png")
    console = open_console()
    for table in design_tables(result):
        console.print(to_rich(table))
    for note in result["notes"]:
        console.print(f"note: {note}", markup=False)
    print("Research software, not medical advice.")
    print(f"written: {out / 'design.json'} and {out / 'design.png'}")


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="the --out of engine trial")],
) -> None:
    """Write the figure and the HTML report of a finished trial."""
    from engine.report.html import write_report
    from engine.trial.store import read_finished

    _, summary = read_finished(folder)
    page = write_report(folder)
    _show_trial(summary)
    print(f"written: {page}")


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(help="one model, to see its parameters")] = None,
) -> None:
    """List the models of the library, or the parameters of one with units and sources."""
    from rich.table import Table

    from engine.models import MODELS

    if name is None:
        table = Table("model", "species", "reactions", "what it is")
        for key, build in MODELS.items():
            network, first = build(), (build.__doc__ or "").strip().splitlines()[0]
            table.add_row(key, str(len(network.species)), str(len(network.reactions)), first)
        open_console().print(table)
        return
    network = _library(name)
    table = Table("parameter", "value", "unit", "what it is", "source", title=network.name)
    for one in network.parameters:
        value = f"{network.parameter_values[one.name]:.6g}"
        table.add_row(one.name, value, one.unit, one.description, one.source or "-")
    console = open_console()
    console.print(table)
    for what, names in (
        ("species", network.species_names),
        ("inputs", [f"{i.name} ({i.unit})" for i in network.inputs]),
        ("observables", list(network.rules)),
    ):
        console.print(f"{what}: {', '.join(names) or 'none'}", markup=False)


def _network(model: str, copies_per_unit: float | None) -> Any:
    import engine

    path = Path(model)
    if path.suffix.lower() in (".xml", ".sbml") or path.exists():
        return engine.read_sbml(path, copies_per_unit=copies_per_unit)
    if copies_per_unit is not None:
        raise InvalidInput("--copies-per-unit is for SBML files; the library counts molecules")
    return _library(model)


def _library(name: str) -> Any:
    from engine.models import MODELS
    from engine.network.network import hint

    if name not in MODELS:
        raise InvalidInput(f"'{name}' is neither a file nor a model{hint(name, MODELS)}")
    return MODELS[name]()


def _settings(
    network: Any, given: list[str]
) -> tuple[dict[str, float], dict[str, float], dict[str, Any]]:
    """Parameters, initial counts and input levels from NAME=VALUE."""
    import engine

    kinds: dict[str, dict[str, Any]] = {"parameter": {}, "species": {}, "input": {}}
    kinds["compartment"] = kinds["parameter"]
    for text in given:
        name, separator, value = text.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not separator or number != number:
            raise InvalidInput(f"--set {text}: give NAME=NUMBER")
        network.require(name, *kinds, what="--set")
        kinds[network.kind_of(name)][name] = number
    inputs = {name: engine.ConstantLevel(level) for name, level in kinds["input"].items()}
    for one in network.inputs:
        if one.name not in inputs:
            unit = f" ({one.unit})" if one.unit else ""
            raise InvalidInput(
                f"input '{one.name}'{unit} has no value; give --set {one.name}=VALUE"
            )
    return kinds["parameter"], kinds["species"], inputs


def _method(method: Method, dt: float | None) -> Any:
    """The method's object, with its step where it has one."""
    import engine

    if method is Method.langevin:
        if dt is None:
            raise InvalidInput("--method langevin: give its time step, --dt")
        return engine.Langevin(dt)
    if dt is not None:
        raise InvalidInput(f"--dt {dt:g}: only --method langevin has a time step")
    plain = {
        Method.direct: engine.Direct,
        Method.tau_leaping: engine.TauLeaping,
        Method.hybrid: engine.Hybrid,
        Method.linear_noise: engine.LinearNoise,
        Method.ode: engine.ODE,
    }
    return plain[method]()


def _show_final(ensemble: Any, until: float) -> None:
    from rich.table import Table

    complete = ensemble.is_complete
    unit = ensemble.network.time_unit
    title = f"{ensemble.network.name} at time {until:g} {unit}".strip()
    table = Table(
        "species", "mean", "sd", "min", "max", title=f"{title}: {complete.sum():,} trajectories"
    )
    final = ensemble.values[complete, -1, :] if complete.any() else None
    for i, name in enumerate(ensemble.species[:_SHOWN_SPECIES]):
        if final is not None:
            column = final[:, i].astype(float)
            numbers = (column.mean(), column.std(), column.min(), column.max())
            table.add_row(name, *(f"{number:.6g}" for number in numbers))
    more = len(ensemble.species) - _SHOWN_SPECIES
    notes = [f"and {more} more species"] if more > 0 else []
    if ensemble.continuous:
        notes.append("integrated: " + ", ".join(ensemble.continuous))
    table.caption = "; ".join(notes) or None
    open_console().print(table)


def _show_trial(summary: Any) -> None:
    from engine.report.tables import to_rich, trial_tables

    console = open_console()
    for table in trial_tables(summary):
        console.print(to_rich(table))
    print("Research software, not medical advice.")


def _show_speed(events: int, seconds: float) -> None:
    rate = f" ({events / seconds:.3g} a second, compilation included)" if events else ""
    print(f"{events:,} reactions in {seconds:.1f} s{rate}")


def main() -> None:
    """Entry point of the command: errors are one line on stderr and a non-zero exit."""
    configure_cpu()
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run a command line and return its exit status; bad input is one line on stderr."""
    from engine.ensemble import SimulationFailed

    try:
        return int(app(arguments, prog_name="engine", standalone_mode=False) or 0)
    except _UsageError as error:
        return _fail(error.format_message(), 2)
    except (InvalidInput, SimulationFailed, OSError, MemoryError) as error:
        return _fail(str(error) or type(error).__name__, 1)
    except (KeyboardInterrupt, typer.Abort):
        return _fail(
            "interrupted; a trial or fit keeps what is finished and continues when run again", 130
        )


def _fail(message: str, status: int) -> int:
    print(f"engine: {' '.join(message.split())}", file=sys.stderr)
    return status


if __name__ == "__main__":
    main()
