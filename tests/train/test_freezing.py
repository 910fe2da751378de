import pytest
import torch
from torch import nn

from heatproof.base.errors import HeatproofError
from heatproof.stages.train.freezing import changing, freeze, learning, trained_layers


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Dropout(0.1), nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.1),
        nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.1)),
        nn.Flatten(), nn.LazyLinear(3),
    )  # fmt: skip


LAYERS = ("1", "2", "4.0", "4.1", "6")


@pytest.mark.parametrize(
    ("unfreeze", "layers"), [(0, LAYERS[4:]), (1, LAYERS[3:]), (3, LAYERS[1:]), (4, LAYERS), ("all", LAYERS)]
)
def test_the_last_layers_and_the_head_are_trained(unfreeze, layers):
    assert trained_layers(net(), ("6",), unfreeze) == layers


def test_more_layers_than_there_are_is_a_fault():
    with pytest.raises(HeatproofError, match="the backbone has 4 layers, got 5"):
        trained_layers(net(), ("6",), 5)


def test_a_head_of_several_layers_is_trained_as_a_whole():
    deep = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)))
    assert trained_layers(deep, ("1",), 0) == ("1.0", "1.2")
    assert trained_layers(deep, ("1",), 1) == ("0", "1.0", "1.2")


def test_keras_last_thirty_layers_of_a_resnet50_are_the_last_eighteen():
    from torchvision.models import resnet50

    with torch.device("meta"):
        trained = trained_layers(resnet50(), ("fc",), 18)
    wanted = {f"layer4.{b}.{part}{i}" for b in range(3) for part in ("conv", "bn") for i in (1, 2, 3)}
    wanted |= {"layer4.0.downsample.0", "layer4.0.downsample.1", "fc"}
    assert set(trained) == wanted - {"layer4.0.conv1", "layer4.0.bn1"}


def test_modes_follow_what_is_trained():
    made = net()

    def in_training(trained, on=True):
        learning(made, trained, on)
        return {name for name, part in made.named_modules() if part.training}

    everything = {name for name, _ in made.named_modules()}
    assert in_training(LAYERS) == everything
    assert in_training(LAYERS, on=False) == set()
    assert in_training(LAYERS[4:]) == {"6"}
    assert in_training(LAYERS[3:]) == {"4.1", "4.2", "4.3", "5", "6"}
    assert in_training(LAYERS[2:]) == {"4", "4.0", "4.1", "4.2", "4.3", "5", "6"}


def test_frozen_weights_and_frozen_statistics_stay():
    made, images = net(), torch.rand(8, 1, 8, 8)
    made(images)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    trained = trained_layers(made, ("6",), 2)
    freeze(made, trained)
    learning(made, trained, True)
    optimizer = torch.optim.SGD([w for w in made.parameters() if w.requires_grad], lr=0.1)
    made(images).square().sum().backward()
    optimizer.step()
    moved = {name for name, value in made.state_dict().items() if not value.equal(before[name])}
    assert moved == {name for name in before if name.startswith(("4.", "6."))}
    assert set(changing(made, trained)) == moved


def test_what_changes_is_seen_without_copies():
    made = net()
    made(torch.rand(2, 1, 8, 8))
    seen = changing(made, ["2"])
    made[2].weight.data.fill_(7)
    made[2].running_mean.fill_(3)
    assert seen["2.weight"].eq(7).all()
    assert seen["2.running_mean"].eq(3).all()
