"""LIME against the lime package itself on the same draws, and its segmentations."""

import numpy as np
import pytest
import tiny
import torch

from heatproof.base import notes
from heatproof.explainers.lime import fitted, lime, segmented

SEEDS = torch.tensor([3, 11])
SETTINGS = {
    "samples": 60,
    "segmentation": "grid",
    "segments": 16,
    "hide": "segment_mean",
    "kernel_width": 0.25,
    "absolute": False,
}


def test_equal_to_the_package_on_the_same_draws(monkeypatch):
    """The package's own loop over images, with our superpixels and the rows that we draw."""
    from lime import lime_image

    from heatproof.base.fields import uniform

    monkeypatch.setattr(lime_image, "tqdm", lambda rows: rows)
    images = torch.rand(2, 3, 16, 20, generator=torch.Generator().manual_seed(0))
    targets, net = torch.tensor([0, 2]), tiny.Conv(3)
    maps = lime(net, images, targets, seeds=SEEDS, **SETTINGS)

    def predict(batch):
        with torch.no_grad():
            return net(torch.from_numpy(batch).permute(0, 3, 1, 2).float()).softmax(1).double().numpy()

    for i in range(2):
        draws = (uniform(SEEDS[i : i + 1], (60, 16))[0] < 0.5).long().numpy()
        explainer = lime_image.LimeImageExplainer(feature_selection="none", random_state=0)
        explainer.random_state = type("Drawn", (), {"randint": lambda self, *_, d=draws, **__: d.ravel().copy()})()
        labels = segmented(images[i], "grid", 16, 0)
        found = explainer.explain_instance(
            images[i].permute(1, 2, 0).double().numpy(), predict, labels=(int(targets[i]),), top_labels=None,
            num_samples=60, segmentation_fn=lambda _image, labels=labels: labels, random_seed=0,
        )  # fmt: skip
        weights = dict(found.local_exp[int(targets[i])])
        wanted = np.vectorize(weights.get)(labels)
        np.testing.assert_allclose(maps[i], wanted, atol=1e-5)


def test_a_linear_score_gives_its_coefficients():
    generator = np.random.default_rng(0)
    data = generator.integers(0, 2, (4000, 6)).astype(float)
    data[0] = 1
    truth = np.array([0.5, -0.2, 0, 0.1, 0, 0.3])
    np.testing.assert_allclose(fitted(data, data @ truth, 0.25), truth, atol=0.01)


@pytest.mark.parametrize("how", ["quickshift", "slic", "felzenszwalb", "grid"])
@pytest.mark.parametrize("channels", [1, 3])
def test_superpixels_are_seeded_and_without_gaps(how, channels):
    image = torch.zeros(channels, 220, 230)
    image[:, 30:100, 40:120] = 0.8
    image += 0.1 * torch.rand(channels, 220, 230, generator=torch.Generator().manual_seed(0))
    labels = segmented(image, how, 20, 2**63 - 1)
    assert labels.shape == (220, 230)
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
    assert labels.max() > 0
    assert np.array_equal(labels, segmented(image, how, 20, 2**63 - 1))


def test_the_note_tells_few_samples_from_many():
    weights = torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(1)) / 100
    images = torch.ones(2, 1, 16, 16)
    said = []
    for samples in (24, 1500):
        with notes.collected() as found:
            more = {**SETTINGS, "samples": samples, "hide": "black"}
            lime(tiny.Linear(weights), images, torch.tensor([0, 0]), seeds=SEEDS, **more)
        said.append(found[notes.SAMPLING])
    assert (said[1] > said[0]).all()
    assert (said[1] > 0.9).all()


def test_absolute_takes_magnitudes():
    images = torch.rand(2, 3, 16, 20, generator=torch.Generator().manual_seed(0))
    targets, net = torch.tensor([0, 2]), tiny.Conv(3)
    signed = lime(net, images, targets, seeds=SEEDS, **SETTINGS)
    assert signed.min() < 0
    assert torch.equal(lime(net, images, targets, seeds=SEEDS, **{**SETTINGS, "absolute": True}), signed.abs())
