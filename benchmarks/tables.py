"""Write the tables of `benchmarks/README.md` and `docs/methods.md` from `benchmarks/results`.

    python -m benchmarks.tables

Everything between the two marks of the README is replaced; `docs/methods.md` is written whole.
"""

import json
from pathlib import Path

from benchmarks.comparing import with_tables
from benchmarks.question import Result
from benchmarks.questions import QUESTIONS

HERE = Path(__file__).parent
METHODS = HERE.parent / "docs" / "methods.md"


def results_of(name: str, folder: Path = HERE / "results") -> list[Result]:
    """The results of a question that lie in the folder, in order of the Python version."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob(f"{name}_python*.json"))]


def machine_line(result: Result) -> str:
    """What ran where, and how carefully."""
    machine = result["machine"]
    versions = [f"{name} {version}" for name, version in machine.get("versions", {}).items()]
    cores = f", cores: {machine['num_cores']}" if "num_cores" in machine else ""
    quick = " Quick run: numbers are rough." if result.get("is_quick") else ""
    line = f"Python {machine['python']}, {', '.join(versions)}; " if versions else ""
    return f"{line or 'Python ' + machine['python'] + '; '}{machine['processor']}{cores}.{quick}"


def section(name: str) -> str:
    """A question's heading, figure and tables; "" where it has no result."""
    results = results_of(name)
    if not results:
        return ""
    question = QUESTIONS[name]
    parts = [f"### {name}: {question.asks}", ""]
    if (HERE / "figures" / f"{name}.png").exists():
        parts += [f"![{question.asks}](figures/{name}.png)", ""]
    for result in results:
        parts += [machine_line(result), "", question.table(result)]
    return "\n".join(parts)


def write_tables() -> None:
    """Rewrite the README's tables and the methods' table of the docs."""
    readme = HERE / "README.md"
    sections = [text for text in map(section, QUESTIONS) if text]
    readme.write_text(with_tables(readme.read_text(), f"\n{chr(10).join(sections)}\n"))
    accuracy = results_of("accuracy")
    if accuracy:
        parts = [
            "# Methods: accuracy against cost",
            "",
            "Written by `python -m benchmarks accuracy` and `python -m benchmarks.tables`.",
            "",
        ]
        for result in accuracy:
            parts += [machine_line(result), "", QUESTIONS["accuracy"].table(result)]
        METHODS.write_text("\n".join(parts))


if __name__ == "__main__":
    write_tables()
