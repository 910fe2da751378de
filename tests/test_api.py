"""The Python functions on a user's own net and on plain tensors."""

import numpy as np
import pytest
import tiny
import torch
from torch import nn

import heatproof as hp
from heatproof.base.errors import HeatproofError
from heatproof.base.nets import TwoLogits


@pytest.fixture
def net():
    return tiny.Conv(3)


@pytest.fixture
def images():
    return torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_lists_hold_records_with_names_and_facts():
    assert "gradcam" in [record.name for record in hp.list_explainers()]
    assert {record.name for record in hp.list_metrics()} >= {"faith", "loc_acc", "view_iou"}
    assert {record.name for record in hp.list_datasets()} >= {"phantom", "image_folder", "chest_xray"}
    assert "small_cnn" in [record.name for record in hp.list_models()]
    assert "rotate" in [record.name for record in hp.list_views()]
    assert next(r for r in hp.list_metrics() if r.name == "faith").facts["better"] == "up"


def test_explain_gives_one_map_per_image_at_its_resolution(net, images):
    maps = hp.explain(net, images, layer="high")
    assert maps.tensor().shape == (8, 32, 32)
    assert maps.targets.tolist() == net(images).argmax(1).tolist()


def test_explain_does_not_depend_on_the_batch(net, images):
    one, many = (hp.explain(net, images, views="robustcam6", batch=batch).tensor() for batch in (1, 32))
    torch.testing.assert_close(one, many, atol=1e-5, rtol=1e-5)


def test_a_fusion_carries_its_spread(net, images):
    maps = hp.explain(net, images, views="robustcam6", fusion="median")
    (name,) = maps.files
    assert name.endswith(":robustcam6.median")
    assert np.asarray(maps.sd_files[name]).shape == (8, 32, 32)


def test_the_views_of_a_fusion_can_be_kept(net, images):
    parts = hp.explain(net, images, views="robustcam6", batch=3, keep_views=True).parts
    (found,) = parts.values()
    assert {kind: part.shape for kind, part in found.items()} == dict.fromkeys(
        ("views", "seen", "leave_one_out"), (8, 6, 32, 32)
    )
    (single,) = hp.explain(net, images).parts.values()
    assert set(single) == {"raw"}


def test_measure_takes_maps_and_gives_a_long_table(net, images):
    masks = torch.zeros(8, 32, 32, dtype=torch.bool)
    masks[:6, 8:16, 8:16] = True
    with_norm = nn.Sequential(tiny_normalise(), net).eval()
    maps = hp.explain(with_norm, images, layer="1.high")
    frame = hp.measure(with_norm, images, maps, masks=masks).frame()
    assert {"faith", "faith_mean", "loc_acc", "stability", "view_iou"} <= set(frame["column"])
    loc = frame[(frame["column"] == "loc_acc")]
    assert loc["status"].tolist() == ["ok"] * 6 + ["undefined:no_mask"] * 2


def tiny_normalise():
    from heatproof.base.nets import Normalise

    return Normalise([0.5] * 3, [0.25] * 3)


def test_a_plain_tensor_cannot_be_rerun_unless_a_method_is_given(net, images):
    maps = hp.explain(net, images, layer="high").tensor()
    settings = {"faith_mean": {"fill": "gray"}, "fidelity_mean": {"fill": "gray"}}
    bare = hp.measure(net, images, maps, settings=settings).frame()
    assert set(bare[bare["column"] == "stability"]["status"]) == {"undefined:no_method"}
    assert (bare[bare["column"] == "faith"]["status"] == "ok").any()
    known = hp.measure(net, images, maps, settings=settings, method="gradcam").frame()
    assert (known[known["column"] == "stability"]["status"] == "ok").any()

    def grey(images, targets):
        return images.mean(1)

    own = hp.measure(net, images, images.mean(1), settings=settings, method=grey).frame()
    assert (own[own["column"] == "stability"]["status"] == "ok").all()


def test_a_single_logit_counts_as_two_classes(images):
    class Sigmoid(tiny.Conv):
        def __init__(self):
            super().__init__(3, classes=1)

    maps = hp.explain(Sigmoid(), images, target=0)
    assert maps.targets.tolist() == [0] * 8


def test_the_model_is_left_as_it_was(net, images):
    before = {k: v.clone() for k, v in net.state_dict().items()}
    flags = [p.requires_grad for p in net.parameters()]
    hp.measure(
        net,
        images,
        hp.explain(net, images),
        metrics="nine",
        settings={"faith_mean": {"fill": "gray"}, "fidelity_mean": {"fill": "gray"}},
    )
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert [p.requires_grad for p in net.parameters()] == flags
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x * 255, r"images: float .* in \[0, 1\]"),
        (lambda x: x[0], r"images: float \(n, c, h, w\)"),
        (lambda x: (x * 255).byte(), r"images: float .* got 'torch.uint8"),
    ],
)
def test_images_that_are_not_in_range_are_refused(net, images, change, message):
    with pytest.raises(HeatproofError, match=message):
        hp.explain(net, change(images))


def test_wrong_names_are_refused_with_choices(net, images):
    with pytest.raises(HeatproofError, match=r"no such explainer, got 'gradcamm'\. Did you mean 'gradcam'\?"):
        hp.explain(net, images, "gradcamm")
    with pytest.raises(HeatproofError, match=r"highh.*Did you mean 'high'"):
        hp.explain(net, images, layer="highh")
    with pytest.raises(HeatproofError, match=r"class numbers are 0 \.\. 2"):
        hp.explain(net, images, target=7)
    with pytest.raises(HeatproofError, match="one map per image"):
        hp.measure(net, images, torch.rand(8, 16, 16))
    with pytest.raises(HeatproofError, match="no such metric in the chosen suites"):
        hp.measure(net, images, images.mean(1), settings={"fait": {}})


def test_a_layer_of_a_net_with_one_logit_is_named_as_in_the_net(images):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1)).eval()
    color = images[:3, :1].expand(-1, 3, -1, -1)
    named, automatic = (hp.explain(net, color, layer=layer).tensor() for layer in ("1", None))
    assert torch.equal(named, automatic)
    assert torch.equal(hp.explain(TwoLogits(net).eval(), color, layer="net.1").tensor(), named)
    assert not torch.equal(hp.explain(net, color, layer="0").tensor(), named)


def test_settings_are_those_that_the_command_line_takes(net, images):
    for explainer, settings, message in (
        ("lime", {"segmentation": "slick"}, r"lime\.segmentation: one of these is expected.*Did you mean 'slic'"),
        ("rise", {"samples": 1}, r"rise\.samples: must be at least 2, got 1"),
        ("gradcam", {"rleu": True}, r"gradcam\.rleu: no such key"),
    ):
        with pytest.raises(HeatproofError, match=message):
            hp.explain(net, images, explainer, settings=settings)
    with pytest.raises(HeatproofError, match=r"faith\.q: must be between 0 and 1"):
        hp.measure(net, images, images.mean(1), settings={"faith": {"q": 7.0}})


def test_models_load_by_name():
    module = hp.load_model("resnet18")
    assert not module.training
    with torch.inference_mode():
        assert module(torch.rand(1, 3, 64, 64)).shape == (1, 1000)
    with pytest.raises(HeatproofError, match="resnet81"):
        hp.load_model("resnet81")
