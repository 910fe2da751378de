"""One tiny net of each family that explainers meet, wrapped so that it can be told to fail."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import VisionTransformer

from heatproof.base.nets import TwoLogits
from heatproof.base.records import Classifier
from heatproof.base.registry import Choice


class Breakable(nn.Module):
    """The net inside; once `broken`, it fails at its very end."""

    def __init__(self, net: nn.Module, scale: float) -> None:
        super().__init__()
        self.net = net
        self.scale = scale
        self.broken = False

    def forward(self, images: Tensor) -> Tensor:
        logits = self.net(images) * self.scale
        if self.broken:
            raise ArithmeticError("the net broke")
        return logits


class Residual(nn.Module):
    """A stem, a residual block with in-place activations, dropout and a pooled head: colour, four classes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.pool = nn.MaxPool2d(2)
        self.block = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6))
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(6, 4)
        self.stem[1].running_mean.normal_()

    def forward(self, images: Tensor) -> Tensor:
        x = self.pool(self.stem(images))
        y = self.block(x)
        y += x
        return self.head(self.dropout(self.relu(y).mean((2, 3))))


class Functional(nn.Module):
    """Functional activations and a flattened head with one logit: grey, two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 5, 3, stride=2, padding=1)
        self.head = nn.Linear(5 * 6 * 5, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = F.max_pool2d(torch.relu(self.first(images)), 2)
        return self.head(F.relu(self.second(x), inplace=True).flatten(1))


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 20, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))


def _vit() -> nn.Module:
    net = VisionTransformer(24, 6, num_layers=3, num_heads=2, hidden_dim=12, mlp_dim=24, num_classes=4)
    nn.init.normal_(net.heads.head.weight, std=0.5)
    for block in net.encoder.layers:
        nn.init.normal_(block.self_attention.in_proj_weight, std=0.5)
    return net


@dataclass(frozen=True)
class Family:
    """How a family's net is made, what fits it. `scale`: of the logits, so that maps are not tiny."""

    make: Callable[[], nn.Module]
    channels: int
    size: tuple[int, int]
    layers: tuple[str, ...]
    relu: bool = True
    attention: bool = False
    classes: int = 4
    scale: float = 20.0

    def classifier(self) -> Classifier:
        """The net with seeded weights, and some images to compare with."""
        with torch.random.fork_rng():
            torch.manual_seed(4)
            net = Breakable(self.make(), self.scale)
            module = TwoLogits(net) if self.classes == 2 else net
        prefix = "net.net" if self.classes == 2 else "net"
        background = torch.rand(6, self.channels, *self.size, generator=torch.Generator().manual_seed(1))
        return Classifier(
            module.eval(),
            tuple("abcd")[: self.classes],
            tuple(f"{prefix}.{layer}" for layer in self.layers),
            "laws",
            channels=self.channels,
            background=background,
            prior=background.mean((0, 1)),
        )

    def images(self) -> Tensor:
        """Five images."""
        return torch.rand(5, self.channels, *self.size, generator=torch.Generator().manual_seed(0))

    def targets(self) -> Tensor:
        """Their classes."""
        return torch.tensor([0, 3, 1, 1, 2]) % self.classes

    def fits(self, choice: Choice) -> bool:
        """Whether the explainer has what it needs here."""
        needs = choice.facts.get("needs", ())
        return (
            ("layer" not in needs or bool(self.layers))
            and ("attention" not in needs or self.attention)
            and ("convolution" not in needs or bool(self.layers))
            and ("relu" not in needs or self.relu)
        )


FAMILIES = {
    "residual": Family(Residual, 3, (24, 20), ("stem", "relu")),
    "functional": Family(Functional, 1, (24, 20), ("first", "second"), classes=2, scale=1.0),
    "mlp": Family(_mlp, 3, (24, 20), ()),
    "vit": Family(
        _vit, 3, (24, 24), ("encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_2.ln_1"),
        relu=False, attention=True,
    ),
}  # fmt: skip
