"""A CAR step of this checkout beside that of other commits: operators and time, in alternating processes.

    python experiments/benchmarks/car_versions.py 9e5b706 ...   # one or two minutes each; needs two free cores

Writes car_versions.md beside itself.
"""

import itertools
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from io import BytesIO
from pathlib import Path

HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]
ROUNDS = 3
SIZES = {100: 80, 1000: 20}  # classes: steps
ROWS = list(itertools.product(SIZES.items(), (1, 2)))  # and processes


def measure() -> None:
    """Prints for each row the operators of a step of the first process, and its median milliseconds.

    With one process that is CPU time; with two, which wait for each other, elapsed time.
    """
    from torch import multiprocessing

    from carlt.reg import CAR  # noqa: F401  # once, and not in each process

    for (classes, steps), ranks in ROWS:
        with tempfile.TemporaryDirectory() as folder:
            multiprocessing.start_processes(measure_rank, (classes, steps, ranks, folder), ranks, start_method="fork")


def measure_rank(rank: int, classes: int, steps: int, ranks: int, folder: str) -> None:
    import torch
    from torch import distributed as dist
    from torch.utils._python_dispatch import TorchDispatchMode

    from carlt.reg import CAR

    class Operators(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.count += 1
            return function(*args, **(kwargs or {}))

    clock = time.process_time if ranks == 1 else time.perf_counter
    torch.set_num_threads(1)
    if ranks > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=ranks)
    torch.manual_seed(rank)
    counts = (1000 * torch.arange(1, classes + 1) ** -0.8).ceil().long()
    centres, car, times, operators = torch.randn(classes, 32), CAR(counts), [], []
    for step in range(steps + 20):
        targets = torch.multinomial(counts.double(), 128, True)
        logits = ((centres[targets] + 1.5 * torch.randn(128, 32)) @ centres.T / 4).requires_grad_()
        began = clock()
        if step < 20:
            with Operators() as counter:
                car(logits, targets).backward()
            operators.append(counter.count)
        else:
            car(logits, targets).backward()
            times.append(clock() - began)
    if rank == 0:
        print(statistics.median(operators[10:]), 1e3 * statistics.median(times), flush=True)
    if ranks > 1:
        dist.destroy_process_group()


def compare(other: str) -> str:
    """The table of this checkout beside the commit ``other``."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        git = {"cwd": ROOT, "env": os.environ | {"GIT_WORK_TREE": str(ROOT)}}  # paths are from there, also in a copy
        archive = subprocess.run(["git", "archive", other, "src"], capture_output=True, **git)
        if archive.returncode:
            sys.exit(f"{other} is no commit with a folder src: {archive.stderr.decode().strip()}; name another commit")
        with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
            files.extractall(folder, filter="data")
        found: dict[str, list[list[list[float]]]] = {other: [], "here": []}  # round by round: of each row two numbers
        for _ in range(ROUNDS):
            for name, root in ((other, Path(folder)), ("here", ROOT)):
                environment = os.environ | {"PYTHONPATH": str(root / "src"), "OMP_NUM_THREADS": "1"}
                command = [sys.executable, str(HERE), "--measure"]
                said = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
                found[name].append([[float(number) for number in line.split()] for line in said.splitlines()])
        for row, ((classes, _), ranks) in enumerate(ROWS):
            (operators, ms), (ours, our_ms) = (
                [statistics.median(each[row][column] for each in found[name]) for column in (0, 1)]
                for name in (other, "here")
            )
            rows.append(
                f"| {classes:,} | {ranks} | {operators:.0f} | {ours:.0f} | {operators / ours:.2f} "
                f"| {ms:.2f} | {our_ms:.2f} | {ms / our_ms:.2f} |"
            )
    return f"""Beside {other}:

| C | processes | operators there | here | ratio | ms there | here | ratio |
|---|---|---|---|---|---|---|---|
{chr(10).join(rows)}
"""


def main() -> None:
    import torch

    tables = [compare(other) for other in sys.argv[1:]]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    cpu = next(
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    )
    report = f"""# A CAR step beside that of earlier commits

`python experiments/benchmarks/car_versions.py {" ".join(sys.argv[1:])}`, {cpu}, one thread per process, torch
{torch.__version__}, {time.strftime("%Y-%m-%d")}, commit {commit.strip()}.
Batch 128 per process, float32, forward and backward; medians of {ROUNDS} alternating runs each; milliseconds of CPU
time with one process, of elapsed time with two (gloo).

{chr(10).join(tables)}"""
    HERE.with_suffix(".md").write_text(report)
    print(report)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("name the commits to compare with: car_versions.py 9e5b706 ...")
    if sys.argv[1] == "--measure":
        measure()
    else:
        main()
