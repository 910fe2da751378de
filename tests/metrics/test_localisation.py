import by_hand
import numpy as np
import pytest
import tiny
import torch
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score
from torchmetrics.functional.classification import binary_jaccard_index

NET = tiny.Linear(torch.ones(1, 4, 5))


def block(maps: torch.Tensor, masks: torch.Tensor) -> by_hand.Case:
    return by_hand.case(NET, torch.rand(len(maps), 1, 4, 5), maps, masks)


@by_hand.oracle("loc_acc")
def test_by_hand():
    """20 pixels, q = 0.2: the four highest are 16 .. 19, the last row but its first pixel."""
    maps = torch.arange(20.0).view(1, 4, 5).repeat(2, 1, 1)
    masks = torch.zeros(2, 4, 5, dtype=torch.bool)
    masks[0, 3, :2] = True  # pixels 15, 16
    masks[1, 2:] = True  # pixels 10 .. 19
    found = by_hand.run("loc_acc", block(maps, masks))
    assert found["loc_acc"].tolist() == [0.5, 0.4]
    assert found["loc_acc_precision"].tolist() == [0.25, 1]
    assert found["loc_acc_chance"].tolist() == pytest.approx([0.2, 0.2])
    assert found["loc_acc_ceiling"].tolist() == [1, 0.4]
    assert found["loc_acc_area"].tolist() == pytest.approx([0.2, 0.2])
    assert found["loc_acc_tied"].tolist() == [0, 0]


def test_the_perfect_map_is_best_and_the_inverted_one_worst():
    masks = torch.rand(6, 4, 5, generator=torch.Generator().manual_seed(0)) < 0.3
    noise = torch.rand(6, 4, 5, generator=torch.Generator().manual_seed(1))
    perfect = by_hand.run("loc_acc", block(masks.float(), masks))
    inverted = by_hand.run("loc_acc", block(-masks.float(), masks))
    between = by_hand.run("loc_acc", block(noise, masks))
    assert torch.equal(perfect["loc_acc"], perfect["loc_acc_ceiling"])
    assert (inverted["loc_acc"] == 0).all()
    assert (between["loc_acc"] <= perfect["loc_acc"]).all()


def test_an_empty_mask_is_undefined_and_no_hit():
    masks = torch.zeros(2, 4, 5, dtype=torch.bool)
    masks[1, 0, 0] = True
    case = block(torch.rand(2, 4, 5), masks)
    found = by_hand.run("loc_acc", case)
    assert found["loc_acc"].isnan().tolist() == [True, False]
    assert by_hand.reasons(case) == ["empty_mask", "ok"]


def some(n: int = 4, size: tuple[int, int] = (14, 17), seed: int = 0) -> by_hand.Case:
    """Maps with ties and masks of two or three parts."""
    generator = torch.Generator().manual_seed(seed)
    maps = (torch.randn(n, *size, generator=generator) * 4).round() / 4
    masks = torch.zeros(n, *size, dtype=torch.bool)
    masks[:, 2:5, 3:8] = True
    masks[:, 9:12, 10:15] = True
    masks[1, 12, 2] = True
    images = torch.rand(n, 1, *size, generator=generator)
    return by_hand.case(tiny.Linear(torch.ones(1, *size)), images, maps, masks)


def untied(case: by_hand.Case) -> by_hand.Case:
    case.maps = torch.randn(case.maps.shape, generator=torch.Generator().manual_seed(7))
    return case


def in_steps(a: torch.Tensor) -> np.ndarray:
    """The map in the 2^20 steps in which ties are counted."""
    a = a.double()
    return ((a - a.min()) / (a.max() - a.min()) * 2**20).round().numpy().ravel()


@by_hand.oracle("pixel_auc", "pixel_ap")
@pytest.mark.parametrize("tied", [True, False])
def test_auc_and_average_precision_are_scikit_learns(tied):
    case = some() if tied else untied(some())
    auc, ap = (by_hand.run(name, case)[name] for name in ("pixel_auc", "pixel_ap"))
    for i in range(4):
        inside, score = case.masks[i].numpy().ravel(), in_steps(case.maps[i])
        assert float(auc[i]) == pytest.approx(roc_auc_score(inside, score))
        assert float(ap[i]) == pytest.approx(average_precision_score(inside, score))


def test_only_valid_pixels_take_part_in_the_auc():
    case = some()
    case.valid = torch.rand(case.maps.shape, generator=torch.Generator().manual_seed(2)) < 0.7
    found = by_hand.run("pixel_auc", case)["pixel_auc"]
    for i in range(4):
        seen = case.valid[i].numpy().ravel()
        own = case.maps[i].double().numpy().ravel()[seen]
        assert float(found[i]) == pytest.approx(roc_auc_score(case.masks[i].numpy().ravel()[seen], own))


@by_hand.oracle("pixel_auc", "pixel_ap")
def test_chance_of_the_ranked_metrics_is_what_random_maps_get():
    case = some(200)
    case.maps = torch.rand(case.maps.shape, generator=torch.Generator().manual_seed(3))
    for name in ("pixel_auc", "pixel_ap", "hit_rate", "pointing_game", "relevance_rank", "loc_acc", "energy_pointing"):
        found = by_hand.run(name, case)
        gap = found[name].mean() - found[f"{name}_chance"].mean()
        # Precision at the first few pixels is biased upwards where there are few.
        assert abs(float(gap)) < 3 * float(found[name].std()) / 200**0.5 + 0.02 * (name == "pixel_ap"), name


@by_hand.oracle("pointing_game", "hit_rate")
def test_pointing_games_by_hand():
    """Four tied maxima: one on the annotation, one within the tolerance of it, two elsewhere."""
    maps = torch.zeros(1, 30, 30)
    for place in ((10, 10), (10, 13), (25, 25), (0, 29)):
        maps[0][place] = 2.0
    masks = torch.zeros(1, 30, 30, dtype=torch.bool)
    masks[0, 10, 10] = True
    case = by_hand.case(tiny.Linear(torch.ones(1, 30, 30)), torch.rand(1, 1, 30, 30), maps, masks)
    assert by_hand.run("hit_rate", case)["hit_rate"].tolist() == [0.25]
    assert by_hand.run("hit_rate", case)["hit_rate_chance"].tolist() == [1 / 900]
    tolerance = 3 * 224 / 30  # three pixels
    found = by_hand.run("pointing_game", case, tolerance=tolerance)
    assert found["pointing_game"].tolist() == [0.5]
    assert found["pointing_game_chance"].tolist() == [29 / 900]  # a disc of radius 3
    assert by_hand.run("pointing_game", case, tolerance=2 * 224 / 30)["pointing_game"].tolist() == [0.25]


@by_hand.oracle("pointing_game", "hit_rate")
@pytest.mark.parametrize("tolerance", [0, 15, 40, 77.7])
def test_the_annotation_is_widened_by_a_disc_as_scipy_does(tolerance):
    case = some()
    radius = tolerance * 14 / 224
    reach = np.arange(-int(radius), int(radius) + 1)
    disc = reach[:, None] ** 2 + reach[None] ** 2 <= radius**2
    found = by_hand.run("pointing_game", case, tolerance=tolerance)
    for i in range(4):
        wide = ndimage.binary_dilation(case.masks[i].numpy(), disc)
        maxima = case.maps[i].numpy() == case.maps[i].max().item()
        assert float(found["pointing_game"][i]) == pytest.approx((wide & maxima).sum() / maxima.sum())
        assert float(found["pointing_game_chance"][i]) == pytest.approx(wide.mean())


@by_hand.oracle("energy_pointing", "relevance_rank", "mask_iou", "iou_best", "lesion_hit")
def test_shares_against_brute_force():
    case = untied(some())
    found = {
        name: by_hand.run(name, case)[name]
        for name in ("energy_pointing", "relevance_rank", "mask_iou", "iou_best", "lesion_hit")
    }
    minmax = by_hand.run("energy_pointing", case, values="minmax")["energy_pointing"]
    for i in range(4):
        a, mask = case.maps[i].double().numpy(), case.masks[i].numpy()
        positive, scaled = np.clip(a, 0, None), (a - a.min()) / (a.max() - a.min())
        assert float(found["energy_pointing"][i]) == pytest.approx(positive[mask].sum() / positive.sum())
        assert float(minmax[i]) == pytest.approx(scaled[mask].sum() / scaled.sum(), abs=1e-6)

        def top(k: int, a: np.ndarray = a) -> np.ndarray:
            return a >= np.sort(a.ravel())[-k]

        k = int(mask.sum())
        assert float(found["relevance_rank"][i]) == pytest.approx((top(k) & mask).sum() / k)
        tenth = top(round(0.1 * a.size))
        assert float(found["mask_iou"][i]) == pytest.approx((tenth & mask).sum() / (tenth | mask).sum())
        ious = [(top(n) & mask).sum() / (top(n) | mask).sum() for n in range(1, a.size + 1)]
        assert float(found["iou_best"][i]) == pytest.approx(max(ious))
        parts, count = ndimage.label(mask, np.ones((3, 3)))
        hit = [(top(k) & (parts == part)).any() for part in range(1, count + 1)]
        assert float(found["lesion_hit"][i]) == pytest.approx(np.mean(hit))
        assert count == (3 if i == 1 else 2)


@by_hand.oracle("mask_iou")
def test_overlap_is_torchmetrics_jaccard_index():
    case = untied(some())
    found = by_hand.run("mask_iou", case, q=0.2)["mask_iou"]
    for i in range(4):
        cut = case.maps[i].flatten().sort(descending=True).values[round(0.2 * case.maps[i].numel()) - 1]
        theirs = binary_jaccard_index((case.maps[i] >= cut).int(), case.masks[i].int())
        assert float(found[i]) == pytest.approx(float(theirs))


ALL = (
    *("loc_acc", "pointing_game", "hit_rate", "energy_pointing", "relevance_rank"),
    *("mask_iou", "iou_best", "pixel_auc", "pixel_ap", "lesion_hit"),
)


@pytest.mark.parametrize("name", ALL)
def test_perfect_is_best_inverted_is_worst_and_an_empty_mask_no_hit(name):
    case = some()
    noise = 0.1 * torch.rand(case.maps.shape, generator=torch.Generator().manual_seed(1))
    for maps, best in ((case.masks + noise, True), (noise - case.masks.float(), False)):
        found = by_hand.run(name, by_hand.case(tiny.Linear(torch.ones(1, 14, 17)), case.images, maps, case.masks))
        settings = {"mask_iou": 34 / 238, "loc_acc": 1}
        if best and name not in settings and name != "energy_pointing":
            assert found[name].tolist() == pytest.approx([1] * 4)
        elif not best and name not in ("iou_best", "pixel_ap", "pointing_game"):
            assert found[name].max() <= 0.2
    empty = by_hand.case(tiny.Linear(torch.ones(1, 14, 17)), case.images, case.maps)
    assert by_hand.run(name, empty)[name].isnan().all()
    assert by_hand.reasons(empty) == ["empty_mask"] * 4


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("energy_pointing", "pixel_auc", "iou_best")])
def test_a_flat_map_finds_what_chance_finds(name):
    """On average over seeds of the ties; the engine calls most of these undefined before."""
    n = 300
    masks = torch.zeros(n, 14, 17, dtype=torch.bool)
    masks[:, 2:8, 3:9] = True
    case = by_hand.case(tiny.Linear(torch.ones(1, 14, 17)), torch.rand(n, 1, 14, 17), torch.zeros(n, 14, 17), masks)
    found = by_hand.run(name, case)
    if f"{name}_chance" in found:
        chance = float(found[f"{name}_chance"][0])
        assert float(found[name].mean()) == pytest.approx(chance, abs=0.02)


@by_hand.oracle("lesion_hit")
def test_lesions_that_touch_at_a_corner_are_one():
    masks = torch.zeros(1, 4, 5, dtype=torch.bool)
    masks[0, 0, 0] = masks[0, 1, 1] = masks[0, 3, 4] = True
    maps = torch.zeros(1, 4, 5)
    maps[0, 0, 0], maps[0, 2, 0], maps[0, 2, 1] = 3.0, 2.0, 1.0
    found = by_hand.run("lesion_hit", block(maps, masks))
    assert found["lesion_hit_count"].tolist() == [2]
    assert found["lesion_hit"].tolist() == [0.5]
