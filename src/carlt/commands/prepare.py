"""``python -m carlt.prepare data=<set>``: fetch, check and picture a data set."""

import functools
import itertools
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from carlt.commands.arguments import Parser, command
from carlt.commands.completion import complete_override
from carlt.runs.faults import check_place, write_errors
from carlt.runs.heartbeat import heartbeat
from carlt.runs.text import command_line

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from carlt.data import ImageFolder, LongTailDataModule
    from carlt.data.images import Splits
    from carlt.data.io.verify import Verify
    from carlt.training.module import LongTailClassifier

NAME = "carlt.prepare"


def parser() -> Parser:
    """The options of the command; all other words are overrides, as those of ``carlt.train``."""
    found = Parser(
        NAME,
        usage="python -m carlt.prepare data=<set> [data.root=<folder>] [key=value ...]\n"
        "       python -m carlt.prepare data=<set> aug=<augmentation> [loss=bcl] show=augmentations",
        description="Fetch the parts of a data set that may be fetched, name the source of the rest, check everything\n"
        "and show how many images each class has.",
        epilog="Every other word is an override of carlt.train: data=cifar100_lt, data.root=<folder>, ...",
    )
    found.add_key("verify", choices=("lists", "files", "full"), default="files", help="files (default): every image "
                  "exists; full: every image decodes, in parallel; lists: neither")  # fmt: skip
    found.add_key("show", choices=("profile", "augmentations"), default="profile", help="profile (default): images per "
                  "class; augmentations: a sheet of the views that training uses, with the soft labels of mixed "
                  "images")  # fmt: skip
    found.add_key("out", "<folder>", default=".", help="where the pictures go; default: the current folder")
    found.other_words = complete_override
    found.add_argument("--config-dir", "-cd", action="append", default=[], metavar="<folder>", help="a folder of your "
                       "own options, laid out as conf/")  # fmt: skip
    return found


def prepare(data: "LongTailDataModule", verify: "Verify" = "files", out: Path = Path()) -> "Splits":
    """Make ``data`` ready: downloads, checks, a printed summary and ``<name>_profile.png`` in ``out``.

    Of an image folder also what its files are: sizes, copies of one another, near-empty classes.

    Raises:
        CarltError: something is missing, damaged, or not as published.
    """
    from carlt.data import ImageFolder, overview

    for download in data.downloads():
        if download.result.exists():
            print(f"there already: {download.result}")
        else:
            print(f"fetching {download.url}")
            _obtain(download)
            print(f"  -> {download.result}")
    data.set_verify(verify)
    splits = data.splits
    print(overview.summary(data.name, splits))
    print(overview.profile_bars(splits))
    if verify == "full":
        print("every image counted above decodes")
    picture = _draw(out / f"{data.name}_profile.png", lambda path: overview.draw_profile(data.name, splits, path))
    print(f"profile drawn in {picture}")
    if isinstance(data, ImageFolder):
        _inspect(data, splits, out)
    return splits


def _inspect(data: "ImageFolder", splits: "Splits", out: Path) -> None:
    """Print what the files of a folder are, and draw it as ``<name>_files.png`` in ``out``. ``splits`` may lack
    damaged images."""
    from carlt.data import inspection
    from carlt.data.inspection_figure import draw_files
    from carlt.data.io.walk import not_read, walk

    if pictures := not_read(name for _, names in walk(data.root) for name in names):
        print(f"left out: {pictures}; convert them to JPEG or PNG")
    found = inspection.inspect(data.listed, data.num_workers)
    print(inspection.describe(found, splits, data.image_size))
    draw = functools.partial(draw_files, data.name, found, splits, data.image_size)
    picture = _draw(out / f"{data.name}_files.png", draw)
    print(f"files drawn in {picture}")


def show_augmentations(
    data: "LongTailDataModule", module: "LongTailClassifier", out: Path = Path(), aug: str = "training"
) -> Path:
    """Draw the views that training uses as ``<name>_<aug>_augmentations.png`` in ``out``."""
    from carlt.training import augmentation_grid

    draw = functools.partial(augmentation_grid.draw, data, module)
    path = _draw(out / f"{data.name}_{aug}_augmentations.png", draw)
    print(f"drawn in {path}")
    return path


def _fitting_model(config: "DictConfig", data: "LongTailDataModule", words: Sequence[str]) -> list[str]:
    """The overrides that choose a network for large images, where ``words`` choose none: the default is a small one."""
    from carlt.config.instantiate import part_class
    from carlt.data import ImageFolder
    from carlt.training.build import fits

    if fits(part_class(config, "model"), data.image_size) or any(word.startswith("model") for word in words):
        return []
    return ["model=resnet50", *["model.pretrained=true"] * isinstance(data, ImageFolder)]


def _draw(path: Path, draw: Callable[[Path], None]) -> Path:
    """Draw at ``path``, or at the next number where another picture lies: a name may stand for several settings."""
    with write_errors(path, "choose another out=<folder>"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=path.parent, prefix=".carlt_") as folder:
            new = Path(folder) / path.name
            draw(new)
            numbered = (path.with_stem(f"{path.stem}_{k}") for k in itertools.count(2))
            for place in itertools.chain([path], numbered):
                if not place.exists() or place.read_bytes() == new.read_bytes():
                    return new.replace(place)
    raise AssertionError("numbers do not end")


def _obtain(download: Any) -> None:
    """Fetch, with a progress bar on a terminal."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    from carlt.data.io.download import obtain

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=None)
        obtain(download, lambda there, total: bar.update(task, completed=there, total=total))


def main() -> None:
    """The command."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    with command(NAME), heartbeat():
        arguments = parser().parse_words(sys.argv[1:])
        from carlt.config.choices import named_choices
        from carlt.config.compose import add_config_dir, take_search_path
        from carlt.config.overrides import check_single, compose_checked

        for folder in arguments.config_dir:
            add_config_dir(folder)
        words = take_search_path(arguments.words)
        check_single(words)
        check_place("out", Path(arguments.out))
        config = compose_checked("prepare", words)
        from carlt.training.build import build_data, build_module

        data = build_data(config)
        if arguments.show == "profile":
            prepare(data, arguments.verify, Path(arguments.out))
            own = [f"--config-dir={folder}" for folder in arguments.config_dir]
            print(f"Next: {command_line('carlt.train', *own, *arguments.words, *_fitting_model(config, data, words))}")
        else:
            aug = named_choices(config, config.hydra)["aug"]
            show_augmentations(data, build_module(config, data), Path(arguments.out), aug)


if __name__ == "__main__":
    main()
