"""What a virtual trial is, as its TOML file says it."""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from engine.network.network import hint
from engine.population import variability
from engine.therapy.molecules import MUTEINS, WILD_TYPE, Molecule
from engine.trial.tables import Table

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]
WILD_TYPE_NAME = "wild type"


class _Covariate(Table):
    unit: str
    source: Text


class LogNormalCovariate(_Covariate):
    """Median and coefficient of variation."""

    distribution: Literal["log_normal"]
    median: Positive
    cv: NotNegative

    def law(self) -> variability.Distribution:
        """The distribution."""
        return variability.LogNormal(self.median, self.cv)


class NormalCovariate(_Covariate):
    """Mean and standard deviation."""

    distribution: Literal["normal"]
    mean: float
    sd: NotNegative

    def law(self) -> variability.Distribution:
        """The distribution."""
        return variability.Normal(self.mean, self.sd)


class UniformCovariate(_Covariate):
    """Two bounds."""

    distribution: Literal["uniform"]
    low: float
    high: float

    def law(self) -> variability.Distribution:
        """The distribution."""
        return variability.Uniform(self.low, self.high)

    @model_validator(mode="after")
    def _check(self) -> "UniformCovariate":
        if self.high < self.low:
            raise ValueError(f"high = {self.high:g} is below low = {self.low:g}; swap them")
        return self


class ConstantCovariate(_Covariate):
    """The same for everyone."""

    distribution: Literal["constant"]
    value: float

    def law(self) -> variability.Distribution:
        """The distribution."""
        return variability.Constant(self.value)


Covariate = Annotated[
    LogNormalCovariate | NormalCovariate | UniformCovariate | ConstantCovariate,
    Field(discriminator="distribution"),
]


class MoleculeTable(Table):
    """The drug: one of the library by name, or one's own by its affinities."""

    name: Text = WILD_TYPE_NAME
    kd_alpha: Positive | None = None
    kd_beta_gamma: Positive | None = None
    clearance_scale: Positive | None = None
    source: str = "assumed"

    @model_validator(mode="after")
    def _check(self) -> "MoleculeTable":
        self.molecule()
        return self

    def molecule(self) -> Molecule:
        """The molecule."""
        known = {WILD_TYPE_NAME: WILD_TYPE, **MUTEINS}
        affinities = (self.kd_alpha, self.kd_beta_gamma)
        if self.name in known:
            given = [v for v in (*affinities, self.clearance_scale) if v is not None]
            if given:
                raise ValueError(
                    f"'{self.name}' is in the library with its own numbers; give your molecule "
                    "another name"
                )
            return known[self.name]
        if self.kd_alpha is None or self.kd_beta_gamma is None:
            raise ValueError(
                f"name = '{self.name}' is not in the library{hint(self.name, known)} "
                "(or give kd_alpha and kd_beta_gamma, nM)"
            )
        scale = 1.0 if self.clearance_scale is None else self.clearance_scale
        return Molecule(self.name, self.kd_alpha, self.kd_beta_gamma, self.source, scale)


class Cells(Table):
    """Which cells of a patient are simulated, and how many of each."""

    types: Annotated[list[Text], Field(min_length=1)]
    per_patient: Count = 1


class Population(Table):
    """How many patients, and how they differ."""

    num_patients: Count
    covariates: dict[str, Covariate] = Field(default_factory=dict)


class Arm(Table):
    """What a patient of this arm is given, the first dose at time 0."""

    name: Text
    dose: NotNegative
    unit: Literal["MIU/m2", "MIU", "nmol/m2", "nmol"] = "MIU/m2"
    route: Literal["subcutaneous", "intravenous"] = "subcutaneous"
    interval: Positive | None = None
    additional: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _check(self) -> "Arm":
        if self.additional and self.interval is None:
            raise ValueError(f"additional = {self.additional} needs interval = minutes")
        return self


class Window(Table):
    """The time in which the cells are simulated, minutes after the first dose."""

    start: NotNegative
    duration: Positive
    points: Annotated[int, Field(ge=2, le=100_001)] = 61

    def times(self) -> np.ndarray:
        """Save times, from the window's start to its end, minutes after the dose."""
        return self.start + np.linspace(0.0, self.duration, self.points)


class Endpoints(Table):
    """How the cells' behaviour becomes numbers."""

    selective_for: Text = "Treg"
    responder_occupancy: Annotated[float, Field(gt=0)] = 0.1


class Limits(Table):
    """What stops a trajectory that does not end."""

    max_events: Annotated[int, Field(ge=1, lt=2**31)] = 50_000_000


class TrialSpec(Table):
    """A whole trial; every field is a key of the file.

    Args:
        name: what the trial is called.
        seed: of all its random numbers.
        model: the biology, a name of `engine.trial.biology.BIOLOGIES`.
        molecule, cells, population, arms, window, endpoints, limits: see these tables.
    """

    name: Text
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    model: Text
    molecule: MoleculeTable = MoleculeTable()
    cells: Cells
    population: Population
    window: Window
    endpoints: Endpoints = Endpoints()
    limits: Limits = Limits()
    arms: Annotated[list[Arm], Field(min_length=1)]

    @model_validator(mode="after")
    def _check(self) -> "TrialSpec":
        for what, names in (
            ("arms", [arm.name for arm in self.arms]),
            ("cells.types", self.cells.types),
        ):
            twice = [name for name in names if names.count(name) > 1]
            if twice:
                raise ValueError(f"{what} has '{twice[0]}' twice; rename or remove one")
        return self

    @property
    def control(self) -> str | None:
        """The first arm without drug, which the others are compared with."""
        return next((arm.name for arm in self.arms if arm.dose == 0), None)

    def with_overrides(self, num_patients: int | None, seed: int | None) -> "TrialSpec":
        """The same trial with another size or seed.

        Raises:
            InvalidInput: a size below 1, a seed out of range.
        """
        data = self.contents()
        if num_patients is not None:
            data["population"]["num_patients"] = num_patients
        if seed is not None:
            data["seed"] = seed
        return TrialSpec.parsed(data, "trial")

    def contents(self) -> dict[str, Any]:
        """The file's contents, as plain numbers, text, lists and dictionaries."""
        return self.model_dump(exclude_none=True)
