"""Networks of any size: rings of proteins that convert and bind, all rates invented.

    python -m benchmarks.generated 300 build/generated_300

writes build/generated_300.json and build/generated_300.xml, which the engine and every rival read.
"""

import json
import sys
from pathlib import Path
from typing import Any

import engine

COPIES = 20
CONVERSION, BINDING, UNBINDING = 1.0, 0.05, 1.0
# Reactions that fire in a trajectory, whatever the size of the network.
NUM_EVENTS = 20_000


def generate(num_reactions: int) -> dict[str, Any]:
    """A network of reversible steps in the form of the reference files.

    Species stand in a ring. Three steps out of four convert a neighbour into the next one, the
    fourth binds two neighbours to the one after them, so that every reaction touches two or three
    species, as in signalling networks, whatever their number.

    Args:
        num_reactions: even, from 10 on.

    Returns:
        name, species, x0, T, reactions.
    """
    if num_reactions < 10 or num_reactions % 2:
        raise engine.InvalidInput(f"num_reactions={num_reactions}: give an even number from 10 on")
    num = num_reactions // 2
    species = [f"S{i}" for i in range(num)]
    reactions: list[dict[str, Any]] = []
    total = 0.0
    for i in range(num):
        first, second, third = (species[(i + shift) % num] for shift in range(3))
        if i % 4 == 3:
            left, right, forth, back = {first: 1, second: 1}, {third: 1}, BINDING, UNBINDING
            total += BINDING * COPIES**2 + UNBINDING * COPIES
        else:
            left, right, forth, back = {first: 1}, {second: 1}, CONVERSION, CONVERSION
            total += 2 * CONVERSION * COPIES
        reactions.append({"name": f"forth{i}", "k": forth, "reactants": left, "products": right})
        reactions.append({"name": f"back{i}", "k": back, "reactants": right, "products": left})
    return {
        "name": f"generated_{num_reactions}",
        "species": species,
        "x0": [COPIES] * num,
        "T": NUM_EVENTS / total,
        "reactions": reactions,
    }


def network_of(record: dict[str, Any]) -> engine.ReactionNetwork:
    """The same as a network of the engine."""

    def side(stoichiometry: dict[str, int]) -> str:
        return " + ".join(f"{n} {name}" for name, n in stoichiometry.items()) or "0"

    return engine.ReactionNetwork(
        dict(zip(record["species"], record["x0"], strict=True)),
        [
            engine.Reaction(
                f"{side(r['reactants'])} -> {side(r['products'])}",
                engine.MassAction(f"k_{r['name']}"),
                r["name"],
            )
            for r in record["reactions"]
        ],
        {f"k_{r['name']}": r["k"] for r in record["reactions"]},
        name=record["name"],
    )


def write(num_reactions: int, stem: Path) -> Path:
    """Write STEM.json and STEM.xml; returns the stem."""
    record = generate(num_reactions)
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".json").write_text(json.dumps(record))
    engine.write_sbml(network_of(record), stem.with_suffix(".xml"))
    return stem


if __name__ == "__main__":
    write(int(sys.argv[1]), Path(sys.argv[2]))
