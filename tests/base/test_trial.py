import numpy as np
import pytest
import torch

from heatproof.base.errors import HeatproofError
from heatproof.base.names import MethodName
from heatproof.base.records import Method
from heatproof.base.registry import bind
from heatproof.base.trial import check_methods

NET = bind("model", "small_cnn", {"width": 2, "stages": 2})
IMAGES = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def method(name, layer=None, **settings):
    return Method(MethodName(name, layer), bind("explainer", name, settings), layer)


def tried(*methods, net=NET, explained=()):
    check_methods(net, IMAGES, 3, methods, explained)


def test_methods_that_fit_pass_and_random_states_stay():
    before = torch.get_rng_state()
    tried(method("gradcam", "stage1"), method("gradcam", "stage2"), method("guided_backprop"), method("occlusion"))
    assert torch.equal(torch.get_rng_state(), before)


def test_attention_of_a_net_without_any_is_told():
    with pytest.raises(HeatproofError, match="attention"):
        tried(method("chefer"))
    votes = Method(MethodName("votes"), bind("explainer", "votes"), of=(method("gradcam"), method("legrad")))
    with pytest.raises(HeatproofError, match="attention"):
        tried(votes)


def test_layers_that_are_not_there_are_told():
    with pytest.raises(HeatproofError, match="stage1"):
        tried(method("gradcam", "stage9"))


def test_given_maps_must_be_there_for_every_image(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((4, 4)))
    files = method("files", folder=str(tmp_path))
    tried(files, explained=["a.png"])
    with pytest.raises(HeatproofError, match=r"no map of 1 of 2 explained images: b.png"):
        tried(files, explained=["a.png", "b.png"])
