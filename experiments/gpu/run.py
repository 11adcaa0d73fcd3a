"""The GPU tests, the benchmarks and a short training on this machine's card, in less than eight minutes.

    python experiments/gpu/run.py                       # all parts
    python experiments/gpu/run.py tests training        # some of them
    python experiments/gpu/run.py --minutes 2           # in a quarter of the time: what does not fit is cut off
    python experiments/gpu/run.py --copy <folder>       # results.md and the logs there, too, after each part

Needs no network: packages that are missing come from wheels/ beside this file (wheels.sh), into out/packages. Writes
out/results.md and a log of each part. Without a GPU it runs on the processor, with the tests that need none. Images
that are not on the machine are made up, and the reports say so.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import re
import shutil
import signal
import statistics
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
    """Install those wheels whose distributions this Python has not; returns their names. Nothing it has is replaced.

    A wheel that pip cannot install is left out: the parts that need it then say so."""
    present = {normalised(found.metadata["Name"] or "") for found in importlib.metadata.distributions()}
    missing = [wheel for wheel in sorted(wheels.glob("*.whl")) if distribution(wheel) not in present]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--upgrade"]
    done = [wheel for wheel in missing if not subprocess.call([*pip, "--target", str(target), str(wheel)])]
    return [distribution(wheel) for wheel in done]


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
    trainings = [path for path in marked if "e2e" in Path(path).parts]  # minutes, so a part of their own
    pytest = [python, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), f"--rootdir={ROOT}", "-p", "no:cacheprovider"]
    pytest += [f"-Wignore::{kind}Warning" for kind in ("Deprecation", "PendingDeprecation", "Future", "User")]
    pytest += ["-m", "gpu" if gpu else "not gpu and not slow"]
    tests = [*pytest, *(path for path in marked if path not in trainings)]
    step = [python, str(benchmarks / "car_step.py"), "--no-svd", *([] if gpu else ["--sizes", "100", "1000"])]
    git = None if git_says("--absolute-git-dir") else "no git repository here"
    cifar = [os.path.abspath(os.environ["CARLT_CIFAR"])] if os.environ.get("CARLT_CIFAR") else []
    training = [python, str(HERE / "training.py"), "cuda" if gpu else "cpu", str(out / "training")]
    found = [
        Part("tests", tests, 90),
        Part("training", training, 60),
        Part("car_step", step, 110),
        Part("cifar_loop", [python, str(benchmarks / "cifar_loop.py"), *cifar], 55),
        Part("methods", [*pytest, *trainings], 75),
        Part("data_loading", [python, str(benchmarks / "data_loading.py")], 60),
        Part("car_versions", [python, str(benchmarks / "car_versions.py"), OLD_COMMIT], 75, git),
    ]
    return [part for part in found if part.name != ("car_versions" if gpu else "methods")]


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
    path += [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
    git = {"GIT_DIR": folder, "GIT_WORK_TREE": str(ROOT)} if (folder := git_says("--absolute-git-dir")) else {}
    real = {"CARLT_REAL_DATA": os.path.abspath(place)} if (place := os.environ.get("CARLT_REAL_DATA")) else {}
    return {
        **os.environ,
        **git,
        **real,
        "PYTHONPATH": os.pathsep.join(path),
        "WANDB_MODE": "offline",
        "HF_HUB_OFFLINE": "1",
    }


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


def seconds_for(part: Part, later: Sequence[Part], left: float, scale: float) -> float:
    """How long a part may take: what is left less the limits of the parts after it, but at least its own limit."""
    reserved = scale * sum(each.seconds for each in later if not each.lacks)
    return min(left, max(scale * part.seconds, left - reserved))


def results(out: Path, rows: Sequence[str], outcomes: dict[str, Outcome], limits: dict[str, float], commit: str) -> str:
    """The content of ``results.md``."""
    lines = ["# carlt on this machine", "", "| | |", "|---|---|", *rows]
    lines += [f"| software | Python {platform.python_version()}, {versions(out / 'packages')} |"]
    lines += [
        f"| carlt | commit {commit} |",
        f"| date | {time.strftime('%Y-%m-%d %H:%M')} |",
        "",
    ]
    lines += ["| part | outcome | seconds | at most |", "|---|---|---|---|"]
    lines += [f"| {name} | {o.said} | {o.seconds:.0f} | {limits[name]:.0f} |" for name, o in outcomes.items()]
    for name, outcome in outcomes.items():
        if outcome.said.startswith(("failed", "cut off")):
            said = (out / f"{name}.log").read_text(errors="replace").strip().splitlines()[-8:]
            lines += ["", f"The last lines of {name}.log:", "", *(f"    {line}" for line in said)]
    for name in ("tests", "methods"):
        log = out / f"{name}.log"
        if name in outcomes and log.exists():
            lines += ["", f"## {name}", "", *log.read_text(errors="replace").strip().splitlines()[-1:]]
    if "training" in outcomes and (said := trained(out / "training")):
        lines += ["", "## training", "", said]
    for report in sorted((out / "experiments" / "benchmarks").glob("*.md")):
        lines += ["", f"## {report.stem}", "", *report.read_text().splitlines()[1:]]
    return "\n".join(lines) + "\n"


def trained(folder: Path) -> str | None:
    """How fast the training's later epochs were, and what it reached; None without a record."""
    try:
        found = json.loads((folder / "result.json").read_text())
        seconds = json.loads((folder / "epochs.json").read_text())
        images, late = sum(found["class_counts"]), seconds[len(seconds) // 3 :]
        return (
            f"A CIFAR ResNet with CAR on {images:,} made-up pictures of 32 px, {found['epochs']} epochs: "
            f"{images / statistics.median(late):,.0f} training images/s, the median of the last {len(late)} epochs, in "
            f"{found['compute']['precision']}; test accuracy {found['metrics']['test/accuracy']:.1%}."
        )
    except (OSError, ValueError, KeyError, statistics.StatisticsError):
        return None


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = list(dict.fromkeys(part.name for gpu in (True, False) for part in parts(OUT, gpu)))
    parser.add_argument("parts", nargs="*", help=", ".join(names))
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all parts together")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--copy", type=Path, help="results.md and the logs are copied there after each part")
    parser.add_argument("--commit", help="of this checkout, where it has no git folder")
    given = parser.parse_args(arguments)
    if unknown := set(given.parts) - set(names):
        parser.error(f"no part {', '.join(sorted(unknown))}; choose from {', '.join(names)}")
    began, out = time.monotonic(), given.out.absolute()
    commit = given.commit or git_says("--short", "HEAD") or "unknown"
    installed = install(WHEELS, out / "packages")
    if installed:
        print(f"from wheels/: {', '.join(installed)}", flush=True)
    environment = prepare(out)
    gpu, rows = hardware()
    chosen = [part for part in parts(out, gpu) if not given.parts or part.name in given.parts]
    limits: dict[str, float] = {}
    outcomes: dict[str, Outcome] = {}
    for number, part in enumerate(chosen, 1):
        left = 60 * given.minutes - (time.monotonic() - began)
        limits[part.name] = seconds_for(part, chosen[number:], left, given.minutes / MINUTES)
        print(f"{part.name}: at most {limits[part.name]:.0f} s", flush=True)
        outcomes[part.name] = run_part(part, limits[part.name], out, environment)
        print(f"{part.name}: {outcomes[part.name].said}", flush=True)
        (out / "results.md").write_text(results(out, rows, outcomes, limits, commit))
        if given.copy:
            given.copy.mkdir(parents=True, exist_ok=True)
            for path in (out / "results.md", *out.glob("*.log")):
                shutil.copy(path, given.copy)
    print((out / "results.md").read_text())
    return int(any(outcome.said.startswith("failed") for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
