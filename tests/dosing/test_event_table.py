"""NONMEM-style tables: what is read, and one clear line for what is not."""

import numpy as np
import pytest

from engine.dosing.dose import Dose, Reset
from engine.dosing.event_table import EventTable, read_event_table
from engine.dosing.regimen import Regimen
from engine.errors import InvalidInput

COMPARTMENTS = {1: "IL2", 2: "X"}


@pytest.fixture
def read(tmp_path):
    def from_text(text: str, compartments=COMPARTMENTS, **options) -> EventTable:
        path = tmp_path / "trial.csv"
        path.write_text(text, encoding="utf-8")
        return read_event_table(path, compartments, **options)

    return from_text


FULL = """\
# made by hand
C,ID,TIME,EVID,AMT,CMT,RATE,II,ADDL,SS,DV,MDV,WT,SEX
.,1,0,1,100,1,.,24,3,1,.,1,70,F
.,1,1.5,0,.,.,.,.,.,.,12.5,0,70,F
C,1,2,0,nonsense,,,,,,,,,
.,1,96,1,60,1,20,0,0,0,.,1,70.0,F
.,7,0,1,5,2,0,0,0,0,.,1,.,M

.,7,3,2,.,.,.,.,.,.,.,1,.,M
.,7,2e1,0,0,1,0,0,0,0,3,0,.,M
"""


def test_a_table_is_read_unchanged(read):
    table = read(FULL)
    assert table.patient_ids.tolist() == [1, 7]
    assert table.patient_ids.dtype == np.int64
    assert table.regimens == (
        Regimen(
            (
                Dose(100, into="IL2", interval=24, additional=3, is_steady_state=True),
                Dose(60, 96, into="IL2", rate=20),
            )
        ),
        Regimen((Dose(5, into="X"),)),
    )
    np.testing.assert_array_equal(table.covariates["WT"], [70.0, np.nan])
    assert table.covariates["SEX"].tolist() == ["F", "M"]
    assert set(table.covariates) == {"WT", "SEX"}
    assert [times.tolist() for times in table.observation_times] == [[1.5], [3.0, 20.0]]
    assert table.ts.tolist() == [1.5, 3.0, 20.0]


def test_headers_in_any_case_and_fewest_columns(read):
    table = read("﻿id, time ,Amt,Age\n3,0,10,50\n3,5,.,50\n", {1: "IL2"})
    assert table.regimens == (Regimen((Dose(10, into="IL2"),)),)
    assert table.observation_times[0].tolist() == [5.0]
    assert table.covariates["Age"].tolist() == [50.0]


def test_a_regimen_written_and_read_is_the_same(read):
    regimen = Regimen(
        (
            Dose(1.25, 0.1, into="IL2"),
            Dose(3, 0.1, into="X"),
            Dose(7.5, 3.0, into="IL2", rate=2.5, interval=12.0, additional=4),
            Dose(1 / 3, 90.0, into="IL2", interval=8.0, is_steady_state=True),
        )
    )
    numbers = {name: number for number, name in COMPARTMENTS.items()}
    rows = [
        f"4,{d.time!r},1,{d.amount!r},{numbers[d.into]},{d.rate or 0},{d.interval or 0},"
        f"{d.additional},{int(d.is_steady_state)}"
        for d in regimen.doses
    ]
    table = read("\n".join(["ID,TIME,EVID,AMT,CMT,RATE,II,ADDL,SS", *rows]))
    assert table.regimens == (regimen,)


def test_missing_evid_follows_from_the_amount(read):
    table = read("ID,TIME,EVID,AMT,CMT\n1,0,.,5,1\n1,1,.,.,.\n1,2,.,0,1\n1,3,1,0,1\n")
    assert [dose.amount for dose in table.regimens[0].doses] == [5.0, 0.0]
    assert table.observation_times[0].tolist() == [1.0, 2.0]


def test_resets_of_inputs_are_read_when_asked_for(read):
    text = "ID,TIME,EVID,AMT,CMT\n1,0,1,5,1\n1,4,3,.,.\n1,8,4,6,1\n"
    table = read(text, is_reset_of_inputs_only=True)
    doses = table.regimens[0].doses
    assert doses == (Dose(5, into="IL2"), Reset(4.0), Reset(8.0), Dose(6, 8.0, into="IL2"))
    with pytest.raises(InvalidInput, match=r"trial.csv: row 3, EVID = 3: a reset of the whole"):
        read(text)


def test_columns_that_are_no_covariates_can_be_ignored(read):
    text = "ID,TIME,AMT,CMT,tad\n1,0,5,1,0\n1,1,.,.,1\n"
    assert read(text, ignore=["TAD"]).covariates == {}
    with pytest.raises(InvalidInput, match=r"row 3, tad = 1: it was 0 above.*ignore=\['tad'\]"):
        read(text)


def test_a_covariate_without_any_value_is_missing(read):
    table = read("ID,TIME,AMT,CMT,WT,AGE\n1,0,5,1,.,.\n1,1,.,.,.,7\n")
    assert np.isnan(table.covariates["WT"]).all()
    assert table.covariates["AGE"].tolist() == [7.0]


HEADER = "ID,TIME,EVID,AMT,CMT,RATE,II,ADDL,SS,WT\n"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("1,0,1,-5,1,.,.,.,.,7", r"row 2, AMT = -5: a dose cannot be negative"),
        ("1,0,1,.,1,.,.,.,.,7", r"row 2, AMT = .: a dose needs an amount"),
        ("1,0,1,5,9,.,.,.,.,7", r"row 2, CMT = 9: not in compartments=, which has 1 \(IL2\), 2"),
        ("1,0,1,5,.,.,.,.,.,7", r"row 2, CMT = .: not in compartments="),
        ("1,0,1,5,1.5,.,.,.,.,7", r"row 2, CMT = 1.5: not a whole number"),
        ("1,0,1,5,1,-2,.,.,.,7", r"row 2, RATE = -2: modelled rates and durations"),
        ("1,0,1,5,1,-1,.,.,.,7", r"row 2, RATE = -1: modelled rates and durations"),
        ("1,0,1,0,1,3,24,.,1,7", r"row 2, RATE = 3: an infusion without an end"),
        ("1,0,1,5,1,.,24,.,2,7", r"row 2, SS = 2: only 0 and 1"),
        ("1,0,1,5,1,.,.,.,1,7", r"row 2, II = .: SS and ADDL need"),
        ("1,0,1,5,1,.,0,3,.,7", r"row 2, II = 0: SS and ADDL need"),
        ("1,0,1,5,1,.,-1,3,.,7", r"row 2, II = -1: cannot be negative"),
        ("1,0,1,5,1,.,1,-3,.,7", r"row 2, ADDL = -3: cannot be negative"),
        ("1,0,1,5,1,1,4,.,1,7", r"row 2: the dose into 'IL2' is at steady state and lasts 5"),
        ("1,0,7,5,1,.,.,.,.,7", r"row 2, EVID = 7: unknown"),
        ("1,0,0,5,1,.,.,.,.,7", r"row 2, AMT = 5: an amount in a row with EVID 0"),
        ("1,-1,1,5,1,.,.,.,.,7", r"row 2, TIME = -1: every row needs a time from 0 on"),
        ("1,.,1,5,1,.,.,.,.,7", r"row 2, TIME = .: every row needs"),
        ("1,9:30,1,5,1,.,.,.,.,7", r"row 2, TIME = 9:30: not a number"),
        ("1,inf,1,5,1,.,.,.,.,7", r"row 2, TIME = inf: not finite"),
        (".,0,1,5,1,.,.,.,.,7", r"row 2, ID = .: every row needs its patient's number"),
        ("1,0,1,5,1,.,.,.,.", r"row 2 has 9 cells and the header 10"),
        ("1,4,1,5,1,.,.,.,.,7\n1,3,0,.,.,.,.,.,.,7", r"row 3, TIME = 3: earlier than 4"),
        ("1,4,1,5,1,.,.,.,.,7\n1,5,0,.,.,.,.,.,.,8", r"row 3, WT = 8: it was 7 above"),
        (
            "1,0,1,5,1,.,.,.,.,7\n2,0,1,5,1,.,.,.,.,7\n1,5,0,.,.,.,.,.,.,7",
            r"row 4, ID = 1: the patient's other rows are not next to it",
        ),
        (
            "1,0,1,5,1,.,4,3,.,7\n1,12,3,.,.,.,.,.,.,7",
            r"row 3, EVID = 3: a dose above it is due at 12",
        ),
        ("", r"no rows"),
    ],
)
def test_a_bad_row_is_named_in_one_line(read, rows, message):
    with pytest.raises(InvalidInput, match="trial.csv: " + message) as caught:
        read(HEADER + rows + "\n", is_reset_of_inputs_only=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("ID;TIME;AMT", r"row 1 has no column ID \(it has ID;TIME;AMT\)"),
        ("ID,AMT,CMT", r"row 1 has no column TIME"),
        ("ID,TIME,CMT", r"row 1 has no column AMT"),
        ("ID,TIME,AMT,amt", r"row 1 has column AMT twice"),
        ("ID,DATE,TIME,AMT", r"row 1, column DATE is not supported; give TIME as one number"),
        ("ID,TIME,AMT,dur", r"row 1, column DUR is not supported; give RATE = AMT / DUR"),
    ],
)
def test_bad_columns_are_named(read, header, message):
    with pytest.raises(InvalidInput, match=message):
        read(header + "\n1,0,1,1\n")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InvalidInput, match=r"absent.csv: cannot be read \(No such file"):
        read_event_table(tmp_path / "absent.csv", COMPARTMENTS)
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"ID,TIME\n\xff\xfe\x00")
    with pytest.raises(InvalidInput, match=r"binary.csv: is not a CSV file in UTF-8"):
        read_event_table(binary, COMPARTMENTS)
