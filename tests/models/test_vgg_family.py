import pytest

from heatproof.base.errors import HeatproofError
from heatproof.base.nets import build_net
from heatproof.base.registry import bind, conf_names, hash_of, preset

VARIANTS = [name for name in conf_names("model") if name.startswith("vgg_") and name != "vgg_family"]


def test_seventeen_variants_are_thirteen_networks():
    identities = {name: hash_of(preset("model", name).identity()) for name in VARIANTS}
    assert len(identities) == 17
    assert len(set(identities.values())) == 13
    same = {name for name in VARIANTS if identities[name] == identities["vgg_depth3"]}
    assert same == {
        "vgg_depth3", "vgg_resolution_medium", "vgg_channel", "vgg_receptive_medium", "vgg_pooling_max",
    }  # fmt: skip


def test_the_extra_pooling_is_a_second_one():
    net = build_net(preset("model", "vgg_resolution_low"), 2, 1, 48)
    names = [name for name, _ in net.named_children()]
    assert names[names.index("block3_relu3") + 1 :][:2] == ["block3_pool1", "block3_pool2"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"wide": ("block2_conv9",)},
            r"model\.wide: no such convolution in this net, got 'block2_conv9'. Did you mean",
        ),
        ({"pooling": ("max", "max", "maks")}, r"model\.pooling: no such pooling, got 'maks'. Did you mean 'max'"),
        ({"pooling": ("max",)}, r"widths, convs and pooling must name equally many blocks, got \(3, 3, 1\)"),
    ],
)
def test_settings_that_make_no_net_are_refused(settings, message):
    with pytest.raises(HeatproofError, match=message):
        build_net(bind("model", "vgg_family", settings), 2, 1, 48)


def test_images_too_small_for_the_pooling_are_refused():
    with pytest.raises(HeatproofError, match=r"dataset\.size: the pooling of this net leaves no cell, got 16"):
        build_net(preset("model", "vgg_depth5"), 2, 1, 16)
