"""A run that never ran: records with known truths, so that a test knows what the report must say.

`gradcam` is good: above its shifted copies and the central map, well localised. `gradcam:robustcam6.mean` is steadier
than `gradcam` under reruns, and than its blurred single view, and as faithful. `weak` is no better than its shifted
copies. The first class has no annotation.
"""

from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from heatproof.base.names import parse
from heatproof.base.records import Classifier, Maps, Method, MetricChoice, Predictions, Samples, Scores
from heatproof.base.registry import Bound, Choice

CLASSES = ("no nodule", "smooth", "spiculated")
SIDE = 32


def bound(kind: str, name: str, facts: dict, settings: dict | None = None) -> Bound:
    """A choice that exists in this test alone."""
    empty: MappingProxyType = MappingProxyType({})
    made = Choice(kind, name, "nowhere", Path("nowhere.py"), 1, "", empty, (), MappingProxyType(facts))
    return Bound(made, settings or {})


def method(name: str, control_of: str | None = None, alter: str | None = None, **facts: object) -> Method:
    parts = parse(name)
    views = (bound("view", "rotation", {"family": "rotation"}),) if parts.views else ()
    return Method(parts, bound("explainer", parts.label, dict(facts)), None, views, None, control_of, alter)


FUSED = "gradcam:robustcam6.mean"
METHODS = (
    method("gradcam"),
    method(FUSED),
    method("weak"),
    method("random", "all", control=True),
    method("centre", "all", control=True, constant=True),
    method("edge", "all", control=True),
    method(f"blurred-{FUSED}", FUSED, "blurred"),
    *(method(f"shifted-{name}", name, "shifted") for name in ("gradcam", FUSED, "weak")),
)
UP, DOWN = {"better": "up"}, {"better": "down"}
NOISE, VIEW = {"reruns": ("noise",), "floor": True}, {"reruns": ("view",), "floor": True}
METRICS = (
    *(
        MetricChoice(label, bound("metric", "faith", UP | {"range": (-1, 1), "shifted": True}, {"fill": fill}))
        for label, fill in (("faith", "road"), ("faith_mean", "mean"))
    ),
    MetricChoice("loc_acc", bound("metric", "loc_acc", UP | {"range": (0, 1), "needs": ("mask", "order")})),
    MetricChoice("consist_iou", bound("metric", "consist_iou", UP | NOISE | {"range": (0, 1)})),
    *(
        MetricChoice(label, bound("metric", "fidelity", UP | {"range": (-1, 1), "shifted": True}, {"fill": fill}))
        for label, fill in (("fidelity", "road"), ("fidelity_mean", "mean"))
    ),
    MetricChoice("stability", bound("metric", "stability", UP | NOISE | {"range": (-1, 1)})),
    MetricChoice("consist_pearson", bound("metric", "consist_pearson", UP | NOISE | {"range": (-1, 1)})),
    MetricChoice("view_variance", bound("metric", "view_variance", DOWN | VIEW | {"range": (0, 0.25)})),
    MetricChoice("view_iou", bound("metric", "view_iou", UP | VIEW | {"range": (0, 1)})),
    MetricChoice("view_spearman", bound("metric", "view_spearman", UP | VIEW | {"range": (-1, 1)})),
    MetricChoice("gini", bound("metric", "gini", {"better": "neither", "range": (0, 1)})),
)
# Mean of each metric by method: (gradcam, fused, weak, random, centre, edge, blurred), and its spread over images.
TRUTH = {
    "faith": ((0.45, 0.44, 0.10, 0.05, 0.15, 0.12, 0.40), 0.18),
    "loc_acc": ((0.75, 0.74, 0.25, 0.20, 0.30, 0.22, 0.72), 0.2),
    "consist_iou": ((0.55, 0.80, 0.40, 0.12, 1.0, 0.70, 0.62), 0.12),
    "fidelity": ((0.5, 0.5, 0.0, 0.0, 0.1, 0.1, 0.5), 0.5),
    "stability": ((0.70, 0.90, 0.50, 0.01, 1.0, 0.80, 0.76), 0.12),
    "consist_pearson": ((0.68, 0.89, 0.48, 0.01, 1.0, 0.78, 0.75), 0.12),
    "view_variance": ((0.030, 0.012, 0.040, 0.080, 0.0, 0.020, 0.026), 0.008),
    "view_iou": ((0.50, 0.70, 0.35, 0.05, 0.9, 0.6, 0.55), 0.12),
    "view_spearman": ((0.75, 0.90, 0.60, 0.01, 0.98, 0.85, 0.80), 0.1),
    "gini": ((0.6, 0.5, 0.4, 0.2, 0.5, 0.6, 0.5), 0.05),
}
FLOOR = {"view_variance": 0.06}


def scores(
    n: int = 48,
    *,
    seed: int = 0,
    groups: bool = False,
    methods: tuple[Method, ...] = METHODS,
    metrics: tuple[MetricChoice, ...] = METRICS,
) -> Scores:
    """A long table of n images; the third class is undefined where a mask is needed, one map of `weak` is all zero."""
    rng = np.random.default_rng(seed)
    images = np.array([f"case_{i:03d}.png" for i in range(n)])
    labels = np.arange(n) % len(CLASSES)
    hardness = rng.normal(0, 0.6, n)
    own = [m for m in METHODS if m.alter != "shifted"]
    frames = []

    def add(name: str, choice: MetricChoice, column: str, values: np.ndarray, status: np.ndarray) -> None:
        made = next(m for m in METHODS if str(m.name) == name)
        frames.append(
            pd.DataFrame(
                {
                    "image": images,
                    "group": [f"patient {i // 3}" for i in range(n)] if groups else None,
                    "label": labels,
                    "predicted": labels,
                    "method": name,
                    "base": made.name.label,
                    "layer": None,
                    "views": made.name.views,
                    "fusion": made.name.fusion,
                    "control_of": made.control_of,
                    "metric": choice.label,
                    "column": column,
                    "identity": choice.label,
                    "protocol": "sound",
                    "fill": choice.metric.settings.get("fill"),
                    "target": labels,
                    "seed": seed,
                    "value": np.where(status == "ok", values, np.nan),
                    "status": status,
                }
            )
        )

    for choice in metrics:
        means, spread = TRUTH[choice.metric.name]
        low, high = choice.metric.facts["range"]
        sign = -1 if choice.metric.facts["better"] == "down" else 1
        for place, made in enumerate(own):
            name = str(made.name)
            if made not in methods:
                continue
            values = np.clip(means[place] + spread * (0.7 * hardness + 0.7 * rng.normal(size=n)), low, high)
            if choice.metric.name == "fidelity":
                values = np.clip(np.round(values), -1, 1)
            if (
                made.explainer is not None
                and made.explainer.facts.get("constant")
                and choice.metric.facts.get("reruns")
            ):
                values = np.full(n, means[place])
            status = np.full(n, "ok", dtype=object)
            if "mask" in choice.metric.facts.get("needs", ()):
                status[labels == 0] = "undefined:no_mask"
            if name == "weak" and choice.label != "gini":
                status[1] = "undefined:zero"
            add(name, choice, choice.label, values, status)
            if "mask" in choice.metric.facts.get("needs", ()):
                add(name, choice, f"{choice.label}_chance", np.full(n, 0.2), status)
                add(name, choice, f"{choice.label}_excess", values - 0.2, status)
            elif choice.metric.facts.get("floor"):
                floor = FLOOR.get(choice.label, 0.15) + 0.02 * rng.normal(size=n)
                add(name, choice, f"{choice.label}_excess", sign * (values - floor), status)
            elif choice.metric.facts.get("shifted") and made.control_of is None:
                base = 0.10 if choice.metric.name == "faith" else 0.0
                shifted = base + spread * (0.7 * hardness + 0.4 * rng.normal(size=n))
                add(name, choice, f"{choice.label}_excess", values - shifted, status)
                add(f"shifted-{name}", choice, choice.label, shifted, status)
    table = pd.concat(frames, ignore_index=True)
    flags = {str(m.name): {"ok": n} for m in own if m in methods}
    if "weak" in flags:
        flags["weak"] = {"ok": n - 1, "zero": 1}
    curves = pd.DataFrame(columns=["image", "method", "metric", "identity", "x", "y"])
    pairs = pd.DataFrame(columns=["image", "method_a", "method_b", "metric", "value"])
    return Scores(table, curves, pairs, methods, metrics, {"used": 12345, "requested": 23456}, flags)


def records(n: int = 48, *, classes: tuple[str, ...] = CLASSES, methods: tuple[Method, ...] = METHODS) -> dict:
    """samples, classifier, predictions and maps of the same run, as `report` wants them."""
    rng = np.random.default_rng(1)
    labels = np.arange(n) % len(CLASSES)
    predicted = labels.copy()
    predicted[5::13] = (predicted[5::13] + 1) % len(CLASSES)
    y, x = np.mgrid[:SIDE, :SIDE]
    spots = rng.integers(8, SIDE - 8, (n, 2))
    distance = np.hypot(y - spots[:, :1, None], x - spots[:, 1:, None])
    body = 60 + 90 * (np.hypot(y - SIDE / 2, (x - SIDE / 2) / 1.2) < SIDE * 0.42)
    pixels = body + np.where((labels > 0)[:, None, None], 80 * (distance < 3), 0) + rng.normal(0, 8, (n, SIDE, SIDE))
    images = [f"case_{i:03d}.png" for i in range(n)]
    table = pd.DataFrame(
        {
            "image": images,
            "path": images,
            "label": labels,
            "label_name": [classes[i] for i in labels],
            "group": None,
            "split": "test",
            "width": SIDE,
            "height": SIDE,
            "file_hash": "0",
            "annotation": ["mask" if label else None for label in labels],
        }
    )
    masks = ((distance < 4) & (labels > 0)[:, None, None]).astype(np.uint8)
    samples = Samples(
        table, pixels.clip(0, 255).astype(np.uint8)[..., None], masks, classes, "d" * 16, "official", (0.4,)
    )
    chances = rng.dirichlet([1, 1, 1], n)
    chances[np.arange(n), predicted] += 2
    chances /= chances.sum(axis=1, keepdims=True)
    known = pd.DataFrame({"image": images, "split": "test", "label": labels, "predicted": predicted})
    known["correct"] = known["label"] == known["predicted"]
    known["outcome"] = None
    for number, name in enumerate(classes):
        known[f"p_{name}"] = chances[:, number]
    accuracy = float(known["correct"].mean())
    figures = {
        "accuracy": {"value": accuracy, "lo": accuracy - 0.08, "hi": min(1, accuracy + 0.05), "n": n},
        "roc_auc": {"value": 0.97, "lo": 0.93, "hi": 0.99, "n": n},
        **{f"recall_{name}": {"value": 0.9, "lo": 0.8, "hi": 0.97, "n": n // 3} for name in classes},
    }
    history = tuple(
        {
            "epoch": e,
            "train_loss": 1.1 * 0.75**e,
            "val_loss": 1.1 * 0.78**e + 0.02 * e,
            "val_accuracy": 1 - 0.6 * 0.7**e,
            "seconds": 1.0,
            "lr": 1e-3,
        }
        for e in range(12)
    )
    own = [m for m in methods if m.alter != "shifted"]
    heat = {
        str(m.name): (np.exp(-(distance**2) / (2 * (4.0 + place) ** 2)) + 0.05 * rng.random((n, SIDE, SIDE))).astype(
            np.float32
        )
        for place, m in enumerate(own)
    }
    status = {name: tuple("ok" for _ in range(n)) for name in heat}
    if "weak" in heat:
        heat["weak"][1] = 0
        status["weak"] = ("ok", "zero", *status["weak"][2:])
    spread = {
        str(m.name): 0.1 + 0.2 * rng.random((n, SIDE, SIDE)).astype(np.float32) for m in own if m.views and not m.alter
    }
    return {
        "samples": samples,
        "classifier": Classifier(None, classes, ("layer",), "c" * 16, 1, history=history, best_epoch=8),
        "predictions": Predictions(known, figures, np.arange(n)),
        "maps": Maps(np.arange(n), predicted, predicted, methods, heat, spread, status),
    }


FACTS = {
    "name": "phantom_small_cnn",
    "overrides": ["explainer=[gradcam]", "views=robustcam6"],
    "plan_hash": "0123456789abcdef",
    "seconds": {"train": 30.2, "explain": 4.0, "measure": 25.1},
    "passes": {"used": 12345, "minimum": 12000, "estimated": 13000},
    "warnings": ["2 images left out: unreadable"],
    "device": "cpu",
    "config": "name: phantom\nseed: 0\n",
}
