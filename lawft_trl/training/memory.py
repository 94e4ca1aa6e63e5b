"""The memory of a training: what this process holds, what it held at most, and giving back what it no longer needs."""

import ctypes
import gc
import resource
import sys

import psutil
import torch

_GIB = 2**30


def memory_gib() -> dict[str, float]:
    """What this process holds now, in GiB, under the names it is logged by.

    Returns:
        `memory_rss_gib`: resident set; and with a GPU, of the one that holds most: `memory_gpu_allocated_gib` (tensors),
        `memory_gpu_reserved_gib` (with what the allocator keeps for the next ones), `memory_gpu_peak_gib` (the most that was
        ever allocated).
    """
    held = {"memory_rss_gib": psutil.Process().memory_info().rss / _GIB}
    if torch.cuda.is_available():
        gpus = range(torch.cuda.device_count())  # a model may be spread over several; the fullest one is the first to run out
        held["memory_gpu_allocated_gib"] = max(map(torch.cuda.memory_allocated, gpus)) / _GIB
        held["memory_gpu_reserved_gib"] = max(map(torch.cuda.memory_reserved, gpus)) / _GIB
        held["memory_gpu_peak_gib"] = max(map(torch.cuda.max_memory_allocated, gpus)) / _GIB
    return held


def peak_memory_gib() -> dict[str, float]:
    """Peak memory of this process: `gpu` as the allocator counts it, of the fullest one, and `host` (resident set), in GiB."""
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in KiB on Linux, in bytes on macOS
    peak = {"host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / _GIB}
    if torch.cuda.is_available():
        peak["gpu"] = max(map(torch.cuda.max_memory_allocated, range(torch.cuda.device_count()))) / _GIB
    return peak


def release_memory() -> None:
    """Frees what only circles of references hold, and gives the host's freed memory back to the system.

    glibc keeps what was freed below something still in use; `malloc_trim` gives these pages back. Other C libraries have no
    such function, or need none. The GPU's cache is emptied by the trainer (`torch_empty_cache_steps`).
    """
    gc.collect()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
