"""What a gradient can be taken with respect to, beside the name of a parameter.

A target knows its number, and how the arguments of a simulation look when the number is moved (all
that a coupled difference needs); `directions` says which also have a score.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from engine.dosing.pharmacokinetics import FirstOrder, ZeroOrder
from engine.errors import InvalidInput
from engine.gradient.arguments import Arguments


class Target(ABC):
    """A number that the expected outcome depends on."""

    # Whether only whole numbers make sense.
    is_whole = False
    # Whether negative numbers make sense, so that a step down from 0 does.
    is_signed = False

    @property
    @abstractmethod
    def label(self) -> str:
        """What it is called in a result."""

    @abstractmethod
    def value(self, arguments: Arguments) -> np.ndarray:
        """The number, () or one per patient.

        Raises:
            InvalidInput: it does not exist.
        """

    @abstractmethod
    def moved(self, arguments: Arguments, change: np.ndarray) -> Arguments:
        """The arguments with the number moved by `change`, () or one per patient."""

    def weights(self, arguments: Arguments) -> np.ndarray | float:
        """How far each patient's number moves with the target, 1 or (num_patients,)."""
        return 1.0

    def size(self, arguments: Arguments) -> float:
        """What a relative step is a share of: the typical number, 1 where that is 0."""
        weights = np.abs(np.asarray(self.weights(arguments)))
        value = float(np.median(np.abs(self.value(arguments))))
        return value / max(float(np.median(weights)), 1e-300) or 1.0

    def of_patients(self, rows: np.ndarray) -> "Target":
        """The target among some of the patients."""
        return self


@dataclass(frozen=True)
class Parameter(Target):
    """A parameter of the network: a rate constant, an affinity, a Hill coefficient.

    Where patients differ it is a shift of all of them alike.

    Args:
        name: the parameter.
    """

    name: str

    @property
    def label(self) -> str:
        """Its name."""
        return self.name

    def value(self, arguments: Arguments) -> np.ndarray:
        """The parameter's value."""
        arguments.network.require(self.name, "parameter", what="gradient with respect to")
        return arguments.parameter(self.name)

    def moved(self, arguments: Arguments, change: np.ndarray) -> Arguments:
        """The same network with another value."""
        value = self.value(arguments) + change
        return replace(arguments, params={**arguments.params, self.name: value})


@dataclass(frozen=True, eq=False)
class PopulationMean(Target):
    """The population value (typical value, mean) behind a parameter that differs between patients.

    By the chain rule over patients: dE/dm = E[sum_i dE_i/dp_i dp_i/dm]. A log-normal
    p_i = m exp(eta_i) has dp_i/dm = p_i / m.

    Args:
        name: the parameter.
        sensitivity: dp_i/dm, one number per patient.

    Example:
        >>> PopulationMean("k", sensitivity=[1.0, 1.2]).label
        'mean of k'
    """

    name: str
    sensitivity: ArrayLike

    @property
    def label(self) -> str:
        """The mean of the parameter."""
        return f"mean of {self.name}"

    def value(self, arguments: Arguments) -> np.ndarray:
        """The parameter of every patient."""
        return Parameter(self.name).value(arguments)

    def moved(self, arguments: Arguments, change: np.ndarray) -> Arguments:
        """Every patient's parameter moved by its sensitivity."""
        return Parameter(self.name).moved(arguments, change * self.weights(arguments))

    def of_patients(self, rows: np.ndarray) -> Target:
        """The mean behind some of the patients."""
        return replace(self, sensitivity=np.asarray(self.sensitivity, np.float64)[rows])

    def weights(self, arguments: Arguments) -> np.ndarray:
        """The sensitivity."""
        found = np.asarray(self.sensitivity, np.float64)
        if found.shape != (arguments.num_patients,):
            raise InvalidInput(
                f"PopulationMean('{self.name}') has sensitivities of shape {found.shape} for "
                f"{arguments.num_patients} patients; give one per patient"
            )
        return found


@dataclass(frozen=True)
class InitialCount(Target):
    """The initial count of a species: E[outcome with one more] - E[outcome with one fewer], halved.

    At a count of 0 the difference to one more molecule.

    Args:
        species: its name.
    """

    species: str
    is_whole = True

    @property
    def label(self) -> str:
        """The count at the start."""
        return f"{self.species}(0)"

    def value(self, arguments: Arguments) -> np.ndarray:
        """The initial count."""
        network = arguments.network
        network.require(self.species, "species", what="initial count")
        position = network.species_names.index(self.species)
        return np.asarray(arguments.cohort().counts[position], np.float64)

    def moved(self, arguments: Arguments, change: np.ndarray) -> Arguments:
        """Another initial count."""
        count = self.value(arguments) + change
        return replace(arguments, x0={**arguments.x0, self.species: count})


@dataclass(frozen=True)
class PharmacokineticParameter(Target):
    """A number of an input's pharmacokinetics: clearance, volume, absorption, bioavailability.

    Args:
        input: the input.
        name: the field of its pharmacokinetics object, for example `"clearance"`.

    Example:
        >>> PharmacokineticParameter("IL2", "clearance").label
        'IL2 clearance'
    """

    input: str
    name: str

    @property
    def label(self) -> str:
        """Input and number."""
        return f"{self.input} {self.name}"

    def value(self, arguments: Arguments) -> np.ndarray:
        """The number, (1,) or one per patient as (num_patients,)."""
        arguments.network.require(self.input, "input", what="pharmacokinetic parameter")
        value = getattr(arguments.inputs.get(self.input), self.name, None)
        if isinstance(value, FirstOrder):
            value = value.rate
        elif isinstance(value, ZeroOrder):
            value = value.duration
        if not isinstance(value, np.ndarray):
            kind = type(arguments.inputs.get(self.input)).__name__
            raise InvalidInput(
                f"the pharmacokinetics of '{self.input}' ({kind}) have no number '{self.name}'"
            )
        return value[0] if value.size == 1 else value

    def moved(self, arguments: Arguments, change: np.ndarray) -> Arguments:
        """Another number."""
        pk: Any = arguments.inputs[self.input]
        value: Any = self.value(arguments) + change
        before = getattr(pk, self.name)
        if isinstance(before, FirstOrder | ZeroOrder):
            value = type(before)(value)
        changed = replace(pk, **{self.name: value})
        return replace(arguments, inputs={**arguments.inputs, self.input: changed})


def as_targets(wrt: str | Target | Sequence[str | Target]) -> tuple[Target, ...]:
    """Names and targets as targets.

    Raises:
        InvalidInput: nothing, something else, or one thing twice.
    """
    given = (wrt,) if isinstance(wrt, str | Target) else tuple(wrt)
    if not given:
        raise InvalidInput("wrt is empty; name at least one parameter")
    targets = []
    for one in given:
        if not isinstance(one, str | Target):
            raise InvalidInput(f"wrt has {one!r}; give a parameter's name or DoseAmount(0), ...")
        targets.append(Parameter(one) if isinstance(one, str) else one)
    labels = [target.label for target in targets]
    for label in labels:
        if labels.count(label) > 1:
            raise InvalidInput(f"wrt has '{label}' twice")
    return tuple(targets)
