"""Piped output has a line at least every so often, whatever the command does meanwhile."""

import time

import pytest

from carlt.runs.heartbeat import EVERY_S, heartbeat, say


def test_a_silent_block_says_that_it_runs(capsys: pytest.CaptureFixture[str]) -> None:
    with heartbeat("job 2  ", every_s=0.05), heartbeat("within  ", every_s=0.01):
        time.sleep(0.3)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "job 2  still running, about 1 s since the start"
    assert set(lines) == {lines[0]}
    assert 2 <= len(lines) <= 6
    assert EVERY_S < 30


def test_other_lines_take_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    with heartbeat(every_s=0.4):
        for k in range(6):
            say(f"line {k}")
            time.sleep(0.1)
    assert capsys.readouterr().out.splitlines() == [f"line {k}" for k in range(6)]


def test_a_terminal_has_bars_instead(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    with heartbeat(every_s=0.01):
        time.sleep(0.1)
    assert capsys.readouterr().out == ""
