import json
import math
import os
from pathlib import Path

import pytest
import torch

from carlt.errors import CarltError
from carlt.functional.accuracy import class_groups
from carlt.runs.paths import written_whole
from carlt.runs.record import read_per_class, read_result, write_per_class, write_result
from carlt.shots import group_of


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    result = {"metrics": {"test/accuracy": 1 / 3}, "class_counts": [3, 1], "commit": None}
    write_result(tmp_path, result)
    assert read_result(tmp_path) == result


def test_what_is_not_finite_is_null_at_any_depth(tmp_path: Path) -> None:
    write_result(tmp_path, {"a": math.nan, "b": {"c": [math.inf, 1.0]}, "d": (math.nan, 1.0)})
    text = (tmp_path / "result.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {
        "a": None,
        "b": {"c": [None, 1.0]},
        "d": [None, 1.0],
    }


def test_a_link_in_the_place_of_the_file_beside_is_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("mine")
    (tmp_path / "result.json.part").symlink_to(other)
    write_result(tmp_path, {})
    assert other.read_text() == "mine"
    assert not (tmp_path / "result.json").is_symlink()


def test_of_two_writers_of_one_file_the_last_one_stays_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    first, second = written_whole(path), written_whole(path)
    first.__enter__().write_text("A" * 10)
    with open(second.__enter__(), "w") as file:
        file.write("B" * 5)
        file.flush()
        first.__exit__(None, None, None)  # while the second one is half way
        assert path.read_text() == "A" * 10
        file.write("B" * 5)
    second.__exit__(None, None, None)
    assert path.read_text() == "B" * 10
    assert os.listdir(tmp_path) == ["file"]
    (tmp_path / "usual").touch()
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no valid JSON"),
        ("[" * 100_000, "no valid JSON"),
        ("[]", "no mapping of keys"),
        ('{"data": 3}', "no mapping of keys"),
    ],
)
def test_a_damaged_result(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(CarltError, match=message):
        read_result(tmp_path)


def test_classes_are_read_as_they_were_written(tmp_path: Path) -> None:
    rows = write_per_class(tmp_path, ["cat, tabby", 'a "b"'], [101, 19], [3, 4], [1, 4])
    assert [row.accuracy for row in rows] == [1 / 3, 1.0]
    assert read_per_class(tmp_path) == rows


def test_a_class_without_test_images_has_an_empty_accuracy(tmp_path: Path) -> None:
    write_per_class(tmp_path, ["seen", "unseen"], [5, 5], [2, 0], [0, 0])
    assert (tmp_path / "per_class.csv").read_text().splitlines()[1:] == ["0,seen,5,few,2,0,0.0", "1,unseen,5,few,0,0,"]
    assert math.isnan(read_per_class(tmp_path)[1].accuracy)


def test_groups_are_those_of_the_metrics() -> None:
    # Written twice, because reports import no torch.
    masks = class_groups(torch.arange(1, 200))
    for count in range(1, 200):
        assert masks[group_of(count)][count - 1]
