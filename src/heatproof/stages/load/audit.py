"""What may be wrong with a data set before a net has seen it: leaks, copies, conflicts, clues beside the picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from heatproof.base import duplicates, splits
from heatproof.base.errors import HeatproofError
from heatproof.base.records import SPLITS, Audit, Row, Samples
from heatproof.base.settings import LoadSettings
from heatproof.stages.load.clues import clues

if TYPE_CHECKING:
    import pandas as pd

SIMILARITIES = (0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
DISTANCES = (0, 4, 8, 12, 16, 20, 24)
UNEVEN = 3.0  # largest class over smallest from which on the audit says so


def audit(samples: Samples, settings: LoadSettings) -> Audit:
    """Counts, pairs of copies and near-duplicates, their curve over the threshold, clues to the class, and warnings.

    Tables: `counts` (split, class, images), `pairs` (one row per exact copy or near-duplicate: images, similarity,
    distance, classes, splits, groups, exact, across splits, conflict of labels), `curve` (pairs, images in a pair, test
    images with a partner in train, and the same under a random split, by threshold), `clues` (properties of files that
    tell the class), `masks` (share of the image that annotations take, per class; where there are any).
    """
    found = _pairs(samples, settings)
    tables = {
        "counts": _counts(samples),
        "pairs": found,
        "curve": _curve(samples, settings),
        "clues": clues(samples.table),
    }
    if samples.table["mask_area"].notna().any():
        tables["masks"] = _mask_areas(samples.table)
    warnings = [
        *_leaks(samples, found, settings),
        *_conflicts(found),
        *tables["clues"]["text"],
    ]
    return Audit(tuple(warnings), tuple(_notes(samples, tables, settings)), tables)


def _counts(samples: Samples) -> pd.DataFrame:
    import pandas as pd

    table = samples.table
    names = [*samples.classes, *(["unlabelled"] if table["label"].isna().any() else [])]
    labels = pd.Categorical(table["label_name"].fillna("unlabelled"), categories=names)
    counts = pd.crosstab(pd.Categorical(table["split"], categories=SPLITS), labels, dropna=False)
    counts = counts.rename_axis("split").rename_axis(None, axis=1).reset_index()
    counts["split"] = counts["split"].astype(str)
    return counts


def _pairs(samples: Samples, settings: LoadSettings) -> pd.DataFrame:
    """Exact copies and near-duplicates, the worst first: different labels, then across splits, then the most alike."""
    import pandas as pd

    table = samples.table
    links: dict[tuple[int, int], tuple[float, int]] = {}
    if samples.near is not None:
        near = samples.near.near(settings.near_similarity, settings.near_distance)
        links = {
            (int(a), int(b)): (float(s), int(d))
            for a, b, s, d in zip(near.first, near.second, near.similarity, near.distance, strict=True)
        }
    for _, rows in table.groupby("file_hash").groups.items():
        links |= {(int(rows[0]), int(other)): (1.0, 0) for other in rows[1:]}
    order = sorted(links, key=lambda pair: (-links[pair][0], links[pair][1], pair))
    first, second = np.array(order, np.int64).reshape(-1, 2).T
    one, other = table.iloc[first].reset_index(drop=True), table.iloc[second].reset_index(drop=True)
    columns = {
        f"{name}_{letter}": side[column]
        for name, column in (("image", "image"), ("class", "label_name"), ("split", "split"), ("group", "group"))
        for letter, side in (("a", one), ("b", other))
    }
    found = pd.DataFrame(
        {
            **columns,
            "similarity": [links[pair][0] for pair in order],
            "distance": np.array([links[pair][1] for pair in order], np.int64),
            "exact": (one["file_hash"] == other["file_hash"]),
            "across": one["split"] != other["split"],
            "conflict": (one["label"] != other["label"]).fillna(False).astype(bool),
            "row_a": first,
            "row_b": second,
        }
    )
    return found.sort_values(["conflict", "across"], ascending=False, kind="stable", ignore_index=True)


def _curve(samples: Samples, settings: LoadSettings) -> pd.DataFrame:
    """Pairs by threshold, for either signature; empty where nobody looked for near-duplicates."""
    import pandas as pd

    columns = ["signature", "threshold", "pairs", "images", "test_in_train", "test_in_train_random"]
    if samples.near is None:
        return pd.DataFrame(columns=columns)
    found = samples.near
    drawn = _random_split(samples, settings)
    own = samples.table["split"].to_numpy()
    rows = []
    for signature, thresholds in (("spectrum", SIMILARITIES), ("dHash", DISTANCES)):
        for threshold in thresholds:
            if signature == "spectrum":
                near = found.where(found.similarity >= threshold)
            else:
                near = found.where(found.distance <= threshold)
            images = len(np.unique(np.concatenate([near.first, near.second])))
            random = None if drawn is None else len(_in_train(near, drawn))
            rows.append((signature, threshold, len(near), images, len(_in_train(near, own)), random))
    return pd.DataFrame(rows, columns=columns)


def _in_train(pairs: duplicates.Pairs, split: np.ndarray) -> np.ndarray:
    """Rows of the test split with a partner in train."""
    one, other = split[pairs.first], split[pairs.second]
    forward, backward = (one == "test") & (other == "train"), (one == "train") & (other == "test")
    return np.unique(np.concatenate([pairs.first[forward], pairs.second[backward]]))


def _random_split(samples: Samples, settings: LoadSettings) -> np.ndarray | None:
    """The split that the same images would get at random, or None where they are too few for one."""
    table = samples.table
    if table["label"].isna().any():
        return None
    rows = [Row(image, None, int(label)) for image, label in zip(table["image"], table["label"], strict=True)]
    try:
        drawn = splits.assign(rows, replace(settings, split="random", n=None, cap=None), classes=samples.classes)
    except HeatproofError:
        return None
    return np.array(drawn, dtype=object)


def _leaks(samples: Samples, pairs: pd.DataFrame, settings: LoadSettings) -> Iterator[str]:
    table = samples.table
    if samples.split_kind == "random":
        yield (
            "split=random: nothing keeps images of one patient or near-duplicates in one split, so that figures on the "
            "test split may be too good"
        )
    groups = table.dropna(subset=["group"]).groupby("group")["split"].nunique()
    copies = int((table.groupby("file_hash").size() - 1).sum())
    if copies:
        across = int((table.groupby("file_hash")["split"].nunique() > 1).sum())
        yield f"{copies} image(s) are exact copies of another one; {across} of them lie in two splits"
    known = [str(name) for name, number in groups.items() if number > 1 and not str(name).startswith("near:")]
    if known:
        yield f"{len(known)} group(s) (patients) have images in several splits, e.g. {', '.join(known[:3])}"
    for exact, what in ((True, "exact copy"), (False, "near-duplicate")):
        some = pairs[pairs["exact"] == exact]
        apart = {frozenset((a, b)) for a, b in zip(some["split_a"], some["split_b"], strict=True) if a != b}
        for here, there in (("test", "train"), ("val", "train"), ("test", "val")):
            if frozenset((here, there)) in apart:
                rows = {
                    row
                    for side, other in (("a", "b"), ("b", "a"))
                    for row in some[f"row_{side}"][(some[f"split_{side}"] == here) & (some[f"split_{other}"] == there)]
                }
                total = int((table["split"] == here).sum())
                how = "" if exact else f" ({_rule(settings)})"
                yield f"{len(rows)} of {total} {here} images have {_article(what)} in {there}{how}"


def _article(what: str) -> str:
    return f"an {what}" if what[0] in "aeiou" else f"a {what}"


def _rule(settings: LoadSettings) -> str:
    parts = [
        f"similarity by spectrum {settings.near_similarity:g} or more" if settings.near_similarity is not None else "",
        f"dHash within {settings.near_distance} of 256 bits" if settings.near_distance is not None else "",
    ]
    return " or ".join(part for part in parts if part)


def _conflicts(pairs: pd.DataFrame) -> Iterator[str]:
    for exact, what in ((True, "exact copies"), (False, "near-duplicates")):
        some = pairs[pairs["conflict"] & (pairs["exact"] == exact)]
        if len(some):
            first = some.iloc[0]
            yield (
                f"{len(some)} pair(s) of {what} have different labels, e.g. {first['image_a']} ({first['class_a']}) "
                f"and {first['image_b']} ({first['class_b']})"
            )


def _mask_areas(table: pd.DataFrame) -> pd.DataFrame:
    """Images with an annotation per class, how many annotations are empty, and the share of the image that the others
    take."""
    import pandas as pd

    annotated = table.dropna(subset=["mask_area"])
    rows = []
    for name, own in annotated.groupby(annotated["label_name"].fillna("unlabelled"), sort=False)["mask_area"]:
        some = own[own > 0]
        rows.append((name, len(own), int((own == 0).sum()), some.min(), some.median(), some.max()))
    return pd.DataFrame(rows, columns=["class", "annotated", "empty", "least", "median", "most"])


def _notes(samples: Samples, tables: dict[str, pd.DataFrame], settings: LoadSettings) -> Iterator[str]:
    """What was looked at, what was found in numbers, and what this does not exclude."""
    table, pairs, curve = samples.table, tables["pairs"], tables["curve"]
    labelled = table["label_name"].value_counts()
    if len(labelled) > 1 and labelled.max() >= UNEVEN * labelled.min():
        yield (
            f"classes are uneven: {labelled.index[0]} {labelled.max()} images, {labelled.index[-1]} {labelled.min()}"
        )
    if samples.near is None:
        if table["path"].isna().all():
            yield "generated images: every one is drawn by itself, so that near-duplicates are not looked for"
        else:
            yield "near-duplicates were not looked for (dataset.near_similarity, dataset.near_distance)"
        return
    near = pairs[~pairs["exact"]]
    yield (
        f"near-duplicates: {_rule(settings)}; {len(near)} pair(s) beside {int(pairs['exact'].sum())} exact one(s), "
        f"{int(near['across'].sum())} across splits"
    )
    chosen = samples.near.near(settings.near_similarity, settings.near_distance)
    drawn = _random_split(samples, settings)
    own = table["split"].to_numpy()
    total = int((own == "test").sum())
    text = f"test images with a near-duplicate in train: {len(_in_train(chosen, own))} of {total} in this split"
    if drawn is not None and samples.split_kind != "random":
        random = len(_in_train(chosen, drawn))
        text += f"; a random split of the same images would have {random} of {int((drawn == 'test').sum())}"
    yield text
    if samples.split_kind != "random" and len(curve):
        loose = curve[(curve["signature"] == "dHash") & (curve["threshold"] == DISTANCES[-1])].iloc[0]
        if loose["test_in_train"]:
            yield (
                f"at a dHash distance of {DISTANCES[-1]} bits, where chance pairs begin, {loose['test_in_train']} test "
                "images have a partner in train: see the curve"
            )
    known = table["group"].dropna()
    known = known[~known.astype(str).str.startswith("near:")]
    if len(known) < len(table):
        yield (
            f"patients are unknown for {len(table) - len(known)} of {len(table)} images: two images of one patient "
            "that do not look alike may still lie in two splits"
        )
    tiny = min(samples.pixels.shape[1:3]) < duplicates.LEAST_SIDE
    if tiny:
        yield f"images below {duplicates.LEAST_SIDE} px are compared by content alone"
