from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision.models as library
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from heatproof.base.errors import HeatproofError
from heatproof.base.hooks import activations_and_gradients
from heatproof.base.layers import explanation_layers
from heatproof.base.nets import provenance_of
from heatproof.base.registry import bind, preset

DATA = Path(__file__).parents[2].parent / "shared" / "data"
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def build(num_classes=3, channels=3, **settings):
    return bind("model", "torchvision", settings)(num_classes, channels).eval()


def state_file(folder, net):
    path = folder / "weights.pth"
    torch.save(net.state_dict(), path)
    return str(path)


def test_an_unknown_or_missing_name_is_refused():
    with pytest.raises(HeatproofError, match="Did you mean 'resnet18'"):
        build(name="resnet81")
    with pytest.raises(HeatproofError, match="must be named"):
        preset("model", "torchvision")(3, 3)


def test_it_is_torchvisions_net_on_normalised_pixels(tmp_path):
    theirs = library.squeezenet1_0(num_classes=3).eval()
    net = build(name="squeezenet1_0", weights=state_file(tmp_path, theirs))
    images = torch.rand(2, 3, 64, 64)
    wanted = theirs((images - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1))
    assert net(images).allclose(wanted, atol=1e-5)
    assert list(net.state_dict()) == list(theirs.state_dict())
    assert provenance_of(net).pretrained == "all"


def test_grey_images_are_repeated(tmp_path):
    grey = torch.rand(2, 1, 64, 64)
    net = build(channels=1, name="squeezenet1_0")
    assert net(grey).allclose(net(grey.repeat(1, 3, 1, 1)), atol=1e-6)


def test_a_head_of_other_classes_is_made_anew_and_said(tmp_path):
    theirs = library.mobilenet_v2(num_classes=7)
    net = build(3, name="mobilenet_v2", weights=state_file(tmp_path, theirs))
    assert net.features[0][0].weight.equal(theirs.features[0][0].weight)
    provenance = provenance_of(net)
    assert provenance.pretrained == "backbone"
    assert "weights.pth: the head 'classifier.1' does not fit 3 classes" in provenance.remarks[0]


def test_weights_of_another_net_are_refused(tmp_path):
    with pytest.raises(HeatproofError, match="the file lacks tensors of this net"):
        build(name="squeezenet1_0", weights=state_file(tmp_path, library.squeezenet1_1(num_classes=3)))


def test_names_of_old_densenet_files_are_understood(tmp_path):
    theirs = library.densenet121(num_classes=3)
    old = {}
    for name, value in theirs.state_dict().items():
        for part in ("norm", "conv"):
            for index in "12":
                if "denselayer" in name:
                    name = name.replace(f".{part}{index}.", f".{part}.{index}.")
        old[name] = value
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "old.pth")
    net = build(name="densenet121", weights=str(tmp_path / "old.pth"))
    assert provenance_of(net).pretrained == "all"
    first = "features.denseblock1.denselayer1.norm1.weight"
    assert net.state_dict()[first].equal(theirs.state_dict()[first])


def test_auxiliary_classifiers_are_left_out_and_said(tmp_path):
    state = library.googlenet(num_classes=3, aux_logits=False, init_weights=False).state_dict()
    torch.save({**state, "aux1.fc1.weight": torch.zeros(2)}, tmp_path / "aux.pth")
    net = build(name="googlenet", weights=str(tmp_path / "aux.pth"))
    assert provenance_of(net).remarks == ("aux.pth: the part 'aux1' is left out",)


def test_offline_the_error_says_what_to_do(monkeypatch):
    def offline(*_args, **_settings):
        raise URLError("no route to host")

    monkeypatch.setattr(library.SqueezeNet1_0_Weights, "get_state_dict", offline)
    with pytest.raises(HeatproofError, match=r"squeezenet1_0 cannot be fetched .*https://.*model.weights=PATH"):
        build(name="squeezenet1_0", weights="imagenet")


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not there")
def test_published_weights_recognise_photographs():
    path = DATA / "weights" / "squeezenet1_0_imagenet.pth"
    net = build(1000, name="squeezenet1_0", weights=str(path))
    assert provenance_of(net).pretrained == "all"
    names = [name.lower().replace("_", " ") for name in library.SqueezeNet1_0_Weights.DEFAULT.meta["categories"]]
    hits, files = 0, sorted((DATA / "imagenet_samples").glob("*.JPEG"))
    for file in files:
        image = Image.open(file).convert("RGB").resize((224, 224))
        best = net(pil_to_tensor(image)[None] / 255).topk(5).indices[0]
        hits += any(names[i] in file.stem.lower().replace("_", " ") for i in best.tolist())
    assert hits >= len(files) * 0.6


def test_densenet_s_last_layer_holds_what_the_head_sees():
    net = build(name="densenet121")
    images = torch.rand(2, 3, 64, 64)
    acts, grads = activations_and_gradients(net, images, torch.tensor([0, 1]), "features.relu5")
    assert explanation_layers(net, images)[-1] == "features.relu5"
    assert acts.min() == 0
    assert net.classifier(acts.mean((2, 3))).allclose(net(images), atol=1e-6)
    # Their mean goes into the head: the gradient is the head's weight over the number of cells.
    wanted = net.classifier.weight[[0, 1], :, None, None] / acts[0, 0].numel()
    on = acts > 0
    assert grads[on].allclose(wanted.expand_as(grads)[on])


@pytest.mark.parametrize("normalise", ["published", "none"])
def test_a_net_is_the_same_function_whether_its_weights_are_a_file_or_come_later(tmp_path, normalise):
    state = library.googlenet(num_classes=3, aux_logits=False, init_weights=False).state_dict()
    torch.save(state, tmp_path / "weights.pth")
    given = build(name="googlenet", weights=str(tmp_path / "weights.pth"), normalise=normalise)
    later = build(name="googlenet", weights=None, normalise=normalise)
    later.load_state_dict(given.state_dict())
    images = torch.rand(2, 3, 64, 64)
    assert later(images).equal(given(images))
    assert given.transform_input is (normalise == "published")
