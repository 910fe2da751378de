"""The study's faulty ways back, against OpenCV, and its fusions."""

import cv2
import numpy as np
import pytest
import torch

from heatproof.views.fusion import mean, mean_study, median, median_study
from heatproof.views.geometric import rotate
from heatproof.views.study import centre_crop_study, rotate_study

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
SEEDS = torch.tensor([0, 1])


@pytest.mark.parametrize("angle", [15, -15, 10])
def test_way_back_equals_opencv(angle):
    seen, unwarp = rotate_study(IMAGES, SEEDS, angle=angle)
    assert torch.equal(seen, rotate(IMAGES, SEEDS, angle=angle)[0])
    maps = cv2.GaussianBlur(seen[:, 0].permute(1, 2, 0).numpy(), (7, 7), 0).transpose(2, 0, 1)
    found, valid = unwarp(torch.from_numpy(maps.copy()))
    assert valid.all()
    matrix = cv2.getRotationMatrix2D((16, 16), -angle, 1.0)
    for one, ours in zip(maps, found, strict=True):
        turned = cv2.warpAffine((one * 255).astype(np.uint8), matrix, (32, 32))
        # OpenCV rounds positions to 1/32 pixel.
        assert np.abs(ours.numpy() * 255 - turned).max() <= 5
    assert found[:, 0, 0].abs().max() == 0


def test_a_crop_is_left_as_seen():
    seen, unwarp = centre_crop_study(IMAGES, SEEDS)
    maps, valid = unwarp(seen[:, 0])
    assert torch.equal(maps, seen[:, 0])
    assert valid.all()
    assert not unwarp.identity


def test_study_fusions_count_everything():
    maps = torch.tensor([[[[0.0, 1.0], [0.5, 1.0]]], [[[0.0, 0.0], [2.0, 4.0]]], [[[0.0, 1.0], [0.0, 0.0]]]])
    valid = torch.tensor([[[[True, True], [True, True]]], [[[True, False], [True, True]]], [[[True] * 2] * 2]])
    assert mean_study(maps, valid)[0].flatten().tolist() == pytest.approx([0, 2 / 3, 1 / 3, 2 / 3])
    assert median_study(maps, valid)[0].flatten().tolist() == [0, 1, 0.5, 1]
    assert mean(maps, valid, scale="none")[0].flatten().tolist() == pytest.approx([0, 1, 2.5 / 3, 5 / 3])
    assert median(maps, valid, scale="none")[0].flatten().tolist() == [0, 1, 0.5, 1]
