"""Every example runs as a new user would run it."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
NEEDS_DATA = {"mutein_fit.py"}  # tests/test_mutein_fit.py
SLOW = {"il2_selectivity.py"}
NAMES = sorted({path.name for path in EXAMPLES.glob("*.py")} - NEEDS_DATA)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.full if n in SLOW else ()) for n in NAMES]
)
def test_example_runs_and_prints(name, tmp_path):
    run = subprocess.run(
        [sys.executable, str(EXAMPLES / name)], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip()
    assert not run.stderr.strip()
