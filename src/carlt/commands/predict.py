"""``python -m carlt.predict run=<run folder> images=<images>``: the most probable classes of image files."""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from carlt.commands.arguments import INTERRUPTED, Parser, command, count, strength
from carlt.errors import CarltError, first_line
from carlt.runs.faults import memory_errors, write_errors
from carlt.runs.heartbeat import heartbeat
from carlt.runs.locks import exclusive_lock
from carlt.runs.paths import file_digest
from carlt.runs.text import printable

if TYPE_CHECKING:
    from carlt.evaluation.load import TrainedRun
    from carlt.evaluation.predict import Network
    from carlt.evaluation.prediction_file import Rows

NAME = "carlt.predict"
SOME_FAILED = 1


def parser() -> Parser:
    """The options of the command; all other words are images."""
    found = Parser(
        NAME,
        usage="python -m carlt.predict run=<run folder> images=<images> [output=<file>] [key=value ...]",
        description="""The most probable classes of image files, by the network of a run. The images that it was
trained on are not needed.

A file that cannot be read is named and gets a row with its error; the others go on, and the exit code is 1. A command
that was stopped goes on where it was if it is given again: images that have a prediction are left out, errors are tried
again. Beside the output, <output>.json keeps the run, the checkpoint's sha256 and the options.""",
        epilog="""Examples:
  python -m carlt.predict run=runs/x images=photo.jpg
  python -m carlt.predict run=runs/x images=photos output=predictions.csv
  python -m carlt.predict run=runs/x images='photos/**/*.png' output=predictions.jsonl top_k=3
  python -m carlt.predict run=runs/x images=list.txt output=predictions.csv     (a path in each line)""",
    )
    found.add_run("config.yaml, result.json")
    found.add_key("images", "<file|folder|pattern|list.txt>", help="what to predict; further words are more images, as "
                  "a shell's own patterns give them")  # fmt: skip
    found.add_key("output", "<file>", help="a file that ends in .csv or .jsonl; by default CSV is printed")
    found.add_key("top_k", "<number>", type=count, default=5, help="classes per image; default: 5")
    found.add_key("tau", "<number>", type=strength, help="strength of logit adjustment: also write the most probable "
                  "classes of softmax(logits - tau log prior). Without tau=, the record of this run that was made "
                  "without tau= is used: the class offsets of carlt.evaluate posthoc=car, or else the tau of "
                  "posthoc=logit_adjusted")  # fmt: skip
    found.add_key("batch_size", "<number>", type=count, default=64, help="images per step; default: 64")
    found.add_key("device", "<cpu|cuda|cuda:1|...>", help="default: the GPU if there is one")
    return found


def main() -> None:
    """The command."""
    with command(NAME):
        options = parser()
        arguments = options.parse_words(sys.argv[1:])
        for word in arguments.words:
            if "=" in word and not os.path.exists(word):
                options.refuse(word)
        if not arguments.run:
            raise CarltError("run=<run folder> is missing; --help shows the usage")
        images = [*([arguments.images] if arguments.images else []), *arguments.words]
        if not images:
            raise CarltError("images=<file, folder, pattern or list.txt> is missing; --help shows the usage")
        try:
            beat = heartbeat() if arguments.output else nullcontext()  # printed predictions are lines enough
            with beat, memory_errors(f"lower batch_size={arguments.batch_size}"):
                failed = predict(arguments, images)
        except KeyboardInterrupt:
            again = "; the same command goes on" if arguments.output else ""
            print(f"{NAME}: interrupted{again}", file=sys.stderr)
            raise SystemExit(INTERRUPTED) from None
        if failed:
            raise SystemExit(SOME_FAILED)


def predict(arguments: argparse.Namespace, images: Sequence[str]) -> int:
    """Write or print the predictions; returns the number of files that could not be read."""
    from carlt.evaluation.find_images import find_images
    from carlt.evaluation.load import load_run
    from carlt.evaluation.prediction_file import ENCODING, FORMATS, CsvRows, begin, check_output

    output = Path(arguments.output) if arguments.output else None
    if output is not None:
        check_output(output)
    files = find_images(images)
    run = load_run(arguments.run, arguments.which, trust=arguments.trust)
    _move(run, arguments.device)
    network = run.network(arguments.tau)
    top_k, adjusted = min(arguments.top_k, len(run.class_names)), network.adjustment is not None
    if output is None:
        rows: Rows = CsvRows(top_k, adjusted)
        print(rows.header, end="")
        return _predict(network, files, arguments, rows, sys.stdout)
    rows = FORMATS[output.suffix.lower()](top_k, adjusted)
    with (
        write_errors(output, "the same command goes on once that is mended, or choose another output="),
        _lock(output),
    ):
        done = begin(output, rows, _origin(run, top_k, network))
        left = [path for path in files if rows.name(path) not in done]
        failed = 0
        if left:
            with open(output, "a", buffering=1, **ENCODING) as file:  # type: ignore[call-overload]
                failed = _predict(network, left, arguments, rows, file)
    before = f", {len(files) - len(left):,} of them from before" if len(left) < len(files) else ""
    print(f"{len(files) - failed:,} predictions in {printable(str(output))}{before}")
    return failed


def _predict(network: "Network", files: list[Path], arguments: argparse.Namespace, rows: "Rows", file: TextIO) -> int:
    """Predict ``files`` into ``file`` with a progress bar on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from carlt.evaluation.predict import predict as predict_files

    bad = 0
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    shown = sys.stderr.isatty() and not (file is sys.stdout and sys.stdout.isatty())
    with Progress(*columns, console=console, transient=True, disable=not shown) as bar:
        task = bar.add_task("", total=len(files))
        found = predict_files(network, files, top_k=arguments.top_k, batch_size=arguments.batch_size)
        for prediction in found:
            file.write(rows.line(prediction))
            if prediction.error is not None:
                bad += 1
                console.print(printable(prediction.error), markup=False, highlight=False, soft_wrap=True)
            bar.advance(task)
    if bad:
        print(f"{bad:,} of {len(files):,} files could not be read", file=sys.stderr)
    return bad


def _origin(run: "TrainedRun", top_k: int, network: "Network") -> dict[str, Any]:
    """What the predictions depend on."""
    return {
        "checkpoint": file_digest(run.checkpoint),
        "run_hash": run.result.get("run_hash"),
        "top_k": top_k,
        "adjustment": None if network.adjustment is None else network.adjustment.tolist(),
    }


def _move(run: "TrainedRun", device: str | None) -> None:
    """Put the network on ``device``, by default on a GPU if there is one."""
    import torch

    try:
        run.model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except (RuntimeError, AssertionError) as error:
        reason = first_line(error).partition("Expected one of")[0]  # the rest is a list of all kinds that torch knows
        raise CarltError(f"device={device}: {reason or 'no device'}; give cpu, cuda or cuda:<number>") from None


@contextmanager
def _lock(output: Path) -> Iterator[None]:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CarltError(f"{output.parent} cannot be made ({error.strerror}); choose another output=") from None
    with exclusive_lock(output.with_name(output.name + ".lock"), output, option="output="):
        yield


if __name__ == "__main__":
    main()
