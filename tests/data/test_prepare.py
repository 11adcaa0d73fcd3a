"""``python -m carlt.prepare``: fetches from a local server, checks, prints the profile and draws it."""

import dataclasses
import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from carlt.commands import prepare
from carlt.config.overrides import compose_checked
from carlt.data import CIFAR100LT, DigitsLT, overview
from carlt.errors import CarltError
from carlt.shots import GROUP_COLOURS
from carlt.training.build import build_data


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        server.folder, server.url = folder, f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_fetch_check_and_draw(server, cifar100_archive, tmp_path, loading, capsys, monkeypatch):
    labels = [c for c in range(100) for _ in range(4)]
    images = np.zeros((400, 3, 32, 32), np.uint8)
    archive = cifar100_archive(server.folder / "cifar-100-python.tar.gz", (images, labels), (images, labels))
    monkeypatch.setattr(CIFAR100LT, "url", f"{server.url}/cifar-100-python.tar.gz")
    data = CIFAR100LT(root=tmp_path / "data", imbalance_factor=4, **loading)
    with pytest.raises(CarltError, match="is not the expected file"):
        prepare.prepare(data)
    monkeypatch.setattr(CIFAR100LT, "sha256", hashlib.sha256(archive.read_bytes()).hexdigest())
    with pytest.raises(CarltError, match=r"is not the official split .*images: expected 50000, found 400"):
        prepare.prepare(data)
    data.official = False
    prepare.prepare(data, out=tmp_path / "pictures")
    said = capsys.readouterr().out
    assert "there already" in said
    assert "many / medium / few-shot classes (> 100, 20 to 100, < 20): 0 / 0 / 100" in said
    assert (tmp_path / "pictures/cifar100_lt_profile.png").stat().st_size > 1000


def test_summary_and_profile_of_digits(loading):
    splits = DigitsLT(**loading).splits
    train = overview.summary("digits_lt", splits).splitlines()[2].split()
    counts = splits.class_counts
    assert train == ["train", str(int(counts.sum())), "10", str(int(counts.min())), str(int(counts.max()))]
    bars = overview.profile_bars(splits).splitlines()
    assert len(bars) == 10
    assert bars[0].endswith(f"{counts.max()} " + "█" * 50)


def test_the_profile_has_no_control_characters(loading):
    splits = DigitsLT(**loading).splits
    bars = overview.profile_bars(dataclasses.replace(splits, class_names=["\x1b[31m"] * 10))
    assert "\x1b" not in bars
    assert "[31m" in bars


def test_the_profile_names_its_groups_and_thresholds(loading, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kwargs: figures.append(self))
    splits = DigitsLT(**loading).splits
    overview.draw_profile("digits_lt", splits, tmp_path / "profile.png")
    (axes,) = figures[0].axes
    assert {text.get_text() for text in axes.texts} == {"many-shot: > 100", "few-shot: < 20"}
    heights = {bar.get_facecolor(): [] for bar in axes.patches}
    for bar in axes.patches:
        heights[bar.get_facecolor()].append(bar.get_height())
    assert {to_rgba(GROUP_COLOURS[group]): sorted(found) for group, found in {
        "many": [104], "medium": [20, 30, 45, 69], "few": [2, 3, 5, 8, 13],
    }.items()} == {colour: sorted(found) for colour, found in heights.items()}  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["data=cifar100"], "no such data; did you mean cifar100_lt?"),
        (["data=digits_lt", "verify=all"], "verify=all: choose from lists, files, full"),
        (
            ["data=imagenet_lt", "data.lists=/nowhere", "data.official=maybe"],
            "data.official='maybe': expected true or false",
        ),
        (["data=image_folder", "data.root=/nowhere"], "data.root not found at /nowhere"),
    ],
)
def test_mistakes_are_one_line(command, arguments, complaint):
    code, _, said = command("prepare", *arguments)
    assert code == 2
    assert said.startswith("carlt.prepare: error: ")
    assert complaint in said
    assert "Traceback" not in said


def test_the_next_command_is_told(command, tmp_path):
    _, said, _ = command("prepare", "data=digits_lt", "data.val_per_class=5", f"out={tmp_path}")
    assert said.endswith("Next: python -m carlt.train data=digits_lt data.val_per_class=5\n")


@pytest.mark.parametrize("in_memory", ["false", pytest.param("true", marks=pytest.mark.slow)])
def test_it_counts_what_training_takes_and_leaves_the_images_alone(
    in_memory, make_folder, tmp_path, command, monkeypatch
):
    root = make_folder(tmp_path / "photos", {"a": 10, "猫": 10})
    (root / "a/0.jpg").write_bytes(b"")
    there = sorted(root.rglob("*"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    words = ["data=image_folder", f"data.root={root}", "data.on_error=skip", "data.image_size=16", "data.num_workers=0"]
    words.append(f"data.in_memory={in_memory}")
    for verify in ("files", "full"):
        _, said, _ = command("prepare", *words, f"verify={verify}")
        splits = build_data(compose_checked("train", words)).splits
        parts = {"train": splits.train, "val": splits.val, "test": splits.test}
        shown = {line.split()[0]: int(line.split()[1]) for line in said.splitlines() if line.split()[0] in parts}
        assert shown == {name: len(part) for name, part in parts.items()}
        assert sum(shown.values()) == 19
        assert ("every image counted above decodes" in said) == (verify == "full")
        assert "every image of" not in said
    command("prepare", *words, "show=augmentations", "aug=mixup", "model=small_cnn")
    assert sorted(root.rglob("*")) == there
    assert {path.suffix for path in (tmp_path / "here").iterdir()} == {".png"}
