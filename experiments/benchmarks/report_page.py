"""A report over 200 runs with 1,000 classes: seconds from start to page, and the page's size.

``python experiments/benchmarks/report_page.py [folder to keep it in]`` makes the run folders (40 configurations of 5
seeds, 200 epochs), runs ``python -m carlt.report`` on them in a process of its own and writes report_page.md.
"""

import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import matplotlib as mpl
import numpy as np
import yaml

from carlt.runs import paths
from carlt.runs.record import write_confusion, write_per_class, write_result

CLASSES, TEST_IMAGES, EPOCHS, SEEDS = 1000, 50, 200, 5
WEIGHTS = [round(0.05 * 1.25**k, 4) for k in range(20)]
BINS = 15
RESULT = Path(__file__).with_suffix(".md")


def main() -> None:
    """Make, measure, write."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(temporary)
        make(folder / "runs")
        out = folder / "report"
        command = [sys.executable, "-m", "carlt.report", str(folder / "runs"), f"out={out}", "published=true"]
        seconds = []
        for _ in range(3):
            began = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - began)
        size = (out / "report.html").stat().st_size / 1e6
    text = f"""# A report over 200 runs with 1,000 classes

`python experiments/benchmarks/report_page.py`, {time.strftime("%Y-%m-%d")}, {platform.machine()}, other jobs beside it,
Python {platform.python_version()}, matplotlib {mpl.__version__}, commit {_commit()}.

{2 * len(WEIGHTS)} configurations of {SEEDS} seeds, {CLASSES:,} classes, {TEST_IMAGES} test images a class,
{EPOCHS} epochs; the records are made up.

| | measured | bound |
|---|---|---|
| start to page, median of three (s) | {np.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f}) | 20 |
| report.html (MB) | {size:.2f} | 5 |
"""
    RESULT.write_text(text)
    print(text)


def make(folder: Path) -> None:
    """Runs of ``reg=car`` over 20 weights with two losses."""
    for loss in ("ce", "balanced_softmax"):
        for weight in WEIGHTS:
            for seed in range(SEEDS):
                make_run(folder / f"{loss}_{weight}_{seed}", loss, weight, seed)


def make_run(run: Path, loss: str, weight: float, seed: int) -> None:
    """A run folder with plausible records."""
    rng = np.random.default_rng([seed, int(1e4 * weight), loss == "ce"])
    counts = np.maximum(1280 * (5 / 1280) ** (np.arange(CLASSES) / (CLASSES - 1)), 5).astype(int)
    skill = (counts / 1280) ** (0.45 if loss == "ce" else 0.25) * (0.8 - 0.03 * abs(np.log(weight / 0.5)))
    chance = np.clip(skill + 0.08 * rng.standard_normal(CLASSES), 0, 0.98)
    true = np.repeat(np.arange(CLASSES), TEST_IMAGES)
    wrong = rng.choice(CLASSES, len(true), p=counts / counts.sum())
    predicted = np.where(rng.random(len(true)) < chance[true], true, wrong)
    cell, count = np.unique(true * CLASSES + predicted, return_counts=True)
    correct = np.bincount(true[true == predicted], minlength=CLASSES)
    rows = write_per_class(run, [f"class {c}" for c in range(CLASSES)], counts.tolist(), [TEST_IMAGES] * CLASSES,
                           correct.tolist())  # fmt: skip
    write_confusion(run, cell // CLASSES, cell % CLASSES, count, CLASSES)
    accuracy = np.array([row.accuracy for row in rows])
    metrics = {
        "test/accuracy": float(accuracy.mean()), "test/balanced_accuracy": float(accuracy.mean()),
        "test/many": float(accuracy[counts > 100].mean()), "test/few": float(accuracy[counts < 20].mean()),
        "test/medium": float(accuracy[(counts <= 100) & (counts >= 20)].mean()),
        "test/worst_class": float(accuracy.min()), "test/worst_ratio": float(accuracy.min()) / 0.9,
        "test/worst_10pct": float(np.sort(accuracy)[: CLASSES // 10].mean()),
        "test/classes_at_zero": float((accuracy == 0).sum()), "test/ece": 0.1,
    }  # fmt: skip
    confidence = (np.arange(BINS) + 0.5) / BINS
    bins = {"images": [TEST_IMAGES * CLASSES // BINS] * BINS, "confidence": confidence.tolist(),
            "accuracy": (confidence**1.5).tolist()}  # fmt: skip
    write_result(run, {
        "schema": 1, "metrics": metrics, "best": None, "seed": seed, "epochs": EPOCHS, "num_classes": CLASSES,
        "class_counts": counts.tolist(), "data": {"name": "imagenet_lt", "sha256": "0" * 64},
        "calibration": {"test": bins, "train": bins}, "commit": "0" * 40,
    })  # fmt: skip
    config = {
        "data": {"_target_": "carlt.data.ImageNetLT"}, "reg": {"_target_": "carlt.reg.CAR", "weight": weight},
        "loss": {"_target_": loss}, "seed": seed, "choices": {"reg": "car", "loss": loss, "data": "imagenet_lt"},
        "optim": {f"value_{k}": k for k in range(80)},  # a config of the usual length
    }  # fmt: skip
    (run / paths.CONFIG).write_text(yaml.safe_dump(config))
    rise = 1 - np.exp(-np.arange(EPOCHS) / 40)
    columns = {
        "train/loss": 7 - 6 * rise, "train_batches/accuracy": 0.95 * rise, "train_batches/worst_class": 0.5 * rise**4,
        "val/balanced_accuracy": accuracy.mean() * rise, "val/worst_class": 0.02 * rise, "car/spectral_norm": 2 - rise,
    }  # fmt: skip
    noise = 0.01 * rng.standard_normal((EPOCHS, len(columns)))
    values = np.stack(list(columns.values()), 1) + noise
    lines = [",".join(["epoch", "step", *columns])]
    lines += [",".join([str(e), str(900 * e), *map(repr, row)]) for e, row in enumerate(values.tolist())]
    (run / paths.METRICS).write_text("\n".join(lines) + "\n")


def _commit() -> str:
    return subprocess.check_output(
        ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, text=True
    ).strip()


if __name__ == "__main__":
    main()
