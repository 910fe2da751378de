import copy

import pytest
import torch

from heatproof.base.errors import HeatproofError
from heatproof.base.layers import head_names
from heatproof.base.nets import build_net, provenance_of
from heatproof.base.registry import bind
from heatproof.models.heads import MaxToTwo

HEADS = ("gap_1024_512", "maxpool_flatten_64")


def net_of(builder, name, **settings):
    return build_net(bind("model", builder, {"name": name, **settings}), 3, 3, 64)


def test_the_pool_of_study_3_takes_windows_of_four_from_nine():
    maps = torch.arange(81.0).view(1, 1, 9, 9)
    # Rows and columns 0-3 and 4-7; the ninth is left over.
    assert MaxToTwo()(maps).flatten().tolist() == [3 * 9 + 3, 3 * 9 + 7, 7 * 9 + 3, 7 * 9 + 7]
    with pytest.raises(HeatproofError, match="pools to 2 x 2 cells, and the net leaves fewer, got '1 x 3'"):
        MaxToTwo()(torch.zeros(1, 1, 1, 3))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    ("builder", "name"),
    [("torchvision", "squeezenet1_1"), ("torchvision", "resnet18"), ("timm", "test_resnet")],
)
def test_heads_sit_on_what_the_net_itself_pools(builder, name, head):
    net = net_of(builder, name, head=head)
    images = torch.rand(2, 3, 64, 64)
    assert net(images).shape == (2, 3)
    part = net.get_submodule(head_names(net)[0])
    seen = []
    part.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    assert net(images).allclose(part(seen.pop()), atol=1e-6)
    assert copy.deepcopy(net)(images).allclose(net(images), atol=1e-6)
    hidden = [layer.out_features for layer in part if isinstance(layer, torch.nn.Linear)]
    assert hidden == ([1024, 512, 3] if head == "gap_1024_512" else [64, 3])


def test_weights_of_the_bare_net_and_of_the_whole_one_are_taken(tmp_path):
    for name in ("squeezenet1_1", "resnet18"):
        bare = net_of("torchvision", name)
        torch.save(bare.state_dict(), tmp_path / "bare.pth")
        net = net_of("torchvision", name, head="maxpool_flatten_64", weights=str(tmp_path / "bare.pth"))
        trunk = [key for key in net.state_dict() if key.startswith(("features.", "layer"))]
        assert trunk
        assert all(net.state_dict()[key].equal(bare.state_dict()[key]) for key in trunk)
        assert provenance_of(net).pretrained == "backbone"
        torch.save(net.state_dict(), tmp_path / "whole.pth")
        again = net_of("torchvision", name, head="maxpool_flatten_64", weights=str(tmp_path / "whole.pth"))
        assert provenance_of(again).pretrained == "all"
        assert all(value.equal(net.state_dict()[key]) for key, value in again.state_dict().items())


@pytest.mark.parametrize(
    ("builder", "name"), [("torchvision", "shufflenet_v2_x0_5"), ("torchvision", "convnext_tiny"), ("timm", "test_vit")]
)
def test_nets_without_maps_to_pool_keep_their_own_head(builder, name):
    with pytest.raises(HeatproofError, match=rf"model\.head: {name} .* There are: linear"):
        build_net(bind("model", builder, {"name": name, "head": "gap_1024_512"}), 3, 3, 160)
