"""What a CAR step costs: against a full SVD through autograd, against the memory floor, and in a training step.

    python experiments/benchmarks/car_step.py            # about 10 minutes, most of it one SVD at 8,142
    python experiments/benchmarks/car_step.py --no-svd   # without the SVD at 8,142

Writes car_step.md beside itself. Runs on a CUDA device where there is one.
"""

import argparse
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from carlt.functional import batch_confusion, spectral
from carlt.models import CifarResNet
from carlt.reg import CAR
from carlt.runs import provenance

BATCH = 128
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZES = {100: 60, 1000: 30, 8142: 12, 21841: 6}  # classes: timed steps
SVD_STEPS = {100: 60, 1000: 5, 8142: 1}


def now() -> float:
    """Seconds: wall time on a GPU, else this process's CPU time, which other processes hardly change."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


class Stream:
    """Batches of a half-trained network on long-tailed classes: a few similar classes are the likely mistakes."""

    def __init__(self, classes: int):
        generator = torch.Generator().manual_seed(0)
        self.counts = (1000 * torch.arange(1, classes + 1) ** -0.8).ceil().long()
        self.centres = torch.randn(classes, 32, generator=generator).to(DEVICE)
        self.generator = generator

    def __call__(self, targets: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if targets is None:
            targets = torch.multinomial(self.counts.double(), BATCH, True, generator=self.generator)
        targets = targets.to(DEVICE)
        noise = torch.randn(len(targets), 32, generator=self.generator).to(DEVICE)
        logits = (self.centres[targets] + 1.5 * noise) @ self.centres.T / 4
        return logits.requires_grad_(), targets


def svd_step(history: Tensor, weight: Tensor, logits: Tensor, targets: Tensor) -> tuple[float, float]:
    """Surrogate, EMA, SVD and backward as C x C autograd; returns its seconds and the penalty, leaves logits.grad."""
    start = now()
    running = 0.5 * history + 0.5 * batch_confusion(logits, targets)[0]
    penalty = 0.5 * torch.linalg.svd(weight[:, None] * running, full_matrices=False)[1][0]
    penalty.backward()
    return now() - start, penalty.item()


def car_step(car: CAR, logits: Tensor, targets: Tensor) -> tuple[float, float]:
    start = now()
    penalty = car(logits, targets)
    penalty.backward()
    return now() - start, penalty.item()


class Reads:
    """Counts the bytes of matrix rows that the search asks for."""

    def __init__(self) -> None:
        self.bytes, self.original = 0, spectral.pieces
        spectral.pieces = self

    def __call__(self, matrix: Tensor, rows: Tensor | None) -> Iterator:
        self.bytes += (len(matrix) if rows is None else len(rows)) * matrix.shape[1] * matrix.element_size()
        return self.original(matrix, rows)


def filled(classes: int, absent: str, stream: Stream) -> CAR:
    """A CAR in mid-training: every class was seen, then 25 batches passed."""
    car = CAR(stream.counts, absent=absent).to(DEVICE)
    if absent == "hold":
        for part in torch.arange(classes).split(1024):
            car(*stream(part))
    for _ in range(25):
        car(*stream())
    return car


def compare(classes: int, absent: str, bandwidth: float, with_svd: bool) -> tuple[dict[str, str], float | None]:
    """One row of the table, and the SVD step's seconds: CAR and it in turn, on the same batches and history."""
    stream, reads = Stream(classes), Reads()
    car = filled(classes, absent, stream)
    ours, theirs, read, gaps = [], [], [], []
    for step in range(SIZES[classes]):
        logits, targets = stream()
        check = with_svd and absent == "decay" and step < SVD_STEPS.get(classes, 0)
        history = car.confusion.clone() if check else None
        reads.bytes = 0
        seconds, penalty = car_step(car, logits, targets)
        ours.append(seconds)
        read.append(reads.bytes)
        if history is not None:
            copy = logits.detach().clone().requires_grad_()
            seconds, exact = svd_step(history, car.row_weight, copy, targets)
            theirs.append(seconds)
            gradient = torch.linalg.vector_norm(logits.grad - copy.grad) / torch.linalg.vector_norm(copy.grad)
            gaps.append((abs(penalty / exact - 1), gradient.item()))
    spectral.pieces = reads.original
    rows = classes
    if car.row_norm is not None and DEVICE == "cpu":  # a GPU reads all rows
        active = spectral.active_rows(car.row_weight * car.row_norm, 0.5 * car.spectral_norm)
        rows = classes if active is None else len(active)
    mine, floor = statistics.median(ours), statistics.median(read) / bandwidth
    row = {
        "C": f"{classes:,}",
        "absent rows": absent,
        "rows read": f"{rows:,}",
        "CAR ms": f"{1e3 * mine:.2f}",
        "floor ms": f"{1e3 * floor:.2f}" if floor else "",  # a small matrix is squared, not read in pieces
        "us a row": f"{1e6 * mine / rows:.1f}",
    }
    other = None
    if theirs:
        other = statistics.median(theirs)
        row |= {"SVD step ms": f"{1e3 * other:,.2f}", "ratio": ""}
        row |= {"value off": f"{max(v for v, _ in gaps):.0e}", "gradient off": f"{max(g for _, g in gaps):.0e}"}
    return row, other


def peak_bytes() -> int:
    """The most memory that this process held so far."""
    if DEVICE == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status").read_text()  # getrusage's peak would include the parent's
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def memory(classes: int, absent: str) -> float:
    """Peak bytes of building CAR and of 8 steps, over 4 C^2; on a CPU in a process of its own."""
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
    stream = Stream(classes)
    filled(200, absent, Stream(200))  # loads the libraries
    for _ in range(3):  # what any loss on such logits needs
        logits, targets = stream()
        nn.functional.cross_entropy(logits, targets).backward()
    del logits
    before = peak_bytes()
    car = CAR(stream.counts, absent=absent).to(DEVICE)
    car.confusion.fill_(0)  # zeros are not in memory before they are written
    for _ in range(8):
        car_step(car, *stream())
    return (peak_bytes() - before) / (4 * classes**2)


def measured_memory(classes: int, absent: str) -> str:
    if DEVICE == "cuda":
        return f"{memory(classes, absent):.2f}"
    command = [sys.executable, __file__, "--memory", str(classes), absent]
    return f"{float(subprocess.run(command, check=True, capture_output=True, text=True).stdout):.2f}"


def measured_bandwidth() -> float:
    """Bytes a second that a matrix-vector product reads from memory, the best of 10."""
    matrix, vector = torch.ones(16384, 16384, device=DEVICE), torch.ones(16384, device=DEVICE)
    times = []
    for _ in range(10):
        start = now()
        matrix.mv(vector)
        times.append(now() - start)
    return matrix.nbytes / min(times)


def share_of_training(net: nn.Module, image: tuple[int, ...], classes: int, steps: int = 8) -> str:
    """Median times of a training step (forward, cross-entropy, backward, SGD) and of what CAR adds to it."""
    stream = Stream(classes)
    car, net = filled(classes, "decay", stream), net.to(DEVICE)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    images, plain, added = torch.randn(BATCH, *image, device=DEVICE), [], []
    for _ in range(steps):
        targets = stream()[1]
        start = now()
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(images), targets)
        loss.backward()
        optimizer.step()
        plain.append(now() - start)
        added.append(car_step(car, *stream())[0])
    step, more = statistics.median(plain[2:]), statistics.median(added[2:])
    return f"step {1e3 * step:.0f} ms, CAR {1e3 * more:.2f} ms, {100 * more / (step + more):.2f} %"


def offsets_ratio(classes: int) -> str:
    """A step with class offsets beside one without, in turn on the same batches, with held rows: one line."""
    stream, times = Stream(classes), ([], [])
    cars = [CAR(stream.counts, absent="hold", offset_rate=rate).to(DEVICE) for rate in (0.0, 0.005)]
    for step in range(25 + SIZES[classes]):
        logits, targets = stream()
        for car, seconds in zip(cars, times, strict=True):
            took, _ = car_step(car, logits.detach().clone().requires_grad_(), targets)
            if step >= 25:
                seconds.append(took)
    plain, moved = (statistics.median(seconds) for seconds in times)
    return f"C = {classes:,}: {1e3 * plain:.2f} ms without, {1e3 * moved:.2f} ms with them, ratio {moved / plain:.2f}"


def table(rows: list[dict[str, str]]) -> str:
    heads = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    return "\n".join(lines + ["| " + " | ".join(row.get(head, "") for head in heads) + " |" for row in rows])


def machine() -> str:
    if DEVICE == "cuda":
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, Python {platform.python_version()}, torch {torch.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-svd", action="store_true", help="leave out the SVD step at 8,142 classes (minutes)")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        print(memory(int(arguments.memory[0]), arguments.memory[1]))
        return
    torch.set_num_threads(1)  # or CPU time would count threads that wait for each other
    bandwidth = measured_bandwidth()
    rows: list[dict[str, str]] = []
    shares: list[str] = []
    offsets: list[str] = []
    for classes in arguments.sizes:
        svd: float | None = None
        for absent in ("decay", "hold"):
            row, seconds = compare(classes, absent, bandwidth, with_svd=not (arguments.no_svd and classes > 1000))
            svd = seconds or svd  # measured with decaying rows; it costs the same whatever the matrix holds
            row |= {"ratio": f"{1e3 * svd / float(row['CAR ms']):,.1f}"} if svd else {}
            if classes >= 1000:
                row["memory / 4C^2"] = measured_memory(classes, absent)
            rows.append(row)
            print(row, flush=True)
            write(bandwidth, rows, shares, offsets)  # a run that is cut off leaves what it has
        offsets.append(offsets_ratio(classes))
    shares.append(f"ResNet-32, 32 px, C = 100: {share_of_training(CifarResNet(100, depth=32), (3, 32, 32), 100)}")
    write(bandwidth, rows, shares, offsets)
    if DEVICE == "cuda":
        from torchvision.models import resnet50

        shares.append(f"ResNet-50, 224 px, C = 1,000: {share_of_training(resnet50(), (3, 224, 224), 1000)}")
    print(write(bandwidth, rows, shares, offsets))


def write(bandwidth: float, rows: list[dict[str, str]], shares: list[str], offsets: list[str]) -> str:
    """Write the report of what was measured so far."""
    commit, today = (provenance.commit() or "unknown")[:7], time.strftime("%Y-%m-%d")
    parts = table(rows), "\n- ".join(shares), "\n- ".join(offsets)
    report = REPORT.format(machine(), today, commit, bandwidth / 1e9, *parts)
    name = "car_step.md" if DEVICE == "cpu" else "car_step_cuda.md"
    Path(__file__).with_name(name).write_text(report)
    return report


REPORT = """# What a CAR step costs

`python experiments/benchmarks/car_step.py`, {}, {}, commit {}.
Batch 128, float32, forward and backward of the penalty alone, medians (on a CPU: of CPU time, one thread).
Memory bandwidth of a matrix-vector product: {:.1f} GB/s.

{}

- rows read: the fewest rows of Lambda C^ such that the squared norms of all others add up to at most 1e-5 of sigma^2;
  all rows where that is more than half of them, and always up to 2,048 classes and on a GPU.
- floor: the bytes of those rows, once for each product with M^T M (one pass over the rows), over the bandwidth. Where
  they fit the cache a step can be faster than this.
- SVD step: surrogate, EMA, `torch.linalg.svd` and backward as C x C autograd, on the same batches and history; timed
  with decaying rows, and the ratio of both rows is to it, since a full SVD costs the same whatever the matrix holds.
- value off, gradient off: largest relative difference from the SVD step's penalty and logit gradient (float32 both).
- memory: peak of building CAR and 8 steps in a process of its own, less that of cross-entropy on the same logits.

Share of a training step at batch 128 in float32 (on a GPU with torch's default, TF32 in convolutions):

- {}

A step with class offsets (`offset_rate=0.005`) beside one without, held rows, medians of steps in turn:

- {}
"""

if __name__ == "__main__":
    main()
