"""Which code and which packages a run was made with."""

import functools
import importlib.metadata
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
