"""The house is built in layers: a file imports only from its own layer and those above it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import engine

ROOT = Path(engine.__file__).parent
LAYERS = (
    "errors",
    "network",
    "kinetics",
    "inputs",
    "dosing",
    "kernel",
    "methods",
    "cohort",
    "ensemble",
    "execute",
    "simulate",
    "therapy",
    "models",
    "population",
    "optimise",
    "trial",
    "gradient",
    "fitting",
    "design",
    "report",
    "configure",
    "terminal",
    "",  # the public names, `engine` itself
    "cli",
)
FILES = sorted(p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py")


def layer(parts: tuple[str, ...]) -> str:
    """The layer of a module given as ("engine", "kernel", "clock")."""
    return parts[1] if len(parts) > 1 else ""


def imported(tree: ast.AST) -> Iterator[tuple[str, ...]]:
    """Every module that a file imports, at its top or inside a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            module = tuple((node.module or "").split("."))
            # `from engine import network` imports a layer by its last name.
            names = [(*module, alias.name) for alias in node.names]
            yield from names if module == ("engine",) else [module]


def violations(path: Path, text: str) -> list[str]:
    """What a file of the package imports and must not."""
    parts = ("engine", *path.relative_to(ROOT).with_suffix("").parts)
    rank = LAYERS.index(layer(parts))
    found = []
    for module in imported(ast.parse(text)):
        if module[0] != "engine":
            continue
        if layer(module) not in LAYERS or LAYERS.index(layer(module)) > rank:
            found.append(".".join(module))
    return found


def test_every_file_belongs_to_a_layer() -> None:
    assert FILES
    for path in FILES:
        name = path.relative_to(ROOT).with_suffix("").parts[0]
        assert name in LAYERS, f"{name} is in no layer; put it in its place in LAYERS"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_upwards(path: Path) -> None:
    assert not violations(path, path.read_text())


def test_the_walk_sees_a_wrong_import() -> None:
    path = ROOT / "network" / "network.py"
    wrong = "from engine.kernel import clock", "import engine.simulate", "from engine import cli"
    for line in wrong:
        assert violations(path, f"def f():\n    {line}"), line
    assert violations(path, "import engine"), "the package itself imports every layer"
    assert not violations(path, "from engine.errors import InvalidInput\nimport numpy")


@pytest.mark.parametrize("folder", ["network", "errors.py"])
def test_what_reacts_knows_no_jax(folder: str) -> None:
    place = ROOT / folder
    for path in place.rglob("*.py") if place.is_dir() else [place]:
        roots = {module[0] for module in imported(ast.parse(path.read_text()))}
        assert not roots & {"jax", "diffrax", "equinox", "optax"}, path
