"""What the tests of both kinds of sparse steps share."""

import pytest

from engine.methods import direct_sparse


@pytest.fixture
def forced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every network counts as large."""
    monkeypatch.setattr(direct_sparse, "MANY", 0)
