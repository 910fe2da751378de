"""The right to a GPU: one job at a time, whichever process it runs in, given back by the system if the job dies."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

POLL_SECONDS = 0.5
log = logging.getLogger(__name__)


def gpu_ids() -> list[str]:
    """UUIDs of the GPUs that torch sees: processes that see different ones under one number do not wait for each
    other."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return [str(torch.cuda.get_device_properties(number).uuid) for number in range(count)]


@contextmanager
def leased(ids: Sequence[str], folder: Path) -> Iterator[int]:
    """The number of a GPU of `ids` that no other job holds, for as long as the block runs; waits while all are held.

    A lease is a lock on a file in `folder`, which the system lets go when its process ends, however that happens.
    """
    folder.mkdir(parents=True, exist_ok=True)
    waiting = False
    while True:
        for number, name in enumerate(ids):
            lock = FileLock(folder / f"gpu-{name}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            try:
                yield number
            finally:
                lock.release()
            return
        if not waiting:
            log.info("Waiting for a GPU: all %d are taken by other jobs", len(ids))
            waiting = True
        time.sleep(POLL_SECONDS)
