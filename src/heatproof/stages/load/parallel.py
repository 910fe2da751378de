"""Work on many images in threads, in order, with a bar."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

BLOCK = 256  # images in work at once: bounds the memory of decoding


def in_order(function: Callable[[Any], Any], items: Sequence[Any] | range, title: str) -> Iterator[Any]:
    """`map` over threads (decoders and hashes let go of the interpreter), in order, a bounded number at once."""
    from tqdm import tqdm

    # Short work has no bar: it would only flicker.
    quiet = not sys.stderr.isatty() or len(items) < BLOCK
    with (
        ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool,
        tqdm(total=len(items), desc=title, unit="image", disable=quiet, leave=False) as bar,
    ):
        for start in range(0, len(items), BLOCK):
            for result in pool.map(function, items[start : start + BLOCK]):
                bar.update()
                yield result
