"""Piped output has a line at least every so often, whatever the command does meanwhile."""

import threading
import time
from types import SimpleNamespace

import pytest

from carlt.runs.heartbeat import EVERY_S, heartbeat, say
from carlt.runs.text import format_duration


def test_a_silent_block_says_that_it_runs(capsys: pytest.CaptureFixture[str]) -> None:
    said = ""
    with heartbeat("job 2  ", every_s=0.05), heartbeat("within  ", every_s=0.01):
        for _ in range(1000):
            time.sleep(0.01)
            said += capsys.readouterr().err
            if said.count("\n") > 1:
                break
    lines = said.splitlines()
    assert len(lines) > 1
    assert all(line.startswith("job 2  still running, ") and line.endswith(" since the start") for line in lines)
    assert EVERY_S < 30


def test_other_lines_take_its_place(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """By a clock of the test: a line after 3 s puts off the one that is due after 10 s without any."""
    clock, waits = [100.0], []

    class Event:
        """What the watching thread waits for; the block ends during the third wait."""

        def wait(self, seconds: float) -> bool:
            waits.append(seconds)
            if len(waits) == 1:
                clock[0] += 3
                say("line")
                clock[0] += seconds - 3
            else:
                clock[0] += seconds
            return len(waits) == 3

        def set(self) -> None:
            pass

    monkeypatch.setattr("carlt.runs.heartbeat._spoken", 0.0)
    monkeypatch.setattr("carlt.runs.heartbeat.time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr("carlt.runs.heartbeat.threading", SimpleNamespace(Event=Event, Thread=threading.Thread))
    with heartbeat(every_s=10):
        pass
    assert waits == [10, 3, 10]
    said = capsys.readouterr()
    assert (said.out, said.err) == ("line\n", f"still running, {format_duration(13)} since the start\n")


def test_a_terminal_has_bars_instead(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    with heartbeat(every_s=0.01):
        time.sleep(0.1)
    assert capsys.readouterr() == ("", "")
