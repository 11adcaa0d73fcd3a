"""List files: what is read, and every way in which a line can be wrong."""

import os

import numpy as np
import pytest

from carlt.data.io.lists import read_list
from carlt.errors import CarltError

GOOD = b"train/a/1.jpg 0\ntrain/b/2 3.jpg 1\n"

BAD_LINES = [
    (b"train/a/3.jpg x\n", "the label 'x' is no integer from 0 to 1"),
    (b"train/a/3.jpg 2\n", "the label '2' is no integer from 0 to 1"),
    (b"train/a/3.jpg -1\n", "the label '-1' is no integer"),
    (b"train/a/3.jpg 01\n", "the label '01' is no integer"),
    (b"train/a/3.jpg 1.0\n", "the label '1.0' is no integer"),
    (b"train/a/3.jpg\n", "'train/a/3.jpg' is not `<relative path> <label>`"),
    (b"\n", "the line is blank"),
    (b"   \n", "the line is blank"),
    (b"train/a/1.jpg 0\n", "train/a/1.jpg is listed twice"),
    (b"/etc/passwd 0\n", "/etc/passwd leaves the data folder"),
    (b"C:\\x.jpg 0\n", "leaves the data folder"),
    (b"train/../../x.jpg 0\n", "leaves the data folder"),
    (b"..\\x.jpg 0\n", "leaves the data folder"),
]


@pytest.mark.parametrize("content", [GOOD, GOOD.replace(b"\n", b"\r\n"), GOOD + b"\n\n", GOOD.rstrip()])
def test_good_lists(tmp_path, content):
    (tmp_path / "list.txt").write_bytes(content)
    records = read_list(tmp_path / "list.txt", 2)
    assert records.paths.tolist() == [b"train/a/1.jpg", b"train/b/2 3.jpg"]
    assert records.labels.tolist() == [0, 1]


@pytest.mark.parametrize(("line", "complaint"), BAD_LINES)
def test_bad_lines_are_named_or_left_out(tmp_path, caplog, line, complaint):
    path = tmp_path / "list.txt"
    path.write_bytes(GOOD + line + b"train/c/4.jpg 1\n")
    with pytest.raises(CarltError) as caught:
        read_list(path, 2)
    assert f"{path}, line 3: " in str(caught.value)
    assert complaint in str(caught.value)
    records = read_list(path, 2, on_error="skip")
    assert records.lines.tolist() == [1, 2, 4]
    assert "left out 1 line " in caplog.text


@pytest.mark.parametrize(("content", "complaint"), [(b"", "line 1: the line is blank"), (None, "cannot be read")])
def test_no_list(tmp_path, content, complaint):
    if content is not None:
        (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(CarltError, match=complaint):
        read_list(tmp_path / "list.txt", 2)


def test_rewriting_touches_every_path(tmp_path):
    (tmp_path / "list.txt").write_bytes(GOOD)
    records = read_list(tmp_path / "list.txt", 2).rewritten("^train/", "images/")
    assert records.paths.tolist() == [b"images/a/1.jpg", b"images/b/2 3.jpg"]
    assert records.paths.dtype.kind == "S"
    assert np.array_equal(records.labels, [0, 1])


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "list.txt")
    with pytest.raises(CarltError, match=r"list .*list.txt is no regular file"):
        read_list(tmp_path / "list.txt", 2)
