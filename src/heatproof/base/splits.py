"""Which image is used, and for what: selection and splits that depend on image ids and the seed alone.

Every random choice sorts images or groups by a hash of (seed, role, id); so the order in which a disk lists files,
other images of another class, and the version of a random generator change nothing.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from heatproof.base.errors import HeatproofError, fault
from heatproof.base.records import SPLITS, Row
from heatproof.base.settings import LoadSettings

KINDS = ("auto", "official", "grouped", "random", "study")
Key = TypeVar("Key", bound=Hashable)
OUT = "out"  # marks a row that the chosen split has no place for


def kind_of(rows: Sequence[Row], settings: LoadSettings) -> str:
    """The kind of split that the rows get: "auto" is official where the data have one, else grouped; a samples.parquet
    is "file"."""
    if settings.split == "auto":
        return "official" if any(row.split for row in rows) else "grouped"
    return settings.split if settings.split in KINDS else "file"


def is_drawn(rows: Sequence[Row], settings: LoadSettings) -> bool:
    """Whether groups decide the split of any row: all are drawn, or what an official split lacks is."""
    kind = kind_of(rows, settings)
    carved = kind == "official" and any(
        share > 0 and all(row.split != name for row in rows)
        for name, share in zip(SPLITS, settings.fractions, strict=True)
    )
    return kind == "grouped" or carved


def assign(rows: Sequence[Row], settings: LoadSettings, *, classes: Sequence[str]) -> list[str | None]:
    """The split of each row (train, val, test), or None where `n`, `cap` or the split leave it out.

    Rows without labels are all "test". `official`: as the data have it; a split that they lack is carved from train
    with its share of `fractions`, groups kept together. `study`: the split of the study that used the data. `grouped`:
    stratified by class, groups kept together. `random`: stratified, groups ignored. A path: the column `split` of that
    samples.parquet, by image id; images that it does not name are left out.

    Raises a HeatproofError where the data have no such split, where `n` is too small for the classes, or where a drawn
    split with a fraction above 0 is left without any image. What data come with is taken as it is: a test split alone
    can be evaluated.
    """
    faults = _faults(settings)
    if faults:
        raise HeatproofError(*faults)
    _refuse_twins(rows)
    kind = kind_of(rows, settings)
    given = _given(rows, settings, kind)
    # The subset is drawn before the split, so that it is the same images under every kind that knows them all.
    chosen = _select(rows, given, settings, len(classes))
    result: list[str | None] = [None] * len(rows)
    labelled = [i for i in chosen if rows[i].label is not None]
    for i in chosen:
        if rows[i].label is None:
            result[i] = "test"
        elif given[i] is not None:
            result[i] = given[i]
    if kind in ("grouped", "random"):
        _share(rows, labelled, SPLITS, settings.fractions, settings, result, grouped=kind == "grouped")
    elif kind == "official":
        _carve(rows, labelled, settings, result)
    if labelled and kind in ("grouped", "random"):
        _refuse_empty(result, settings, classes)
    return result


def _faults(settings: LoadSettings) -> list[str]:
    faults = []
    fractions = tuple(settings.fractions)
    if len(fractions) != 3 or any(not 0 <= f <= 1 for f in fractions) or abs(sum(fractions) - 1) > 1e-6:
        faults.append(fault("dataset.fractions", "three numbers in [0, 1] that add up to 1", got=list(fractions)))
    if settings.split not in KINDS and not settings.split.endswith(".parquet"):
        faults.append(
            fault("dataset.split", "no such split", got=settings.split, choices=(*KINDS, "<samples.parquet>"))
        )
    elif settings.split not in KINDS and not Path(settings.split).is_file():
        faults.append(fault("dataset.split", "no such file", got=settings.split))
    if settings.n is not None and settings.n < 1:
        faults.append(fault("dataset.n", "at least 1, or null for all", got=settings.n))
    cap = settings.cap
    if cap is not None and cap != "smallest" and (not isinstance(cap, int) or cap < 1):
        faults.append(fault("dataset.cap", "at least 1, smallest, or null for all", got=cap))
    return faults


def _refuse_twins(rows: Sequence[Row]) -> None:
    twice = [image for image, count in Counter(row.image for row in rows).items() if count > 1]
    if twice:
        raise HeatproofError(fault("dataset", "two images with one id", got=sorted(twice)[:3]))


def _given(rows: Sequence[Row], settings: LoadSettings, kind: str) -> list[str | None]:
    """The split that comes with each row; OUT where the row has no place, None where it is still to be drawn."""
    if kind in ("grouped", "random"):
        return [None] * len(rows)
    if kind == "file":
        return _from_file(rows, settings.split)
    attribute = "study_split" if kind == "study" else "split"
    own = [getattr(row, attribute) for row in rows]
    lacking = [row.image for row, split in zip(rows, own, strict=True) if split is None and row.label is not None]
    if len(lacking) == len(rows):
        others = [k for k in KINDS if k != kind and (k != "study" or any(row.study_split for row in rows))]
        raise HeatproofError(fault("dataset.split", f"the data have no {kind} split", got=kind, choices=others))
    if lacking:
        raise HeatproofError(
            fault("dataset.split", f"{len(lacking)} image(s) have no place in the {kind} split", got=lacking[:3])
        )
    return own


def _from_file(rows: Sequence[Row], path: str) -> list[str | None]:
    import pyarrow.parquet as pq

    try:
        columns = pq.read_table(path, columns=["image", "split"]).to_pydict()
    except (OSError, ValueError, KeyError) as error:
        raise HeatproofError(
            fault("dataset.split", f"no table with the columns image and split ({error})", got=path)
        ) from error
    known = dict(zip(columns["image"], columns["split"], strict=True))
    strange = sorted({str(split) for split in known.values()} - set(SPLITS))
    absent = sorted(set(known) - {row.image for row in rows})
    if strange:
        raise HeatproofError(fault("dataset.split", f"no such split in {path}", got=strange, choices=SPLITS))
    if absent:
        raise HeatproofError(
            fault("dataset.split", f"{len(absent)} image(s) of {path} are not in the data", got=absent[:3])
        )
    return [known.get(row.image, OUT) for row in rows]


def _select(rows: Sequence[Row], given: Sequence[str | None], settings: LoadSettings, num_classes: int) -> list[int]:
    """Row numbers left by `cap` and `n`, in row order: stratified by class and by the split that rows come with."""
    cells: dict[tuple[int | None, str | None], list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        if given[i] != OUT:
            cells[row.label, given[i]].append(i)
    for cell in cells.values():
        cell.sort(key=lambda i: _draw(settings.seed, "subset", rows[i].image))
    quota: dict[int | None, int] = dict(Counter(rows[i].label for cell in cells.values() for i in cell))
    if settings.cap is not None:
        cap = min(quota.values(), default=0) if settings.cap == "smallest" else int(settings.cap)
        quota = {label: min(cap, count) for label, count in quota.items()}
    if settings.n is not None:
        if settings.n < num_classes:
            raise HeatproofError(
                fault("dataset.n", f"too few for one image of each of {num_classes} classes", got=settings.n)
            )
        quota = apportion(quota, min(settings.n, sum(quota.values())))
    for label, keep in quota.items():
        own = {key: len(cell) for key, cell in cells.items() if key[0] == label}
        for key, count in apportion(own, keep).items():
            cells[key] = cells[key][:count]
    return sorted(i for cell in cells.values() for i in cell)


def apportion(sizes: Mapping[Key, float], total: int) -> dict[Key, int]:
    """`total` seats in proportion to `sizes` (largest remainder; ties to the cell that sorts first as text).

    >>> apportion({"a": 6, "b": 3, "c": 1}, 5)
    {'a': 3, 'b': 1, 'c': 1}
    """
    weight = sum(sizes.values())
    if weight <= 0:
        return dict.fromkeys(sizes, 0)
    exact = {key: total * size / weight for key, size in sizes.items()}
    seats = {key: int(value + 1e-9) for key, value in exact.items()}
    # Whoever would get none goes first, so that a small class does not vanish from a subset.
    order = sorted(sizes, key=lambda key: (seats[key] > 0 or sizes[key] == 0, seats[key] - exact[key], repr(key)))
    for key in order[: total - sum(seats.values())]:
        seats[key] += 1
    return seats


def _carve(rows: Sequence[Row], chosen: Sequence[int], settings: LoadSettings, result: list[str | None]) -> None:
    """Splits that the data lack are taken from their train, with their share of the fractions."""
    present = {result[i] for i in chosen}
    share = dict(zip(SPLITS, settings.fractions, strict=True))
    missing = [split for split in SPLITS[1:] if split not in present and share[split] > 0]
    if "train" not in present or not missing:
        return
    names = ("train", *missing)
    total = sum(share[name] for name in names)
    pool = [i for i in chosen if result[i] == "train"]
    _share(rows, pool, names, [share[name] / total for name in names], settings, result, grouped=True)


def _share(
    rows: Sequence[Row],
    chosen: Sequence[int],
    names: Sequence[str],
    fractions: Sequence[float],
    settings: LoadSettings,
    result: list[str | None],
    *,
    grouped: bool,
) -> None:
    """Share rows among splits: groups of several images first, each where it disturbs the class targets least (chi
    square), then single images class by class, which fill up what is left."""
    groups: dict[str, list[int]] = defaultdict(list)
    for i in chosen:
        row = rows[i]
        groups[f"group {row.group}" if grouped and row.group is not None else f"image {row.image}"].append(i)
    totals = Counter(rows[i].label for i in chosen)
    target = {(name, c): f * totals[c] for name, f in zip(names, fractions, strict=True) for c in totals}
    have: Counter[tuple[str, int | None]] = Counter()

    def put(members: Sequence[int], name: str) -> None:
        for i in members:
            result[i] = name
            have[name, rows[i].label] += 1

    open_names = [name for name, f in zip(names, fractions, strict=True) if f > 0]
    several = [(key, members) for key, members in groups.items() if len(members) > 1]
    several.sort(key=lambda item: (-len(item[1]), _draw(settings.seed, "split", item[0])))
    for key, members in several:
        counts = Counter(rows[i].label for i in members)

        def disturbance(name: str, counts: Counter[int | None] = counts) -> float:
            return sum(k * (2 * (have[name, c] - target[name, c]) + k) / target[name, c] for c, k in counts.items())

        put(members, min(open_names, key=lambda name: (disturbance(name), _draw(settings.seed, name, key))))

    singles: dict[int | None, list[tuple[bytes, int]]] = defaultdict(list)
    for key, members in groups.items():
        if len(members) == 1:
            singles[rows[members[0]].label].append((_draw(settings.seed, "split", key), members[0]))
    for c, drawn in singles.items():
        order = [i for _, i in sorted(drawn)]
        lacking = {name: max(0.0, target[name, c] - have[name, c]) for name in open_names}
        start = 0
        for name, count in apportion(lacking, len(order)).items():
            put(order[start : start + count], name)
            start += count


def _refuse_empty(result: Sequence[str | None], settings: LoadSettings, classes: Sequence[str]) -> None:
    counts = Counter(result)
    empty = [name for name, f in zip(SPLITS, settings.fractions, strict=True) if f > 0 and not counts[name]]
    if empty:
        used = sum(counts[name] for name in SPLITS)
        raise HeatproofError(
            fault(
                "dataset",
                f"{used} image(s) of {len(classes)} classes are too few: no image left for {', '.join(empty)}",
                hint="Raise dataset.n or change dataset.fractions.",
            )
        )


def straddling(rows: Sequence[Row], splits: Sequence[str | None]) -> tuple[str, ...]:
    """Groups with images in more than one split, sorted."""
    seen: dict[str, set[str]] = defaultdict(set)
    for row, split in zip(rows, splits, strict=True):
        if row.group is not None and split is not None:
            seen[row.group].add(split)
    return tuple(sorted(group for group, names in seen.items() if len(names) > 1))


def _draw(seed: int, role: str, key: str) -> bytes:
    """Eight bytes to sort by: as good as a random number, but a function of the id."""
    return hashlib.blake2b(f"{seed}\0{role}\0{key}".encode(), digest_size=8).digest()
