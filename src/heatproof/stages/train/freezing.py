"""Which layers of a net are trained, and in which mode each part of it runs meanwhile.

Conventions: a layer is a module with weights of its own; layers are counted in the order in which the net defines them.
"""

from collections.abc import Iterable

from torch import Tensor, nn

from heatproof.base.errors import HeatproofError, fault


def trained_layers(net: nn.Module, heads: tuple[str, ...], unfreeze: int | str) -> tuple[str, ...]:
    """Names of the layers that are trained: those of the heads and the last `unfreeze` others, or "all".

    Raises: HeatproofError where the backbone has fewer layers.

    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.Linear(2, 2))
    >>> trained_layers(net, ("4",), 2)
    ('1', '3', '4')
    """
    layers = _layers(net)
    if unfreeze == "all":
        return tuple(layers)
    of_head = [layer for layer in layers if any(_inside(layer, head) for head in heads)]
    backbone = [layer for layer in layers if layer not in of_head]
    if not isinstance(unfreeze, int) or unfreeze > len(backbone):
        raise HeatproofError(
            fault("train.unfreeze", f"the backbone has {len(backbone)} layers", got=unfreeze, hint="Or: all.")
        )
    return (*backbone[len(backbone) - unfreeze :], *of_head)


def freeze(net: nn.Module, trained: Iterable[str]) -> None:
    """Leave only the weights of the named layers to be trained."""
    net.requires_grad_(False)
    for name in trained:
        for weight in net.get_submodule(name).parameters(recurse=False):
            weight.requires_grad_(True)


def learning(net: nn.Module, trained: Iterable[str], on: bool) -> None:
    """Set modes: evaluation, or training for what is trained.

    Frozen layers stay in evaluation mode, so that frozen batch norm keeps its statistics. Modules without weights
    (dropout) follow the layers before them: in training mode behind the first trained layer. A container is in training
    mode where all layers inside it are trained.
    """
    layers, chosen = _layers(net), set(trained)
    if not on or chosen.issuperset(layers):
        net.train(on)
        return
    net.eval()
    begun = False
    for name, module in net.named_modules():
        begun |= name in chosen
        own = [layer for layer in layers if _inside(layer, name)]
        module.training = chosen.issuperset(own) if own else begun


def changing(net: nn.Module, trained: Iterable[str]) -> dict[str, Tensor]:
    """Weights and statistics of the named layers, by their names in the state dict: views, not copies."""
    chosen = set(trained)
    return {key: value for key, value in net.state_dict().items() if key.rpartition(".")[0] in chosen}


def _layers(net: nn.Module) -> list[str]:
    return [name for name, module in net.named_modules() if list(module.parameters(recurse=False))]


def _inside(name: str, container: str) -> bool:
    return not container or name == container or name.startswith(f"{container}.")
