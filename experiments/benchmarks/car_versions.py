"""A CAR step of this checkout beside that of another commit: operators and CPU time, in alternating processes.

    python experiments/benchmarks/car_versions.py 9e5b706   # about a minute

Writes car_versions.md beside itself.
"""

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


def measure(classes: int, steps: int) -> None:
    """In a process of its own: prints the operators of a step and its median milliseconds of CPU time."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    from carlt.reg import CAR

    class Operators(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.count += 1
            return function(*args, **(kwargs or {}))

    torch.set_num_threads(1)
    torch.manual_seed(0)
    counts = (1000 * torch.arange(1, classes + 1) ** -0.8).ceil().long()
    centres, car, times, operators = torch.randn(classes, 32), CAR(counts), [], []
    for step in range(steps + 20):
        targets = torch.multinomial(counts.double(), 128, True)
        logits = ((centres[targets] + 1.5 * torch.randn(128, 32)) @ centres.T / 4).requires_grad_()
        began = time.process_time()
        if step < 20:
            with Operators() as counter:
                car(logits, targets).backward()
            operators.append(counter.count)
        else:
            car(logits, targets).backward()
            times.append(time.process_time() - began)
    print(statistics.median(operators[10:]), 1e3 * statistics.median(times))


def main() -> None:
    other = sys.argv[1]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        git = {"cwd": ROOT, "env": os.environ | {"GIT_WORK_TREE": str(ROOT)}}  # paths are from there, also in a copy
        archive = subprocess.run(["git", "archive", other, "src"], check=True, capture_output=True, **git).stdout
        with tarfile.open(fileobj=BytesIO(archive)) as files:
            files.extractall(folder, filter="data")
        for classes, steps in SIZES.items():
            found = {other: [], "here": []}
            for _ in range(ROUNDS):
                for name, root in ((other, Path(folder)), ("here", ROOT)):
                    environment = os.environ | {"PYTHONPATH": str(root / "src"), "OMP_NUM_THREADS": "1"}
                    command = [sys.executable, str(HERE), "--measure", str(classes), str(steps)]
                    said = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
                    found[name].append([float(number) for number in said.split()])
            (operators, ms), (ours, our_ms) = (
                [statistics.median(column) for column in zip(*found[name], strict=True)] for name in (other, "here")
            )
            rows.append(
                f"| {classes:,} | {operators:.0f} | {ours:.0f} | {operators / ours:.2f} "
                f"| {ms:.2f} | {our_ms:.2f} | {ms / our_ms:.2f} |"
            )
    import torch

    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    cpu = next(
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    )
    report = f"""# A CAR step beside that of {other}

`python experiments/benchmarks/car_versions.py {other}`, {cpu}, one thread, torch {torch.__version__},
{time.strftime("%Y-%m-%d")}, commit {commit.strip()}.
Batch 128, float32, forward and backward; medians of {ROUNDS} alternating processes each; milliseconds of CPU time.

| C | operators there | here | ratio | ms there | here | ratio |
|---|---|---|---|---|---|---|
{chr(10).join(rows)}
"""
    HERE.with_suffix(".md").write_text(report)
    print(report)


if __name__ == "__main__":
    if sys.argv[1] == "--measure":
        measure(int(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
