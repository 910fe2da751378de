"""Maps made elsewhere: which file is whose, what is refused, and what a run makes of them."""

import numpy as np
import pytest
import stocked
import torch
from PIL import Image

from heatproof.base.errors import HeatproofError
from heatproof.base.given import files_of
from heatproof.base.names import MethodName
from heatproof.base.records import Method
from heatproof.base.registry import bind
from heatproof.base.store import Store
from heatproof.explainers.files import files
from heatproof.stages.explain import explain
from heatproof.stages.measure import measure


def read(folder, ids, size=(6, 8)):
    images = torch.zeros(len(ids), 1, *size)
    return files(None, images, torch.zeros(len(ids), dtype=torch.long), ids=ids, folder=str(folder))


def test_arrays_and_pictures_by_the_names_of_the_images(tmp_path):
    (tmp_path / "ward").mkdir()
    exact = np.random.default_rng(0).normal(size=(6, 8))
    np.save(tmp_path / "ward" / "a.npy", exact)
    np.save(tmp_path / "ward" / "b.png.npy", np.float32([[[1, 3]]]))
    Image.fromarray(np.full((6, 8), 51, np.uint8)).save(tmp_path / "c.png")
    Image.fromarray(np.full((6, 8), 13107, np.uint16)).save(tmp_path / "d.png")
    maps = read(tmp_path, ["ward/a.png", "ward/b.png", "c.jpeg", "d"])
    np.testing.assert_allclose(maps[0], exact, rtol=1e-6)
    # Two cells enlarged with half-pixel centres: 1 to 3 from left to right.
    torch.testing.assert_close(
        maps[1, 0], torch.tensor([1, 1, 1.25, 1.75, 2.25, 2.75, 3, 3]).clamp(1, 3), atol=0.26, rtol=0
    )
    torch.testing.assert_close(maps[2:], torch.full((2, 6, 8), 0.2))


def test_missing_and_double_files_are_listed(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((2, 2)))
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "a.png")
    np.save(tmp_path / "z.npy", np.ones((2, 2)))
    with pytest.raises(
        HeatproofError, match=r"no map of 2 of 3 .*b\.jpg, c\.jpg.*b\.npy.*folder holds a\.npy"
    ) as found:
        read(tmp_path, ["a", "b.jpg", "c.jpg"])
    assert "two maps of the image a, a.npy and a.png" in str(found.value)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (lambda path: np.save(path, np.ones((2, 2, 3))), "one plane of real numbers"),
        (lambda path: np.save(path, np.array(["x", "y"])[None]), "one plane of real numbers"),
        (lambda path: np.save(path, np.array([{}]), allow_pickle=True), "cannot be read"),
        (lambda path: path.write_bytes(b"\x93NUMPY"), "cannot be read"),
    ],
)
def test_what_is_no_map_is_refused(content, match, tmp_path):
    content(tmp_path / "a.npy")
    with pytest.raises(HeatproofError, match=match):
        read(tmp_path, ["a"])


@pytest.mark.parametrize(("folder", "match"), [(None, "is needed"), ("nowhere", "no such folder"), (".", "holds no")])
def test_folders_without_maps_are_refused(folder, match, tmp_path):
    with pytest.raises(HeatproofError, match=match):
        files_of(folder and tmp_path / folder, ["a"])


def test_a_run_measures_them_but_does_not_rerun_them(tmp_path):
    folder = tmp_path / "maps"
    folder.mkdir()
    samples = stocked.samples()
    for image in samples.table["image"]:
        np.save(folder / f"{image}.npy", np.random.default_rng(len(image)).random((16, 16)))
    method = Method(MethodName("files"), bind("explainer", "files", {"folder": str(folder)}))

    def run():
        maps = explain(
            samples, stocked.classifier(), stocked.predictions(samples), [method], stocked.EXPLAIN,
            protocol="sound", store=Store(tmp_path / "store"), progress=False,
        )  # fmt: skip
        scores = measure(
            samples, stocked.classifier(), maps, stocked.metrics("faith", "stability", "loc_acc"), stocked.MEASURE,
            stocked.EVALUATION, store=Store(tmp_path / "store"), progress=False,
        )  # fmt: skip
        return maps, scores.table

    maps, table = run()
    np.testing.assert_allclose(maps.array("files")[0], np.load(folder / "image000.npy"), rtol=1e-6)
    status = table[table["method"] == "files"].groupby("column")["status"].agg(set)
    assert status["faith"] == {"ok"}
    assert status["stability"] == {"undefined:no_method"}
    # Other content under the same names is another method, for maps and scores alike.
    np.save(folder / "image000.npy", np.arange(256.0).reshape(16, 16))
    again, changed = run()
    assert again.array("files")[0].max() == 255
    first = lambda frame: frame[(frame["method"] == "files") & (frame["column"] == "loc_acc")]["value"].iloc[0]  # noqa: E731
    assert first(changed) != first(table)
