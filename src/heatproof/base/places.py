"""Where the places of the image lie in a layer's output: channels first, channels last, or a row of tokens.

Conventions: a grid is (rows, cols) of cells, row by row. Prefix tokens (class, distillation, registers) stand before
the tokens of the grid, as in torchvision's and timm's vision transformers. What a net does is found by running it, not
by its name.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn

# More than any published vision transformer has (one class, one distillation, 4 to 8 register tokens).
MOST_PREFIX_TOKENS = 16

Grid = tuple[int, int]


@dataclass(frozen=True)
class Layout:
    """How an output is laid out: "channels first" (b, k, u, v), "channels last" (b, u, v, k), or "tokens"
    (b, prefix + u v, k)."""

    kind: Literal["channels first", "channels last", "tokens"]
    rows: int
    cols: int
    prefix: int = 0

    def channels(self, output: Tensor) -> int:
        """Number of channels k."""
        return int(output.shape[1 if self.kind == "channels first" else -1])

    def cells(self, output: Tensor) -> Float[Tensor, "b k u v"]:
        """The output as maps of its channels; prefix tokens are left out."""
        if self.kind == "channels first":
            return output
        if self.kind == "channels last":
            return output.movedim(-1, 1)
        return output[:, self.prefix :].transpose(1, 2).unflatten(2, (self.rows, self.cols))

    def prefix_tokens(self, output: Tensor) -> Float[Tensor, "b p k"]:
        """The tokens that have no place in the image."""
        return output[:, : self.prefix].reshape(len(output), self.prefix, -1)


def layout_of(output: Any, images: Tensor, grids: set[Grid]) -> Layout | None:
    """The layout of what a layer gives for a batch of images, or None where it has no places (one cell, other batch).

    `grids`: those that convolutions left before (`grids_seen`). Tokens lie on the largest of them that leaves at most
    16 prefix tokens; in a net without convolutions, on the grid of the image's aspect ratio with the fewest. Of two
    readings of a 4-d output the one with the image's aspect ratio is taken, channels first where both have it.
    """
    if not isinstance(output, Tensor) or output.ndim not in (3, 4) or len(output) != len(images):
        return None
    height, width = images.shape[-2:]
    if output.ndim == 3:
        return _tokens(output.shape[1], height, width, grids)
    first, last = (output.shape[2], output.shape[3]), (output.shape[1], output.shape[2])
    off_first, off_last = (_off(*grid, height, width) for grid in (first, last))
    if off_first is not None and (off_last is None or off_first <= off_last):
        return Layout("channels first", *first)
    return Layout("channels last", *last) if off_last is not None else None


def _off(rows: int, cols: int, height: int, width: int) -> int | None:
    """How far a grid is from the aspect ratio of the image; None where by more than a cell, or for a single row."""
    off = abs(rows * width - cols * height)
    return off if min(rows, cols) > 1 and off <= max(height, width) else None


def _tokens(count: int, height: int, width: int, grids: set[Grid]) -> Layout | None:
    known = [(u, v) for u, v in grids if min(u, v) > 1 and 0 <= count - u * v <= MOST_PREFIX_TOKENS]
    if known:
        rows, cols = max(known, key=lambda grid: grid[0] * grid[1])
        return Layout("tokens", rows, cols, count - rows * cols)
    if grids:
        return None
    for prefix in range(min(MOST_PREFIX_TOKENS, count) + 1):
        rows = round(((count - prefix) * height / width) ** 0.5)
        if rows > 1 and (count - prefix) % rows == 0 and rows * width == (count - prefix) // rows * height:
            return Layout("tokens", rows, (count - prefix) // rows, prefix)
    return None


@contextmanager
def grids_seen(module: nn.Module) -> Iterator[set[Grid]]:
    """The grids of cells that the module's convolutions leave while the block runs; that of a transformer's patches is
    among them."""
    grids: set[Grid] = set()

    def record(_part: nn.Module, _inputs: Any, output: Tensor) -> None:
        grids.add((int(output.shape[-2]), int(output.shape[-1])))

    handles = [part.register_forward_hook(record) for part in module.modules() if isinstance(part, nn.Conv2d)]
    try:
        yield grids
    finally:
        for handle in handles:
            handle.remove()
