"""Everything static about a lane: what the step, the boundary and the tallies need to know."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from engine.errors import InvalidInput
from engine.inputs.layout import InputLayout
from engine.kernel import levels
from engine.kernel.cost import DEAR_LAW, operations, relative_cost
from engine.kernel.queue import EventTable
from engine.kernel.state import Constants
from engine.kernel.tallies import FiringCount, Jump, Observe, Stop, Tally
from engine.kinetics.evaluate import evaluate
from engine.kinetics.program import Program
from engine.network.expressions import TIME, Expression, symbols
from engine.network.network import ReactionNetwork, hint


class LaneModel:
    """A network, its tallies, inputs and events, compiled for lanes.

    Args:
        network: the network.
        tallies: name -> tally.
        layout: the inputs' modes.
        recorded: names of the species written at the save times.
        dosed: species that the dosing table gives molecules to.
        is_trough_saved: at a dose time the state before the dose is saved, not the one after.
        real: species that the method treats as real numbers.
    """

    def __init__(
        self,
        network: ReactionNetwork,
        tallies: Mapping[str, Tally],
        layout: InputLayout,
        recorded: Sequence[str],
        dosed: Sequence[str] = (),
        is_trough_saved: bool = False,
        real: frozenset[str] = frozenset(),
    ) -> None:
        self.real = real
        self.is_real = tuple(name in real for name in network.species_names)
        self.is_trough_saved = is_trough_saved
        self.network = network
        self.layout = layout
        self.recorded = tuple(network.species_names.index(name) for name in recorded)
        self.dosed = tuple(network.species_names.index(name) for name in dosed)
        self.float_names = saved_levels(network, layout, recorded)
        self.tally_names = tuple(tallies)
        self.tallies = tuple(tallies.values())
        _check_tallies(network, tallies)
        watched = {
            _part_name(name, part): expression
            for name, tally in tallies.items()
            for part, expression in enumerate(tally.expressions(network))
        }
        costly = (tally.shared(network) for tally in self.tallies)
        watched |= {name: expression for found in costly for name, expression in found.items()}
        self.program = Program(network, watched, layout.still)
        self.program.check_boundable()
        self.events = EventTable(network, self.program)
        self.net_changes = self.program.net_changes
        laws = map(self.program.without_rules, self.program.laws)
        law_symbols = frozenset().union(*map(symbols, laws))
        for name in sorted(law_symbols & layout.signed):
            raise InvalidInput(f"a rate law mentions input '{name}', which can be below 0")
        still = bool(law_symbols & layout.still)
        self.is_changed_at_stops = bool(self.events) or bool(self.dosed) or still
        self.is_thinned = bool(law_symbols & self.program.moving)

    @property
    def relative_cost(self) -> float:
        """What a step costs with the tallies, over one without."""
        words = sum(tally.num_words for tally in self.tallies)
        return relative_cost(len(self.network.reactions), self.program.observables.values(), words)

    @property
    def has_dear_laws(self) -> bool:
        """Whether laws are so long that a step should work them out once."""
        laws = self.program.laws
        return sum(map(operations, laws)) >= DEAR_LAW * len(laws)

    @property
    def continuous(self) -> tuple[str, ...]:
        """The species that are real numbers, in the network's order."""
        return tuple(name for name in self.network.species_names if name in self.real)

    def tally_moves(self, index: int) -> bool:
        """Whether a tally's expression depends on time or an input."""
        moving = self.program.moving
        return any(symbols(expression) & moving for expression in self._observed(index))

    def part_is_affine(self, index: int, part: int) -> bool:
        """Whether something that a tally observes is affine in what moves between events."""
        return self.program.is_affine(self._observed(index)[part])

    def tally_is_affine(self, index: int) -> bool:
        """Whether all that a tally observes is."""
        observed = self._observed(index)
        return bool(observed) and all(map(self.program.is_affine, observed))

    def _observed(self, index: int) -> list[Expression]:
        """The expressions of a tally, hoisted."""
        number = len(self.tallies[index].expressions(self.network))
        name = self.tally_names[index]
        return [self.program.observables[_part_name(name, part)] for part in range(number)]

    @property
    def is_counting(self) -> bool:
        """Whether steps are not all events, so that these are counted on their own."""
        return self.is_thinned or self.is_looking

    @property
    def is_looking(self) -> bool:
        """Whether some tally changes between events in a way that only looking at it can tell."""
        moves = (i for i in range(len(self.tallies)) if self.tally_moves(i))
        return any(self.tallies[i].is_looking(self.tally_is_affine(i)) for i in moves)

    @property
    def is_observed_moving(self) -> bool:
        """Whether any tally needs the time or an input between events."""
        return any(map(self.tally_moves, range(len(self.tallies))))

    @property
    def is_moving(self) -> bool:
        """Whether any propensity or tally does."""
        return self.is_thinned or self.is_observed_moving

    def base_values(self, constants: Constants, counts: Sequence[Array]) -> dict[str, Array]:
        """Species (as float32), variables and coefficients by name; no time, inputs or rules."""
        names = self.network.species_names
        values = {n: c.astype(jnp.float32) for n, c in zip(names, counts, strict=True)}
        values |= {
            v.name: a for v, a in zip(self.network.variables, constants.variables, strict=True)
        }
        values |= {f"_c{i}": c for i, c in enumerate(constants.coefficients)}
        values |= {cell_name(i): c for i, c in enumerate(constants.cells)}
        values |= self.events.atom_values(constants.passed)
        return values

    def values(
        self,
        constants: Constants,
        counts: Sequence[Array],
        remaining: Array,
        once: levels.Once = levels.at_once,
    ) -> dict[str, Array]:
        """The full environment of a lane with a given time to go to its stop."""
        base = self.base_values(constants, counts)
        base[TIME] = constants.stop - remaining
        if self.layout.total:
            since = constants.span - remaining
            base |= levels.values_at(self.layout, constants.levels, since, once)
        return self.program.environment(base, jnp, jnp.float32)

    def propensities(self, values: Mapping[str, Array]) -> list[Array]:
        """Every reaction's propensity in an environment."""
        if any(self.is_real):
            return self.program.real_propensities(values, self.real, jnp, jnp.float32)
        return self.program.propensities(values, jnp, jnp.float32)

    def averages(
        self,
        constants: Constants,
        counts: Sequence[Array],
        remaining: Array,
        elapsed: Array,
        once: levels.Once = levels.at_once,
    ) -> dict[str, Array]:
        """The environment with time and inputs replaced by their means over a stretch.

        An expression that is affine in them has its own mean there.
        """
        base = self.base_values(constants, counts)
        base[TIME] = constants.stop - remaining + jnp.float32(0.5) * elapsed
        if self.layout.total:
            since = constants.span - remaining
            base |= levels.averages_over(self.layout, constants.levels, since, elapsed, once)
        return self.program.environment(base, jnp, jnp.float32)

    def values_over(
        self, constants: Constants, counts: Sequence[Array], remaining: Array, elapsed: Array
    ) -> dict[str, Array]:
        """The environment over a stretch: `averages` where something moves, else `values`."""
        if self.is_thinned:
            return self.averages(constants, counts, remaining, elapsed)
        return self.values(constants, counts, remaining)

    def upper_bounds(
        self, constants: Constants, counts: Sequence[Array], remaining: Array, left: Array
    ) -> list[Array]:
        """Bounds of every propensity while the time to go to the stop falls to `left`."""
        since, until = constants.span - remaining, constants.span - left
        moving = {TIME: (constants.stop - remaining, constants.stop - left)}
        moving |= levels.bounds_over(self.layout, constants.levels, since, until)
        base = self.base_values(constants, counts)
        base |= {name: moving[name][0] for name in self.layout.still}
        base = self.program.fixed_environment(base, jnp, jnp.float32)
        return self.program.upper_bounds(base, moving, jnp, jnp.float32)

    def shared_values(
        self, values: Mapping[str, Array], states: tuple[tuple[Array, ...], ...]
    ) -> dict[str, Array]:
        """What tallies in these states share between their parts, in an environment."""
        names = [name for tally in self.tallies for name in tally.shared(self.network)]
        shape = jnp.zeros_like(values[self.network.species_names[0]])
        carried = (t.carried(state) for t, state in zip(self.tallies, states, strict=True))
        values = {**values, **{name: word for one in carried for name, word in one.items()}}
        return {
            name: evaluate(self.program.observables[name], values, jnp, jnp.float32) + shape
            for name in names
        }

    def observe(self, index: int) -> Observe:
        """The function that evaluates a tally's expressions in an environment."""
        observed = self._observed(index)

        def evaluated(values: Mapping[str, Array], part: int = 0) -> Array:
            return evaluate(observed[part], values, jnp, jnp.float32)

        return evaluated

    def jump_tallies(self, states: tuple[tuple[Array, ...], ...], jump: Jump) -> Any:
        """Every tally after a change of counts; lanes where nothing happened keep their state."""
        result = []
        for index, (tally, state) in enumerate(zip(self.tallies, states, strict=True)):
            after = tally.jump(state, jump, self.observe(index))
            if tally.is_additive:
                result.append(after)
                continue
            kept = zip(after, state, strict=True)
            result.append(tuple(jnp.where(jump.is_real, a, b) for a, b in kept))
        return tuple(result)

    def settled_tallies(
        self, states: tuple[tuple[Array, ...], ...], stop: Stop, is_stopped: Array
    ) -> Any:
        """Every tally at a stop; lanes that did not come to one keep their state."""
        result = []
        for index, (tally, state) in enumerate(zip(self.tallies, states, strict=True)):
            settled = tally.settle(state, stop, self.observe(index))
            result.append(_chosen(is_stopped, settled, state))
        return tuple(result)

    def begun_tallies(
        self,
        states: tuple[tuple[Array, ...], ...],
        values: Mapping[str, Array],
        is_beginning: Array,
    ) -> Any:
        """Every tally of the lanes that begin a segment; the others keep their state."""
        result = []
        for index, (tally, state) in enumerate(zip(self.tallies, states, strict=True)):
            begun = tally.begin(state, values, self.observe(index))
            result.append(_chosen(is_beginning, begun, state))
        return tuple(result)


def _chosen(is_new: Array, new: tuple[Array, ...], old: tuple[Array, ...]) -> tuple[Array, ...]:
    """The new words of some lanes; those that are the old ones need no choice."""
    pairs = zip(new, old, strict=True)
    return tuple(b if a is b else jnp.where(is_new, a, b) for a, b in pairs)


def saved_levels(
    network: ReactionNetwork, layout: InputLayout, recorded: Sequence[str]
) -> tuple[str, ...]:
    """Variables and inputs that are saved: all, but none where no species is.

    The levels of a drug and of its tangents, saved at every stop for nobody, took a third of the
    time of a score.
    """
    if network.species and not recorded:
        return ()
    return (*(v.name for v in network.variables), *layout.names)


def cell_name(position: int) -> str:
    """The symbol of a number that changes with the save interval; see `Patients.cells`."""
    return f"_v{position}"


def _is_own(name: str) -> bool:
    """Whether a name is a number of the cell, or a tally's own: shared by its parts, carried."""
    return name[:2] in ("_v", "_d", "_b") and name[2:].isdigit()


def _part_name(name: str, part: int) -> str:
    return f"{name}.{part}"


def _check_tallies(network: ReactionNetwork, tallies: Mapping[str, Tally]) -> None:
    for name, tally in tallies.items():
        if not isinstance(tally, Tally):
            raise InvalidInput(
                f"tally '{name}' is {tally!r}; give a tally object such as Maximum(...)"
            )
        if isinstance(tally, FiringCount):
            reaction = str(tally.expression)
            if reaction not in network.reaction_names:
                known = hint(reaction, network.reaction_names)
                raise InvalidInput(f"tally '{name}': no reaction is named '{reaction}'{known}")
            continue
        for expression in tally.expressions(network):
            _check_known(network, expression, f"tally '{name}'")


def _check_known(network: ReactionNetwork, expression: Expression, where: str) -> None:
    for symbol in sorted(symbols(expression) - {TIME}):
        if network.kind_of(symbol) is None and not _is_own(symbol):
            known = hint(symbol, network.known_names)
            raise InvalidInput(
                f"{where} mentions '{symbol}', which is not in {network.name}{known}"
            )
