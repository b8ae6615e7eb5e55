"""The reaction network: everything that reacts, validated at construction."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property

from engine.errors import InvalidInput
from engine.network.events import AssignmentRule, Event, RateRule
from engine.network.expressions import TIME, Expression, symbols
from engine.network.quantities import Compartment, Input, Parameter, Species, Variable, resolve
from engine.network.reactions import Reaction


@dataclass(frozen=True, eq=False)
class ReactionNetwork:
    """Species and the reactions, rules and events that change them.

    Species are counted in molecules; every rate law is a propensity (events per time unit) in
    terms of these counts.

    Args:
        species: `Species` objects, or `{"IL6": 1000}` (initial counts).
        reactions: `Reaction` objects.
        parameters: `Parameter` objects, or `{"k_on": 1e-3}`.
        compartments: `Compartment` objects, or `{"cell": 1e-12}` (volumes).
        variables: `Variable` objects, or `{"threshold": 5.0}`: real numbers that events or rate
            rules change.
        inputs: `Input` objects or names: quantities given from outside, such as drug levels.
        assignment_rules: `AssignmentRule` objects, or `{"total": "A + B"}`.
        rate_rules: `RateRule` objects (not for the exact method).
        events: `Event` objects.
        name: the model's name.
        time_unit: unit of time, for labels and for dosing.

    Raises:
        InvalidInput: a name used twice or unknown, a negative count, an empty network, ...

    Example:
        >>> from engine.network.rate_laws import MassAction
        >>> network = ReactionNetwork(
        ...     species={"X": 0},
        ...     parameters={"birth": 10.0, "death": 0.1},
        ...     reactions=[
        ...         Reaction("0 -> X", MassAction("birth")),
        ...         Reaction("X -> 0", MassAction("death")),
        ...     ],
        ... )
        >>> network.species_names
        ('X',)
    """

    species: Sequence[Species]
    reactions: Sequence[Reaction] = ()
    parameters: Sequence[Parameter] = ()
    compartments: Sequence[Compartment] = ()
    variables: Sequence[Variable] = ()
    inputs: Sequence[Input] = ()
    assignment_rules: Sequence[AssignmentRule] = ()
    rate_rules: Sequence[RateRule] = ()
    events: Sequence[Event] = ()
    name: str = "network"
    time_unit: str = ""
    _kinds: dict[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for attribute, kind in (
            ("species", Species),
            ("parameters", Parameter),
            ("compartments", Compartment),
            ("variables", Variable),
            ("assignment_rules", AssignmentRule),
        ):
            object.__setattr__(self, attribute, _objects(getattr(self, attribute), kind))
        inputs = tuple(Input(i) if isinstance(i, str) else i for i in self.inputs)
        object.__setattr__(self, "inputs", inputs)
        for attribute in ("rate_rules", "events"):
            object.__setattr__(self, attribute, tuple(getattr(self, attribute)))
        for position, reaction in enumerate(self.reactions):
            if not isinstance(reaction, Reaction):
                raise InvalidInput(
                    f"reaction {position} of the network is {reaction!r}; give "
                    'engine.Reaction("A + B -> C", engine.MassAction("k"))'
                )
        named = tuple(
            reaction if reaction.name else replace(reaction, name=f"r{position}")
            for position, reaction in enumerate(self.reactions)
        )
        object.__setattr__(self, "reactions", named)
        object.__setattr__(self, "_kinds", _name_table(self))
        _validate(self)

    @cached_property
    def species_names(self) -> tuple[str, ...]:
        """Names of the species, in order: the species axis of every result."""
        return tuple(s.name for s in self.species)

    @cached_property
    def reaction_names(self) -> tuple[str, ...]:
        """Names of the reactions, in order."""
        return tuple(r.name for r in self.reactions)

    @cached_property
    def parameter_values(self) -> dict[str, float]:
        """Every parameter's and compartment's number."""
        volumes = {c.name: c.volume for c in self.compartments}
        values = resolve({p.name: p.value for p in self.parameters}, volumes)
        return {**volumes, **values}

    @cached_property
    def initial_values(self) -> dict[str, float]:
        """Every species' and variable's number at time 0."""
        return resolve(self.initial_expressions, {TIME: 0.0, **self.parameter_values})

    @property
    def initial_expressions(self) -> dict[str, Expression]:
        """Every species' and variable's initial value as it is written."""
        values = {species.name: species.initial for species in self.species}
        return values | {variable.name: variable.initial for variable in self.variables}

    @cached_property
    def rules(self) -> dict[str, Expression]:
        """The assignment rules, each after the ones it mentions."""
        rules = {rule.target: rule.expression for rule in self.assignment_rules}
        ordered: dict[str, Expression] = {}
        while len(ordered) < len(rules):
            ready = [
                target
                for target, expression in rules.items()
                if target not in ordered and symbols(expression) & rules.keys() <= ordered.keys()
            ]
            if not ready:
                circle = ", ".join(sorted(rules.keys() - ordered.keys()))
                raise InvalidInput(f"assignment rules depend on each other in a circle: {circle}")
            ordered |= {target: rules[target] for target in ready}
        return ordered

    @cached_property
    def structure(self) -> tuple[object, ...]:
        """Everything but numbers: two networks with equal structures share compiled code."""
        events = tuple(
            (
                (e.name, e.trigger, tuple(e.assignments.items()), tuple(e.doses.items())),
                (e.delay, e.priority),
                (e.is_persistent, e.is_initially_true, e.uses_trigger_time_values),
            )
            for e in self.events
        )
        return (
            tuple((s.name, s.is_boundary, s.is_constant, s.is_continuous) for s in self.species),
            tuple(
                (
                    r.name,
                    tuple(sorted(self.changes(r).items())),
                    tuple(r.reactants),
                    r.propensity,
                    r.macroscopic_rate,
                )
                for r in self.reactions
            ),
            tuple(p.name for p in self.parameters),
            tuple(c.name for c in self.compartments),
            tuple(v.name for v in self.variables),
            tuple(i.name for i in self.inputs),
            tuple(self.rules.items()),
            tuple((r.target, r.expression) for r in self.rate_rules),
            events,
        )

    def changes(self, reaction: Reaction) -> dict[str, int]:
        """Net change of counts in one firing; boundary and constant species do not change."""
        held = {s.name for s in self.species if s.is_boundary or s.is_constant}
        return {name: n for name, n in reaction.net_change.items() if name not in held}

    def kind_of(self, name: str) -> str | None:
        """What a name is ("species", "parameter", "input", ...), or None."""
        return self._kinds.get(name)

    @property
    def known_names(self) -> tuple[str, ...]:
        """Every name that an expression may mention besides `time`."""
        return tuple(self._kinds)

    def require(self, name: str, *kinds: str, what: str) -> None:
        """Raise a message with the nearest known name unless `name` is one of `kinds`."""
        if self._kinds.get(name) in kinds:
            return
        known = [n for n, kind in self._kinds.items() if kind in kinds]
        expected = " or ".join(kinds)
        raise InvalidInput(
            f"{what}: '{name}' is not a {expected} of {self.name}{hint(name, known)}"
        )


def hint(name: str, known: Iterable[str]) -> str:
    """A closing remark with the nearest known name, or with the known ones."""
    names = list(known)
    close = get_close_matches(name, names, n=1)
    if close:
        return f"; did you mean '{close[0]}'?"
    listed = ", ".join(sorted(names)[:12]) + (", ..." if len(names) > 12 else "")
    return f"; known: {listed}" if names else ""


def _objects(given: Sequence[object] | Mapping[str, object], kind: type) -> tuple[object, ...]:
    if isinstance(given, Mapping):
        return tuple(kind(name, value) for name, value in given.items())
    for item in given:
        if not isinstance(item, kind):
            expected = kind.__name__
            raise InvalidInput(f"{item!r} is not a {expected}; give {expected}(...) objects")
    return tuple(given)


def _name_table(network: ReactionNetwork) -> dict[str, str]:
    groups = (
        ("species", (s.name for s in network.species)),
        ("parameter", (p.name for p in network.parameters)),
        ("compartment", (c.name for c in network.compartments)),
        ("variable", (v.name for v in network.variables)),
        ("input", (i.name for i in network.inputs)),
        ("rule", (r.target for r in network.assignment_rules)),
    )
    table: dict[str, str] = {}
    for kind, names in groups:
        for name in names:
            if name in table:
                raise InvalidInput(f"'{name}' is both a {table[name]} and a {kind}; rename one")
            table[name] = kind
    return table


def _validate(network: ReactionNetwork) -> None:
    if not network.species and not network.variables:
        raise InvalidInput(f"{network.name} has no species; give at least one")
    if not (network.reactions or network.rate_rules or network.events):
        raise InvalidInput(f"{network.name} has no reactions; nothing can happen in it")
    _validate_reactions(network)
    _validate_events(network)
    for target, expression in network.rules.items():
        _check_symbols(network, expression, f"assignment rule of '{target}'")
    for rule in network.rate_rules:
        network.require(rule.target, "species", "variable", what="rate rule")
        _check_symbols(network, rule.expression, f"rate rule of '{rule.target}'")
    for name, value in network.initial_values.items():
        if network.kind_of(name) == "species" and value < 0 and not _is_continuous(network, name):
            raise InvalidInput(
                f"initial count of species '{name}' is {value:g}; it cannot be negative"
            )


def _is_continuous(network: ReactionNetwork, name: str) -> bool:
    return any(s.is_continuous for s in network.species if s.name == name)


def _validate_reactions(network: ReactionNetwork) -> None:
    seen: set[str] = set()
    for reaction in network.reactions:
        if reaction.name in seen:
            raise InvalidInput(f"two reactions are named '{reaction.name}'; rename one")
        seen.add(reaction.name)
        where = f"reaction '{reaction.name}' ({reaction.equation})"
        for name in (*reaction.reactants, *reaction.products):
            network.require(name, "species", what=where)
        _check_symbols(network, reaction.propensity, where)


def _validate_events(network: ReactionNetwork) -> None:
    seen: set[str] = set()
    constant = {s.name for s in network.species if s.is_constant}
    for event in network.events:
        where = f"event '{event.name}'"
        if event.name in seen:
            raise InvalidInput(f"two events are named '{event.name}'; rename one")
        seen.add(event.name)
        for target in event.assignments:
            network.require(target, "species", "variable", what=where)
            if target in constant:
                raise InvalidInput(f"{where} assigns to '{target}', which is constant")
        for target in event.doses:
            network.require(target, "species", "input", what=f"{where}, dose")
        others = (event.delay, event.priority, *event.assignments.values(), *event.doses.values())
        for expression in (event.trigger, *(e for e in others if e is not None)):
            _check_symbols(network, expression, where)


def _check_symbols(network: ReactionNetwork, expression: Expression, where: str) -> None:
    for name in sorted(symbols(expression) - {TIME}):
        if network.kind_of(name) is None:
            raise InvalidInput(
                f"{where} mentions '{name}', which is not in {network.name}"
                f"{hint(name, network._kinds)}"
            )
