"""Fixtures that every test may ask for, and the strictest promotion rules for all of them."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from engine.kernel import driver as drivers
from engine.kernel import runner

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

ROOT = Path(__file__).resolve().parents[1]

# Tracing makes many small objects that stay: Python would walk through them 10,000 times, a
# twentieth of the suite's time.
gc.set_threshold(50_000)


# Every compiled function maps some pages of its own; Linux allows a process 65,530 mappings, and
# XLA's compiler dies of a segmentation fault at the limit.
MAPS, MOST_MAPS = Path("/proc/self/maps"), 20_000


@pytest.fixture(scope="module", autouse=True)
def few_compiled_functions() -> Iterator[None]:
    """Forgets what earlier files compiled once that is much."""
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > MOST_MAPS:
        # Runners hold executables that JAX knows nothing of.
        runner._runner.cache_clear()
        jax.clear_caches()
    yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of published suites and models; ENGINE_SHARED says where else it lies."""
    folder = Path(os.environ.get("ENGINE_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"the published suites are not at {folder}; set ENGINE_SHARED")
    return folder


# The same tests on every driver: XLA's loop, the GPU's kernel interpreted, and on a GPU for real.
ON_A_GPU = pytest.param("pallas", marks=pytest.mark.gpu)


@pytest.fixture(scope="module", params=["xla", "interpreted", ON_A_GPU])
def driver(request: pytest.FixtureRequest) -> Iterator[str]:
    """What runs the lanes while this fixture is in use."""
    yield from _driven(request.param)


@pytest.fixture(
    scope="module", params=["xla", pytest.param("interpreted", marks=pytest.mark.full), ON_A_GPU]
)
def quick_driver(request: pytest.FixtureRequest) -> Iterator[str]:
    """The same for models that take minutes to interpret."""
    yield from _driven(request.param)


def _driven(name: str) -> Iterator[str]:
    if name == "pallas" and not drivers.is_nvidia(jax.default_backend()):
        pytest.skip("JAX sees no NVIDIA GPU")
    with drivers.using(drivers.DRIVERS[name]):
        yield name
