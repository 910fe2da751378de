"""Boxes against torchvision's overlap and a brute-force search for the threshold, which measured images never pick."""

import by_hand
import numpy as np
import pytest
import stocked
import tiny
import torch
from scipy import ndimage
from torchvision.ops import box_iou as their_overlap

from heatproof.base.case import Annotated
from heatproof.base.registry import bind
from heatproof.base.store import Store
from heatproof.base.validation import annotated_rows
from heatproof.stages import explain, measure

THRESHOLDS = [0.2, 0.5, 0.8]


def some(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth maps and annotations of one to three parts."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 1, 5, 5, generator=generator)
    maps = torch.nn.functional.interpolate(coarse, size=(18, 21), mode="bilinear")[:, 0]
    other = torch.rand(n, 1, 4, 4, generator=generator)
    masks = torch.nn.functional.interpolate(other, size=(18, 21), mode="bilinear")[:, 0] > 0.65
    masks[:, 3:6, 4:8] = True
    return maps, masks


def corners(box: tuple[slice, slice]) -> torch.Tensor:
    rows, columns = box
    return torch.tensor([[columns.start, rows.start, columns.stop, rows.stop]], dtype=torch.float64)


def by_brute_force(a: np.ndarray, mask: np.ndarray, threshold: float) -> float:
    scaled = (a - a.min()) / (a.max() - a.min())
    parts, count = ndimage.label(scaled >= threshold, np.ones((3, 3)))
    largest = max(range(1, count + 1), key=lambda part: (parts == part).sum())
    own = corners(ndimage.find_objects((parts == largest).astype(int))[0])
    annotated = ndimage.find_objects(ndimage.label(mask, np.ones((3, 3)))[0])
    return max(float(their_overlap(own, corners(box))) for box in annotated)


@by_hand.oracle("box_iou")
def test_the_box_and_its_threshold_against_brute_force():
    maps, masks = some(6, 0)
    known = Annotated(*some(9, 1))
    case = by_hand.case(tiny.Linear(torch.ones(1, 18, 21)), torch.rand(6, 1, 18, 21), maps, masks)
    found = by_hand.run("box_iou", case, known=known, thresholds=THRESHOLDS)
    means = [
        np.mean([by_brute_force(a.numpy(), m.numpy(), t) for a, m in zip(known.maps, known.masks, strict=True)])
        for t in THRESHOLDS
    ]
    picked = THRESHOLDS[int(np.argmax(means))]
    assert len(set(means)) == 3
    assert found["box_iou_threshold"].tolist() == [picked] * 6
    expected = [by_brute_force(a.numpy(), m.numpy(), picked) for a, m in zip(maps, masks, strict=True)]
    assert found["box_iou"].tolist() == pytest.approx(expected, abs=1e-9)


def test_a_map_of_the_box_itself_scores_1_and_one_elsewhere_0():
    masks = torch.zeros(2, 12, 12, dtype=torch.bool)
    masks[0, 2:5, 3:9] = masks[1, 7:10, 1:3] = True
    masks[0, 11, 0] = True
    maps = masks.float()
    maps[0, 11, 0] = 0  # one of two lesions is enough
    case = by_hand.case(tiny.Linear(torch.ones(1, 12, 12)), torch.rand(2, 1, 12, 12), maps, masks)
    known = Annotated(maps, masks)
    assert by_hand.run("box_iou", case, known=known)["box_iou"].tolist() == [1, 1]
    away = by_hand.case(tiny.Linear(torch.ones(1, 12, 12)), case.images, maps.roll(6, 1).roll(3, 2), masks)
    assert by_hand.run("box_iou", away, known=known)["box_iou"].tolist() == [0, 0]
    empty = by_hand.case(tiny.Linear(torch.ones(1, 12, 12)), case.images, maps)
    assert by_hand.run("box_iou", empty, known=known)["box_iou"].isnan().all()
    assert by_hand.reasons(empty) == ["empty_mask"] * 2
    nothing = Annotated(maps[:0], masks[:0])
    assert by_hand.run("box_iou", case, known=nothing)["box_iou"].isnan().all()
    assert by_hand.reasons(case) == ["no_validation"] * 2


def validated(tmp_path, *, val=(1, 3, 4, 6, 8), split="test", methods=None, batch=32, masks=True):
    """Scores of a run whose other images than `val` are measured."""
    samples, classifier, store = stocked.samples(16), stocked.classifier(), Store(tmp_path)
    samples.table.loc[list(val), "split"] = "val"
    if not masks:
        samples.masks[list(val)] = 0
    rows = samples.rows(split)
    predictions = stocked.predictions(samples)
    predictions = type(predictions)(predictions.table, {}, rows)
    maps = explain.explain(
        samples, classifier, predictions, methods or stocked.methods("gradcam", "centre"), stocked.EXPLAIN,
        protocol="sound", store=store, progress=False,
    )  # fmt: skip
    evaluation = type(stocked.EVALUATION)(**{**vars(stocked.EVALUATION), "split": split})
    scores = measure.measure(
        samples, classifier, maps, stocked.metrics("box_iou"), stocked.MEASURE, evaluation, store=store, batch=batch,
        progress=False,
    )  # fmt: skip
    return samples, scores


def test_the_threshold_comes_from_annotated_validation_images_of_each_method(tmp_path):
    samples, scores = validated(tmp_path / "a")
    assert sorted(annotated_rows(samples, "val", 64)) == [4, 6, 8]
    table = scores.table
    picked = table[table["column"] == "box_iou_threshold"].groupby("method")["value"].agg(["nunique", "first"])
    assert (picked["nunique"] == 1).all()
    assert picked["first"].nunique() > 1
    assert set(picked["first"]) <= set(bind("metric", "box_iou").settings["thresholds"])
    moved = table[(table["column"] == "box_iou") & (table["method"] == "shifted-gradcam")]
    assert moved["status"].str.startswith(("ok", "undefined:no_mask")).all()
    _, again = validated(tmp_path / "b", batch=3)
    assert again.table["value"].to_numpy() == pytest.approx(table["value"].to_numpy(), abs=1e-9, nan_ok=True)


@pytest.mark.parametrize(("split", "masks"), [("val", True), ("test", False)])
def test_without_other_annotated_images_it_is_undefined(tmp_path, split, masks):
    _, scores = validated(tmp_path, split=split, masks=masks)
    own = scores.table[(scores.table["column"] == "box_iou") & (scores.table["method"] == "gradcam")]
    assert set(own["status"]) == {"undefined:no_validation", "undefined:no_mask"}
