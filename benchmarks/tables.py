"""Write the tables of `benchmarks/README.md` from the results that lie in `benchmarks/results`.

    python -m benchmarks.tables

Everything between the two marks of the README is replaced.
"""

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BEGIN, END = "<!-- tables -->\n", "<!-- end of tables -->\n"
MODELS = {
    "birth_death": "2 reactions, 1 species",
    "dimer_decay": "4 reactions, 3 species",
    "vilar": "18 reactions, 9 species",
    "jakstat": "29 reactions, 15 species",
}


def throughput_table(result: dict[str, Any]) -> str:
    """Million events a second of every simulator, and how many times slower than the engine."""
    records = result["records"]
    engine = {(r["model"], r["num_threads"]): r for r in records if r["name"] == "engine"}
    one, most = 1, max(threads for _, threads in engine)
    versions = next(iter(engine.values()))["versions"]
    lines = [
        f"### Python {versions['python']}, JAX {versions['jax']}",
        "",
        f"{result['machine']['processor']}; one core, but for the second row.",
        "",
        f"| M events/s (engine / it) | {' | '.join(MODELS)} |",
        f"|---|{'---:|' * len(MODELS)}",
    ]
    for threads in dict.fromkeys((one, most)):
        rates = [_millions(engine.get((model, threads))) for model in MODELS]
        cores = "1 core" if threads == 1 else f"{threads} cores"
        lines.append(f"| **engine**, {cores} | {' | '.join(f'**{rate}**' for rate in rates)} |")
    rivals = dict.fromkeys(r["name"] for r in records if r["name"] != "engine")
    for name in rivals:
        found = {r["model"]: r for r in records if r["name"] == name}
        version = next(iter(found.values())).get("version") or ""
        cells = []
        for model in MODELS:
            if model not in found:
                cells.append("-")
                continue
            rate = found[model]["events_per_second"]
            ratio = engine[model, 1]["events_per_second"] / rate
            cells.append(f"{rate / 1e6:.3g} ({ratio:.1f}x)")
        lines.append(f"| {name} {version} | {' | '.join(cells)} |")
    compiles = " / ".join(f"{engine[m, 1]['compile_seconds']:.1f}" for m in MODELS)
    memory = max(engine[m, 1]["peak_memory_mebibytes"] for m in MODELS)
    lines += ["", f"Engine: compilation {compiles} s, peak memory {memory:.0f} MiB.", ""]
    return "\n".join(lines)


def _millions(record: dict[str, Any] | None) -> str:
    return f"{record['events_per_second'] / 1e6:.0f}" if record else "-"


def main() -> None:
    """Rewrite the README's tables."""
    results = sorted((HERE / "results").glob("throughput_*.json"))
    tables = "\n".join(throughput_table(json.loads(path.read_text())) for path in results)
    readme = HERE / "README.md"
    before, rest = readme.read_text().split(BEGIN)
    _, after = rest.split(END)
    readme.write_text(f"{before}{BEGIN}\n{tables}\n{END}{after}")


if __name__ == "__main__":
    main()
