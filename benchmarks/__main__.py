"""Ask a benchmark question, or list them.

    python -m benchmarks                          # the questions, a line each
    python -m benchmarks scaling_patients         # measure: JSON, a figure and the README's table
    python -m benchmarks scaling_patients --quick # a small version, in under a minute
    python -m benchmarks all

A full run writes into benchmarks/results and benchmarks/figures, a quick one into
benchmarks/quick, unless --out names another folder.
"""

import argparse
import json
import sys
from difflib import get_close_matches
from pathlib import Path

from benchmarks.processes import cores_here, machine
from benchmarks.question import Options, Question, Result
from benchmarks.questions import QUESTIONS
from benchmarks.rivals import RIVALS, default_models_directory
from benchmarks.tables import HERE, write_tables

ALL = "all"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    options = _parser().parse_args(arguments)
    if options.question is None:
        width = max(map(len, QUESTIONS))
        for question in QUESTIONS.values():
            print(f"{question.name:{width}}  {question.asks}")
        return 0
    if options.question != ALL and options.question not in QUESTIONS:
        return _fail(_unknown("question", options.question, [ALL, *QUESTIONS]))
    known = [rival.name for rival in RIVALS]
    for name in options.rival or ():
        if name not in known:
            return _fail(_unknown("rival", name, known))
    if not (options.models_directory / "vilar.xml").exists():
        return _fail(
            f"there are no reference networks in '{options.models_directory}'; set ENGINE_SHARED"
        )
    chosen = list(QUESTIONS) if options.question == ALL else [options.question]
    out = options.out or (HERE / "quick" if options.quick else HERE)
    try:
        cores = tuple(int(core) for core in options.cores.split(","))
    except ValueError:
        return _fail(f"--cores {options.cores}: give numbers of cores, such as 0,1")
    if missing := set(cores) - set(cores_here()):
        return _fail(f"--cores {options.cores}: this process may not use core {min(missing)}")
    asked = Options(
        options.quick,
        options.models_directory.resolve(),
        cores,
        () if options.no_rivals else tuple(options.rival) if options.rival else None,
    )
    for name in chosen:
        ask(QUESTIONS[name], asked, out)
    if out == HERE:
        write_tables()
    return 0


def ask(question: Question, options: Options, out: Path) -> Result:
    """Run a question; write and show what it found."""
    print(f"{question.name}: {question.asks}", file=sys.stderr, flush=True)
    result: Result = {
        "question": question.name,
        "is_quick": options.is_quick,
        "machine": machine(),
        "records": question.run(options),
    }
    if not result["records"]:
        print(f"{question.name}: nothing was measured; see above", file=sys.stderr)
        return result
    tag = "python" + "".join(result["machine"]["python"].split(".")[:2])
    for folder in ("results", "figures"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    path = out / "results" / f"{question.name}_{tag}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    picture = out / "figures" / f"{question.name}.png"
    question.plot(result).savefig(picture, dpi=130)
    print(question.table(result))
    print(f"written: {path} and {picture}", file=sys.stderr)
    return result


def _parser() -> argparse.ArgumentParser:
    cores = ",".join(map(str, cores_here()))
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="benchmark questions")
    parser.add_argument(
        "question", nargs="?", help="a question, or all; without it they are listed"
    )
    parser.add_argument("--quick", action="store_true", help="a small version, under a minute")
    parser.add_argument("--cores", default=cores, help="cores to use, the last one for one core")
    parser.add_argument("--rival", action="append", help="compare with this one; repeatable")
    parser.add_argument("--no-rivals", action="store_true")
    parser.add_argument("--models-directory", type=Path, default=default_models_directory())
    parser.add_argument("--out", type=Path, help="folder of results and figures")
    return parser


def _unknown(what: str, name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, 1)
    hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(known)}"
    return f"'{name}' is not a {what}; {hint}"


def _fail(message: str) -> int:
    print(f"benchmarks: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
