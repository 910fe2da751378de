"""Agreement of two methods: scipy, scikit-image's structural similarity, torchmetrics, closed forms."""

import by_hand
import numpy as np
import pytest
import tiny
import torch
from scipy import stats
from skimage.metrics import structural_similarity

from heatproof.base.registry import bind

NET = tiny.Linear(torch.ones(1, 20, 18))
NAMES = ("agreement_spearman", "agreement_pearson", "agreement_iou", "agreement_ssim")


def case(maps: torch.Tensor, name: str, valid: torch.Tensor | None = None) -> by_hand.Case:
    made = by_hand.case(NET, torch.rand(len(maps), 1, 20, 18), maps, valid=valid)
    made.method = tiny.method(name=name)
    return made


def smooth(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(3, 1, 6, 6, generator=generator)
    # A little noise, for the border of an enlarged map holds equal values.
    fine = 0.01 * torch.randn(3, 20, 18, generator=generator)
    return torch.nn.functional.interpolate(coarse, (20, 18), mode="bilinear")[:, 0] + fine


def found(a: by_hand.Case, b: by_hand.Case) -> dict[str, list[float]]:
    return {name: bind("metric", name)(a, b)[name].tolist() for name in NAMES}


@by_hand.oracle("agreement_spearman", "agreement_pearson", "agreement_iou", "agreement_ssim")
def test_against_libraries():
    a, b = smooth(0), smooth(0) + smooth(1)
    got = found(case(a, "one"), case(b, "two"))
    for i in range(3):
        x, y = a[i].double().numpy(), b[i].double().numpy()
        assert got["agreement_spearman"][i] == pytest.approx(stats.spearmanr(x.ravel(), y.ravel()).statistic)
        assert got["agreement_pearson"][i] == pytest.approx(stats.pearsonr(x.ravel(), y.ravel()).statistic)
        tops = [z >= np.sort(z.ravel())[-round(0.2 * z.size)] for z in (x, y)]
        assert got["agreement_iou"][i] == pytest.approx((tops[0] & tops[1]).sum() / (tops[0] | tops[1]).sum())
        scaled = [(z - z.min()) / (z.max() - z.min()) for z in (x, y)]
        # sd 1.5 cut at 5 px, windows that lie inside.
        _, theirs = structural_similarity(
            *scaled, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0, full=True
        )
        assert got["agreement_ssim"][i] == pytest.approx(theirs[5:-5, 5:-5].mean(), abs=1e-6)


@by_hand.oracle("agreement_spearman", "agreement_pearson", "agreement_iou", "agreement_ssim")
def test_a_map_agrees_with_itself_and_is_symmetric():
    a, b = smooth(0), smooth(2)
    assert all(values == pytest.approx([1] * 3) for values in found(case(a, "one"), case(3 * a + 1, "two")).values())
    there, back = found(case(a, "one"), case(b, "two")), found(case(b, "two"), case(a, "one"))
    for name in NAMES:
        assert there[name] == pytest.approx(back[name])
    assert found(case(a, "one"), case(-a, "two"))["agreement_pearson"] == pytest.approx([-1] * 3)
    assert found(case(a, "one"), case(-a, "two"))["agreement_iou"] == [0] * 3


def test_disjoint_sparse_maps_overlap_by_chance_alone():
    """With a common permutation of ties the zeros of both would be the same pixels."""
    a = torch.zeros(3, 20, 18)
    b = a.clone()
    a[:, 0, :3], b[:, 10, :3] = 1.0, 1.0
    overlap = found(case(a, "one"), case(b, "two"))["agreement_iou"]
    assert np.mean(overlap) == pytest.approx(0.2 / 1.8, abs=0.06)


def test_only_pixels_valid_in_both_count():
    a, b = smooth(0), smooth(0)
    valid = torch.ones(3, 20, 18, dtype=torch.bool)
    valid[:, :4] = False
    b[:, :4] = 9 * torch.rand(3, 4, 18)
    for name in ("agreement_spearman", "agreement_pearson", "agreement_iou"):
        assert bind("metric", name)(case(a, "one"), case(b, "two", valid))[name].tolist() == pytest.approx([1] * 3)
