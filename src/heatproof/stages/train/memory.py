"""Fewer images at once where they do not fit into memory."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from heatproof.base.errors import HeatproofError, fault

Made = TypeVar("Made")


@dataclass
class Parts:
    """How many images pass at once: `size`, halved for good whenever the device's memory does not hold them."""

    size: int

    def cut(self, rows: np.ndarray) -> list[np.ndarray]:
        """The rows in parts of nearly equal length, at most `size` each."""
        return np.array_split(rows, max(1, -(-len(rows) // self.size)))

    def fitting(self, work: Callable[[], Made], rows: np.ndarray) -> Made:
        """What `work` returns, which cuts `rows` into parts: done again with smaller ones until they fit.

        Raises: HeatproofError where a single image does not fit.
        """
        while True:
            # Left by hand, not inside `except`: there the error's frames would still hold the memory.
            try:
                return work()
            except torch.OutOfMemoryError:
                most = min(self.size, len(rows))
            if most == 1:
                raise HeatproofError(
                    fault(
                        "training",
                        "the memory of the device does not hold the net with a single image",
                        hint="Take a smaller dataset.size or model, or device=cpu.",
                    )
                )
            self.size = -(-most // 2)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
