"""Images with their maps on the page: which ones, scaled how, within how many bytes."""

import base64
import io
from dataclasses import replace

import fabricated
import numpy as np
import pytest
from PIL import Image

from heatproof.stages.report.viewer import Viewer, viewer


def decoded(text: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


@pytest.fixture(scope="module")
def run() -> dict:
    records = fabricated.records(30)
    return {name: records[name] for name in ("samples", "predictions", "maps")}


def test_methods_under_test_and_the_spread_of_fusions(run: dict) -> None:
    found = viewer(**run)
    assert list(found.maps) == ["gradcam", fabricated.FUSED, "weak", f"sd of {fabricated.FUSED}"]
    assert all(len(pictures) == len(found.tiles) == 30 for pictures in found.maps.values())
    assert found.status["weak"][1] == "zero"
    assert [tile.outcome for tile in found.tiles].count("wrong") == 2
    assert [bool(tile.outline) for tile in found.tiles[:3]] == [False, True, True]  # the first class has no mask


def test_the_brightest_pixel_of_a_map_is_that_of_its_picture(run: dict) -> None:
    found = viewer(**run)
    for place in range(5):
        heat = run["maps"].array("gradcam")[place]
        y, x = np.unravel_index(heat.argmax(), heat.shape)
        picture = decoded(found.maps["gradcam"][place]).sum(-1, dtype=int)
        assert picture[y, x] > picture.max() * 0.9


def test_few_images_spread_evenly_and_within_the_budget(run: dict) -> None:
    images = [tile.image for tile in viewer(**run, most=4).tiles]
    assert images == [f"case_{i:03d}.png" for i in (0, 10, 19, 29)]
    small = viewer(**run, budget=20_000)
    size = sum(len(t.pixels) + len(t.outline) for t in small.tiles) + sum(
        len(p) for m in small.maps.values() for p in m
    )
    assert size <= 20_000
    assert 1 <= len(small.tiles) < 30
    assert len(viewer(**run, budget=1).tiles) == 1


def test_colour_images_large_maps_and_what_is_not_finite(run: dict) -> None:
    samples, maps = run["samples"], run["maps"]
    coloured = replace(samples, pixels=np.repeat(np.repeat(samples.pixels, 16, 1).repeat(16, 2), 3, 3), masks=None)
    large = {name: np.full((30, 512, 512), np.nan, np.float32) for name in maps.files}
    found = viewer(coloured, run["predictions"], replace(maps, files=large, sd_files={}), most=2)
    assert decoded(found.tiles[0].pixels).shape == (192, 192, 3)
    assert decoded(found.maps["gradcam"][0]).shape == (96, 96, 3)
    assert not any(tile.outline for tile in found.tiles)


def test_nothing_to_show(run: dict) -> None:
    assert viewer(run["samples"], run["predictions"], replace(run["maps"], files={})) == Viewer()
