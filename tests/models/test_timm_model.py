import huggingface_hub
import pytest
import timm as library
import torch

from heatproof.base.errors import HeatproofError
from heatproof.base.layers import head_names
from heatproof.base.nets import build_net, provenance_of
from heatproof.base.registry import bind, preset
from heatproof.stages.train.freezing import trained_layers

MEAN = STD = 0.5  # of timm's test nets


def net_of(num_classes=3, channels=3, size=160, **settings):
    return build_net(bind("model", "timm", settings), num_classes, channels, size)


def state_file(folder, net):
    path = folder / "weights.pth"
    torch.save(net.state_dict(), path)
    return str(path)


def test_an_unknown_or_missing_name_is_refused():
    with pytest.raises(HeatproofError, match="Did you mean 'deit_tiny_patch16_224'"):
        net_of(name="deit_tiny_patch16_244")
    with pytest.raises(HeatproofError, match="a net of timm must be named"):
        preset("model", "timm")(3, 3)


@pytest.mark.parametrize("name", ["test_vit", "test_convnext"])
def test_it_is_timms_net_on_normalised_pixels(name, tmp_path):
    theirs = library.create_model(name, num_classes=3).eval()
    net = net_of(name=name, weights=state_file(tmp_path, theirs))
    images = torch.rand(2, 3, 160, 160)
    assert net(images).allclose(theirs((images - MEAN) / STD), atol=1e-5)
    assert list(net.state_dict()) == list(theirs.state_dict())
    assert provenance_of(net).pretrained == "all"
    bare = net_of(name=name, weights=state_file(tmp_path, theirs), normalise="none")
    assert bare(images).allclose(theirs(images), atol=1e-5)


def test_grey_images_are_repeated():
    grey = torch.rand(2, 1, 160, 160)
    net = net_of(channels=1, name="test_resnet")
    assert net(grey).allclose(net(grey.repeat(1, 3, 1, 1)), atol=1e-6)


def test_positions_follow_the_size_of_the_images(tmp_path):
    theirs = library.create_model("test_vit", num_classes=7)
    net = net_of(size=64, name="test_vit", weights=state_file(tmp_path, theirs))
    assert net.pos_embed.shape[1] == 1 + 4 * 4
    assert net(torch.rand(1, 3, 64, 64)).shape == (1, 3)
    assert net.blocks[0].norm1.weight.equal(theirs.blocks[0].norm1.weight)
    assert "weights.pth: the head 'head' does not fit 3 classes" in provenance_of(net).remarks[0]
    with pytest.raises(HeatproofError, match=r"dataset\.size: test_vit cuts images into patches of 16 px.*got 70"):
        net_of(size=70, name="test_vit")


def test_weights_of_another_net_are_refused(tmp_path):
    with pytest.raises(HeatproofError, match="the file lacks tensors of this net"):
        net_of(name="test_vit", weights=state_file(tmp_path, library.create_model("test_resnet", num_classes=3)))


def test_offline_the_error_says_what_to_do(monkeypatch):
    def offline(*_args, **_settings):
        raise huggingface_hub.errors.LocalEntryNotFoundError("no route to host")

    monkeypatch.setattr(library, "create_model", offline)
    with pytest.raises(HeatproofError, match=r"resnet18 cannot be fetched .*huggingface\.co/timm/resnet18"):
        net_of(name="resnet18", weights="imagenet")


def test_a_net_without_published_weights_says_so():
    with pytest.raises(HeatproofError, match="timm has no published weights for"):
        net_of(name=next(n for n in library.list_models() if not library.is_model_pretrained(n)), weights="imagenet")


def test_the_two_heads_of_a_distilled_net_are_one(tmp_path):
    name, names = "deit_tiny_distilled_patch16_224", ("head", "head_dist")
    torch.manual_seed(0)
    theirs = library.create_model(name, num_classes=7, depth=1, embed_dim=12, num_heads=2, img_size=32)
    made = library.create_model

    def small(*given, **settings):
        return made(*given, **settings, depth=1, embed_dim=12, num_heads=2)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "create_model", small)
        net = net_of(size=32, name=name, weights=state_file(tmp_path, theirs))
    assert head_names(net) == names
    assert net(torch.rand(2, 3, 32, 32)).shape == (2, 3)
    assert provenance_of(net).pretrained == "backbone"
    assert [part in " ".join(provenance_of(net).remarks) for part in map(repr, names)] == [True, True]
    assert net.blocks[0].norm1.weight.equal(theirs.blocks[0].norm1.weight)
    assert trained_layers(net, head_names(net), 0) == names
    assert trained_layers(net, head_names(net), 1) == ("norm", *names)
