"""The GPU tests, the benchmarks and a short training on this machine's card, in less than eight minutes.

    python experiments/gpu/run.py                       # all parts
    python experiments/gpu/run.py tests training        # some of them
    python experiments/gpu/run.py --minutes 2           # in a quarter of the time: what does not fit is cut off

Needs no network: packages that are missing come from wheels/ beside this file (wheels.sh), into out/packages. Writes
out/results.md and a log of each part. Without a GPU it runs on the processor, with the tests that need none.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WHEELS, OUT = HERE / "wheels", HERE / "out"
MINUTES = 7.5
OLD_COMMIT = "9e5b706"  # beside which car_versions.py measures
PACKAGES = (
    "torch",
    "torchvision",
    "lightning",
    "torchmetrics",
    "timm",
    "hydra-core",
    "omegaconf",
    "wandb",
    "rich",
    "numpy",
)


class Part(NamedTuple):
    """A command and the seconds it may take; ``lacks`` says why it cannot run here."""

    name: str
    words: Sequence[str]
    seconds: float
    lacks: str | None = None


class Outcome(NamedTuple):
    """What became of a part, and after how many seconds."""

    said: str
    seconds: float


def distribution(wheel: Path) -> str:
    """The normalised name of the distribution in a wheel."""
    return normalised(wheel.name.split("-")[0])


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def install(wheels: Path, target: Path) -> list[str]:
    """Install those wheels whose distributions this Python has not; returns their names. Nothing it has is replaced."""
    present = {normalised(found.metadata["Name"] or "") for found in importlib.metadata.distributions()}
    missing = [wheel for wheel in sorted(wheels.glob("*.whl")) if distribution(wheel) not in present]
    if missing:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--upgrade"]
        subprocess.run([*pip, "--target", str(target), *map(str, missing)], check=True)
    return [distribution(wheel) for wheel in missing]


def run_part(part: Part, seconds: float, out: Path, environment: dict[str, str]) -> Outcome:
    """Run a part for at most so many seconds, with everything that it starts; its output goes to ``<name>.log``."""
    if part.lacks:
        return Outcome(f"left out: {part.lacks}", 0)
    began = time.monotonic()
    if seconds < 1:
        return Outcome("left out: no time was left", 0)
    with open(out / f"{part.name}.log", "wb") as log:
        process = subprocess.Popen(
            part.words, cwd=out, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(timeout=seconds)
            said = "done" if code == 0 else f"failed with exit code {code}, see {part.name}.log"
        except subprocess.TimeoutExpired:
            said = f"cut off after {seconds:.0f} s"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return Outcome(said, time.monotonic() - began)


def parts(out: Path, gpu: bool) -> list[Part]:
    """All parts; their seconds add up to ``MINUTES`` at most."""
    python, benchmarks = sys.executable, out / "experiments" / "benchmarks"
    marked = [str(path) for path in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in path.read_text()]
    tests = [python, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), f"--rootdir={ROOT}", "-p", "no:cacheprovider"]
    tests += [f"-Wignore::{kind}Warning" for kind in ("Deprecation", "PendingDeprecation", "Future", "User")]
    tests += ["-m", "gpu" if gpu else "not gpu and not slow", *marked]
    step = [python, str(benchmarks / "car_step.py"), "--no-svd", *([] if gpu else ["--sizes", "100", "1000"])]
    git = None if git_says("--absolute-git-dir") else "no git repository here"
    real = None if os.environ.get("CARLT_REAL_DATA") else "CARLT_REAL_DATA names no folder with tiny-imagenet-half.tar"
    cifar, loop = os.environ.get("CARLT_CIFAR"), benchmarks / "cifar_loop.py"
    no_cifar = None if cifar and loop.exists() else "CARLT_CIFAR names no folder with cifar-100-python"
    training = [python, str(HERE / "training.py"), "cuda" if gpu else "cpu", str(out / "training")]
    return [
        Part("tests", tests, 90),
        Part("training", training, 75),
        Part("car_step", step, 120),
        Part("car_versions", [python, str(benchmarks / "car_versions.py"), OLD_COMMIT], 45, git),
        Part("data_loading", [python, str(benchmarks / "data_loading.py")], 60, real),
        Part("cifar_loop", [python, str(loop), str(cifar)], 60, no_cifar),
    ]


def git_says(*words: str) -> str:
    """The answer of ``git rev-parse`` about this checkout; empty where it is none."""
    command = ["git", "-C", str(ROOT), "rev-parse", *words]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() if shutil.which("git") else ""


def prepare(out: Path) -> dict[str, str]:
    """An empty ``out`` with copies of the benchmarks, which write beside themselves; the environment of all parts."""
    out.mkdir(parents=True, exist_ok=True)
    for name in ("experiments", "src", "training", "results.md"):
        path = out / name
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.exists():
            shutil.rmtree(path)
    ignored = shutil.ignore_patterns("*.md", "__pycache__")
    shutil.copytree(ROOT / "experiments" / "benchmarks", out / "experiments" / "benchmarks", ignore=ignored)
    (out / "src").symlink_to(ROOT / "src")  # car_versions.py measures what lies there
    path = [str(ROOT / "src"), *([str(out / "packages")] if (out / "packages").exists() else [])]
    git = {"GIT_DIR": folder, "GIT_WORK_TREE": str(out)} if (folder := git_says("--absolute-git-dir")) else {}
    return {**os.environ, **git, "PYTHONPATH": os.pathsep.join(path), "WANDB_MODE": "offline", "HF_HUB_OFFLINE": "1"}


def hardware() -> tuple[bool, list[str]]:
    """Whether there is a GPU, and this machine in a few lines."""
    import torch

    gpu = torch.cuda.is_available()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    names = (
        re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()) if os.path.exists("/proc/cpuinfo") else []
    )
    rows = [f"| processor | {(names or [platform.machine()])[0]}, {cores} cores |"]
    if gpu:
        card = torch.cuda.get_device_properties(0)
        capability = ".".join(map(str, torch.cuda.get_device_capability()))
        memory = f"{card.total_memory >> 30} GiB, compute capability {capability}"
        rows.insert(0, f"| GPU | {torch.cuda.device_count()} x {card.name}, {memory} |")
        rows.insert(1, f"| CUDA | {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()} |")
    else:
        rows.insert(0, "| GPU | none: everything below ran on the processor |")
    return gpu, rows


def versions(packages: Path) -> str:
    """The versions of ``PACKAGES``, of this Python or in ``packages``."""
    known = importlib.metadata.distributions(path=[*sys.path, str(packages)])
    found = {normalised(each.metadata["Name"] or ""): each.version for each in known}
    return ", ".join(f"{name} {found.get(name, 'missing')}" for name in PACKAGES)


def results(out: Path, rows: Sequence[str], outcomes: dict[str, Outcome], limits: dict[str, float]) -> str:
    """The content of ``results.md``."""
    lines = ["# carlt on this machine", "", "| | |", "|---|---|", *rows]
    lines += [f"| software | Python {platform.python_version()}, {versions(out / 'packages')} |"]
    lines += [
        f"| carlt | commit {git_says('--short', 'HEAD') or 'unknown'} |",
        f"| date | {time.strftime('%Y-%m-%d %H:%M')} |",
        "",
    ]
    lines += ["| part | outcome | seconds | at most |", "|---|---|---|---|"]
    lines += [f"| {name} | {o.said} | {o.seconds:.0f} | {limits[name]:.0f} |" for name, o in outcomes.items()]
    for name, outcome in outcomes.items():
        if outcome.said.startswith(("failed", "cut off")):
            said = (out / f"{name}.log").read_text(errors="replace").strip().splitlines()[-8:]
            lines += ["", f"The last lines of {name}.log:", "", *(f"    {line}" for line in said)]
    log = out / "tests.log"
    if "tests" in outcomes and log.exists():
        lines += ["", "## tests", "", *log.read_text(errors="replace").strip().splitlines()[-1:]]
    record = out / "training" / "result.json"
    if "training" in outcomes and record.exists():
        found = json.loads(record.read_text())
        images = found["epochs"] * sum(found["class_counts"])
        speed = images / found["timings"]["fit_s"]
        lines += [
            "",
            "## training",
            "",
            f"A CIFAR ResNet with CAR, {images:,} made-up pictures of 32 px, with validation",
        ]
        lines[-1] += f" and checkpoints: {speed:,.0f} images/s in {found['compute']['precision']}, test accuracy"
        lines[-1] += f" {found['metrics']['test/accuracy']:.1%}."
    for report in sorted((out / "experiments" / "benchmarks").glob("*.md")):
        lines += ["", f"## {report.stem}", "", *report.read_text().splitlines()[1:]]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [part.name for part in parts(OUT, gpu=False)]
    parser.add_argument("parts", nargs="*", help=", ".join(names))
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all parts together")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args(arguments)
    if unknown := set(given.parts) - set(names):
        parser.error(f"no part {', '.join(sorted(unknown))}; choose from {', '.join(names)}")
    began, out = time.monotonic(), given.out.absolute()
    installed = install(WHEELS, out / "packages")
    if installed:
        print(f"from wheels/: {', '.join(installed)}", flush=True)
    environment = prepare(out)
    gpu, rows = hardware()
    chosen = [part for part in parts(out, gpu) if not given.parts or part.name in given.parts]
    limits = {part.name: part.seconds * given.minutes / MINUTES for part in chosen}
    outcomes: dict[str, Outcome] = {}
    for part in chosen:
        left = 60 * given.minutes - (time.monotonic() - began)
        print(f"{part.name}: at most {min(limits[part.name], left):.0f} s", flush=True)
        outcomes[part.name] = run_part(part, min(limits[part.name], left), out, environment)
        print(f"{part.name}: {outcomes[part.name].said}", flush=True)
        (out / "results.md").write_text(results(out, rows, outcomes, limits))
    print((out / "results.md").read_text())
    return int(any(outcome.said.startswith("failed") for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
