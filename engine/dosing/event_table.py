"""Read a NONMEM-style event table: who is given what, when, and who they are."""

import csv
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np

from engine.dosing.dose import Dose, Reset
from engine.dosing.regimen import Regimen
from engine.errors import InvalidInput

Array = np.ndarray
_WORDS = ("ID", "TIME", "EVID", "AMT", "CMT", "RATE", "II", "ADDL", "SS")
_IGNORED = ("DV", "MDV", "C", "L2", "PCMT")
_REFUSED = {
    "DATE": "give TIME as one number, with the days in it",
    "DAT1": "give TIME as one number, with the days in it",
    "DAT2": "give TIME as one number, with the days in it",
    "DAT3": "give TIME as one number, with the days in it",
    "DUR": "give RATE = AMT / DUR",
    "TINF": "give RATE = AMT / TINF",
}
_MISSING = ("", ".", "NA")


@dataclass(frozen=True, eq=False)
class EventTable:
    """What an event table says.

    Args:
        patient_ids: the IDs in order of appearance, int64, shape (N,).
        regimens: one per patient.
        covariates: for each further column (its header as written) a value per patient, shape
            (N,): float64, NaN where missing, or text if some value is not a number.
        observation_times: increasing times of each patient's observations (EVID 0 and 2).
    """

    patient_ids: Array
    regimens: tuple[Regimen, ...]
    covariates: dict[str, Array]
    observation_times: tuple[Array, ...]

    @property
    def ts(self) -> Array:
        """Every time at which anyone is observed, increasing, shape (T,)."""
        return np.unique(np.concatenate([np.zeros(0), *self.observation_times]))


def read_event_table(
    path: str | Path,
    compartments: Mapping[int, str],
    *,
    ignore: Collection[str] = (),
    is_reset_of_inputs_only: bool = False,
) -> EventTable:
    """Read a CSV file in the columns of NONMEM, mrgsolve and rxode2, unchanged.

    Columns (headers in any case): ID, TIME and AMT are needed; EVID, CMT, RATE, II, ADDL and SS
    may be left out; DV, MDV, C, L2 and PCMT are ignored; all others are covariates. `.`, `NA` and
    nothing are missing values. Rows whose column C has a value, or that begin with `#`, or whose
    first cell is C, are comments. A patient's rows stand together, in order of time.

    EVID 0 is an observation, 1 a dose, 2 another event (only its time is kept), 3 a reset, 4 a
    reset and a dose; without it AMT > 0 is a dose. RATE > 0 is an infusion over AMT / RATE;
    SS = 1 with II is a steady state; ADDL more doses follow, II apart.

    Args:
        path: the file.
        compartments: CMT number -> name of the input or species that is dosed; where it has one
            entry CMT may be missing.
        ignore: further columns that are no covariates, such as `["BLQ", "TAD"]`.
        is_reset_of_inputs_only: accept EVID 3 and 4 as resets of the inputs (drug levels) that
            leave the cells' own state, which NONMEM would reset too. By default they are refused.

    Returns:
        The patients' IDs, regimens, covariates and observation times.

    Raises:
        InvalidInput: in one line the file, the row (its line in the file), the value and what to
            do; among others for a modelled rate or duration (RATE -1, -2), SS = 2, a covariate
            that changes in time, times that decrease, an unknown CMT, a negative AMT.

    Differs from NONMEM: with bioavailability below 1 the rate of an infusion reaches the body
    reduced and its duration is AMT / RATE; a steady state forgets the dosed input only.

    Example:
        >>> import tempfile
        >>> text = "ID,TIME,AMT,CMT,II,ADDL,WT\\n7,0,100,1,24,6,70\\n7,12,.,.,.,.,70\\n"
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "doses.csv"
        ...     _ = path.write_text(text)
        ...     table = read_event_table(path, {1: "drug"})
        >>> table.patient_ids, table.covariates["WT"], len(table.regimens[0].expanded())
        (array([7]), array([70.]), 7)
    """
    ignored = {name.upper() for name in (*ignore, *_IGNORED)}
    patients = _patients(_rows(Path(path), ignored), compartments, is_reset_of_inputs_only)
    if not patients:
        raise InvalidInput(f"{Path(path).name}: no rows; give at least one patient")
    return EventTable(
        patient_ids=np.array([p.number for p in patients], np.int64),
        regimens=tuple(Regimen(tuple(p.doses)) for p in patients),
        covariates=_covariates(patients),
        observation_times=tuple(np.unique(np.array(p.observed, np.float64)) for p in patients),
    )


@dataclass(frozen=True)
class _Row:
    """A row as text: where it stands, its words (upper case) and its covariates (as written)."""

    file: str
    line: int
    words: dict[str, str]
    covariates: dict[str, str]

    def refuse(self, word: str, remedy: str) -> NoReturn:
        given = self.words.get(word, self.covariates.get(word, "")).strip() or "missing"
        raise InvalidInput(f"{self.file}: row {self.line}, {word} = {given}: {remedy}")

    def number(self, word: str) -> float | None:
        """The finite number in a column, or None where it is missing."""
        text = self.words.get(word, "").strip()
        if text in _MISSING:
            return None
        try:
            number = float(text)
        except ValueError:
            self.refuse(word, "not a number; write a plain number or '.'")
        if not math.isfinite(number):
            self.refuse(word, "not finite; write a plain number or '.'")
        return number

    def whole(self, word: str) -> int | None:
        """The whole number in a column, or None where it is missing."""
        number = self.number(word)
        if number is not None and number != int(number):
            self.refuse(word, "not a whole number")
        return None if number is None else int(number)


@dataclass
class _Patient:
    """What has been read of a patient so far; `due` is the time of the last dose of all."""

    number: int
    time: float = 0.0
    due: float = -math.inf
    doses: list[Dose | Reset] = field(default_factory=list)
    observed: list[float] = field(default_factory=list)
    covariates: dict[str, str | None] = field(default_factory=dict)


def _rows(path: Path, ignored: Collection[str]) -> Iterator[_Row]:
    """The rows that are no comments, with their line in the file."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, skipinitialspace=True)
            header: list[str] | None = None
            for cells in reader:
                if not any(cell.strip() for cell in cells) or cells[0].lstrip().startswith("#"):
                    continue
                if header is None:
                    header = _header(path, cells)
                    continue
                if len(cells) != len(header):
                    raise InvalidInput(
                        f"{path.name}: row {reader.line_num} has {len(cells)} cells and the "
                        f"header {len(header)}; separate columns by commas"
                    )
                row = _row(path, reader.line_num, header, cells, ignored)
                if row is not None:
                    yield row
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(f"{path.name}: is not a CSV file in UTF-8 ({error})") from None


def _header(path: Path, cells: list[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    upper = [name.upper() for name in header]
    for name in ("ID", "TIME", "AMT"):
        if name not in upper:
            found = ", ".join(header)
            raise InvalidInput(f"{path.name}: row 1 has no column {name} (it has {found}); add it")
    for name, remedy in _REFUSED.items():
        if name in upper:
            raise InvalidInput(f"{path.name}: row 1, column {name} is not supported; {remedy}")
    twice = [name for i, name in enumerate(upper) if name in upper[:i]]
    if twice:
        raise InvalidInput(f"{path.name}: row 1 has column {twice[0]} twice; rename one")
    return header


def _row(
    path: Path, line: int, header: list[str], cells: list[str], ignored: Collection[str]
) -> _Row | None:
    """The row, or None for a comment."""
    words = {name.upper(): text for name, text in zip(header, cells, strict=True)}
    is_comment = words.get("C", "").strip() not in _MISSING or cells[0].strip() == "C"
    if is_comment:
        return None
    covariates = {
        name: text.strip()
        for name, text in zip(header, cells, strict=True)
        if name.upper() not in _WORDS and name.upper() not in ignored
    }
    return _Row(path.name, line, words, covariates)


def _patients(
    rows: Iterable[_Row], compartments: Mapping[int, str], is_reset_accepted: bool
) -> list[_Patient]:
    """The patients in order of appearance."""
    patients: dict[int, _Patient] = {}
    latest: _Patient | None = None
    for row in rows:
        number = row.whole("ID")
        if number is None:
            row.refuse("ID", "every row needs its patient's number")
        if latest is None or latest.number != number:
            if number in patients:
                row.refuse("ID", "the patient's other rows are not next to it; sort by ID and TIME")
            latest = patients[number] = _Patient(number)
        _read_row(row, latest, compartments, is_reset_accepted)
    return list(patients.values())


def _read_row(
    row: _Row, patient: _Patient, compartments: Mapping[int, str], is_reset_accepted: bool
) -> None:
    time = row.number("TIME")
    if time is None or time < 0.0:
        row.refuse("TIME", "every row needs a time from 0 on; shift the patient's clock")
    if time < patient.time:
        row.refuse(
            "TIME", f"earlier than {patient.time:g} above it; sort the patient's rows by time"
        )
    patient.time = time
    _read_covariates(row, patient)
    kind = _kind(row)
    if kind in (0, 2):
        patient.observed.append(time)
    if kind in (3, 4):
        if not is_reset_accepted:
            row.refuse(
                "EVID",
                "a reset of the whole system is not supported; give is_reset_of_inputs_only=True "
                "to reset the drug levels alone, or split the patient in two",
            )
        if patient.due >= time:
            row.refuse(
                "EVID",
                f"a dose above it is due at {patient.due:g}, not before this reset; write repeated "
                "doses after a reset as rows after it",
            )
        patient.doses.append(Reset(time))
    if kind in (1, 4):
        dose = _dose(row, time, compartments)
        patient.due = max(patient.due, time + dose.additional * (dose.interval or 0.0))
        patient.doses.append(dose)


def _kind(row: _Row) -> int:
    """EVID, as given or inferred."""
    amount, kind = row.number("AMT"), row.whole("EVID")
    if amount is not None and amount < 0.0:
        row.refuse("AMT", "a dose cannot be negative; give a positive amount")
    if kind is None:
        return 1 if amount else 0
    if kind not in (0, 1, 2, 3, 4):
        row.refuse("EVID", "unknown; 0 observation, 1 dose, 2 other, 3 reset, 4 reset and dose")
    if amount and kind not in (1, 4):
        row.refuse("AMT", f"an amount in a row with EVID {kind}; give EVID 1 or no amount")
    return kind


def _dose(row: _Row, time: float, compartments: Mapping[int, str]) -> Dose:
    compartment = row.whole("CMT")
    if compartment is None and len(compartments) == 1:
        (compartment,) = compartments
    if compartment is None or compartment not in compartments:
        known = ", ".join(f"{number} ({name})" for number, name in compartments.items())
        row.refuse("CMT", f"not in compartments=, which has {known}; add it there")
    amount, rate = row.number("AMT"), row.number("RATE") or None
    if amount is None:
        row.refuse("AMT", "a dose needs an amount")
    if rate is not None and rate < 0.0:
        row.refuse("RATE", "modelled rates and durations are not supported; give RATE > 0, or 0")
    if rate is not None and amount == 0.0:
        row.refuse("RATE", "an infusion without an end is not supported; give AMT")
    steady = row.whole("SS") or 0
    if steady not in (0, 1):
        row.refuse("SS", "only 0 and 1 are supported; write earlier doses out, or give SS = 1")
    additional = row.whole("ADDL") or 0
    if additional < 0:
        row.refuse("ADDL", "cannot be negative; give the number of doses that follow")
    interval = row.number("II")
    if interval is not None and interval < 0.0:
        row.refuse("II", "cannot be negative; give the time between doses")
    if not interval and (steady or additional):
        row.refuse("II", "SS and ADDL need the time between doses; give II > 0")
    try:
        return Dose(
            amount,
            time,
            into=compartments[compartment],
            rate=rate,
            interval=interval or None,
            additional=additional,
            is_steady_state=bool(steady),
        )
    except InvalidInput as error:
        raise InvalidInput(f"{row.file}: row {row.line}: {error}") from None


def _read_covariates(row: _Row, patient: _Patient) -> None:
    for name, text in row.covariates.items():
        first = patient.covariates.get(name)
        if first is None or text in _MISSING:
            patient.covariates[name] = first or (None if text in _MISSING else text)
        elif text != first and not _is_same_number(text, first):
            row.refuse(
                name,
                f"it was {first} above, and covariates that change in time are not supported; name "
                f"the column in ignore=['{name}'] or keep one value",
            )


def _is_same_number(one: str, other: str) -> bool:
    try:
        return float(one) == float(other)
    except ValueError:
        return False


def _covariates(patients: list[_Patient]) -> dict[str, Array]:
    names = dict.fromkeys(name for patient in patients for name in patient.covariates)
    return {name: _column([p.covariates.get(name) for p in patients]) for name in names}


def _column(texts: list[str | None]) -> Array:
    try:
        return np.array([math.nan if text is None else float(text) for text in texts])
    except ValueError:
        return np.array([text or "" for text in texts])
