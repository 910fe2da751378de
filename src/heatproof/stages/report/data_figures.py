"""Figures of a data set: counts, samples, sizes, grey values, pairs that look alike, training augmentation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from heatproof.base.records import SPLITS, Audit, Samples
from heatproof.stages.report.drawing import PAGE, TEXT_COLUMN, Drawing, short

# Okabe and Ito 2008, told apart by everyone; classes beyond the eighth share them.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
OUTLINE = "#00e5ff"
MOST_CLASSES = 12  # drawn; tables hold all
COLUMNS = 6
WORST_PAIRS = 8
HISTOGRAM_IMAGES = 200  # of a class


def drawings(
    samples: Samples, audit: Audit, preview: Mapping[str, Sequence[np.ndarray]] | None, preview_caption: str = ""
) -> Iterator[Drawing]:
    """Every figure that there is data for. `preview`: class -> an image and changed copies of it, (h, w, c) in
    [0, 1]."""
    yield _counts(samples, audit)
    yield _grid(samples)
    if samples.table["width"].nunique() > 1 or samples.table["height"].nunique() > 1:
        yield _sizes(samples)
    yield _greys(samples)
    if preview:
        yield _augmented(preview, preview_caption)
    if len(audit.tables["pairs"]):
        yield _pairs(samples, audit.tables["pairs"])
    if len(audit.tables["curve"]) and audit.tables["curve"]["images"].any():
        yield _curve(samples, audit.tables["curve"])


def _classes(samples: Samples) -> list[str]:
    names = list(samples.classes)
    if samples.table["label_name"].isna().any():
        names.append("unlabelled")
    return names[:MOST_CLASSES]


def _labels(samples: Samples) -> np.ndarray:
    return samples.table["label_name"].fillna("unlabelled").to_numpy()


def _color(number: int) -> str:
    return COLORS[number % len(COLORS)]


def _more(samples: Samples) -> str:
    hidden = len(samples.classes) - MOST_CLASSES
    return f" {hidden} more classes are in the tables." if hidden > 0 else ""


def _counts(samples: Samples, audit: Audit) -> Drawing:
    counts = audit.tables["counts"].set_index("split")
    names = _classes(samples)
    figure = Figure(figsize=(PAGE, 2.3))
    left, right = figure.subplots(1, 2, width_ratios=(1.7, 1))
    width = 0.8 / len(names)
    for number, name in enumerate(names):
        at = np.arange(len(SPLITS)) + (number - (len(names) - 1) / 2) * width
        bars = left.bar(at, counts[name].reindex(SPLITS), width, color=_color(number), label=short(name, 22))
        if len(names) <= 6:
            left.bar_label(bars, fontsize=6, padding=1)
    left.set_xticks(range(len(SPLITS)), [f"{split}\nn = {int(counts.loc[split].sum())}" for split in SPLITS])
    left.set_ylabel("images")
    left.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    left.legend(ncols=1 + len(names) // 5)
    left.margins(y=0.12)
    totals = counts[names].sum()
    right.pie(
        totals,
        colors=[_color(number) for number in range(len(names))],
        labels=[f"{short(name, 18)}\n{count} ({count / max(1, totals.sum()):.0%})" for name, count in totals.items()],
        textprops={"fontsize": 6.5},
        wedgeprops={"edgecolor": "white", "linewidth": 0.8},
        startangle=90,
        counterclock=False,
    )
    caption = (
        f"Images per split and class (n = {len(samples.table)}, split {samples.split_kind}); right: classes over all "
        f"splits.{_more(samples)}"
    )
    return Drawing("data_counts", figure, caption)


def _grid(samples: Samples) -> Drawing:
    """A row of images per class, annotated ones first, spread over the table."""
    names, labels = _classes(samples), _labels(samples)
    annotated = samples.table["annotation"].notna().to_numpy()
    chosen = []
    for name in names:
        rows = np.flatnonzero(labels == name)
        rows = rows[np.argsort(~annotated[rows], kind="stable")]
        pool = rows[: max(COLUMNS, int(annotated[rows].sum()))]
        chosen.append(pool[np.linspace(0, len(pool) - 1, min(COLUMNS, len(pool))).astype(int)])
    figure = Figure(figsize=(PAGE, 1.16 * len(names) + 0.1))
    grid = figure.subplots(len(names), COLUMNS, squeeze=False)
    for line, (name, rows) in enumerate(zip(names, chosen, strict=True)):
        for axes, row in zip(grid[line], rows, strict=False):
            _picture(axes, samples, int(row))
        for axes in grid[line]:
            _bare(axes)
        grid[line, 0].set_ylabel(f"{short(name, 18)}\nn = {int((labels == name).sum())}", fontsize=7)
    outline = " The outline is the annotation." if samples.masks is not None else ""
    caption = f"Samples of each class at {samples.pixels.shape[1]} px, spread over the table.{outline}{_more(samples)}"
    return Drawing("data_samples", figure, caption)


def _picture(axes: Axes, samples: Samples, row: int) -> None:
    pixels = samples.pixels[row]
    axes.imshow(pixels[..., 0] if pixels.shape[-1] == 1 else pixels, cmap="gray", vmin=0, vmax=255)
    if samples.masks is not None and np.any(samples.masks[row]):
        axes.contour(samples.masks[row], levels=[0.5], colors=[OUTLINE], linewidths=0.8)


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _sizes(samples: Samples) -> Drawing:
    names, labels, table = _classes(samples), _labels(samples), samples.table
    figure = Figure(figsize=(PAGE, 0.28 * len(names) + 2.1))
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.1))
    places, values, colors = [], [], []
    for number, name in enumerate(names):
        for offset, side in ((-0.19, "width"), (0.19, "height")):
            places.append(number + offset)
            values.append(table[side].to_numpy()[labels == name])
            colors.append((_color(number), side == "width"))
    boxes = left.boxplot(
        values, positions=places, widths=0.3, orientation="horizontal", patch_artist=True, manage_ticks=False,
        medianprops={"color": "black"}, flierprops={"markersize": 2, "markeredgewidth": 0.4},
        boxprops={"linewidth": 0.6},
    )  # fmt: skip
    for box, (color, solid) in zip(boxes["boxes"], colors, strict=True):
        box.set_facecolor(color)
        box.set_alpha(0.85 if solid else 0.4)
    left.set_yticks(range(len(names)), [short(name, 18) for name in names])
    left.invert_yaxis()
    left.set_xlabel("pixels (width solid, height pale)")
    for number, name in enumerate(names):
        own = labels == name
        sizes = table.loc[own, ["width", "height"]].value_counts()
        right.scatter(
            sizes.index.get_level_values(0), sizes.index.get_level_values(1), s=6 + 14 * np.log1p(sizes.to_numpy()),
            color=_color(number), alpha=0.55, linewidths=0, label=short(name, 18),
        )  # fmt: skip
    right.set(xlabel="width [px]", ylabel="height [px]")
    right.legend()
    caption = (
        f"Width and height as stored, per class (n = {len(table)}): median, quartiles, whiskers of 1.5 interquartile "
        f"ranges; right: each size once, the larger the dot the more images have it.{_more(samples)}"
    )
    return Drawing("data_sizes", figure, caption)


def _greys(samples: Samples) -> Drawing:
    """Share of pixels per grey value, class by class; colours by their mean."""
    names, labels = _classes(samples), _labels(samples)
    figure = Figure(figsize=(TEXT_COLUMN * 1.35, 2.3))
    axes = figure.subplots()
    edges = np.arange(0, 257, 4)
    most = 0
    for number, name in enumerate(names):
        rows = np.flatnonzero(labels == name)
        rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), HISTOGRAM_IMAGES)).astype(int)] if len(rows) else rows
        most = max(most, len(rows))
        counts = np.zeros(len(edges) - 1)
        for row in rows:
            counts += np.histogram(samples.pixels[row].mean(axis=-1), edges)[0]
        if counts.sum():
            share = 100 * counts / counts.sum()
            axes.stairs(share, edges, color=_color(number), label=f"{short(name, 20)}", linewidth=1.1)
    axes.set(xlabel="grey value", ylabel="pixels [%], bins of 4", xlim=(0, 256))
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(bottom=0)
    axes.set_yticks([0, 0.5, 1, 2, 5, 10, 20, 50, 100])
    axes.yaxis.set_major_formatter("{x:g}")
    top = axes.get_ylim()[1]
    axes.set_yticks([tick for tick in (0, 0.5, 1, 2, 5, 10, 20, 50, 100) if tick <= top])
    axes.minorticks_off()
    axes.legend()
    caption = (
        f"Grey values at working size, at most {HISTOGRAM_IMAGES} images of a class, spread over the table "
        f"(n = {most} in the largest); linear up to 1 %, logarithmic above.{_more(samples)}"
    )
    return Drawing("data_greys", figure, caption)


def _augmented(preview: Mapping[str, Sequence[np.ndarray]], caption: str) -> Drawing:
    across = max(len(images) for images in preview.values())
    figure = Figure(figsize=(PAGE, 1.16 * len(preview) + 0.25))
    grid = figure.subplots(len(preview), across, squeeze=False)
    for line, (name, images) in enumerate(preview.items()):
        for axes, image in zip(grid[line], images, strict=False):
            axes.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=1)
        for axes in grid[line]:
            _bare(axes)
        grid[line, 0].set_ylabel(short(name, 18), fontsize=7)
    for column, axes in enumerate(grid[0]):
        axes.set_title("as stored" if column == 0 else f"epoch {column}", fontsize=7)
    return Drawing("data_augmentation", figure, caption)


def _pairs(samples: Samples, pairs: pd.DataFrame) -> Drawing:
    """The first pairs, which are the worst."""
    worst = pairs.head(WORST_PAIRS)
    across = min(4, len(worst))
    down = ceil(len(worst) / across)
    # Two pictures of a pair stand close; placed by hand, in inches.
    side, gap, text = 0.82, 0.2, 0.62
    width, height = across * (2 * side + gap), down * (side + text)
    figure = Figure(figsize=(width, height))
    figure.set_layout_engine("none")
    for place, (_, pair) in enumerate(worst.iterrows()):
        left, bottom = (place % across) * (2 * side + gap), height - (place // across + 1) * (side + text)
        for half, letter in enumerate("ab"):
            at = left + half * (side + 0.04)
            axes = figure.add_axes((at / width, bottom / height, side / width, side / height))
            _picture(axes, samples, int(pair[f"row_{letter}"]))
            _bare(axes)
            name = _end(Path(str(pair[f"image_{letter}"])).stem, 18)
            label = short(pair[f"class_{letter}"] or "unlabelled", 15)
            axes.set_title(f"{name}\n{label}, {pair[f'split_{letter}']}", fontsize=5, pad=2, loc="left")
        how = "same file" if pair["exact"] else f"spectrum {pair['similarity']:.2f}, dHash {pair['distance']} bits"
        alarm = " !" if pair["across"] or pair["conflict"] else ""
        figure.text(left / width, (bottom + side + 0.32) / height, how + alarm, fontsize=6, weight="bold")
    caption = (
        f"{len(worst)} of {len(pairs)} pairs that are exact copies or near-duplicates: different labels first, then "
        "pairs across splits (both marked !), then the most alike."
    )
    return Drawing("data_pairs", figure, caption)


def _end(text: str, most: int) -> str:
    """The end of a file's name, where the numbers are."""
    return text if len(text) <= most else "…" + text[1 - most :]


def _curve(samples: Samples, curve: pd.DataFrame) -> Drawing:
    figure = Figure(figsize=(PAGE, 2.3))
    grid = figure.subplots(1, 2, sharey=True)
    lines = (
        ("images", "images in a pair", "0.55", "o"),
        ("test_in_train_random", "test images with a partner in train, random split", "#D55E00", "s"),
        ("test_in_train", f"the same, this split ({samples.split_kind})", "#0072B2", "^"),
    )
    labels = {"spectrum": "similarity by spectrum, at least", "dHash": "dHash distance [bits of 256], at most"}
    for axes, (signature, label) in zip(grid, labels.items(), strict=True):
        own = curve[curve["signature"] == signature]
        for column, name, color, marker in lines:
            if own[column].notna().any():
                values = own[column].astype(float)
                axes.plot(own["threshold"], values, color=color, marker=marker, markersize=3, label=name)
        axes.set_xlabel(label)
        axes.set_yscale("symlog", linthresh=1)
        axes.set_ylim(0, max(12, 1.3 * curve["images"].max()))
        axes.grid(axis="y", color="0.9", linewidth=0.5)
    grid[0].invert_xaxis()
    grid[0].set_ylabel("images")
    ticks = [tick for tick in (0, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000, 30000) if tick <= grid[0].get_ylim()[1]]
    grid[0].set_yticks(ticks, [str(tick) for tick in ticks])
    grid[0].minorticks_off()
    grid[1].minorticks_off()
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    test = int((samples.table["split"] == "test").sum())
    caption = (
        f"Images that look alike, by threshold, looser to the right (n = {len(samples.table)}, {test} of them test). "
        "Far to the right pairs are chance; what lies left of it is copies and neighbouring slices or shots."
    )
    return Drawing("data_curve", figure, caption)
