"""Published SBML files against independent readings of them; skipped where they are absent."""

import csv
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path

import libsbml
import numpy as np
import pytest

from engine.errors import InvalidInput
from engine.network.expressions import evaluate
from engine.network.network import ReactionNetwork
from engine.network.rate_laws import MassAction
from engine.network.sbml_reader import read_sbml

# What the collection holds that no exact simulation can do.
REFUSED = {"BIOMD0000000151": "reaction 'R23': the stoichiometry of 'x13' is 0.5"}
NUM_STATES = 3


def values_of(network: ReactionNetwork, state: Mapping[str, float]) -> dict[str, float]:
    """Every name's value in a state of the counts."""
    values = {"time": 1.3, **network.parameter_values, **network.initial_values, **state}
    for target, expression in network.rules.items():
        values[target] = evaluate(expression, values)
    return values


# The stochastic suite, against the laws in its own catalogue.


def test_dsmts(shared: Path) -> None:
    with (shared / "science" / "dsmts_cases.csv").open() as file:
        cases = {row["case"]: row for row in csv.DictReader(file)}
    files = sorted((shared / "dsmts").glob("*/*-sbml-*.xml"))
    assert files
    rng = np.random.default_rng(1)
    for path in files:
        case = cases[path.name[:5]]
        network = read_sbml(path)  # items: no copies_per_unit
        constants = dict(part.split("=") for part in case["params"].split("; "))
        name, size = case["compartments"].split("=")
        if size != "unset":
            constants[name] = size
        for part in case["species"].split("; "):
            species, amount = part.split()[0].split("=")
            if species in network.species_names:
                assert network.initial_values[species] == float(amount), path
        for _ in range(NUM_STATES):
            state = {s: float(rng.integers(2, 40)) for s in network.species_names}
            values = values_of(network, state)
            for law, reaction in zip(
                case["reactions"].split(" | "), network.reactions, strict=True
            ):
                label, formula = re.fullmatch(r"(\w+): .* @ (.*)", law).groups()  # type: ignore[union-attr]
                local = {k.split(".")[-1]: v for k, v in constants.items() if "." not in k}
                local |= {k.split(".")[1]: v for k, v in constants.items() if k.startswith(label)}
                known = {k: float(v) for k, v in local.items()} | state
                if "conc-semantics" in case["species"]:
                    known |= {s: n / float(size) for s, n in state.items()}
                expected = eval(formula, {}, known)  # the catalogue's text, not user input
                assert evaluate(reaction.propensity, values) == pytest.approx(expected), path
        assert len(network.events) == bool(case["events"]), path
        assert len(network.assignment_rules) == bool(case["rules"]), path


def test_reference_models(shared: Path) -> None:
    """Propensities k prod binomial(x_i, s_i), by name."""
    files = sorted((shared / "reference_models").glob("*.json"))
    assert files
    rng = np.random.default_rng(2)
    for path in files:
        truth = json.loads(path.read_text())
        network = read_sbml(path.with_suffix(".xml"))
        assert list(network.species_names) == truth["species"]
        assert [network.initial_values[s] for s in truth["species"]] == truth["x0"]
        for _ in range(NUM_STATES):
            state = {s: float(rng.integers(0, 30)) for s in truth["species"]}
            values = values_of(network, state)
            for given, reaction in zip(truth["reactions"], network.reactions, strict=True):
                counts = ((int(state[s]), n) for s, n in given["reactants"].items())
                expected = given["k"] * math.prod(math.comb(x, n) for x, n in counts)
                assert evaluate(reaction.propensity, values) == pytest.approx(expected)
                change = {
                    s: given["products"].get(s, 0) - given["reactants"].get(s, 0) for s in state
                }
                assert reaction.net_change == {s: n for s, n in change.items() if n}


# Published ODE models, against a second reading of the file through libSBML's infix text.


def _either(*arguments: float) -> float:
    for value, condition in zip(arguments[::2], arguments[1::2], strict=False):
        if condition:
            return value
    return arguments[-1] if len(arguments) % 2 else math.nan


FUNCTIONS = {
    "piecewise": _either,
    "exp": math.exp,
    "ln": math.log,
    "log10": math.log10,
    "sqrt": math.sqrt,
    "pow": pow,
    "abs": abs,
    "cos": math.cos,
    "floor": math.floor,
    "tanh": math.tanh,
    "sin": math.sin,
    "max": max,
    "gt": lambda a, b: a > b,
    "pi": math.pi,
    "true": True,
}


class SecondReading:
    """Right-hand sides of a file in its own units, by evaluating its formulas as text."""

    def __init__(self, path: Path) -> None:
        document = libsbml.readSBMLFromFile(str(path))
        for converter in ("expandFunctionDefinitions", "promoteLocalParameters"):
            properties = libsbml.ConversionProperties()
            properties.addOption(converter, True)
            assert document.convert(properties) == libsbml.LIBSBML_OPERATION_SUCCESS
        self.compiled: dict[str, object] = {}
        self.document, self.model = document, document.getModel()
        reactions = self.model.getListOfReactions()
        self.laws = {r.getId(): self.text(r.getKineticLaw()) for r in reactions}
        rules = list(self.model.getListOfRules())
        self.assigned = {r.getVariable(): self.text(r) for r in rules if r.isAssignment()}
        self.rated = {r.getVariable(): self.text(r) for r in rules if r.isRate()}

    @staticmethod
    def text(element: object) -> str:
        formula = libsbml.formulaToL3String(element.getMath())  # type: ignore[attr-defined]
        formula = formula.replace("^", "**").replace("&&", " and ").replace("||", " or ")
        return re.sub(r"\blambda\b", "lambda_", formula)

    def value(self, text: str, known: Mapping[str, float]) -> float:
        if text not in self.compiled:
            self.compiled[text] = compile(text, "formula", "eval")
        return float(eval(self.compiled[text], {"__builtins__": {}, **FUNCTIONS}, dict(known)))

    def at_start(self) -> dict[str, float]:
        """Every symbol's value at time 0."""
        known: dict[str, float] = {"time": 0.0}
        for c in self.model.getListOfCompartments():
            known[c.getId()] = c.getSize()
        for p in self.model.getListOfParameters():
            known["lambda_" if p.getId() == "lambda" else p.getId()] = p.getValue()
        for s in self.model.getListOfSpecies():
            known[s.getId()] = self.given(s, known)
        pending = {i.getSymbol(): self.text(i) for i in self.model.getListOfInitialAssignments()}
        for _ in range(len(pending) + len(self.assigned)):
            for symbol, text in (pending | self.assigned).items():
                known[symbol] = self.value(text, known)
        return known

    @staticmethod
    def is_concentration(species: libsbml.Species) -> bool:
        return not species.getHasOnlySubstanceUnits()

    def given(self, species: libsbml.Species, known: Mapping[str, float]) -> float:
        volume = known[species.getCompartment()]
        if species.isSetInitialAmount():
            amount = species.getInitialAmount()
            return amount / volume if self.is_concentration(species) else amount
        concentration = species.getInitialConcentration()
        return concentration if self.is_concentration(species) else concentration * volume

    def rates(self, known: Mapping[str, float]) -> dict[str, float]:
        """d(amount)/dt of every species that reactions change."""
        held = {
            s.getId()
            for s in self.model.getListOfSpecies()
            if s.getBoundaryCondition() or s.getConstant()
        }
        out = {s.getId(): 0.0 for s in self.model.getListOfSpecies() if s.getId() not in held}
        for reaction in self.model.getListOfReactions():
            rate = self.value(self.laws[reaction.getId()], known)
            for sign, side in (
                (-1, reaction.getListOfReactants()),
                (1, reaction.getListOfProducts()),
            ):
                for reference in side:
                    if reference.getSpecies() in out:
                        out[reference.getSpecies()] += sign * reference.getStoichiometry() * rate
        return out


def check_right_hand_side(
    path: Path, copies: float, rng: np.random.Generator, mistake: float = 1.0
) -> int:
    """Compare one file in random states; the number of its reactions. A mistake scales a rate."""
    network = read_sbml(path, copies_per_unit=copies)
    second = SecondReading(path)
    start = second.at_start()
    for _ in range(NUM_STATES):
        known = {**start, "time": 1.3}
        units: dict[str, float] = {}
        state: dict[str, float] = {}
        for s in second.model.getListOfSpecies():
            if s.getId() in second.assigned or s.getConstant():
                continue
            known[s.getId()] = float(rng.uniform(0.1, 2.0)) * max(start[s.getId()], 1.0)
            volume = known[s.getCompartment()] if second.is_concentration(s) else 1.0
            units[s.getId()] = copies * volume
            state[s.getId()] = known[s.getId()] * units[s.getId()]
        for _ in second.assigned:
            for symbol, text in second.assigned.items():
                known[symbol] = second.value(text, known)
        values = values_of(network, state)
        rates = dict.fromkeys(second.rates(known), 0.0)
        scale = dict.fromkeys(rates, 1e-300)
        for reaction in network.reactions:
            rate = evaluate(reaction.macroscopic_rate, values)
            rate *= mistake if reaction is network.reactions[-1] else 1.0
            for name, n in network.changes(reaction).items():
                rates[name] += n * rate / copies
                scale[name] += abs(n * rate) / copies
        for name, expected in second.rates(known).items():
            if name in network.species_names:
                assert abs(rates[name] - expected) <= 1e-9 * scale[name], (path.name, name)
        for rule in network.rate_rules:
            expected = second.value(second.rated[rule.target], known) * units.get(rule.target, 1.0)
            found = evaluate(rule.expression, values)
            assert found == pytest.approx(expected, rel=1e-9), (path.name, rule.target)
        for name in network.rules:
            assert values[name] == pytest.approx(known[name], rel=1e-9), (path.name, name)
    return len(network.reactions)


@pytest.mark.parametrize("copies", [1.0, 1000.0])
def test_published_models_keep_their_right_hand_side(shared: Path, copies: float) -> None:
    files = sorted((shared / "science" / "sbml").glob("*.xml"))
    files += sorted((shared / "petab").glob("*/*.xml"))
    assert len(files) >= 40
    rng = np.random.default_rng(3)
    num_reactions = 0
    for path in files:
        if path.stem in REFUSED:
            with pytest.raises(InvalidInput, match=re.escape(REFUSED[path.stem])):
                read_sbml(path, copies_per_unit=copies)
            continue
        num_reactions += check_right_hand_side(path, copies, rng)
    assert num_reactions > 1000


def test_the_comparison_can_fail(shared: Path) -> None:
    path = shared / "science" / "sbml" / "BIOMD0000000101.xml"
    with pytest.raises(AssertionError):
        check_right_hand_side(path, 1.0, np.random.default_rng(4), mistake=1 + 1e-6)


def test_published_models_approach_their_limit(shared: Path) -> None:
    """At large counts propensity and macroscopic rate agree; mass action stays non-negative."""
    for path in sorted((shared / "science" / "sbml").glob("*.xml")):
        if path.stem in REFUSED:
            continue
        network = read_sbml(path, copies_per_unit=1000.0)
        values = values_of(network, dict.fromkeys(network.species_names, 1e9))
        for reaction in network.reactions:
            a, limit = (
                evaluate(e, values) for e in (reaction.propensity, reaction.macroscopic_rate)
            )
            assert a == pytest.approx(limit, rel=1e-6, nan_ok=True), (path.name, reaction.name)
            assert not isinstance(reaction.rate_law, MassAction) or a >= 0


def test_declared_units_need_no_argument(shared: Path) -> None:
    """A refusal without the argument is one line that names the file and the remedy."""
    num_read = 0
    for path in sorted((shared / "science" / "sbml").glob("*.xml")):
        try:
            read_sbml(path)
            num_read += 1
        except InvalidInput as error:
            assert "\n" not in str(error) and str(error).startswith(path.name)
            assert "copies_per_unit" in str(error) or path.stem in REFUSED
    assert num_read >= 20


def test_maier_is_in_items_in_two_volumes(shared: Path) -> None:
    """Counts are whole although the file gives concentrations; the time unit is only a label."""
    network = read_sbml(shared / "science" / "sbml" / "MODEL2210070001.xml")
    assert network.initial_values["STAT1_c"] == 850_667 and network.initial_values["IFN"] == 10_000
    assert all(isinstance(r.rate_law, MassAction) for r in network.reactions)
    assert network.time_unit == "0.06 second"
    k, values = network.parameter_values, values_of(network, {})
    transport = next(r for r in network.reactions if r.name == "R_9_ISGF3_translocation")
    values["ISGF3_c"] = 20.0
    assert evaluate(transport.propensity, values) == pytest.approx(k["k_9"] * 20 / 0.865)
