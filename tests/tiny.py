"""Nets, explainers and metrics small enough to be worked out by hand."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from heatproof.base.names import parse
from heatproof.base.records import Classifier, Method, MetricChoice


class Linear(nn.Module):
    """Logits (w . x, -w . x) with given weights (c, h, w): every effect of a pixel is known."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights, requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        z = (images * self.weights).flatten(1).sum(1)
        return torch.stack([z, -z], 1)


class Conv(nn.Module):
    """Two convolutions with batch norm, global average pool, linear head: random but fixed weights."""

    def __init__(self, channels: int = 1, classes: int = 3, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.low = nn.Sequential(
                nn.Conv2d(channels, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2)
            )
            self.high = nn.Sequential(nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
            self.head = nn.Linear(8, classes)
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.running_mean.normal_(0, 0.1)
                    module.running_var.uniform_(0.5, 1.5)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.high(self.low(images)).mean((2, 3)) * 4)


@dataclass(frozen=True)
class Fake:
    """Stands in for a `Bound` choice: a plain function with facts and settings."""

    function: Callable[..., Any]
    facts: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    supplied: tuple[str, ...] = ()
    version: int = 1

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def choice(self) -> "Fake":
        return self

    def identity(self) -> dict[str, Any]:
        return {"name": self.name, "settings": dict(self.settings)}

    def __call__(self, *args: Any, **more: Any) -> Any:
        return self.function(*args, **dict(self.settings), **more)


def classifier(module: nn.Module, layer: str = "high", channels: int = 1, classes: int = 3) -> Classifier:
    names = tuple(f"class{i}" for i in range(classes))
    return Classifier(module, names, (layer,), "tiny", channels=channels, train_mean=(0.4,) * channels)


def brightness(model: Classifier, images: Tensor, targets: Tensor) -> Tensor:
    """An explainer that is equivariant under every warp: the grey image itself."""
    return images.mean(1)


def method(function: Callable[..., Any] = brightness, name: str = "brightness", **more: Any) -> Method:
    facts = {"needs": ()}
    return Method(parse(name), Fake(function, facts, supplied=more.pop("supplied", ())), **more)


def metric(
    function: Callable[..., Any], label: str | None = None, protocol: str = "sound", **facts: Any
) -> MetricChoice:
    full = {"better": "up", "range": (-1, 1), "columns": (function.__name__,), "needs": (), **facts}
    settings = full.pop("settings", {})
    return MetricChoice(label or function.__name__, Fake(function, full, settings), protocol)
