"""Which files a user's words stand for."""

import os
from pathlib import Path

import pytest

from carlt.errors import CarltError
from carlt.evaluation.find_images import find_images


def make(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    return [folder / name for name in names]


def test_files_folders_and_patterns(tmp_path: Path) -> None:
    a, b, sub, *_ = make(tmp_path, "a.jpg", "b.PNG", "sub/ünï.webp", "notes.md", "._a.jpg", ".trash/c.jpg")
    assert find_images(tmp_path) == [a, b, sub]
    assert find_images(f"{tmp_path}/**/*") == [a, b, sub]
    assert find_images([b, str(tmp_path), a]) == [b, a, sub]
    assert find_images(tmp_path / "notes.md") == [tmp_path / "notes.md"]  # named, so it is meant


def test_pictures_that_cannot_be_read_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    a, *_ = make(tmp_path, "a.jfif", "sub/b.HEIC", "c.heic", "d.avif", ".e.heic", "notes.txt")
    assert find_images(tmp_path) == [a]
    assert "left out 3 pictures in formats that carlt does not read (.heic 2, .avif 1)" in caplog.text


def test_a_name_with_brackets_is_a_name(tmp_path: Path) -> None:
    (brackets,) = make(tmp_path, "a[1].jpg")
    assert find_images(str(brackets)) == [brackets]


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    make(tmp_path, "far/c.jpg", "near/a.jpg")
    (tmp_path / "near" / "far").symlink_to(tmp_path / "far")
    (tmp_path / "near" / "circle").symlink_to(tmp_path / "near")
    assert find_images(tmp_path / "near") == [tmp_path / "near" / "a.jpg", tmp_path / "near" / "far" / "c.jpg"]


def test_a_list_file_gives_its_lines_as_they_are(tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_bytes(b"\xef\xbb\xbfb.jpg\n\nmissing.png\r\nb.jpg\nno utf-8 \xff.jpg\n")
    names = ["b.jpg", "missing.png", os.fsdecode(b"no utf-8 \xff.jpg")]
    assert find_images(listed) == [Path(name) for name in names]
    listed.write_text("\n")
    with pytest.raises(CarltError, match=r"list.txt is an empty list"):
        find_images(listed)


def test_a_folder_in_a_list_stands_for_its_images(tmp_path: Path) -> None:
    a, b, c = make(tmp_path, "a.jpg", "sub/b.jpg", "sub/c.jpg")
    (tmp_path / "empty").mkdir()
    listed = tmp_path / "list.txt"
    listed.write_text(f"{a}\n{tmp_path}/sub\n{tmp_path}/empty\n{'x' * 300}.jpg\n")
    found = find_images(listed)
    assert found == [a, b, c, Path("x" * 300 + ".jpg")]
    assert find_images(found) == found


def test_a_pattern_goes_through_no_circle_of_links(tmp_path: Path) -> None:
    a, b, c = make(tmp_path, "a.jpg", "sub/b.jpg", "sub/c.png")
    for name in ("one", "two", "sub/three"):  # in turns: more names than anybody can wait for
        (tmp_path / name).symlink_to(tmp_path)
    assert find_images(f"{tmp_path}/**/*.jpg") == [a, b]
    assert find_images(f"{tmp_path}/**") == [a, b, c]
    assert find_images(f"{tmp_path}/**/sub/**/*.png") == [c]


def test_a_pattern_gives_a_file_once(tmp_path: Path) -> None:
    (a,) = make(tmp_path, "a.jpg")
    (tmp_path / "again").symlink_to(tmp_path)
    assert find_images(f"{tmp_path}/**/*.jpg") == [a]


@pytest.mark.parametrize(
    ("wrong", "message"), [("nowhere", "does not exist"), ("*.gif", "has no images"), (None, "list is empty")]
)
def test_nothing_found_is_an_error(tmp_path: Path, wrong: str | None, message: str) -> None:
    make(tmp_path, "a.jpg")
    with pytest.raises(CarltError, match=message):
        find_images([str(tmp_path / wrong)] if wrong else [])


def test_a_table_is_no_list(tmp_path: Path) -> None:
    (tmp_path / "paths.csv").write_text("path\n")
    with pytest.raises(CarltError, match=r"paths.csv is no image: give a text file, .txt, with a path in each line"):
        find_images(tmp_path / "paths.csv")


def test_a_path_among_several_need_not_exist(tmp_path: Path) -> None:
    assert find_images([tmp_path / "gone.jpg"]) == [tmp_path / "gone.jpg"]
