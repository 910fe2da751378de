"""What the classifiers of this package have in common: normalisation inside, a head, two logits or more."""

import copy
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heatproof.base.errors import HeatproofError, fault
from heatproof.base.hooks import shared_pass, unreached_fault
from heatproof.base.layers import explanation_layers, unreached
from heatproof.base.records import Classifier
from heatproof.base.registry import Bound, hash_of
from heatproof.base.weights import state_hash


class Normalise(nn.Module):
    """(x - mean) / std per channel, for pixels in [0, 1]; one-channel images are repeated to the channels of `mean`.

    The numbers are no part of the state dict, so that files of weights keep the keys of the bare net.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k h w"]:
        return (images.expand(-1, self.mean.shape[1], -1, -1) - self.mean) / self.std


def normalise_inside(net: nn.Module, mean: Sequence[float], std: Sequence[float]) -> nn.Module:
    """The same net, taking pixels in [0, 1] from now on.

    A wrapper would put a prefix before every layer's name (`net.layer4`); a hook on the net itself keeps the names that
    people know. A plain nn.Sequential, which runs whatever is added to it, becomes one with a Normalise in front.
    """
    if type(net) is nn.Sequential:
        return nn.Sequential(OrderedDict(normalise=Normalise(mean, std), **dict(net.named_children())))
    assert not isinstance(net, nn.Sequential)
    net.add_module("normalise", Normalise(mean, std))
    net.register_forward_pre_hook(_normalise_input)
    return net


def _normalise_input(net: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    # Looks the module up in `net`, so that the hook of a copied net uses the copy's numbers.
    return (net.get_submodule("normalise")(inputs[0]), *inputs[1:])


class TwoLogits(nn.Module):
    """A net with one logit z as one with two, (-z/2, +z/2): the same probabilities, opposite gradients.

    With (0, z) every gradient of the first class would be zero.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 2"]:
        return two_logits(self.net(images))


def two_logits(logit: Float[Tensor, "n 1"] | Float[Tensor, " n"]) -> Float[Tensor, "n 2"]:
    """(-z/2, +z/2): their softmax is (1 - sigmoid(z), sigmoid(z)), their cross entropy the binary one of z.

    >>> two_logits(torch.tensor([[3.0]]))
    tensor([[-1.5000,  1.5000]])
    """
    half = logit.reshape(-1, 1) / 2
    return torch.cat([-half, half], 1)


def two_logits_outside(net: nn.Module) -> nn.Module:
    """The same net, which gave one logit, giving two from now on; its layers keep their names."""
    net.register_forward_hook(_two_logits)
    return net


def _two_logits(_net: nn.Module, _inputs: tuple[Tensor, ...], logit: Tensor) -> Tensor:
    return two_logits(logit)


def num_outputs(num_classes: int, one_logit: bool) -> int:
    """How many logits a net's last layer makes: one per class, or a single one for two classes."""
    if one_logit and num_classes != 2:
        raise HeatproofError(
            fault(
                "model.one_logit",
                f"one sigmoid output tells two classes apart, and there are {num_classes}",
                got=True,
                hint="Take model.one_logit=false, or two classes by dataset.classes.",
            )
        )
    return 1 if one_logit else num_classes


def untrained(model: Bound) -> Bound:
    """The same choice with random weights: for questions that weights do not decide."""
    return replace(model, settings={**model.settings, **({"weights": None} if "weights" in model.settings else {})})


def check_layers(model: Bound, images: Float[Tensor, "n c h w"], num_classes: int, layers: Iterable[str]) -> None:
    """Nothing; raises HeatproofError, before a net is trained, for layers that it has not or that no map can come from.

    The net is built with random weights and run on one of the images.
    """
    layers = list(dict.fromkeys(layers))
    if not layers:
        return
    with torch.random.fork_rng(devices=[]):
        net = build_net(untrained(model), max(2, num_classes), images.shape[1], images.shape[-1])
    with shared_pass(net, images[:1], torch.zeros(1, dtype=torch.int64), layers):
        lost = unreached(net, images, layers)
    if lost:
        raise HeatproofError(*(unreached_fault(net, images, layer) for layer in layers if layer in lost))


def build_net(model: Bound, num_classes: int, channels: int, size: int) -> nn.Module:
    """The net of a model choice for images of `size` px, in evaluation mode."""
    more = {"size": size} if "size" in model.choice.supplied else {}
    net: nn.Module = model(num_classes, channels, **more)
    return net.eval()


@dataclass(frozen=True)
class Provenance:
    """Where a built net's weights come from: `pretrained` = "none", "backbone" (a fresh head) or "all"; remarks."""

    pretrained: str = "none"
    remarks: tuple[str, ...] = ()


def set_provenance(net: nn.Module, provenance: Provenance) -> None:
    """Note on a net where its weights come from."""
    vars(net)["provenance"] = provenance


def provenance_of(net: nn.Module) -> Provenance:
    """What was noted; random weights where nothing was."""
    noted = vars(net).get("provenance")
    return noted if isinstance(noted, Provenance) else Provenance()


def normalisation(module: nn.Module, channels: int) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Mean and standard deviation per image channel that a net normalises by, or (None, None).

    For one-channel images on a three-channel net: the average of the three numbers.
    """
    for part in module.modules():
        if isinstance(part, Normalise):
            mean, std = part.mean.flatten(), part.std.flatten()
            if channels == 1:
                mean, std = mean.mean().view(1), std.mean().view(1)
            return tuple(mean.tolist()), tuple(std.tolist())
    return None, None


def as_classifier(
    module: nn.Module,
    example: Float[Tensor, "n c h w"],
    *,
    classes: Sequence[str] | None = None,
    train_mean: tuple[float, ...] | None = None,
    remarks: tuple[str, ...] = (),
) -> Classifier:
    """Any net that gives logits, ready to be explained; a net in training mode is copied, one logit becomes two.

    `example`: one image or more, on the net's device. `classes`: names, or None for "0", "1", ...
    """
    if module.training:
        module = copy.deepcopy(module).eval()
    with torch.inference_mode():
        logits = module(example)
    if logits.ndim == 1 or logits.shape[1] == 1:
        module = TwoLogits(module).eval()
    num_classes = max(2, logits.shape[1] if logits.ndim > 1 else 1)
    channels = int(example.shape[1])
    mean, std = normalisation(module, channels)
    return Classifier(
        module=module,
        classes=tuple(classes) if classes is not None else tuple(str(i) for i in range(num_classes)),
        layers=explanation_layers(module, example),
        identity=hash_of({"weights": state_hash(module.state_dict()), "net": str(module)}),
        channels=channels,
        train_mean=train_mean,
        norm_mean=mean,
        norm_std=std,
        remarks=remarks,
    )
