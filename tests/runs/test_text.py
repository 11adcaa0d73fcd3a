from pathlib import Path

import pytest

from carlt.runs.record import read_per_class, write_per_class
from carlt.runs.text import from_spreadsheet_cell, get_logger, printable, spreadsheet_cell


@pytest.mark.parametrize("text", ["=1+1", "+a", "-a", "@a", "'=a", "''@a", "'a", "a=1", ""])
def test_a_cell_is_no_formula_and_comes_back(text: str) -> None:
    assert not spreadsheet_cell(text).startswith(("=", "+", "-", "@"))
    assert from_spreadsheet_cell(spreadsheet_cell(text)) == text


def test_what_a_terminal_would_obey_is_written_out() -> None:
    assert printable("a\x1b[31m\r\n\u202e\udc80ß猫") == "a\\x1b[31m\\r\\n\\u202e\\udc80ß猫"


def test_a_logger_says_what_a_terminal_would_obey_written_out(caplog: pytest.LogCaptureFixture) -> None:
    get_logger("carlt.test").warning("left out %s", Path("a\x1b[31m.png"))
    assert caplog.messages == ["left out a\\x1b[31m.png"]


def test_class_names_survive_the_file(tmp_path: Path) -> None:
    names = ["=1+1", "a,b", 'x"y', "a\rb", "-5", "@x", "猫"]
    write_per_class(tmp_path, names, [1] * 7, [1] * 7, [1] * 7)
    assert [row.class_name for row in read_per_class(tmp_path)] == [printable(name) for name in names]
    assert "\r" not in (tmp_path / "per_class.csv").read_bytes().decode()
