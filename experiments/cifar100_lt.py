"""The runs of cifar100_lt.md, one after another or several side by side, and the page's tables from their records.

    python experiments/cifar100_lt.py <folder of CIFAR-100> <folder for runs> [--seeds 0 1 2] [--only ce balanced_softmax]
                                       [--penalties none offsets] [--jobs 1]
    python experiments/cifar100_lt.py            # print the tables of cifar100_lt.csv

Each finished run is a line of ``cifar100_lt.csv``, and a run with a line is not trained again. So the same command goes
on where it stopped, on another machine too; on the same one an unfinished run is resumed. A run takes one core.
The lines "car_after" and "tau_after" are of the networks without penalty, adjusted after training.
"""  # noqa: E501

import argparse
import os
import subprocess
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from csv_lines import append_line, read_lines
from train_bf16 import rounded_conv2d

from carlt.errors import CarltError
from carlt.evaluation.evaluate import evaluate_posthoc
from carlt.reporting.statistics import mean_and_std, paired_difference, signed
from carlt.runs import paths
from carlt.runs.record import read_result
from carlt.training.compute import native_bfloat16

RECORDS = Path(__file__).with_suffix(".csv")
OTHER_ORDER = "data.official=false"
"""The images may be in another order than in the official files (cifar100_lt.md)."""
RECIPE = [
    "data=cifar100_lt", OTHER_ORDER, "data.validation=none", "model=resnet32", "trainer.max_epochs=30",
    "optim.schedule=cosine",
    "optim.lr=0.1", "optim.weight_decay=5e-4", "optim.warmup_epochs=3", "data.batch_size=128",
    "trainer.precision=bf16-mixed", "channels_last=true", "callbacks.car.gap_every_n_epochs=0",
]  # fmt: skip
FAST = native_bfloat16("cuda" if torch.cuda.is_available() else "cpu")
TRAIN = ["-m", "carlt.train"] if FAST else [str(Path(__file__).with_name("train_bf16.py"))]
LOSSES = {
    "ce": ["loss=ce"],
    "balanced_softmax": ["loss=balanced_softmax"],
    "ldam_drw": ["loss=ldam_drw"],
    "ride": ["loss=ride"],
    "bcl": ["loss=bcl", "aug=autoaugment"],
    "concutmix": ["loss=bcl", "aug=[autoaugment,concutmix]"],
}
PENALTIES = {
    "none": ["reg=none"],
    "car": ["reg=car"],
    "released": ["reg=car_released"],
    "offsets": ["reg=car_offsets"],  # by --penalties alone: posthoc=car, of the runs without penalty, took its place
}
TAU = {"ce": 1.25, "ride": 0.3, "ldam_drw": 0.3}
"""Of logit adjustment after training, chosen on validation images (cifar100_after_training.csv): the largest tau whose
overall accuracy is within 0.1 points of the best. For balanced softmax that is 0; BCL and ConCutMix have none."""
COLUMNS = {
    "overall": "accuracy", "many": "many", "medium": "medium", "few": "few", "worst 10 %": "worst_10pct",
    "classes at 0": "classes_at_zero",
}  # fmt: skip
"""A table's column, and the metric of the test split."""
append = Lock()


def main() -> None:
    """Train what has no record, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="?", help="folder that holds cifar-100-python")
    parser.add_argument("runs", nargs="?", type=Path, help="folder for the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=LOSSES, default=list(LOSSES), help="losses")
    parser.add_argument("--penalties", nargs="+", choices=PENALTIES, default=["none", "car", "released"])
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if not FAST:  # for the networks that are adjusted after training
        torch.nn.functional.conv2d = rounded_conv2d
    if given.images:
        if given.runs is None:
            parser.error("give the folder for runs, too")
        done = {(row["loss"], row["penalty"], int(row["seed"])) for row in read_lines(RECORDS)}
        names = [
            (loss, penalty, seed)
            for loss in given.only
            for seed in given.seeds
            for penalty in given.penalties
            if any((loss, row, seed) not in done for row in rows_of(loss, penalty))
        ]
        with ThreadPoolExecutor(given.jobs) as pool:
            try:
                list(pool.map(lambda name: run(*name, given, done), names))
            except subprocess.CalledProcessError:
                pool.shutdown(cancel_futures=True)  # what runs may end; the next would stop in the same way
                sys.exit("a run stopped, its message is above; the same command goes on")
            except CarltError as error:
                pool.shutdown(cancel_futures=True)
                sys.exit(str(error))
    print(tables(read_lines(RECORDS)))


def rows_of(loss: str, penalty: str) -> dict[str, tuple[str, float | None] | None]:
    """The rows that one run gives: its own, and without penalty those of its network adjusted after training, each with
    the method and tau of ``carlt.evaluate posthoc=``."""
    rows: dict[str, tuple[str, float | None] | None] = {penalty: None}
    if penalty == "none":
        rows["car_after"] = ("car", None)
        if loss in TAU:
            rows["tau_after"] = ("logit_adjusted", TAU[loss])
    return rows


def run(loss: str, penalty: str, seed: int, given: argparse.Namespace, done: set[tuple[str, str, int]]) -> None:
    """Train with one seed, unless that was done, and record the rows that are missing."""
    folder = given.runs / f"{loss}_{penalty}_{seed}"
    if (loss, penalty, seed) in done and not (folder / paths.RESULT).exists():
        print(f"{folder} is not here, so its network cannot be adjusted: remove its line to train it again", flush=True)
        return
    if not (folder / paths.RESULT).exists():
        new = [*RECIPE, *LOSSES[loss], *PENALTIES[penalty], f"data.root={given.images}", f"seed={seed}"]
        again = paths.checkpoint(folder, "last").exists()
        overrides = [f"resume={folder}", OTHER_ORDER] if again else [*new, f"hydra.run.dir={folder}"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, *TRAIN, *overrides], env=environment, check=True)
    for name, adjustment in rows_of(loss, penalty).items():
        if (loss, name, seed) not in done:
            record(loss, name, seed, result_of(folder, adjustment))


def result_of(folder: Path, adjustment: tuple[str, float | None] | None) -> dict[str, Any]:
    """The result of the run, or of its network adjusted after training."""
    return evaluate_posthoc(folder, *adjustment, overrides=[OTHER_ORDER])[0] if adjustment else read_result(folder)


def record(loss: str, penalty: str, seed: int, result: dict[str, Any]) -> None:
    """Add a line to the records."""
    row = {"loss": loss, "penalty": penalty, "seed": seed}
    row |= {metric: round(result["metrics"][f"test/{metric}"], 5) for metric in COLUMNS.values()}
    row |= {"minutes": round(result["timings"]["fit_s"] / 60, 1), "commit": result["commit"][:7]}
    bf16 = "native" if result["hardware"].get("native_bfloat16", True) else "emulated"
    row |= {"torch": result["versions"]["torch"], "hardware": f"{result['hardware']['name']}, {bf16} bf16"}
    with append:
        append_line(RECORDS, row)
    print(f"{loss} {penalty} {seed}: {100 * row['accuracy']:.1f} % overall, {100 * row['few']:.1f} % few", flush=True)


def tables(rows: list[dict[str, str]]) -> str:
    """Markdown: mean and standard deviation of each row over seeds, differences from the same loss without penalty, and
    of CAR after training from logit adjustment, paired by seed, with 95 % intervals."""
    values: dict[tuple[str, str], dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        for shown, metric in COLUMNS.items():
            scale = 1 if metric == "classes_at_zero" else 100
            values[row["loss"], row["penalty"]][shown][int(row["seed"])] = scale * float(row[metric])
    rows = [*PENALTIES, "car_after", "tau_after"]
    order = [name for loss in LOSSES for penalty in rows if (name := (loss, penalty)) in values]
    head = [f"| loss | penalty | n | {' | '.join(COLUMNS)} |", "|---|---|---:|" + "---:|" * len(COLUMNS)]

    def absolute(loss: str, penalty: str) -> str:
        stats = {shown: mean_and_std(list(values[loss, penalty][shown].values())) for shown in COLUMNS}
        cells = [f"{s.mean:.1f}" + (f" ± {s.deviation:.1f}" if s.n > 1 else "") for s in stats.values()]
        return f"| {loss} | {penalty} | {stats['overall'].n} | {' | '.join(cells)} |"

    def difference(loss: str, penalty: str, other: str) -> list[str]:
        """One line, or none without two seeds of both."""
        if penalty == other or (loss, penalty) not in values or (loss, other) not in values:
            return []
        gaps = [paired_difference(values[loss, penalty][shown], values[loss, other][shown]) for shown in COLUMNS]
        cells = [f"{signed(gap.mean)} ± {gap.half:.1f}" for gap in gaps]
        return [f"| {loss} | {penalty} | {gaps[0].n} | {' | '.join(cells)} |"] if gaps[0].n > 1 else []

    lines = [*head, *(absolute(*name) for name in order)]
    lines += ["", "Difference from the same loss without penalty, paired by seed:", "", *head]
    lines += [line for loss, penalty in order for line in difference(loss, penalty, "none")]
    lines += ["", "Difference of car_after from tau_after, paired by seed:", "", *head]
    return "\n".join([*lines, *(line for loss in LOSSES for line in difference(loss, "car_after", "tau_after"))])


if __name__ == "__main__":
    main()
