"""Reports over very many run folders, and over very many classes: CPU time and memory, beside plain readers.

``python experiments/benchmarks/report_many.py`` makes the run folders, a tenth of them broken, runs
``python -m carlt.report`` on them in a process of its own, runs a process that only reads the same files with json,
yaml, csv and numpy, and writes report_many.md.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import report_page
from report_page import make_run

from carlt.runs import paths

CASES = [(100, 100), (1000, 100), (20, 1000), (20, 10_000)]
"""Run folders, and classes of each."""
SEEDS = 5
RESULT = Path(__file__).with_suffix(".md")
BROKEN = {
    paths.RESULT: b"{",
    paths.CONFIG: b"a: &a [x]\nb: [*a, *a]\n",
    paths.PER_CLASS: b"class_id\n0\n",
    paths.CONFUSION: b"PK",
    paths.METRICS: b"epoch\nx\n",
}
READERS = """
import csv, json, sys
from contextlib import suppress
from pathlib import Path
import numpy, yaml
loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
for run in Path(sys.argv[1]).iterdir():
    with suppress(ValueError):
        json.loads((run / "result.json").read_text())
    yaml.load((run / "config.yaml").read_text(), loader)
    for name in ("per_class.csv", "metrics.csv"):
        list(csv.DictReader((run / name).open()))
    with suppress(Exception), numpy.load(run / "confusion.npz") as arrays:
        [arrays[name] for name in arrays]
"""
"""What every reader of run folders has to do at least."""


class Process(NamedTuple):
    """What a process took, and its lines on standard error."""

    seconds: float
    """Of the CPU: other jobs beside it lengthen those of the clock."""
    gigabytes: float
    said: list[str]


def main() -> None:
    """Make, measure, write."""
    rows = []
    for folders, classes in CASES:
        with tempfile.TemporaryDirectory() as temporary:
            top = Path(temporary)
            make(top / "runs", folders, classes)
            plain = run("-c", READERS, str(top / "runs"))
            report = run("-m", "carlt.report", str(top / "runs"), f"out={top / 'out'}")
            size = (top / "out" / "report.html").stat().st_size / 1e6
        left_out = sum(line.startswith("left out: ") for line in report.said)
        rows.append(
            f"| {folders:,} | {left_out:,} | {classes:,} | {report.seconds:.1f} | {plain.seconds:.1f} | "
            f"{report.seconds / plain.seconds:.1f} | {report.gigabytes:.2f} | {size:.1f} |"
        )
    text = f"""# A report over 1,000 run folders, and one over 10,000 classes

`python experiments/benchmarks/report_many.py`, {time.strftime("%Y-%m-%d")}, {platform.machine()}, {os.cpu_count()} CPU
cores with other jobs beside it, Python {platform.python_version()}, commit {report_page._commit()}.

A tenth of the folders is broken: damaged or cut files of every kind. Each is left out with its reason.
The records are made up: {SEEDS} seeds per configuration, {report_page.TEST_IMAGES} test images per class, 200 epochs.
Plain readers are a process that reads the same files with json, yaml, csv and numpy, and does nothing with them.

| run folders | left out | classes | report (CPU s) | plain readers (CPU s) | ratio | peak memory (GB) | page (MB) |
|---|---|---|---|---|---|---|---|
""" + "\n".join(rows) + "\n"  # fmt: skip
    RESULT.write_text(text)
    print(text)


def make(top: Path, folders: int, classes: int) -> None:
    """Runs of ``reg=car`` with ``folders / SEEDS`` weights; every tenth is broken."""
    report_page.CLASSES = classes
    names = list(BROKEN)
    for n in range(folders):
        run = top / f"{n}"
        make_run(run, "ce", 0.01 * (1 + n // SEEDS), n % SEEDS)
        if n % 10 == 9:
            name = names[n // 10 % len(names)]
            (run / name).write_bytes(BROKEN[name])


def run(*words: str) -> Process:
    """Python with ``words`` as a process of its own."""
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    said = list(process.stderr)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{words[:2]} ended with status {status}: {''.join(said)}")
    return Process(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6, said)


if __name__ == "__main__":
    main()
