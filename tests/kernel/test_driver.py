"""The GPU driver: it runs what the XLA driver runs, it lowers for CUDA, and it falls back aloud."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from jax import export
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

import engine
from engine.errors import InvalidInput
from engine.kernel import driver as drivers
from engine.kernel import pallas_driver
from engine.kernel.runner import Runner
from tests.simulation import network, run

TS = np.linspace(0.0, 4.0, 6)
KERNEL_CALL = "__gpu$xla.gpu.triton"


def dosed_switch() -> tuple[engine.ReactionNetwork, dict[str, Any]]:
    """A gene, a pair, a drug that moves a rate, doses, an event, tallies: all a lane can do."""
    model = network(
        {"G": 1, "off": 0, "A": 20, "B": 3},
        [
            ("G -> off", 0.7, "close"),
            ("off -> G", 0.9, "open"),
            ("G -> G + A", engine.Formula("12 * G * D / (1 + D)"), "make"),
            ("2 A -> B", 0.02, "pair"),
            ("B -> 0", 0.4, "lose"),
            ("A -> 0", 0.3, "decay"),
        ],
        inputs=["D"],
        events=[
            engine.Event("reset", "B > 12", {"B": "2"}),
            engine.Event("late", "time >= 2.5", {"A": "A + 5"}, delay="0.25"),
        ],
    )
    doses = [engine.Dose(3.0, 0.4, into="D", interval=1.1, additional=2)]
    doses.append(engine.Dose(7, 1.0, into="B"))
    options = {
        "inputs": {"D": engine.OneCompartment(clearance=0.8, volume=1.0, absorption=2.0)},
        "regimen": engine.Regimen(doses),
        "tallies": {
            "peak": engine.Maximum("A"),
            "area": engine.TimeIntegral("A * D"),
            "passage": engine.FirstPassage("B >= 6"),
            "pairs": engine.FiringCount("pair"),
            "busy": engine.Occupation("A > 15"),
        },
    }
    return model, options


METHODS = {
    "direct": engine.Direct(lanes=64),
    "tau_leaping": engine.TauLeaping(lanes=64),
    "langevin": engine.Langevin(dt=0.05, lanes=64),
    "hybrid": engine.Hybrid(continuous=["A"], lanes=64),
    "noisy_hybrid": engine.Hybrid(continuous=["A"], is_noisy=True, lanes=64),
}


def simulated(name: str, num: int, **changed: Any) -> engine.Ensemble:
    model, options = dosed_switch()
    if name in ("langevin", "hybrid", "noisy_hybrid"):
        # Reactions that change real numbers only are integrated and have no firings.
        options["tallies"].pop("pairs")
    return run(model, TS, num, seed=3, method=METHODS[name], **{**options, **changed})


QUICK = ("direct", "tau_leaping")


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in QUICK else pytest.mark.full) for n in METHODS],
)
def test_the_kernel_runs_what_the_loop_runs(name: str) -> None:
    """More trajectories than lanes, so that lanes are refilled; a program has 64 of 128 lanes."""
    loop = simulated(name, 150)
    with drivers.using(drivers.INTERPRETED):
        kernel = simulated(name, 150)
    # The two are compiled apart, and may contract products and sums otherwise: paths may part.
    same = np.all(np.isclose(loop.counts, kernel.counts, rtol=1e-3, atol=1e-3), axis=(1, 2))
    assert same.mean() > 0.9
    for tally in loop.tallies:
        np.testing.assert_allclose(
            loop.tallies[tally][same], kernel.tallies[tally][same], rtol=1e-3, atol=1e-3
        )
    np.testing.assert_array_equal(loop.status, kernel.status)


def test_patients_of_the_kernel_are_their_own() -> None:
    """Bit-identical for any number of lanes, blocks and patients."""
    with drivers.using(drivers.INTERPRETED):
        base = simulated("direct", 40)
        model, options = dosed_switch()
        for method in (engine.Direct(lanes=32), engine.Direct(lanes=128, block=7)):
            other = run(model, TS, 40, seed=3, method=method, **options)
            np.testing.assert_array_equal(base.counts, other.counts)
        fewer = run(model, TS, 7, seed=3, **options)
    np.testing.assert_array_equal(base.counts[:7], fewer.counts)


class Lowered(Exception):
    """Carries the program lowered for CUDA."""


def lowered_for_cuda(simulation: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> str:
    """The program that a simulation would compile on a GPU, made on a machine without one."""

    def lower(self: Runner, patients: Any) -> Any:
        device = AbstractDevice("NVIDIA H200", 132, "cuda")
        checks = [export.DisabledSafetyCheck.custom_call(KERNEL_CALL)]
        with use_abstract_mesh(AbstractMesh((), (), abstract_device=device)):
            function = export.export(self._function, platforms=["cuda"], disabled_checks=checks)
            raise Lowered(function(patients).mlir_module())

    monkeypatch.setattr(Runner, "_executable", lower)
    with drivers.using(drivers.PALLAS), pytest.raises(Lowered) as caught:
        simulation()
    return str(caught.value)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_lowers_for_cuda(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = lowered_for_cuda(lambda: simulated(name, 64), monkeypatch)
    assert program.count(KERNEL_CALL) == 1


@pytest.mark.parametrize("name", ["vilar", "jakstat"])
def test_reference_models_lower_for_cuda(shared, name: str, monkeypatch) -> None:
    model = engine.read_sbml(shared / "reference_models" / f"{name}.xml")
    program = lowered_for_cuda(lambda: run(model, TS, 1000), monkeypatch)
    assert program.count(KERNEL_CALL) == 1


def test_the_il2_receptor_lowers_for_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    model = engine.models.il2.il2_receptor("Treg")
    drug = engine.OneCompartment(clearance=0.01, volume=1.0)
    program = lowered_for_cuda(lambda: run(model, TS, 64, inputs={"IL2": drug}), monkeypatch)
    assert program.count(KERNEL_CALL) == 1


def test_a_step_that_triton_cannot_compile_falls_back_aloud(monkeypatch) -> None:
    """Here without a GPU no kernel compiles at all."""
    model = network({"X": 30}, [("X -> 0", 0.5)])
    base = run(model, [1.0], 20)
    with drivers.using(drivers.PALLAS), pytest.warns(RuntimeWarning, match="GPU kernel could not"):
        found = run(model, [1.0], 20)
    np.testing.assert_array_equal(found.counts, base.counts)


def test_the_driver_follows_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ENGINE_DRIVER", raising=False)
    expected = {"cpu": drivers.XLA, "cuda": drivers.PALLAS, "tpu": drivers.XLA_WIDE}
    for platform, driver in expected.items():
        monkeypatch.setattr(jax, "default_backend", lambda platform=platform: platform)
        assert drivers.current() is driver


def test_the_driver_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    monkeypatch.setenv("ENGINE_DRIVER", "interpreted")
    assert drivers.current() is drivers.INTERPRETED
    monkeypatch.setenv("ENGINE_DRIVER", "cuda")
    with pytest.raises(InvalidInput, match="ENGINE_DRIVER=cuda is unknown; give one of xla"):
        drivers.current()
    monkeypatch.setenv("ENGINE_DRIVER", "pallas")
    with pytest.raises(InvalidInput, match="needs an NVIDIA GPU, but JAX computes on 'cpu'"):
        drivers.current()


def test_no_room_on_the_device_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Runner, patients: Any) -> Any:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes")

    monkeypatch.setattr(Runner, "_executable", full)
    with pytest.raises(MemoryError, match=r"no room for 128 trajectories at 1 save times; save"):
        run(network({"X": 30}, [("X -> 0", 0.5)]), [1.0], 20)


@pytest.mark.parametrize("lanes, width", [(256, 128), (96, 32), (1, 1), (2**18, 128)])
def test_programs_divide_the_lanes(lanes: int, width: int) -> None:
    assert pallas_driver._width(lanes) == width


def test_no_warning_where_nothing_falls_back() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(network({"X": 30}, [("X -> 0", 0.5)]), [1.0], 20)
