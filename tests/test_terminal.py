"""Progress where there is no terminal."""

import pytest

from engine import terminal


def test_a_log_file_gets_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def shown(seconds: float) -> list[str]:
        monkeypatch.setattr(terminal, "_LINE_SECONDS", seconds)
        with terminal.showing_progress("starts") as report:
            for done in (1, 2, 3):
                report(done, 3, note=f"best {10 / done:.1f}")
        return capsys.readouterr().err.splitlines()

    # The last one is no progress any more.
    assert shown(0.0) == ["1 of 3 starts; best 10.0", "2 of 3 starts; best 5.0"]
    assert shown(1000.0) == []
