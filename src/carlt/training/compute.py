"""What ``auto`` stands for: the devices of this machine, and the precision and layout in which it computes fastest."""

import functools
import json
import os
import time
from pathlib import Path

import torch
from omegaconf import DictConfig, ListConfig, open_dict
from torch import nn

from carlt.errors import CarltError
from carlt.runs import paths
from carlt.runs.keys import AUTOMATIC
from carlt.runs.locks import exclusive_lock
from carlt.runs.provenance import cpu_facts, processor

BFLOAT16_GAIN = 1.2  # bfloat16 rounds more, so it has to be faster by this factor
LAYOUT_GAIN = 1.1  # a smaller difference would be one thing in one measurement and another in the next
REPEATS = 5
PROCESSES = ("WORLD_SIZE", "SLURM_NTASKS")  # of torchrun and SLURM


def resolve(config: DictConfig) -> None:
    """Replace ``auto`` in ``trainer.devices`` by their number, and in ``trainer.precision`` and ``channels_last`` by
    what is fastest here; note the milliseconds.

    bfloat16 needs hardware that has it (CUDA compute capability 8, AVX512-BF16, AMX) and a measured gain.
    ``config.compute_ms`` holds what was measured. A resumed run keeps what its first start chose. Where a cluster
    starts several processes, which have to agree, nothing is measured: hardware with bfloat16 uses it.
    """
    precision, layout = config.trainer.get("precision"), config.get("channels_last")
    if layout not in (True, False, None, "auto"):
        raise CarltError(f"channels_last={layout}: expected true, false or auto")
    _check_accelerator(config)
    _count_devices(config)
    if "auto" not in (precision, layout):
        return
    device = _device(config)
    alone = all(os.environ.get(name, "1") == "1" for name in PROCESSES)
    ms = milliseconds(device) if alone else {}
    reduced = "bf16" in str(precision)
    if precision == "auto":
        reduced = native_bfloat16(device) and (not ms or ms["bfloat16"] * BFLOAT16_GAIN < ms["float32"])
    fast = "bfloat16" if reduced and "bfloat16" in ms else "float32"
    with open_dict(config):
        config.compute_ms = {name: round(value, 3) for name, value in ms.items()}
        if precision == "auto":
            config.trainer.precision = "bf16-mixed" if reduced else "32-true"
        if layout == "auto":
            config.channels_last = ms[f"{fast}, channels last"] * LAYOUT_GAIN < ms[fast] if ms else reduced


def _check_accelerator(config: DictConfig) -> None:
    """CarltError for a GPU that is not there. Apple's have no float64, in which the metrics count: without another
    one, train on the processor."""
    asked = str(config.trainer.get("accelerator") or "auto")
    if asked in ("gpu", "cuda") and not torch.cuda.is_available():
        raise CarltError(
            f"trainer.accelerator={asked}: torch finds no CUDA GPU here; give trainer.accelerator=auto, which trains "
            "on the processor then"
        )
    if asked == "mps":
        raise CarltError(
            "trainer.accelerator=mps: it has no float64, which the metrics need; use trainer.accelerator=cpu"
        )
    if asked == "auto" and not torch.cuda.is_available() and torch.backends.mps.is_available():
        with open_dict(config):
            config.trainer.accelerator = "cpu"


def _count_devices(config: DictConfig) -> None:
    """The number decides the whole batch, so it belongs into the hash and the record. A run of an earlier version that
    is resumed has ``auto`` in its config, and keeps its hash."""
    if str(config.trainer.get("devices")) in AUTOMATIC and not config.get("resume"):
        on_gpus = _device(config) != "cpu"
        if on_gpus or config.trainer.devices == "auto":  # Lightning refuses -1 for a processor
            config.trainer.devices = torch.cuda.device_count() if on_gpus else 1


def resolve_once(config: DictConfig, path: Path, *, of_machine: bool = False) -> None:
    """``resolve`` for runs that belong together: the first measures and writes ``path``, the others take what it says,
    so that seeds of one configuration compute alike and a job of a sweep is found again. Runs that begin at the same
    time wait for the one that measures.

    Args:
        of_machine: take only what was measured on this machine; the jobs of a sweep agree on all machines.
    """
    precision, layout = config.trainer.get("precision"), config.get("channels_last")
    if "auto" not in (precision, layout):
        return resolve(config)
    path.parent.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(path.with_name(path.name + ".lock"), path.parent, wait=True):
        asked = f"{precision}, {layout}"
        _resolve_as_known(config, path, f"{asked} on {_machine(config)}" if of_machine else asked)


def _resolve_as_known(config: DictConfig, path: Path, asked: str) -> None:
    """Take what ``path`` says for ``asked``, or measure and write it."""
    try:
        known = json.loads(paths.read_text(path)) if path.is_file() else {}
        if not isinstance(known, dict):
            raise TypeError
        if asked in known:
            with open_dict(config):
                config.trainer.precision = known[asked]["precision"]
                config.channels_last = known[asked]["channels_last"]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise CarltError(f"{path} is damaged; remove it, and it is measured again") from None
    resolve(config)
    if asked not in known:
        chosen = {"precision": config.trainer.get("precision"), "channels_last": config.get("channels_last")}
        paths.write_text_atomic(path, json.dumps({**known, asked: chosen}, indent=2) + "\n")


def _machine(config: DictConfig) -> str:
    """What decides which precision and layout are fastest: the device that trains, and torch."""
    device = _device(config)
    name = processor() if device == "cpu" else torch.cuda.get_device_name(device)
    return f"{name}, torch {torch.__version__}"


def native_bfloat16(device: str | torch.device) -> bool:
    """Whether the hardware itself computes in bfloat16; ``cuda`` without a number is the current GPU."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    facts = cpu_facts()
    return kind == "cpu" and ("avx512_bf16" in facts or "amx_bf16" in facts)


@functools.cache
def milliseconds(device: str) -> dict[str, float]:
    """What a 3 x 3 convolution takes forward and backward, the least of ``REPEATS``, in each layout, in float32 and, if
    the hardware has it, in bfloat16.

    On a processor it is small, so that this takes a fraction of a second even on a slow one; on a GPU it takes much
    longer than the launch of its kernels."""
    kind = torch.device(device).type
    batch, channels, side = (32, 256, 56) if kind == "cuda" else (8, 64, 16)
    found = {}
    with torch.random.fork_rng(devices=[]):
        for name, layout in (("", torch.contiguous_format), (", channels last", torch.channels_last)):
            network = nn.Conv2d(channels, channels, 3, padding=1).to(device).to(memory_format=layout)
            images = torch.randn(batch, channels, side, side).to(device, memory_format=layout).requires_grad_()
            for precision in ("float32", "bfloat16") if native_bfloat16(device) else ("float32",):
                with torch.autocast(kind, torch.bfloat16, enabled=precision == "bfloat16"):
                    found[precision + name] = min(_step(network, images, device) for _ in range(REPEATS))
    return found


def _step(network: nn.Module, images: torch.Tensor, device: str) -> float:
    """One pass forward and backward, in milliseconds; on a CPU of its time, so that other programs do not count."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    _wait(device)
    began = clock()
    network(images).sum().backward()
    _wait(device)
    return 1e3 * (clock() - began)


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)


def _device(config: DictConfig) -> str:
    """Where Lightning will train: ``cpu``, ``cuda``, or the first GPU of a list, such as ``cuda:1``."""
    asked = str(config.trainer.get("accelerator") or "auto")
    if asked not in ("auto", "gpu", "cuda") or not torch.cuda.is_available():
        return "cpu"
    devices = config.trainer.get("devices")
    first = next(iter(devices), None) if isinstance(devices, ListConfig) else None
    return f"cuda:{first}" if first in range(torch.cuda.device_count()) else "cuda"
