"""What all figures share: sizes, colours, a figure with its caption, saving."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

STYLE = Path(__file__).with_name("style.mplstyle")
# Widths of a page and of a text column, in inches.
PAGE, TEXT_COLUMN = 7.0, 3.4
TESTED, CONTROL, SECOND = "#0072B2", "#9a9a9a", "#D55E00"
# Methods in one axes, told apart by colour and mark, and controls by their dashes.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKS = ("o", "s", "^", "D", "v", "P")
DASHES = ("--", ":", "-.")


@dataclass(frozen=True)
class Drawing:
    """A figure with its file name and the caption that belongs beside it."""

    name: str
    figure: Figure
    caption: str


def save(figure: Figure, files: Sequence[Path]) -> None:
    """Laid out once, saved in every format, cropped to what is drawn."""
    with warnings.catch_warnings():
        # A class name in a script that the font lacks is drawn as boxes; the tables carry it in full.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        engine = figure.get_layout_engine()
        if engine is not None:
            engine.execute(figure)
            figure.set_layout_engine("none")
        box = figure.get_tightbbox().padded(0.03)
        for file in files:
            metadata = {"CreationDate": None} if file.suffix == ".pdf" else None
            figure.savefig(file, bbox_inches=box, metadata=metadata)


def drawn(folder: Path, drawings: Iterable[Drawing]) -> list[tuple[str, str, list[Path]]]:
    """Name, caption and files (PNG, PDF) of each figure, saved in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    result = []
    for drawing in drawings:
        files = [folder / f"{drawing.name}.{ending}" for ending in ("png", "pdf")]
        save(drawing.figure, files)
        result.append((drawing.name, drawing.caption, files))
    return result


def short(text: str, most: int) -> str:
    text = " ".join(str(text).split())
    return text if len(text) <= most else text[: most - 1] + "…"
