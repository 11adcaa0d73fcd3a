"""Which code, packages and processor a run was made with."""

import functools
import importlib.metadata
import platform
import subprocess
from pathlib import Path

PACKAGES = ("carlt", "torch", "torchvision", "lightning", "torchmetrics", "hydra-core", "omegaconf", "timm", "numpy")


@functools.cache
def commit() -> str | None:
    """The checkout's commit at the first call, ``+changes`` if files differ from it; None outside a checkout.

    ``carlt.train`` calls it first of all, because later changes of files are not part of the run.
    """
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        # Installed in a folder of another repository, carlt is no file of it.
        subprocess.check_output([*git, "ls-files", "--error-unmatch", Path(__file__).name], stderr=subprocess.DEVNULL)
        head = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True, stderr=subprocess.DEVNULL).strip()
        changed = subprocess.check_output([*git, "status", "--porcelain", "-uno"], text=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+changes" if changed.strip() else "")


def versions() -> dict[str, str]:
    """The installed version of each of ``PACKAGES``."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


CPU_FACTS = Path("/proc/cpuinfo")


def cpu_facts(listed: Path = CPU_FACTS) -> str:
    """What Linux lists of the processors; empty on another system."""
    return listed.read_text(errors="replace") if listed.is_file() else ""


def processor(listed: Path = CPU_FACTS) -> str:
    """The processor's model, such as ``AMD EPYC 9654``; its architecture where the system does not tell the model."""
    for line in cpu_facts(listed).splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
