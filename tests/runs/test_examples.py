"""Pictures of wrong predictions: found in a run, kept in a file that is not trusted, drawn into sheets."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from carlt.errors import CarltError
from carlt.reporting import plots, sheets
from carlt.reporting.figures import drawings
from carlt.reporting.groups import group_by_data_set
from carlt.runs.examples import FILE, Examples, read_examples, write_examples
from carlt.runs.reading import read_run, read_runs
from carlt.runs.record import read_per_class


def made(rows: int = 2, names: str = "cat") -> Examples:
    kinds = np.array([sheets.KINDS[r % 2] for r in range(rows)])
    captions = np.array([[[f"{names}, 90 %", "nearest: dog"], ["", ""]] for _ in range(rows)])
    images = np.full((rows, 2, 2, 3, 8, 8), 7, dtype=np.uint8)
    return Examples(kinds, np.array([f"{names} {r}" for r in range(rows)]), images, captions)


def test_a_run_records_its_worst_classes_and_confused_pairs(finished: Path) -> None:
    found, classes, cells = read_examples(finished), read_per_class(finished), read_run(finished).confusion
    assert found is not None
    assert found.images.shape[2:] == (2, 1, 8, 8)
    worst = sorted((row for row in classes if row.accuracy < 1), key=lambda row: row.accuracy)[:6]
    titles = found.titles[found.kinds == "worst classes"].tolist()
    shown = [row.accuracy for row in classes if any(title.startswith(f"{row.class_name} (") for title in titles)]
    assert sorted(shown) == [row.accuracy for row in worst]
    pairs = zip(cells.true, cells.predicted, strict=True)
    wrong = {(classes[i].class_name, classes[j].class_name) for i, j in pairs if i != j}
    for title, row in zip(found.titles, found.captions, strict=True):
        true = title.split(" (")[0]
        for predicted, nearest in row:
            if predicted:
                other, confidence = predicted.rsplit(", ", 1)
                assert (true, other) in wrong
                assert 10 <= int(confidence.removesuffix(" %")) <= 100
                assert nearest.removeprefix("nearest: ") in (true, other)
    assert (found.captions[:, 0, 0] != "").all()  # every row has a wrong image
    assert {path.name for path in (finished / "plots").iterdir()} >= {"worst_classes.png", "confused_pairs.png"}


def test_pictures_are_read_as_written_and_drawn(tmp_path: Path) -> None:
    assert read_examples(tmp_path) is None
    assert plots.sheet(tmp_path, "worst classes") is None
    write_examples(tmp_path, made(names="$x"))
    found = read_examples(tmp_path)
    assert found is not None
    assert all(np.array_equal(a, b) for a, b in zip(found, made(names="$x"), strict=True))
    path = plots.sheet(tmp_path, "confused pairs")
    assert path is not None
    assert path.stat().st_size > 1000


def test_the_page_shows_pictures_and_does_without_damaged_ones(make_run, tmp_path: Path) -> None:
    write_examples(make_run("1"), made(names="<b>cat"))
    (make_run("2", reg="car") / FILE).write_text("no archive")
    (data,) = group_by_data_set(read_runs([tmp_path])[0])
    found = {name: draw() for name, draw in drawings(data, data.baseline(), "d0").items() if "pictures" in name}
    assert [figure.title if figure else None for figure in found.values()] == [
        "Worst classes of reg=none, seed 0", "Confused pairs of reg=none, seed 0", None, None,
    ]  # fmt: skip
    first = next(iter(found.values()))
    assert first.svg.count("data:image/png;base64") == 2
    assert "&lt;b&gt;cat, 90 %" in first.svg
    assert "<b>" not in first.svg


@pytest.mark.parametrize(
    "changes",
    [
        {"images": np.zeros((2, 2, 2, 3, 8, 8))},
        {"images": np.zeros((2, 2, 2, 3, 8), dtype=np.uint8)},
        {"images": np.zeros((2, 2, 2, 4, 8, 8), dtype=np.uint8)},
        {"titles": np.array(["one"])},
        {"titles": np.array(["one", "x" * 5000])},
        made(rows=17)._asdict(),
        {"images": np.zeros((2, 9, 2, 1, 2, 2), dtype=np.uint8), "captions": np.full((2, 9, 2), "a")},
        {"images": np.zeros((2, 0, 2, 1, 2, 2), dtype=np.uint8), "captions": np.full((2, 0, 2), "a")},
        {"images": np.zeros((2, 2, 2, 3, 8, 257), dtype=np.uint8)},
        {"images": np.zeros((2, 2, 2, 3, 0, 8), dtype=np.uint8)},
        {"captions": np.zeros((2, 2, 2))},
        {"captions": np.array([["a"]])},
        {"kinds": np.array([{"a": 1}, None], dtype=object)},
    ],
)
def test_other_arrays_are_refused(changes: dict, tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / FILE, **{**made()._asdict(), **changes})
    with pytest.raises(CarltError, match="is damaged"):
        read_examples(tmp_path)


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_one_pixel_are_drawn(channels: int, tmp_path: Path) -> None:
    write_examples(tmp_path, made()._replace(images=np.zeros((2, 2, 2, channels, 1, 1), dtype=np.uint8)))
    assert plots.sheet(tmp_path, sheets.KINDS[0])


def test_files_that_unpack_to_too_much_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_examples(tmp_path, made())
    monkeypatch.setattr("carlt.runs.examples.MAX_BYTES", 1000)
    with pytest.raises(CarltError, match="unpacks to more than"):
        read_examples(tmp_path)
    with zipfile.ZipFile(tmp_path / FILE, "w"):
        pass
    with pytest.raises(CarltError, match="is damaged"):
        read_examples(tmp_path)


def test_an_array_alone_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "array.npy").rename(tmp_path / FILE)
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("was read"))
    with pytest.raises(CarltError, match="is no archive of arrays"):
        read_examples(tmp_path)


def test_a_small_file_of_large_pictures_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_examples(tmp_path, made(1)._replace(images=np.zeros((1, 2, 2, 1, 4000, 4000), dtype=np.uint8)))
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("was unpacked"))
    with pytest.raises(CarltError, match="unpacks to more than"):
        read_examples(tmp_path)


def test_a_long_title_parts_no_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.append(figure))
    for name in ("cat", "a cat with a very long name " * 2):
        write_examples(tmp_path, made()._replace(titles=np.array([name, name])))
        plots.sheet(tmp_path, sheets.KINDS[0])
    places = []
    for figure in figures:
        figure.draw_without_rendering()
        places.append([axes.get_position().x0 for axes in figure.axes[:2]])
    assert places[0] == pytest.approx(places[1])
