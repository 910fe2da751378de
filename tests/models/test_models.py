"""The contract of all model options: pixels in [0, 1] in, logits out, settings from YAML alone."""

import pytest
import torch

from heatproof.base.nets import normalisation
from heatproof.base.registry import choices, conf_folder, preset

OPTIONS = sorted(path.stem for path in (conf_folder() / "model").glob("*.yaml") if path.stem != "torchvision")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_builds_a_net_with_the_right_logits(name, channels):
    with torch.device("meta"):
        net = preset("model", name)(5, channels).eval()
        assert net(torch.zeros(2, channels, 64, 64)).shape == (2, 5)
    assert any(type(part).__name__ == "Normalise" for part in net.modules())


def test_every_model_normalises_inside():
    assert all(choice.facts["norm"] for choice in choices("model").values())


def test_small_cnn_has_the_asked_size():
    net = preset("model", "small_cnn")(3, 1)
    assert normalisation(net, 1) == ((0.5,), (0.25,))
    assert net.head.in_features == 16 * 2**3
    assert [part.p for part in net.modules() if isinstance(part, torch.nn.Dropout)] == [0.0]
