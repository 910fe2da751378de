"""Splits and subsets: what holds for any data set, by properties; what each kind does, by example."""

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heatproof.base import splits
from heatproof.base.duplicates import Pairs, joined
from heatproof.base.errors import HeatproofError
from heatproof.base.records import SPLITS, Row
from heatproof.base.settings import LoadSettings

CLASSES = ("a", "b", "c")
BASE = LoadSettings(42, "grouped", (0.6, 0.2, 0.2), None, None, 64, 1, None)
few = settings(deadline=None, max_examples=40)


def make(labels, groups=None, split=None, study=None):
    groups = groups or [None] * len(labels)
    return [
        Row(
            f"image{i:04d}",
            None,
            c,
            group=g,
            split=split(i) if split else None,
            study_split=study(i) if study else None,
        )
        for i, (c, g) in enumerate(zip(labels, groups, strict=True))
    ]


@st.composite
def grouped_rows(draw):
    """100 to 200 images of three classes in groups of one to eight, some without a group."""
    labels, groups = [], []
    seed = draw(st.randoms(use_true_random=False))
    while len(labels) < 100:
        group = None if seed.random() < 0.2 else f"patient{len(labels)}"
        main = seed.choice([0, 0, 0, 1, 1, 2])
        for _ in range(1 if group is None else seed.randint(1, 8)):
            labels.append(main if seed.random() < 0.9 else seed.randrange(3))
            groups.append(group)
    return make(labels, groups)


@few
@given(grouped_rows(), st.integers(0, 5))
def test_groups_never_straddle_and_all_images_have_a_split(rows, seed):
    assigned = splits.assign(rows, replace(BASE, seed=seed), classes=CLASSES)
    assert set(assigned) == set(SPLITS)
    assert splits.straddling(rows, assigned) == ()


@few
@given(grouped_rows(), st.integers(0, 5))
def test_fractions_are_near_in_every_class(rows, seed):
    assigned = splits.assign(rows, replace(BASE, seed=seed), classes=CLASSES)
    totals = Counter(row.label for row in rows)
    counts = Counter((row.label, split) for row, split in zip(rows, assigned, strict=True))
    for split, fraction in zip(SPLITS, BASE.fractions, strict=True):
        for c, total in totals.items():
            assert abs(counts[c, split] - fraction * total) <= 8  # the largest group


@few
@given(grouped_rows(), st.randoms(use_true_random=False), st.sampled_from(["grouped", "random"]), st.booleans())
def test_the_order_of_listing_changes_nothing(rows, shuffler, kind, subset):
    chosen = replace(BASE, split=kind, n=60 if subset else None)
    expected = dict(zip((row.image for row in rows), splits.assign(rows, chosen, classes=CLASSES), strict=True))
    shuffled = list(rows)
    shuffler.shuffle(shuffled)
    found = dict(zip((row.image for row in shuffled), splits.assign(shuffled, chosen, classes=CLASSES), strict=True))
    assert found == expected


@few
@given(grouped_rows(), st.integers(3, 90))
def test_a_subset_has_n_images_in_proportion(rows, n):
    settings_ = replace(BASE, n=n, fractions=(1.0, 0.0, 0.0))
    assigned = splits.assign(rows, settings_, classes=CLASSES)
    used = Counter(row.label for row, split in zip(rows, assigned, strict=True) if split)
    totals = Counter(row.label for row in rows)
    assert sum(used.values()) == n
    assert all(used[c] >= 1 for c in totals)
    assert all(abs(used[c] - n * total / len(rows)) <= 2 for c, total in totals.items())


@few
@given(st.dictionaries(st.text(max_size=3), st.integers(0, 50), min_size=1, max_size=6), st.floats(0, 1))
def test_seats_add_up_and_none_gets_more_than_it_has(sizes, share):
    total = int(share * sum(sizes.values()))
    seats = splits.apportion(sizes, total)
    assert sum(seats.values()) == total
    assert all(0 <= seats[key] <= sizes[key] for key in sizes)


@few
@given(grouped_rows(), st.data())
def test_near_duplicates_of_unknown_patients_never_straddle(rows, data):
    """Pairs become groups, groups become splits: with one known patient at most, a pair shares its split."""
    links = data.draw(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=30))
    first, second = np.array([sorted(pair) for pair in links if len(set(pair)) == 2], np.int64).reshape(-1, 2).T
    pairs = Pairs(first, second, np.ones(len(first)), np.zeros(len(first), np.int64))
    groups = joined([row.image for row in rows], [row.group for row in rows], range(len(rows)), pairs)
    joint = [replace(row, group=group) for row, group in zip(rows, groups, strict=True)]
    assigned = splits.assign(joint, replace(BASE, fractions=(0.5, 0.25, 0.25)), classes=CLASSES)
    for a, b in zip(first, second, strict=True):
        if rows[a].group is None or rows[b].group is None:
            assert assigned[a] == assigned[b]


def test_single_images_meet_the_fractions_exactly():
    rows = make([0] * 100 + [1] * 50)
    assigned = splits.assign(rows, BASE, classes=CLASSES[:2])
    counts = Counter((row.label, split) for row, split in zip(rows, assigned, strict=True))
    assert counts == {
        (0, "train"): 60,
        (0, "val"): 20,
        (0, "test"): 20,
        (1, "train"): 30,
        (1, "val"): 10,
        (1, "test"): 10,
    }


def test_seeds_differ_and_repeat():
    rows = make([0, 1] * 50)
    first = splits.assign(rows, BASE, classes=CLASSES[:2])
    assert first == splits.assign(rows, BASE, classes=CLASSES[:2])
    assert first != splits.assign(rows, replace(BASE, seed=1), classes=CLASSES[:2])


def test_one_more_image_of_a_class_leaves_the_other_classes_where_they_are():
    rows = make([0, 1] * 50)
    more = [*rows, Row("zzz", None, 1)]
    before = splits.assign(rows, BASE, classes=CLASSES[:2])
    after = splits.assign(more, BASE, classes=CLASSES[:2])[:-1]
    assert [s for s, row in zip(before, rows, strict=True) if row.label == 0] == [
        s for s, row in zip(after, rows, strict=True) if row.label == 0
    ]


def test_random_tears_groups_apart_where_grouped_does_not():
    rows = make([0, 1] * 60, [f"p{i // 6}" for i in range(120)])
    assert splits.straddling(rows, splits.assign(rows, replace(BASE, split="random"), classes=CLASSES[:2]))
    assert not splits.straddling(rows, splits.assign(rows, BASE, classes=CLASSES[:2]))


def test_official_splits_stay_and_validation_is_carved_by_group():
    rows = make([0, 1] * 100, [f"p{i // 4}" for i in range(200)], split=lambda i: "train" if i < 160 else "test")
    assigned = splits.assign(rows, replace(BASE, split="official"), classes=CLASSES[:2])
    assert assigned[160:] == ["test"] * 40
    carved = Counter(assigned[:160])
    assert carved == {"train": 120, "val": 40}  # 0.2 / (0.6 + 0.2) of train
    assert not splits.straddling(rows, assigned)
    whole = make([0, 1] * 9, split=lambda i: SPLITS[i % 3])
    assert splits.assign(whole, replace(BASE, split="official"), classes=CLASSES[:2]) == [row.split for row in whole]


def test_auto_is_official_where_there_is_one():
    rows = make([0, 1] * 30)
    auto = replace(BASE, split="auto")
    assert splits.kind_of(rows, auto) == "grouped"
    assert splits.assign(rows, auto, classes=CLASSES[:2]) == splits.assign(rows, BASE, classes=CLASSES[:2])
    given_ = make([0, 1] * 30, split=lambda i: SPLITS[i % 3])
    assert splits.kind_of(given_, auto) == "official"
    assert splits.assign(given_, auto, classes=CLASSES[:2]) == [row.split for row in given_]


def test_study_takes_the_split_of_the_study():
    rows = make([0, 1] * 30, study=lambda i: SPLITS[i // 20])
    assert splits.assign(rows, replace(BASE, split="study"), classes=CLASSES[:2]) == [row.study_split for row in rows]


def test_a_table_gives_the_split_by_image_and_leaves_the_rest_out(tmp_path):
    rows = make([0, 1] * 5)
    table = pd.DataFrame(
        {"image": [row.image for row in rows[2:]], "split": ["train"] * 4 + ["val"] * 2 + ["test"] * 2}
    )
    table.sample(frac=1, random_state=0).to_parquet(tmp_path / "samples.parquet")
    from_file = replace(BASE, split=str(tmp_path / "samples.parquet"))
    assert splits.kind_of(rows, from_file) == "file"
    assert splits.assign(rows, from_file, classes=CLASSES[:2]) == [None, None, *table["split"]]
    with pytest.raises(HeatproofError, match=r"1 image\(s\) of .* are not in the data, got \['image0009'\]"):
        splits.assign(rows[:-1], from_file, classes=CLASSES[:2])
    table.drop(columns="split").to_parquet(tmp_path / "other.parquet")
    with pytest.raises(HeatproofError, match="no table with the columns image and split"):
        splits.assign(rows, replace(BASE, split=str(tmp_path / "other.parquet")), classes=CLASSES[:2])


def test_caps_bound_the_classes():
    rows = make([0] * 50 + [1] * 30 + [2] * 20)
    for cap, expected in ((25, [25, 25, 20]), ("smallest", [20, 20, 20])):
        assigned = splits.assign(rows, replace(BASE, cap=cap), classes=CLASSES)
        used = Counter(row.label for row, split in zip(rows, assigned, strict=True) if split)
        assert [used[c] for c in range(3)] == expected


def test_a_subset_of_official_splits_keeps_their_proportion():
    rows = make([0, 1] * 100, split=lambda i: ("train", "train", "val", "test")[i // 50])
    assigned = splits.assign(rows, replace(BASE, split="official", n=40), classes=CLASSES[:2])
    assert Counter(assigned) == {None: 160, "train": 20, "val": 10, "test": 10}


def test_a_larger_subset_holds_the_smaller_one():
    rows = make([0, 1] * 100)
    used = defaultdict(set)
    for n in (20, 60):
        assigned = splits.assign(rows, replace(BASE, n=n), classes=CLASSES[:2])
        used[n] = {row.image for row, split in zip(rows, assigned, strict=True) if split}
    assert used[20] < used[60]


def test_images_without_labels_are_all_for_the_test():
    assert splits.assign(make([None] * 4), replace(BASE, split="auto"), classes=()) == ["test"] * 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "offcial"}, "no such split, got 'offcial'. Did you mean 'official'"),
        ({"split": "gone.parquet"}, "no such file, got 'gone.parquet'"),
        ({"split": "official"}, "the data have no official split"),
        ({"split": "study"}, "the data have no study split"),
        ({"fractions": (0.6, 0.2, 0.3)}, "three numbers"),
        ({"n": 0}, "dataset.n: at least 1"),
        ({"n": 1}, "too few for one image of each of 2 classes"),
        ({"n": 3}, "no image left for"),
        ({"cap": "biggest"}, "dataset.cap: at least 1, smallest"),
    ],
)
def test_refusals(changes, message):
    with pytest.raises(HeatproofError, match=message):
        splits.assign(make([0, 1] * 20), replace(BASE, **changes), classes=CLASSES[:2])


def test_partly_official_and_twice_named_images_are_refused():
    with pytest.raises(HeatproofError, match=r"10 image\(s\) have no place in the official split"):
        splits.assign(
            make([0, 1] * 10, split=lambda i: "train" if i < 10 else None),
            replace(BASE, split="official"),
            classes=CLASSES[:2],
        )
    rows = make([0, 1] * 10)
    with pytest.raises(HeatproofError, match="two images with one id"):
        splits.assign([*rows, rows[0]], BASE, classes=CLASSES[:2])
