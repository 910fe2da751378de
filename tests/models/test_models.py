"""The contract of all model options: pixels in [0, 1] in, logits out, settings from YAML alone."""

import pytest
import torch

from heatproof.base.errors import HeatproofError
from heatproof.base.nets import build_net, normalisation
from heatproof.base.registry import bind, choices, conf_folder, preset

OPTIONS = sorted(
    path.stem for path in (conf_folder() / "model").glob("*.yaml") if path.stem not in ("torchvision", "timm")
)


def variant(option, **settings):
    chosen = preset("model", option)
    return bind("model", chosen.name, {**chosen.settings, **settings})


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_builds_a_net_with_the_right_logits(name):
    for channels in (1, 3):
        with torch.device("meta"):
            net = build_net(preset("model", name), 5, channels, 64)
            assert net(torch.zeros(2, channels, 64, 64)).shape == (2, 5)
        assert any(type(part).__name__ == "Normalise" for part in net.modules())


@pytest.mark.parametrize("name", OPTIONS)
def test_one_sigmoid_output_tells_two_classes_apart(name):
    with torch.device("meta"):
        net = build_net(variant(name, one_logit=True), 2, 1, 64)
        assert net(torch.zeros(2, 1, 64, 64)).shape == (2, 2)
    last = list(net.state_dict().values())[-1]
    assert last.shape[0] == 1
    with pytest.raises(HeatproofError, match=r"one_logit: one sigmoid output tells two classes apart, and there are 3"):
        build_net(variant(name, one_logit=True), 3, 1, 64)


def test_every_model_normalises_inside():
    assert all(choice.facts["norm"] for choice in choices("model").values())


def test_small_cnn_has_the_asked_size():
    net = preset("model", "small_cnn")(3, 1)
    assert normalisation(net, 1) == ((0.5,), (0.25,))
    assert net.head.in_features == 16 * 2**3
    assert [part.p for part in net.modules() if isinstance(part, torch.nn.Dropout)] == [0.0]
