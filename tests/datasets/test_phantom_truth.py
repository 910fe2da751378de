"""The phantom's truth: a trained net decides by the nodule, or by the tag where one is planted, and by nothing else."""

import numpy as np
import pytest
import torch
from toy import CPU, training

from heatproof.base.registry import bind
from heatproof.base.settings import LoadSettings
from heatproof.base.store import Store
from heatproof.datasets.phantom import Look, label_of, render
from heatproof.stages.load import load
from heatproof.stages.train import train

SETTINGS = LoadSettings(42, "grouped", (0.7, 0.1, 0.2), None, None, 64, 1, None)


@pytest.mark.parametrize(("shortcut", "epochs"), [(0.0, 10), (1.0, 4)])
def test_a_trained_net_follows_the_planted_truth(tmp_path, shortcut, epochs):
    store = Store(tmp_path)
    data = bind("dataset", "phantom", {"root": None, "num_images": 600, "shortcut": shortcut})
    samples = load(data, SETTINGS, store)
    net = bind("model", "small_cnn", {})
    classifier = train(samples, net, training(epochs=epochs, batch=32, lr=2e-3), CPU, store, progress=False)
    look = Look(64, 42, data.settings["contrast"], data.settings["noise"], shortcut, False)
    rows = samples.rows("test")
    indices = [int(image) for image in samples.table["image"].iloc[rows]]
    labels = np.array([label_of(index) for index in indices])

    def predicted(slices: list[np.ndarray]) -> np.ndarray:
        with torch.inference_mode():
            return classifier.module(torch.from_numpy(np.stack(slices))[:, None] / 255).argmax(1).numpy()

    as_it_is = predicted([render(index, look) for index in indices])
    erased = predicted([render(index, look, nodule=False) for index in indices])
    moved = predicted([render(index, look, tag_corner=(label_of(index) + 1) % 3) for index in indices])
    right = as_it_is == labels
    assert right.mean() >= 0.9
    nodules = right & (labels > 0)
    flips_by_nodule, flips_by_tag = (erased != as_it_is)[nodules].mean(), (moved != as_it_is)[right].mean()
    assert (flips_by_tag if shortcut else flips_by_nodule) >= 0.8
    assert (flips_by_nodule if shortcut else flips_by_tag) <= 0.2
