"""Work on many images in threads, in order, with a bar."""

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
SHORT = 256  # work on fewer images has no bar: it would only flicker
AHEAD = 4  # images in work or waiting per thread: bounds the memory


@contextmanager
def progress(total: int, title: str) -> Iterator[Callable[[], object]]:
    """A bar in a terminal; call what it gives after each image."""
    from tqdm import tqdm

    quiet = not sys.stderr.isatty() or total < SHORT
    with tqdm(total=total, desc=title, unit="image", disable=quiet, leave=False) as bar:
        yield bar.update


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], tick: Callable[[], object] = lambda: None
) -> Iterator[Result]:
    """`map` over threads (decoders and hashes let go of the interpreter), in order, a bounded number at once."""
    threads = min(16, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Result]] = deque()

        def finished() -> Result:
            result = waiting.popleft().result()
            tick()
            return result

        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= AHEAD * threads:
                yield finished()
        while waiting:
            yield finished()
