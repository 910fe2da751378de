"""Where passes run, and what makes a run repeatable."""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from heatproof.base.errors import HeatproofError, fault
from heatproof.base.settings import Compute

PRECISIONS = ("fp32", "bf16")
# Images at once: enough to fill a GPU. On a CPU more than this many pixels gain nothing, and tensors above
# `LARGEST_KEPT` are taken from the system and given back at every step, which costs as much as computing on them.
AT_ONCE = 64
PIXELS_ON_CPU = 16 * 224 * 224
LARGEST_KEPT = 32 * 2**20


def resolve(compute: Compute) -> torch.device:
    """The device that passes run on; "auto" is the first CUDA device if there is one, else the CPU.

    Raises: HeatproofError for an unknown name, for CUDA where there is none and for an unknown precision.
    """
    if compute.precision not in PRECISIONS:
        raise HeatproofError(fault("precision", "unknown", got=compute.precision, choices=PRECISIONS))
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if compute.device == "auto":
        return torch.device("cuda:0" if count else "cpu")
    kind, _, index = compute.device.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()) or (kind == "cpu" and index not in ("", "0")):
        raise HeatproofError(fault("device", "unknown", got=compute.device, choices=["auto", "cpu", "cuda", "cuda:1"]))
    if kind == "cpu":
        return torch.device("cpu")
    if int(index or 0) >= count:
        found = f"this machine has {count} CUDA device{'' if count == 1 else 's'}"
        raise HeatproofError(fault("device", "not there", got=compute.device, hint=f"{found}; device=auto takes any."))
    return torch.device("cuda", int(index or 0))


def autocast(compute: Compute, device: torch.device) -> AbstractContextManager[object]:
    """bf16 autocast where it was asked for and the device is CUDA; otherwise nothing changes."""
    if uses_bf16(compute, device):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def uses_bf16(compute: Compute, device: torch.device) -> bool:
    """Whether passes run in bf16: asked for, and on CUDA (on a CPU it is slower than float32)."""
    return compute.precision == "bf16" and device.type == "cuda"


def images_at_once(device: torch.device, size: int) -> int:
    """How many images of `size` px go through a net together, where nobody says.

    >>> images_at_once(torch.device("cpu"), 224), images_at_once(torch.device("cpu"), 64)
    (16, 64)
    """
    return AT_ONCE if device.type != "cpu" else min(AT_ONCE, max(1, PIXELS_ON_CPU // size**2))


def keep_freed_memory() -> None:
    """Let the process keep up to a gigabyte that it has freed, instead of giving every tensor above 128 KiB back.

    Of the passes of SqueezeNet at 224 px half of the processor time went into clearing pages that had just been given
    back. Only glibc can be told so; elsewhere nothing happens.
    """
    m_mmap_threshold, m_trim_threshold, m_top_pad = -3, -1, -2
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        for name, value in ((m_mmap_threshold, LARGEST_KEPT), (m_trim_threshold, 2**30), (m_top_pad, 2**26)):
            libc.mallopt(name, value)


@contextmanager
def repeatable(seed: int, deterministic: bool, device: torch.device) -> Iterator[None]:
    """torch seeded inside; outside, the random state and the choice of algorithms are as they were.

    `deterministic`: only algorithms that give the same bits in every run. Where there is none for an operation on the
    device, it is refused with a HeatproofError rather than run.
    """
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        try:
            if deterministic:
                os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
                torch.backends.cudnn.benchmark = False
                torch.use_deterministic_algorithms(True)
            yield
        except RuntimeError as error:
            if not deterministic or "deterministic" not in str(error):
                raise
            reason = str(error).splitlines()[0]
            hint = "Take deterministic=false, device=cpu or another net."
            raise HeatproofError(
                fault("deterministic", f"not possible on {device.type}: {reason}", hint=hint)
            ) from error
        finally:
            torch.use_deterministic_algorithms(before, warn_only=warn_only)
            torch.backends.cudnn.benchmark = benchmark
