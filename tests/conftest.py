"""Fixtures that every test may ask for, and the strictest promotion rules for all of them."""

import os
from pathlib import Path

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of published suites and models; ENGINE_SHARED says where else it lies."""
    folder = Path(os.environ.get("ENGINE_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"the published suites are not at {folder}; set ENGINE_SHARED")
    return folder
