"""Vision transformers with random weights: their layers, places and gradients, found by running them."""

import pytest
import torch
from torch import nn
from torchvision.models.vision_transformer import VisionTransformer

from heatproof.base.errors import HeatproofError
from heatproof.base.hooks import activations_and_gradients
from heatproof.base.layers import explanation_layers, head_names, spatial_layers
from heatproof.base.nets import build_net
from heatproof.base.registry import bind

TARGETS = torch.tensor([0, 2])


def net_of(builder, name, size, **settings):
    torch.manual_seed(0)
    return lively(build_net(bind("model", builder, {"name": name, **settings}), 3, 3, size))


def lively(net):
    """torchvision's head starts from zeros, and nothing has a gradient then."""
    head = net.get_submodule(head_names(net)[0])
    nn.init.normal_(head.weight)
    return net.eval()


def images_of(size):
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1))


# name, size, first and last layers, grid and prefix tokens of the automatic one
CASES = [
    ("timm", "deit_tiny_patch16_224", 64, "patch_embed", "blocks.11.norm1", (4, 4), 1),
    ("timm", "deit_tiny_distilled_patch16_224", 32, "patch_embed", "blocks.11.norm1", (2, 2), 2),
    ("timm", "vit_small_patch14_reg4_dinov2", 28, "patch_embed", "blocks.11.norm1", (2, 2), 5),
    ("timm", "test_vit", 32, "patch_embed", "blocks.5.norm1", (2, 2), 1),
    ("timm", "swin_tiny_patch4_window7_224", 64, "patch_embed", "norm", (2, 2), 0),
    ("torchvision", "swin_t", 64, "features.0", "norm", (2, 2), 0),
    ("torchvision", "vit_b_16", 32, "conv_proj", "encoder.layers.encoder_layer_11.ln_1", (2, 2), 1),
]  # fmt: skip


@pytest.mark.parametrize(("builder", "name", "size", "first", "last", "grid", "prefix"), CASES)
def test_the_automatic_layer_has_places_and_a_gradient(builder, name, size, first, last, grid, prefix):
    net, images = net_of(builder, name, size), images_of(size)
    names = explanation_layers(net, images)
    assert (names[0], names[-1]) == (first, last)
    layout = spatial_layers(net, images)[last].layout
    assert ((layout.rows, layout.cols), layout.prefix) == (grid, prefix)
    acts, grads = activations_and_gradients(net, images, TARGETS, last)
    assert acts.shape == grads.shape == (2, spatial_layers(net, images)[last].channels, *grid)
    assert grads.abs().flatten(1).amax(1).min() > 0
    deep = [explained for explained in names if "block" in explained or "encoder_layer" in explained]
    assert len(deep) in (0, 6, 12)


@pytest.mark.parametrize(
    ("builder", "name", "layer", "instead"),
    [
        ("timm", "test_vit", "blocks.5", "blocks.5.norm1"),
        ("timm", "vit_small_patch14_reg4_dinov2", "norm", "blocks.11.norm1"),
        ("torchvision", "vit_b_32", "encoder.layers.encoder_layer_11", "encoder.layers.encoder_layer_11.ln_1"),
    ],
)
def test_what_lies_off_the_class_token_is_refused_with_the_right_choice(builder, name, layer, instead):
    size = {"vit_small_patch14_reg4_dinov2": 28, "vit_b_32": 64}.get(name, 32)
    net, images = net_of(builder, name, size), images_of(size)
    with pytest.raises(HeatproofError, match=rf"class token alone.*got '{layer}'\. Take {instead}, the last layer"):
        activations_and_gradients(net, images, TARGETS, layer)


def test_a_head_of_zeros_hides_nothing():
    net = build_net(bind("model", "torchvision", {"name": "vit_b_32"}), 3, 3, 64)
    assert not net.heads.head.weight.any()
    assert explanation_layers(net, images_of(64))[-1] == "encoder.layers.encoder_layer_11.ln_1"


def test_the_last_block_is_explained_where_all_its_tokens_are_averaged():
    # test_vit2 has register and class tokens, but pools over the places.
    net = net_of("timm", "test_vit2", 32)
    last = explanation_layers(net, images_of(32))[-1]
    assert last == "blocks.7"
    assert spatial_layers(net, images_of(32))[last].layout.prefix > 0


def test_activations_are_those_of_the_patches_in_reading_order():
    net = VisionTransformer(32, 8, 2, 2, 12, 24, num_classes=3).eval()
    images = images_of(32)
    acts, _ = activations_and_gradients(net, images, TARGETS, "encoder.layers.encoder_layer_0")
    patches = net.conv_proj(images).flatten(2).transpose(1, 2)
    tokens = torch.cat([net.class_token.expand(2, -1, -1), patches], 1) + net.encoder.pos_embedding
    wanted = net.encoder.layers[0](tokens)[:, 1:]
    torch.testing.assert_close(acts[:, :, 1, 2], wanted[:, 1 * 4 + 2].detach())


def test_positions_of_torchvision_s_weights_follow_the_size(tmp_path):
    large = build_net(bind("model", "torchvision", {"name": "vit_b_32"}), 3, 3, 96)
    torch.save(large.state_dict(), tmp_path / "weights.pth")
    small = build_net(
        bind("model", "torchvision", {"name": "vit_b_32", "weights": str(tmp_path / "weights.pth")}), 3, 3, 64
    )
    assert small.encoder.pos_embedding.shape[1] == 1 + 2 * 2
    assert small.encoder.pos_embedding[:, 0].equal(large.encoder.pos_embedding[:, 0])
    with pytest.raises(HeatproofError, match=r"vit_b_32 cuts images into patches of 32 px.*got 70. Near: 64, 96"):
        build_net(bind("model", "torchvision", {"name": "vit_b_32"}), 3, 3, 70)
