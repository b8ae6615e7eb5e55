"""The benchmark command, and what its questions share."""

import json

import numpy as np
import pytest
from matplotlib.figure import Figure

import engine
from benchmarks import __main__ as command
from benchmarks import deviations, generated, gpu_code, large_networks, tables
from benchmarks.question import Options, Question
from benchmarks.questions import QUESTIONS


def test_instructions_of_a_step_are_those_of_the_longest_inner_loop() -> None:
    assembly = """
.L_x_0:
        /*0000*/                   MOV R1, R2 ;
.L_x_1:
        /*0010*/                   FADD R1, R1, R2 ;
        /*0020*/              @!P0 FMUL R1, R1, R2 ;
        /*0030*/               @P0 BRA `(.L_x_1) ;
        /*0040*/                   BAR.SYNC 0x0 ;
        /*0050*/              @!P1 BRA `(.L_x_0) ;
        /*0060*/                   EXIT ;
.L_x_2:
        /*0070*/                   BRA `(.L_x_2);
"""
    assert gpu_code.steps_instructions(assembly) == 3


def test_the_list_has_a_line_for_each(capsys) -> None:
    assert command.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(QUESTIONS)
    for question in QUESTIONS.values():
        assert question.asks and "\n" not in question.asks


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["scaling_patient"], "did you mean 'scaling_patients'"),
        (["throughput", "--rival", "bngsym"], "did you mean 'bngsim'"),
        (["memory", "--models-directory", "nowhere"], "set ENGINE_SHARED"),
    ],
)
def test_bad_input_is_one_line(capsys, arguments, message) -> None:
    assert command.main(arguments) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("benchmarks: ") and shown.count("\n") == 1 and message in shown


@pytest.mark.parametrize("cores, message", [("one", "numbers of cores"), ("99999", "may not use")])
def test_bad_cores(shared, capsys, cores: str, message: str) -> None:
    models = ["--models-directory", str(shared / "reference_models")]
    assert command.main(["memory", *models, "--cores", cores]) == 2
    assert message in capsys.readouterr().err


def test_asking_writes_json_figure_and_table(tmp_path, capsys) -> None:
    question = Question(
        "two", "how much is one and one", lambda o: [{"sum": 2}], lambda r: Figure(), str
    )
    options = Options(True, tmp_path, (0,))
    result = command.ask(question, options, tmp_path)
    (path,) = (tmp_path / "results").glob("two_python*.json")
    assert json.loads(path.read_text()) == result
    assert result["is_quick"] and result["machine"]["versions"]["jax"]
    assert (tmp_path / "figures" / "two.png").stat().st_size > 0
    assert "sum" in capsys.readouterr().out


@pytest.mark.parametrize("name", QUESTIONS)
def test_stored_results_can_be_shown(name: str) -> None:
    """What lies in the repository still makes a table and a figure."""
    for result in tables.results_of(name):
        assert "|---|" in QUESTIONS[name].table(result)
        assert QUESTIONS[name].plot(result).axes


def test_the_readme_shows_the_stored_results() -> None:
    readme = (tables.HERE / "README.md").read_text()
    for name in QUESTIONS:
        assert tables.section(name) in readme, f"{name}: run python -m benchmarks.tables"


def sample(scale: float, num: int, seed: int) -> dict:
    values = np.random.default_rng(seed).poisson(scale * 400.0, (num, 3, 2)).astype(float)
    centred = values - values.mean(axis=0)
    return {
        "species": ["A", "B"],
        "mean": values.mean(axis=0),
        "variance": values.var(axis=0, ddof=1),
        "fourth": (centred**4).mean(axis=0),
        "num_samples": num,
    }


def test_deviations_see_two_percent_and_nothing_where_there_is_nothing() -> None:
    truth = sample(1.0, 20_000, 1)
    same, other = (deviations.compared(sample(s, 20_000, 2), truth) for s in (1.0, 1.02))
    assert same["mean_sigmas"] < 5 < other["mean_sigmas"]
    assert same["mean_beyond_noise_percent"] == 0 < 1.5 < other["mean_beyond_noise_percent"] < 2.5
    assert same["num_means_seen"] == same["num_entries"] == 6
    assert deviations.compared(sample(1.0, 20, 2), truth)["mean_percent"] is None


def test_deviations_leave_out_the_variances_of_smooth_species() -> None:
    truth, found = sample(1.0, 20_000, 1), sample(1.0, 20_000, 2)
    found["variance"][:, 1] = 0.0
    assert deviations.compared(found, truth)["variance_beyond_noise_percent"] > 90
    assert deviations.compared(found, truth, ["B"])["variance_beyond_noise_percent"] == 0


def test_generated_networks(tmp_path) -> None:
    """Every simulator reads the same network: the file says what the object says."""
    stem = generated.write(40, tmp_path / "generated_40")
    network = engine.read_sbml(f"{stem}.xml")
    record = json.loads(stem.with_suffix(".json").read_text())
    assert len(network.reactions) == len(record["reactions"]) == 40
    assert network.initial_values == dict(zip(record["species"], record["x0"], strict=True))
    ours = generated.network_of(record)
    for one, other in zip(network.reactions, ours.reactions, strict=True):
        assert network.changes(one) == ours.changes(other)
    model = large_networks.model_of("generated_40", tmp_path)
    assert [r.rate for r in model.reactions] == [r["k"] for r in record["reactions"]]
    assert model.initial_counts == tuple(record["x0"]) and model.end_time == record["T"]
    with pytest.raises(engine.InvalidInput, match="num_reactions=9"):
        generated.generate(9)
