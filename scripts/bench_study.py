"""The nine of study 5 by its own protocol, for Grad-CAM and both fusions of ten views: ours beside a plain loop.

    python scripts/bench_study.py --net resnet50 --size 224 --num 4

"loop": a straightforward implementation, image by image and batch 1, in which every metric makes anew what it needs and
Grad-CAM goes back through the whole net: 16 forward passes and 35 forward and backward passes an image, which are
counted and asserted. Only the views, the fill and the noise are taken from the package, for the numbers must be equal;
regions, correlations and overlaps are NumPy's and SciPy's. "limit": the images that ours runs, through the inference
twin in batches of its best size and nothing else. Contenders take turns; printed are seconds and the median ratio.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations

import numpy as np
import torch
import torchvision
from bench_metrics import AT_ONCE, LAYERS, MEAN, SEED, STD, best_batch, classifier_of, show, turns
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional as F

from heatproof.base import fields, fills
from heatproof.base.device import keep_freed_memory
from heatproof.base.forwards import shared_forwards
from heatproof.base.methods import MapPasses, explain_batch, noisy
from heatproof.base.names import MethodName
from heatproof.base.passes import Engine
from heatproof.base.records import Classifier, Method, MetricChoice
from heatproof.base.registry import Bound, bind, conf_names, hash_of, preset
from heatproof.base.tasks import Block
from heatproof.base.twin import Twin
from heatproof.base.values import status_of

TEN = (
    *("identity", "flip", "rotate_p15", "colour_jitter", "gaussian_blur", "greyscale", "rotate_m15", "rotate_p10"),
    *("centre_crop", "contrast_jitter"),
)
# Metric and its settings, as conf/metric/NAME_study.yaml has them.
NINE: dict[str, dict[str, object]] = {
    "faith": {"percentile": 80, "fill": "normalized_zero"},
    "loc_acc": {"percentile": 80},
    "consist_iou": {"percentile": 80, "noises": 3, "noise_std": 0.05},
    "fidelity": {"percentile": 80, "fill": "normalized_zero"},
    "stability": {"noises": 5, "noise_std": 0.05},
    "consist_pearson": {"noises": 3, "noise_std": 0.05},
    "view_variance": {},
    "view_iou": {"q": 0.1},
    "view_spearman": {},
}
FORWARDS, BACKWARDS = 16, 35
Values = dict[tuple[str, str], list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", default="resnet18", choices=LAYERS)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--num", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    net = torchvision.models.get_model(options.net, num_classes=5).eval().to(options.device)
    images = torch.rand(options.num, 3, options.size, options.size, device=options.device)
    classifier, twin = classifier_of(net, options), Twin(net, images[:2])
    masks = torch.zeros(options.num, options.size, options.size, dtype=torch.bool, device=images.device)
    masks[:, 10:30, 20:50] = True
    counted: dict[str, int] = {}

    def ours() -> Values:
        values, counted["ours"] = engine_values(classifier, twin, images, masks)
        return values

    def loop() -> Values:
        values: Values = {}
        for row in range(len(images)):
            one = Loop(net, LAYERS[options.net], images[row : row + 1], str(row), masks[row])
            for key, value in one.values().items():
                values.setdefault(key, []).append(value)
            assert (one.forwards, one.backwards) == (FORWARDS, BACKWARDS), (one.forwards, one.backwards)
        return values

    batch = best_batch(twin, images)

    def limit() -> None:
        whole, rest = divmod(counted["ours"], batch)
        for size in [batch] * whole + [rest] * bool(rest):
            twin(images[:1].repeat(size, 1, 1, 1))

    print(
        f"torch {torch.__version__}, {options.device}, {torch.get_num_threads()} threads, {options.net}, "
        f"{options.num} images of {options.size} px"
    )
    first, second = ours(), loop()
    apart = {key: float(np.nanmax(np.abs(np.subtract(first[key], second[key])), initial=0)) for key in second}
    assert set(first) == set(second)
    assert all(np.array_equal(np.isnan(first[key]), np.isnan(second[key])) for key in second)
    print(
        f"largest difference of {len(apart)} figures: {max(apart.values()):.1e} ({max(apart, key=apart.__getitem__)})"
    )
    print(
        f"images run: ours {counted['ours'] / options.num:.2f} an image, loop {FORWARDS} + {BACKWARDS} with gradients"
    )
    show(turns({"ours": ours, "loop": loop, "limit": limit}, options.rounds), "ours")


def three() -> list[Method]:
    """Grad-CAM, and its mean and median over the ten views, by the study's rules."""
    views = tuple(preset("view", f"{name}_study" if f"{name}_study" in conf_names("view") else name) for name in TEN)
    explainer = bind("explainer", "gradcam")
    return [
        Method(MethodName("gradcam"), explainer),
        *(
            Method(
                MethodName("gradcam", None, "ten", name), explainer, None, views,
                preset("fusion", f"{name}_study"),
            )
            for name in ("mean", "median")
        ),
    ]  # fmt: skip


def engine_values(classifier: Classifier, twin: Twin, images: Tensor, masks: Tensor) -> tuple[Values, int]:
    """Ours: all images, metrics and methods together; and the images that were run."""
    methods, ids = three(), [str(row) for row in range(len(images))]
    metrics = [MetricChoice(name, bind("metric", f"{name}_study", more), "study") for name, more in NINE.items()]
    with shared_forwards(classifier, batch=AT_ONCE, twin=twin, lasting=True):
        logits = torch.cat([twin(some) for some in images.split(AT_ONCE)]).double()
        targets, counter = logits.argmax(1), MapPasses()
        maps = explain_batch(
            classifier, images, targets, methods, ids=ids, seed=SEED, protocol="study", keep_views=True, passes=counter
        )
        everything = torch.ones(len(images), dtype=torch.bool, device=images.device)
        engine = Engine(classifier, twin, seed=SEED, protocol="study", batch=AT_ONCE)
        engine.start(Block(images, ids, ids, targets, logits, masks, everything, everything))
        tasks = []
        for method in methods:
            made = maps[str(method.name)]
            case = engine.case(method, made.maps, view_maps=made.views)
            tasks += [engine.task(case, metric, status_of(made.maps)) for metric in metrics]
        results = engine.run(tasks)
    keys = [(str(method.name), metric.label) for method in methods for metric in metrics]
    values = {key: result.columns[f"{key[1]}_study"].tolist() for key, result in zip(keys, results, strict=True)}
    return values, len(images) + counter.images + engine.passes.used + engine.passes.maps


# ---------------------------------------------------------------------------------------------------------------- loop


class Loop:
    """One image, as a straightforward program does it; counts its passes."""

    def __init__(self, net: nn.Module, layer: str, image: Tensor, name: str, mask: Tensor) -> None:
        self.net, self.image, self.name, self.mask = net, image, name, mask.cpu().numpy()
        self.part = dict(net.named_modules())[layer]
        self.forwards = self.backwards = 0
        self.target = int(self.probabilities(image).argmax())

    def values(self) -> dict[tuple[str, str], float]:
        single, mean, median = three()
        seen = [self.view(view) for view in mean.views]
        maps = torch.stack([aligned for aligned, _ in seen])[:, None]
        rows = {str(single.name): (self.cam(self.image), None)}
        for method in (mean, median):
            assert method.fusion is not None
            fused = method.fusion(maps, torch.ones_like(maps, dtype=torch.bool))[0]
            rows[str(method.name)] = (fused, [aligned.double().cpu().numpy() for aligned, _ in seen])
        found = {}
        for row, (tensor, views) in rows.items():
            found |= {(row, name): value for name, value in self.metrics(tensor.double().cpu().numpy(), views).items()}
        return found

    def metrics(self, own: np.ndarray, views: list[np.ndarray] | None) -> dict[str, float]:
        region = own >= np.percentile(own.astype(np.float32), 80)
        p = self.probabilities(self.image)[self.target]
        found = {"faith": p - self.probabilities(self.filled(region))[self.target]}
        found["loc_acc"] = (region & self.mask).sum() / self.mask.sum()
        assert int(self.probabilities(self.image).argmax()) == self.target
        kept = self.probabilities(self.filled(~region)).argmax() == self.target
        found["fidelity"] = float(kept) - float(self.probabilities(self.filled(region)).argmax() == self.target)
        base = self.cam(self.image).double().cpu().numpy()
        found["stability"] = float(np.mean([pearson(base, self.noisy_cam(n)) for n in range(5)]))
        if views is None:
            overlaps = [iou(top(self.noisy_cam(n)), region) for n in range(3)]
            pairs = list(combinations([self.noisy_cam(n) for n in range(3)], 2))
            found |= dict.fromkeys(("view_variance", "view_iou", "view_spearman"), float("nan"))
        else:
            overlaps, pairs = [iou(top(view), region) for view in views], list(combinations(views, 2))
            found["view_variance"] = float(np.var(views, axis=0).mean())
            found["view_iou"] = float(np.mean([iou(highest(view), highest(own)) for view in views]))
            found["view_spearman"] = float(np.mean([spearmanr(view.ravel(), own.ravel())[0] for view in views]))
        found["consist_iou"] = float(np.mean(overlaps))
        found["consist_pearson"] = float(np.mean([pearson(a, b) for a, b in pairs]))
        return {name: float(value) for name, value in found.items()}

    def probabilities(self, image: Tensor) -> np.ndarray:
        self.forwards += 1
        with torch.no_grad():
            return self.net(image)[0].double().softmax(0).cpu().numpy()

    def cam(self, image: Tensor, *, rounded: bool = False) -> Tensor:
        """Grad-CAM in [0, 1] at input size, by a backward pass through the whole net."""
        self.backwards += 1
        with watched(self.part) as kept:
            self.net.zero_grad()
            self.net(image.clone().requires_grad_())[0, self.target].backward()
        outputs, gradients = kept
        raw = (gradients.mean((2, 3), keepdim=True) * outputs).sum(1).relu()
        low, high = raw.amin(), raw.amax()
        raw = (raw - low) / (high - low) if high > low else torch.zeros_like(raw)
        raw = (raw * 255).floor() / 255 if rounded else raw
        return F.interpolate(raw[:, None], size=image.shape[-2:], mode="bilinear", align_corners=False)[0, 0].clamp(
            0, 1
        )

    def view(self, view: Bound) -> tuple[Tensor, Tensor]:
        """Grad-CAM on the view, warped back, and where it is valid."""
        seed = fields.image_seed(SEED, self.name, f"base:view:{hash_of(view.identity())}")
        seeds = torch.tensor([seed], dtype=torch.int64, device=self.image.device)
        image, back = view(self.image, seeds)
        aligned, valid = back(self.cam(image, rounded=True)[None])
        return aligned[0], valid[0]

    def noisy_cam(self, number: int) -> np.ndarray:
        std = 0.05 * torch.tensor(STD, device=self.image.device)[:, None, None]
        return self.cam(noisy(self.image, [self.name], SEED, number, std)).double().cpu().numpy()

    def filled(self, region: np.ndarray) -> Tensor:
        where = torch.from_numpy(region).to(self.image.device)[None]
        mean = torch.tensor(MEAN, device=self.image.device)
        seeds = torch.zeros(1, dtype=torch.int64, device=self.image.device)
        return fills.fill("normalized_zero", self.image, where, seeds, None, mean)


@contextmanager
def watched(part: nn.Module) -> Iterator[list[Tensor]]:
    """Output of a layer and the gradient of what is differentiated behind it."""
    kept: list[Tensor] = []

    def after(_part: nn.Module, _inputs: object, output: Tensor) -> None:
        kept.append(output.detach())
        output.register_hook(lambda gradient: kept.append(gradient))

    handle = part.register_forward_hook(after)
    try:
        yield kept
    finally:
        handle.remove()


def top(values: np.ndarray) -> np.ndarray:
    return values >= np.percentile(values.astype(np.float32), 80)


def highest(values: np.ndarray) -> np.ndarray:
    chosen = np.zeros(values.size, dtype=bool)
    chosen[np.argsort(-values.ravel(), kind="stable")[: int(0.1 * values.size)]] = True
    return chosen.reshape(values.shape)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


if __name__ == "__main__":
    main()
