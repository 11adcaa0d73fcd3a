"""Reports over very many run folders, and over very many classes: seconds, and the most memory.

``python experiments/benchmarks/report_many.py`` makes the run folders, a tenth of them broken, runs
``python -m carlt.report`` on them in a process of its own, and writes report_many.md.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import report_page
from report_page import make_run

from carlt.runs import paths

CASES = [(1000, 100), (20, 10_000)]
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


def main() -> None:
    """Make, measure, write."""
    rows = []
    for folders, classes in CASES:
        with tempfile.TemporaryDirectory() as temporary:
            top = Path(temporary)
            make(top / "runs", folders, classes)
            began = time.perf_counter()
            peak, left_out = report(top / "runs", top / "out")
            seconds = time.perf_counter() - began
            size = (top / "out" / "report.html").stat().st_size / 1e6
        rows.append(f"| {folders:,} | {left_out:,} | {classes:,} | {seconds:.0f} | {peak:.1f} | {size:.1f} |")
    text = f"""# A report over 1,000 run folders, and one over 10,000 classes

`python experiments/benchmarks/report_many.py`, {time.strftime("%Y-%m-%d")}, {platform.machine()}, {os.cpu_count()} CPU
cores with other jobs beside it, Python {platform.python_version()}, commit {report_page._commit()}.

A tenth of the folders is broken: damaged or cut files of every kind. Each is left out with its reason.
The records are made up: {SEEDS} seeds per configuration, {report_page.TEST_IMAGES} test images per class, 200 epochs.

| run folders | of them left out | classes | start to page (s) | most memory (GB) | report.html (MB) |
|---|---|---|---|---|---|
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


def report(runs: Path, out: Path) -> tuple[float, int]:
    """The most memory of ``carlt.report`` in GB, and how many folders it left out."""
    command = [sys.executable, "-m", "carlt.report", str(runs), f"out={out}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    left_out = sum(line.startswith("left out: ") for line in process.stderr)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"carlt.report ended with status {status}")
    return usage.ru_maxrss / 1e6, left_out


if __name__ == "__main__":
    main()
