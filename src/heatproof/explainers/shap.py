"""Shapley values of pixels through the shap package: expected gradients, and Owen values of nested boxes."""

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from heatproof.base.background import background as background_images
from heatproof.base.fields import hash_keys
from heatproof.base.forwards import forwards_of, scores
from heatproof.base.hooks import module_of
from heatproof.base.notes import note_halves
from heatproof.base.records import Classifier
from heatproof.base.registry import choice


@choice(
    needs=("gradient", "background"),
    stochastic=True,
    forwards="samples",
    source="Erion 2021, arXiv 1906.10670; shap.GradientExplainer 0.51",
)
def shap(
    classifier: Classifier | nn.Module,
    images: Float[Tensor, "b c h w"],
    targets: Int64[Tensor, " b"],
    *,
    seeds: Int64[Tensor, " b"],
    samples: int,
    background: int,
    absolute: bool,
) -> Float[Tensor, "b h w"]:
    """Expected gradients of the target's logit against `background` training images, summed over channels.

    Half of the `samples` come from each of two runs of shap.GradientExplainer, seeded by the image; their mean is the
    map, and their rank correlation is noted. `absolute`: the sum of magnitudes, as study 5 takes it.
    """
    with _contained():
        from shap import GradientExplainer

    reference = background_images(classifier, background, images)
    halves = (samples + 1) // 2, samples // 2
    forwards = forwards_of(classifier)
    with _contained(), torch.inference_mode(False), torch.enable_grad():
        # Made in here: tensors made under inference mode take part in no graph and are not written to outside.
        found = torch.zeros(2, *images.shape, dtype=torch.float64)
        net = _Target(module_of(classifier)).to(images.device)
        explainer = GradientExplainer(net, reference.clone(), batch_size=forwards.batch)
        for i, key in enumerate(hash_keys(seeds, 2).tolist()):
            net.target = int(targets[i])
            for half, count in enumerate(halves):
                values = explainer.shap_values(images[i : i + 1].clone(), nsamples=count, rseed=key[half] % 2**32)
                found[half, i] = torch.from_numpy(np.asarray(values)).view(images.shape[1:])
                forwards.passes += count
    first, second = ((part.abs() if absolute else part).sum(1) for part in found)
    note_halves(first, second)
    both = (halves[0] * found[0] + halves[1] * found[1]) / samples
    return (both.abs() if absolute else both).sum(1).float().to(images.device)


@choice(forwards="samples", source="Lundberg 2017, arXiv 1705.07874; shap.PartitionExplainer 0.51")
def shap_partition(
    classifier: Classifier | nn.Module,
    images: Float[Tensor, "b c h w"],
    targets: Int64[Tensor, " b"],
    *,
    samples: int,
    blur: int,
    absolute: bool,
) -> Float[Tensor, "b h w"]:
    """Owen values of nested boxes of the image for the target's logit, summed over channels; hidden = blurred.

    `samples`: forwards that shap.PartitionExplainer may take, which splits the boxes that matter most first. Nothing is
    drawn; what is noted is the rank correlation with the map after half of them. `blur`: side of the box blur, pixels.
    """
    with _contained():
        from shap import PartitionExplainer
        from shap.maskers import Image

    forwards = forwards_of(classifier)
    _, channels, height, width = images.shape
    # The masker blurs with OpenCV, which takes (h, w, c).
    masker = Image(f"blur({blur},{blur})", (height, width, channels))
    maps = []
    for i in range(len(images)):
        known: dict[bytes, float] = {}

        def logit(pixels: np.ndarray, i: int = i, known: dict[bytes, float] = known) -> np.ndarray:
            keys = [one.tobytes() for one in pixels]
            new = [place for place, key in enumerate(keys) if key not in known]
            if new:
                batch = torch.from_numpy(np.ascontiguousarray(pixels[new])).to(images).permute(0, 3, 1, 2)
                found = scores(forwards.logits(batch), targets[i].expand(len(new)), "logit")
                known |= {keys[place]: float(value) for place, value in zip(new, found, strict=True)}
            return np.array([known[key] for key in keys])

        pixels = images[i : i + 1].permute(0, 2, 3, 1).cpu().numpy()
        with _contained():
            explainer = PartitionExplainer(logit, masker)
            for evaluations in (samples, samples // 2):
                made = explainer(pixels, max_evals=evaluations, batch_size=forwards.batch, silent=True)
                values = torch.from_numpy(np.asarray(made.values)).view(height, width, channels)
                maps.append((values.abs() if absolute else values).sum(2))
    full, half = torch.stack(maps).view(len(images), 2, height, width).unbind(1)
    note_halves(full, half)
    return full.float().to(images.device)


class _Target(nn.Module):
    """A copy of the net that gives the logit of one class alone, (n, 1)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = copy.deepcopy(net).eval().requires_grad_(False)
        self.target = 0

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.net(images)[:, self.target, None]
        return logits


@contextmanager
def _contained() -> Iterator[None]:
    """Keeps in what the package does outside itself: NumPy's global random state, which it seeds, and warnings about
    libraries that it draws figures with."""
    state = np.random.get_state()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        np.random.set_state(state)
