"""Mistakes on a command line: exit code 2, one message with value, place and remedy, nothing created or changed."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import Command

from carlt.runs import paths

SECTIONS = [
    [line.split(" -> ") for line in section.splitlines() if not line.startswith("#")]
    for section in Path(__file__).with_name("mistakes.txt").read_text().split("\n\n")
]
TABLE = [mistake for section in SECTIONS for mistake in section]
FAST = 8
"""So many mistakes of each section are always tested."""
CASES = [
    pytest.param(*mistake, id=mistake[0], marks=() if k < FAST else pytest.mark.slow)
    for section in SECTIONS
    for k, mistake in enumerate(section)
]
REMEDY = re.compile(
    "expected|choose|did you mean|give|add|leave|go on|start|point it|--help|-help lists|lower|run `|take|exchange|"
    "combine|name a|at most|near it|Available|must be"
)


def test_the_table_is_long_and_names_each_command() -> None:
    assert len(TABLE) >= 150
    assert {line.split()[0] for line, _ in TABLE} == {"train", "evaluate", "prepare", "report", "predict", "export"}
    assert len({line for line, _ in TABLE}) == len(TABLE)


@pytest.fixture(scope="module")
def places(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """What the table's names in braces stand for."""
    top = tmp_path_factory.mktemp("mistakes")
    shutil.copytree(finished, top / "run")
    shutil.copytree(finished, top / "busy")
    (top / "empty").mkdir()
    (top / "file").write_text("text")
    hold = (
        "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print('held'); sys.stdin.read()"
    )
    command = [sys.executable, "-uc", hold, top / "busy" / paths.LOCK]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        yield {name: top / name for name in ("run", "busy", "empty", "file")} | {"long": top / ("a" * 300)}
        holder.communicate()


def times(top: Path) -> dict[Path, int]:
    """Of every file; a folder's own changes when a lock comes and goes."""
    return {path: path.is_file() and path.stat().st_mtime_ns for path in top.rglob("*")}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("line", "said"), CASES)
def test_a_mistake(
    line: str, said: str, places: dict[str, Path], tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, *words = (word.format(**places) for word in line.split())
    if name == "train" and not any("resume=" in word for word in words):
        words += [
            text for text in ("trainer.accelerator=cpu", "trainer.max_epochs=1") if text.split("=")[0] not in line
        ]
    before = times(places["run"].parent)
    monkeypatch.chdir(tmp_path)
    code, output, errors = command(name, *words)
    assert (code, output) == (2, "")
    first, *rest = errors.splitlines()
    assert first.startswith(f"carlt.{name}: error: "), errors
    indent = " " * len(f"carlt.{name}: error: ")
    assert all(text.startswith(indent) for text in rest), errors
    assert "Traceback" not in errors
    parts = said.format(**places).split(" & ")
    assert all(part in errors for part in parts), errors
    if len(parts) > 1:
        assert len(parts) == 1 + len(rest), errors
    assert all(REMEDY.search(text) for text in (first, *rest)), errors
    assert not list(tmp_path.iterdir())
    assert times(places["run"].parent) == before
