"""``carlt.predict`` as a command: rows in each form, bad files, and a stopped command that goes on."""

import csv
import json
import sys
from functools import partial
from pathlib import Path

import pytest
from PIL import Image
from tests.conftest import Command

import carlt
from carlt.evaluation.predict import predict as predict_files


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(5):
        Image.new("L", (9, 7), 50 * number).save(folder / f"{number}.png")
    (folder / "=3a\nü.png").write_bytes(b"no image")
    return folder


@pytest.fixture
def predict(finished: Path, command: Command) -> Command:
    """``predict(*words)``: the command with the finished run."""
    return partial(command, "predict", f"run={finished}")


def paths_of(output: Path) -> list[str]:
    return [json.loads(line)["path"] for line in output.read_text().splitlines()]


def test_csv_holds_every_image_and_names_the_bad_one(
    predict: Command, images: Path, tmp_path: Path, finished: Path
) -> None:
    output = tmp_path / "new" / "found.csv"
    code, said, errors = predict(f"images={images}", f"output={output}", "top_k=2", "batch_size=2")
    assert code == 1
    assert "5 predictions in" in said
    assert "no image" in errors
    assert "1 of 6 files could not be read" in errors
    rows = list(csv.DictReader(output.read_text(encoding="utf-8").splitlines()))
    assert list(rows[0]) == ["path", "class_1", "probability_1", "class_2", "probability_2", "error"]
    assert [Path(row["path"]).name for row in rows] == ["0.png", "1.png", "2.png", "3.png", "4.png", r"=3a\nü.png"]
    assert rows[5]["class_1"] == ""
    assert "cannot be decoded" in rows[5]["error"]
    for row, each in zip(rows, carlt.load_run(finished).predict(sorted(images.glob("?.png")), top_k=2), strict=False):
        assert [row["class_1"], row["class_2"]] == each.classes
        assert [float(row["probability_1"]), float(row["probability_2"])] == pytest.approx(each.probabilities, rel=1e-4)


def test_a_stopped_command_goes_on(
    predict: Command, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, output = tmp_path / "whole.jsonl", tmp_path / "found.jsonl"
    predict(f"images={images}", f"output={whole}", "tau=1")
    lines = whole.read_text().splitlines(keepends=True)
    assert len(json.loads(lines[0])["adjusted_classes"]) == 5
    predict(f"images={images}/[01].png", f"output={output}", "tau=1")
    with output.open("a") as file:
        file.write(lines[2][:30])  # what a kill leaves behind
    (images / "=3a\nü.png").unlink()
    Image.new("L", (9, 7)).save(images / "=3a\nü.png")  # mended
    seen = []
    real = predict_files
    monkeypatch.setattr(
        "carlt.evaluation.predict.predict", lambda net, files, **more: seen.extend(files) or real(net, files, **more)
    )
    code, said, _ = predict(f"images={images}", f"output={output}", "tau=1")
    assert (code, len(seen)) == (0, 4)
    assert "6 predictions in" in said
    assert "2 of them from before" in said
    assert paths_of(output) == paths_of(whole)
    code, said, _ = predict(f"images={images}", f"output={whole}", "tau=1")  # only the error is tried again
    assert (code, len(seen)) == (0, 5)
    assert paths_of(whole) == paths_of(output)
    assert "error" not in whole.read_text()
    predict(f"images={images}", f"output={whole}", "tau=1")
    assert len(seen) == 5


def test_a_control_character_and_its_escape_are_two_names(predict: Command, tmp_path: Path) -> None:
    folder, output = tmp_path / "images", tmp_path / "found.csv"
    folder.mkdir()
    for name in ("a\x1b.png", r"a\x1b.png"):
        Image.new("L", (9, 7)).save(folder / name)
        code, said, _ = predict(f"images={folder}", f"output={output}", "top_k=1")
        assert code == 0
    assert "2 predictions in" in said
    assert "1 of them from before" in said
    rows = list(csv.DictReader(output.read_text().splitlines()))
    assert sorted(Path(row["path"]).name for row in rows) == [r"a\\x1b.png", r"a\x1b.png"]


def test_an_output_of_something_else_is_left_alone(predict: Command, images: Path, tmp_path: Path) -> None:
    output = tmp_path / "found.csv"
    predict(f"images={images}", f"output={output}", "top_k=2")
    before = output.read_bytes()
    code, _, message = predict(f"images={images}", f"output={output}", "top_k=3")
    assert code == 2
    assert f"output={output} has predictions with another top_k; choose another file" in message
    code, _, message = predict(f"images={images}", f"output={output}", "top_k=2", "tau=1")
    assert (code, "has predictions with another adjustment" in message) == (2, True)
    assert output.read_bytes() == before
    output.unlink()  # as the message says
    assert predict(f"images={images}", f"output={output}", "top_k=3")[0] != 2
    mine = tmp_path / "mine.csv"
    mine.write_text("my own notes\n")
    code, _, message = predict(f"images={images}", f"output={mine}")
    assert (code, mine.read_text()) == (2, "my own notes\n")
    assert "carlt.predict did not write" in message


def test_without_an_output_rows_are_printed(predict: Command, images: Path) -> None:
    code, said, errors = predict(images / "0.png", images / "1.png", "top_k=1", "device=cpu")
    assert (code, errors) == (0, "")
    assert said.splitlines()[0] == "path,class_1,probability_1,error"
    assert len(said.splitlines()) == 3


def test_a_terminal_shows_a_bar(
    predict: Command, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    _, said, errors = predict(f"images={images}", f"output={tmp_path / 'found.csv'}")
    assert "6/6" in errors
    assert "6/6" not in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "images=<file, folder, pattern or list.txt> is missing"),
        (["images=/nowhere"], "images=/nowhere does not exist"),
        (["images={images}", "output=found.xlsx"], "output=found.xlsx: choose a name that ends in .csv or .jsonl"),
        (["images={images}", "topk=3"], "'topk=3' is none of run=, which=, trust=, images=, output="),
        (["images={images}", "top_k=none"], "top_k=none: expected an integer, at least 1"),
        (["images={images}", "tau=-1"], "tau=-1: expected a finite number in [0, 100]"),
        (["images={images}", "device=tpu7"], "device=tpu7: "),
        (["images={images}", "which=worst"], "worst"),
        (["images={images}", "run=/nowhere"], "run= is given 2 times; give it once"),
        (["images={images}", "output={images}/0.png/found.csv"], "0.png cannot be made"),
    ],
)
def test_a_mistake_is_one_message_and_creates_nothing(
    words: list[str], message: str, predict: Command, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said, errors = predict(*(word.format(images=images) for word in words))
    assert (code, said) == (2, "")
    assert message in errors
    assert "Traceback" not in errors
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
