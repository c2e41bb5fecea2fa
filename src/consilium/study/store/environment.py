"""What a figure was measured on: code, packages, hardware.  Nothing here names a person or a place."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

from consilium.core.errors import Refused

__all__ = ["code", "hardware", "packages", "require_device", "settled"]

_PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "pydantic", "safetensors", "dp-accounting")


@contextmanager
def settled(device: str, threads: int) -> Iterator[None]:
    """Use exactly what the study names inside the block; there is no fall-back, and the process is as before after."""
    require_device(device)
    cudnn, products, before = torch.backends.cudnn, torch.backends.cuda.matmul, torch.get_num_threads()
    flags = cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, products.allow_tf32
    torch.set_num_threads(threads)
    if device != "cpu":  # the same bits again: no kernel chosen by a race, no shortened products
        cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, products.allow_tf32 = True, False, False, False
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if device != "cpu":
            cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, products.allow_tf32 = flags


def require_device(device: str) -> None:
    """Refuse a device that is not there.

    Raises Refused: the device is not there.
    """
    if device == "cpu":
        return
    index = int(device.partition(":")[2] or 0)
    if not torch.cuda.is_available() or index >= torch.cuda.device_count():
        raise Refused(
            f"device {device} is not there ({torch.cuda.device_count()} CUDA devices)",
            remedy='set device = "cpu", or run where the device is',
            where="device",
        )


@cache
def code() -> Mapping[str, object]:
    """Version, and the git revision if this is a checkout; ``dirty`` if it has uncommitted changes."""
    version = importlib.metadata.version("consilium")
    here = Path(__file__).parent
    revision = _git(here, "rev-parse", "HEAD")
    if revision is None or _git(here, "ls-files", "--error-unmatch", Path(__file__).name) is None:
        return {"version": version, "revision": None, "dirty": None}
    return {"version": version, "revision": revision, "dirty": bool(_git(here, "status", "--porcelain", "--", "../.."))}


@cache
def packages() -> dict[str, str]:
    """Installed versions of what figures depend on."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in _PACKAGES}}


def hardware(device: str, threads: int) -> Mapping[str, object]:
    """Processor, its vector capability, cores, and what the study used of them."""
    return {
        "cpu": _processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": threads,
        "device": device if device == "cpu" else f"{device} ({torch.cuda.get_device_name(device)})",
    }


@cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
