"""The audit: what is planted in a data set is found and said, and a clean one is left alone."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from shelves import mask, real

from heatproof.base.registry import bind
from heatproof.base.settings import LoadSettings
from heatproof.base.store import Store
from heatproof.datasets.phantom import phantom
from heatproof.stages.load import load
from heatproof.stages.load.clues import clues

SETTINGS = LoadSettings(42, "grouped", (0.6, 0.2, 0.2), None, None, 64, 1, None, 0.8, 8)
SLICES = phantom(root=None, size=64, channels=1, seed=3, num_images=48)
few = settings(deadline=None, max_examples=30)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def saved(path, number, change=None, **options):
    """One of 48 different slices as a file, changed."""
    pixels = SLICES.read(SLICES.rows[number]).reshape(64, 64)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels if change is None else change(pixels)).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path):
    """Two classes of twenty slices each."""
    for number in range(40):
        saved(tmp_path / "data" / ("a" if number < 20 else "b") / f"{number:02d}.png", number)
    return tmp_path / "data"


def loaded(folder, store, **changes):
    options = {key: changes.pop(key) for key in ("group_pattern", "mask_pattern") if key in changes}
    return load(bind("dataset", "image_folder", {"root": str(folder), **options}), replace(SETTINGS, **changes), store)


def test_a_clean_data_set_has_no_warning(folder, store):
    found = loaded(folder, store).audit
    assert found.warnings == ()
    assert len(found.tables["pairs"]) == len(found.tables["clues"]) == 0
    assert found.tables["counts"].to_dict("list") == {
        "split": ["train", "val", "test"],
        "a": [12, 4, 4],
        "b": [12, 4, 4],
    }


def darker(pixels):
    return (pixels * 0.9).astype(np.uint8)


def test_near_duplicates_stay_together_where_grouped_and_are_told_where_not(folder, store):
    for number in range(12):
        saved(folder / "a" / f"{number:02d} again.png", number, darker)
    together = loaded(folder, store)
    groups = together.table.set_index("image")["group"].dropna().to_dict()
    assert groups == {f"a/{n:02d}{end}.png": f"near:a/{n:02d} again.png" for n in range(12) for end in ("", " again")}
    pairs = together.audit.tables["pairs"]
    assert len(pairs) == 12
    assert not pairs["across"].any()
    assert together.audit.warnings == ()
    assert "0 across splits" in together.audit.notes[0]

    apart = loaded(folder, store, split="random")
    own = apart.table.set_index("image")["split"]
    leaked = [n for n in range(12) if {own[f"a/{n:02d}.png"], own[f"a/{n:02d} again.png"]} == {"train", "test"}]
    assert leaked
    tests = int((own == "test").sum())
    assert f"{len(leaked)} of {tests} test images have a near-duplicate in train" in " ".join(apart.audit.warnings)
    assert apart.audit.warnings[0].startswith("split=random: nothing keeps images of one patient")
    # What a random split would have done is said beside the grouped one.
    assert f"a random split of the same images would have {len(leaked)} of {tests}" in " ".join(together.audit.notes)
    at = together.audit.tables["curve"].set_index(["signature", "threshold"]).loc[("spectrum", 0.8)]
    assert (at["pairs"], at["images"], at["test_in_train"], at["test_in_train_random"]) == (12, 24, 0, len(leaked))


def test_copies_with_other_labels_are_conflicts(folder, store):
    saved(folder / "b" / "00 same file.png", 0)
    saved(folder / "b" / "01 looks alike.png", 1, darker)
    found = loaded(folder, store).audit
    assert found.tables["pairs"][["exact", "conflict"]].to_numpy().tolist() == [[True, True], [False, True]]
    text = "\n".join(found.warnings)
    assert "1 image(s) are exact copies of another one; 0 of them lie in two splits" in text
    assert "1 pair(s) of exact copies have different labels, e.g. a/00.png (a) and b/00 same file.png (b)" in text
    assert "1 pair(s) of near-duplicates have different labels, e.g. a/01.png (a) and b/01 looks alike.png (b)" in text


def test_patients_that_straddle_a_given_split_are_named(tmp_path, store):
    for number in range(24):
        split = ("train", "val", "test")[number % 3]
        saved(tmp_path / "data" / split / "ab"[number // 12] / f"p{number // 2}_{number}.png", number)
    found = loaded(tmp_path / "data", store, split="official", group_pattern=r"^(p\d+)_").audit
    assert "12 group(s) (patients) have images in several splits, e.g. p0, p1, p10" in found.warnings
    assert not any("patients are unknown" in note for note in found.notes)


def test_known_patients_stay_two_though_their_pictures_are_alike(folder, store):
    for number in range(40):
        name = ("a" if number < 20 else "b", f"{number:02d}.png")
        (folder / name[0] / name[1]).rename(folder / name[0] / f"p{number}_.png")
    saved(folder / "a" / "p99_.png", 0, darker)
    table = loaded(folder, store, group_pattern=r"^(p\d+)_").table.set_index("image")
    assert (table.loc["a/p0_.png", "group"], table.loc["a/p99_.png", "group"]) == ("p0", "p99")


def test_near_duplicates_are_looked_for_only_where_asked(folder, store):
    saved(folder / "a" / "00 again.png", 0, darker)
    samples = loaded(folder, store, near_similarity=None, near_distance=None)
    assert samples.near is None
    assert len(samples.audit.tables["pairs"]) == len(samples.audit.tables["curve"]) == 0
    assert "near-duplicates were not looked for (dataset.near_similarity, dataset.near_distance)" in samples.audit.notes


def test_generated_images_are_not_compared(store):
    samples = load(bind("dataset", "phantom", {"root": None, "num_images": 30}), SETTINGS, store)
    assert samples.near is None
    assert samples.table["group"].isna().all()
    assert not list((store.root / "alike").glob("*"))
    assert any(note.startswith("generated images") for note in samples.audit.notes)


def test_areas_of_masks_are_told_per_class(folder, store):
    mask(folder / "b" / "20_mask.png", (0, 0, 32, 64), size=(64, 64))
    mask(folder / "b" / "21_mask.png", (0, 0, 0, 0), size=(64, 64))
    found = loaded(folder, store, mask_pattern="{stem}_mask*").audit.tables["masks"]
    assert found.to_dict("records") == [
        {"class": "b", "annotated": 2, "empty": 1, "least": 0.5, "median": 0.5, "most": 0.5}
    ]


def test_the_split_of_a_samples_table_is_used_again(folder, store, tmp_path):
    saved(folder / "a" / "00 again.png", 0, darker)
    first = loaded(folder, store)
    first.table.to_parquet(tmp_path / "samples.parquet")
    again = loaded(folder, store, split=str(tmp_path / "samples.parquet"), seed=7)
    assert again.table["split"].tolist() == first.table["split"].tolist()
    assert again.data_hash == first.data_hash


# ---- clues ------------------------------------------------------------------------------------------------------


def made(labels, widths, heights=None, groups=None):
    n = len(labels)
    return pd.DataFrame(
        {
            "label_name": labels,
            "width": widths,
            "height": heights or [100] * n,
            "path": None,
            "group": groups or [None] * n,
        }
    )


def test_odd_sizes_of_one_class_are_a_clue():
    """As in the CT slices of study 5: 60 of 61 odd sizes are malignant, no two of them alike."""
    labels = ["normal"] * 416 + ["benign"] * 120 + ["malignant"] * 561
    widths = [512] * 415 + [401] + [512] * 120 + [512] * 501 + list(range(300, 360))
    found = clues(made(labels, widths))
    assert found["text"].tolist() == [
        "size tells the class: 60 of 61 images with any but 512 x 100 are malignant, 48% of the others"
    ]


def test_areas_that_rank_classes_are_a_clue():
    generator = np.random.default_rng(0)
    widths = [*generator.integers(1000, 1400, 40), *generator.integers(700, 1050, 40)]
    text = clues(made(["normal"] * 40 + ["pneumonia"] * 40, widths))["text"].tolist()
    assert any(line.startswith("area of the picture tells the class: larger for normal") for line in text)


def test_heads_of_files_are_a_clue(folder):
    rows = []
    for number in range(40):
        label = "ab"[number // 20]
        path = saved(folder / f"{number}.jpeg", number, quality=90 if label == "a" else 60)
        rows.append((label, str(path)))
    table = made([label for label, _ in rows], [64] * 40).assign(path=[path for _, path in rows])
    found = clues(table)
    assert found["property"].tolist() == ["encoding", "encoding"]
    assert set(found["class"]) == {"a", "b"}


def test_a_class_of_few_patients_is_a_clue():
    groups = [f"p{i % 2}" for i in range(20)] + [f"q{i}" for i in range(20)]
    text = clues(made(["a"] * 20 + ["b"] * 20, [64] * 40, groups=groups))["text"].tolist()
    assert text == ["all 20 images of a come from 2 group(s) (patients)"]


@few
@given(st.integers(0, 10_000))
def test_sizes_by_chance_are_no_clue(seed):
    generator = np.random.default_rng(seed)
    labels = generator.choice(["a", "b", "c"], 200).tolist()
    widths = generator.choice([64, 128, 256, 300], 200, p=[0.6, 0.2, 0.15, 0.05]).tolist()
    assert len(clues(made(labels, widths))) == 0


# ---- real data --------------------------------------------------------------------------------------------------


def test_the_real_slices_leak_at_random_and_not_where_grouped(store):
    source = bind("dataset", "iq_othnccd", {"root": real("iq_othnccd")})
    chosen = replace(SETTINGS, size=224)
    leaks = {}
    for kind in ("random", "grouped"):
        samples = load(source, replace(chosen, split=kind), store)
        leaks[kind] = {side for a in samples.audit.warnings for side in [a] if "near-duplicate in train" in a}
    assert any("test images have a near-duplicate in train" in text for text in leaks["random"])
    assert leaks["grouped"] == set()


def test_the_real_radiographs_have_the_copies_that_are_known(store):
    samples = load(
        bind("dataset", "chest_xray", {"root": real("chest_xray")}), replace(SETTINGS, split="official"), store
    )
    pairs = samples.audit.tables["pairs"]
    assert pairs["exact"].sum() == 9
    named = {
        tuple(sorted((a.rpartition("/")[2], b.rpartition("/")[2])))
        for a, b in zip(pairs["image_a"], pairs["image_b"], strict=True)
    }
    assert ("NORMAL2-IM-0095-0001.jpeg", "NORMAL2-IM-0096-0001.jpeg") in named
