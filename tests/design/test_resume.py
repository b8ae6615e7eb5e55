"""A design that is stopped goes on where it was, and its files are read and checked."""

import json
from dataclasses import replace

import pytest

from engine import cli
from engine.design import Journal, optimise
from engine.design.run import STAGES
from engine.design.spec import DesignSpec, read_design
from engine.errors import InvalidInput
from engine.trial.tables import to_toml
from tests.conftest import ROOT
from tests.design.test_design import QUICK, contents, problem

SMALL = replace(QUICK, num_rounds=2, num_steps=2, num_patients=64, num_verified=200)


class Stopped(Exception):
    """The machine went down."""


def stopping(journal: Journal, after: int):
    """The journal of a process that ends when so many stages are done."""

    def memory(name, done):
        if len(journal.kept) >= after and name not in journal.kept:
            raise Stopped
        return journal(name, done)

    return memory


def test_a_stopped_search_ends_as_one_that_was_not(tmp_path) -> None:
    whole = optimise(problem(), SMALL, seed=1, frontier=[0.05])
    path, made = tmp_path / "stages.json", []
    for after in (1, 3, 4):
        with pytest.raises(Stopped):
            optimise(
                problem(),
                SMALL,
                seed=1,
                frontier=[0.05],
                memory=stopping(Journal(path), after),
            )
        assert len(Journal(path).kept) == after
    journal = Journal(path)

    def counting(name, done):
        made.append(name not in journal.kept)
        return journal(name, done)

    again = optimise(problem(), SMALL, seed=1, frontier=[0.05], memory=counting)
    assert again.contents() == whole.contents()
    assert made[:4] == [False] * 4 and any(made)
    other = optimise(problem(), SMALL, seed=2)
    assert other.contents() != whole.contents()


def test_the_command_says_what_is_there(tmp_path, capsys) -> None:
    spec, out = tmp_path / "design.toml", tmp_path / "out"
    spec.write_text(to_toml(contents()))
    assert cli.run(["design", str(spec), "--out", str(out)]) == 0
    found = (out / "design.json").read_bytes()
    assert not (out / STAGES).exists()
    capsys.readouterr()
    assert cli.run(["design", str(spec), "--out", str(out)]) == 0
    assert "holds a finished design" in capsys.readouterr().out
    # As it is after a kill: the spec and some stages.
    (out / "design.json").unlink()
    (out / STAGES).write_text("{}")
    assert cli.run(["design", str(spec), "--out", str(out)]) == 0
    assert (out / "design.json").read_bytes() == found
    (out / "design.json").unlink()
    (out / STAGES).write_text("[not a journal")
    assert cli.run(["design", str(spec), "--out", str(out)]) == 1
    assert "remove it to begin again" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["storm_fractions", "low_dose_il2", "mutein"])
def test_the_examples_are_sound(name: str) -> None:
    spec, found = read_design(ROOT / "examples" / f"{name}_design.toml")
    assert set(spec.grid) == set(found.names)
    json.dumps(spec.contents())


POLICY = {
    "name": "exponent",
    "covariate": "b_xy",
    "reference": 0.9,
    "low": -2.0,
    "high": 2.0,
    "start": 0.0,
}
DOSE = {"name": "dose", "dose": 0, "low": 0.5, "high": 6.0}
WRONG = {
    "policy": ({"variables": [DOSE, {**POLICY, "covariate": "b_yx2"}]}, "nothing is known of"),
    "reference": (
        {"variables": [DOSE, {k: v for k, v in POLICY.items() if k != "reference"}]},
        "covariate = NAME with reference = NUMBER",
    ),
    "both": (
        {
            "variables": [DOSE, POLICY],
            "fractions": {"into": "depot", "counts": [1]},
        },
        "choose the count first",
    ),
    "counts": ({"fractions": {"into": "depot", "counts": [1, 2]}}, "2 doses into 'depot'"),
    "subgroups": ({"subgroups": {"covariate": "b_xy", "shares": [0.5]}}, "beside a dosing policy"),
    "relative": ({"relative": ["b_yx"]}, "did you mean 'b_xy'"),
    "bolus": ({"variables": [{**DOSE, "what": "rate"}]}, "has no rate; give rate="),
    "worst": (
        {"benefit": {"name": "b", "tally": "final", "of": "tumour", "worst": 0.1}},
        "only a risk",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_mistakes_in_the_file(name: str) -> None:
    changed, message = WRONG[name]
    with pytest.raises(InvalidInput, match=message):
        DesignSpec.parsed({**contents(), **changed}, "design").problem()


def test_a_policy_of_the_file() -> None:
    given = {**contents(), "variables": [DOSE, POLICY], "grid": {"dose": [1.0, 3.0]}}
    found = DesignSpec.parsed(given, "design").problem()
    assert [term.label for term in found.terms] == ["exponent of b_xy"]
