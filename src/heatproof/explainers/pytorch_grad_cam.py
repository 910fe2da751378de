"""Class activation maps that pytorch-grad-cam computes itself, with its faults kept out.

Conventions: as `gradcam.py`: raw maps, before the library scales them to [0, 1] and enlarges them. The library works on
a copy of the model. Guarded against (pytorch-grad-cam 1.5.7): fewer targets than images give silent zero maps; its
`with` block swallows an IndexError; frozen weights leave it without gradients; operations in place behind the layer
change what it recorded; FullGrad pairs the biases of a net with branches with gradients of other layers; its kernel PCA
draws from NumPy's global state. (Its ShapleyCAM is not offered: it raises where the logit is linear behind the layer.)
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from heatproof.base.errors import HeatproofError, fault
from heatproof.base.hooks import activations_and_gradients, module_of, target_layer
from heatproof.base.records import Classifier
from heatproof.base.registry import choice
from heatproof.explainers.eigencam import oriented


@choice(needs=("layer", "gradient"), source="Karmani 2024, arXiv 2410.00267; pytorch-grad-cam, KPCA_CAM")
def kpcacam(
    classifier: Classifier | nn.Module,
    images: Float[Tensor, "b c h w"],
    targets: Int64[Tensor, " b"],
    *,
    layer: str | None = None,
    relu: bool,
    kernel_function: Literal["sigmoid", "rbf", "poly", "linear", "cosine"],
) -> Float[Tensor, "b u v"]:
    """KPCA-CAM: the activations' first component in kernel principal component analysis, whatever the class.

    The sign is that of `eigencam`.

    Source: Karmani 2024; pytorch-grad-cam, `get_2d_projection_kernel`.
    """
    from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection_kernel

    acts, _ = activations_and_gradients(classifier, images, targets, target_layer(classifier, layer))
    with _numpy_seeded():
        maps = torch.from_numpy(get_2d_projection_kernel(acts.float().numpy(force=True), kernel_function)).to(
            acts.device
        )
    maps = oriented(maps, acts.float())
    return maps.clamp_min(0) if relu else maps


@choice(needs=("layer", "gradient"), source="Zhang 2025, arXiv 2501.11309; pytorch-grad-cam, FinerCAM")
def finercam(
    classifier: Classifier | nn.Module,
    images: Float[Tensor, "b c h w"],
    targets: Int64[Tensor, " b"],
    *,
    layer: str | None = None,
    relu: bool,
    alpha: float,
    others: int,
) -> Float[Tensor, "b u v"]:
    """Finer-CAM: Grad-CAM of what sets the target apart from the classes whose logits are nearest to it.

    Score: mean of `z_c - alpha z_k` over the `others` nearest classes k, weighted by their probabilities; all other
    classes where there are fewer.

    Source: Zhang 2025; pytorch-grad-cam, `FinerCAM` and `FinerWeightedTarget`.
    """
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import FinerWeightedTarget

    def scores(logits: Tensor) -> list[Callable[[Tensor], Tensor]]:
        found = []
        for row, target in zip(logits.detach(), targets.tolist(), strict=True):
            nearest = (row - row[target]).abs().argsort(stable=True).tolist()
            rest = [k for k in nearest if k != target][:others]
            found.append(FinerWeightedTarget(target, rest, alpha))
        return found

    maps = _library(GradCAM, classifier, images, targets, target_layer(classifier, layer), scores)
    return maps.clamp_min(0) if relu else maps


@choice(needs=("gradient", "convolution"), source="Srinivas & Fleuret 2019, arXiv 1905.00780, Eq. 5")
def fullgrad(
    classifier: Classifier | nn.Module, images: Float[Tensor, "b c h w"], targets: Int64[Tensor, " b"]
) -> Float[Tensor, "b h w"]:
    """FullGrad: input times gradient and bias times gradient of every convolution and batch norm, magnitudes, each
    channel scaled to [0, 1] and enlarged, summed.

    Raises HeatproofError for a net without biases of convolutions or batch norms.

    Source: Srinivas & Fleuret 2019, Eq. 5; pytorch-grad-cam, `FullGrad`.
    """
    from pytorch_grad_cam import FullGrad

    return _library(FullGrad, classifier, images, targets, None)


def _library(
    kind: Callable[..., Any],
    classifier: Classifier | nn.Module,
    images: Tensor,
    targets: Tensor,
    layer: str | None,
    scores: Callable[[Tensor], Sequence[Callable[[Tensor], Tensor]]] | None = None,
) -> Tensor:
    """What the library's class weighs and sums, on a copy of the model; `scores` gives other targets than the logits.

    `layer` None: the class chooses its own layers (FullGrad).
    """
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    grid: tuple[int, ...] = ()
    if layer is not None:
        grid = tuple(activations_and_gradients(classifier, images, targets, layer)[0].shape[1:])
    kind_of_device = images.device.type
    # Its NumPy knows no bfloat16, so the copy runs in full precision.
    full = torch.autocast(kind_of_device, enabled=False)
    random = torch.random.fork_rng(devices=[images.device] if kind_of_device == "cuda" else [])
    with torch.inference_mode(False), torch.enable_grad(), random, full:
        module = copy.deepcopy(module_of(classifier)).eval()
        for parameter in module.parameters():
            parameter.requires_grad_(False)
        pixels = images.detach().clone().requires_grad_()
        cam = kind(
            model=module,
            target_layers=[] if layer is None else [module.get_submodule(layer)],
            reshape_transform=(lambda output: _cells(output, grid)) if grid else None,
        )
        if not cam.target_layers:
            raise HeatproofError(fault("fullgrad", "this net has no bias of a convolution or batch norm"))
        gradients = _guarded(cam)
        kept: list[Any] = []
        try:
            if layer is None:
                _keep(cam, "compute_cam_per_layer", kept, before=gradients)
            else:
                _keep(cam, "get_cam_image", kept)
            chosen = (
                [ClassifierOutputTarget(target) for target in targets.tolist()]
                if scores is None
                else scores(module(images.detach().clone()))
            )
            cam(pixels, chosen)
        finally:
            cam.activations_and_grads.release()
    found = torch.as_tensor(np.asarray(kept[0]), dtype=images.dtype, device=images.device)
    return found[:, 0] if layer is None else found


def _guarded(cam: Any) -> Callable[[], None]:
    """Copies behind the layers, so that nothing in place reaches what was recorded; a call puts the gradients into the
    order of the layers."""
    found: dict[int, Tensor] = {}

    def behind(place: int) -> Callable[..., Tensor]:
        def hook(_part: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            if output.requires_grad:
                output.register_hook(lambda gradient: found.__setitem__(place, gradient.detach()))
            return output.clone()

        return hook

    record = cam.activations_and_grads
    for place, part in enumerate(cam.target_layers):
        record.handles.append(part.register_forward_hook(behind(place)))

    def ordered() -> None:
        nothing = torch.zeros(1, 1, 1, 1)
        record.gradients = [found.get(place, nothing).cpu() for place in range(len(cam.target_layers))]

    return ordered


def _keep(cam: Any, name: str, kept: list[Any], before: Callable[[], None] | None = None) -> None:
    made = getattr(cam, name)

    def keeping(*args: Any) -> Any:
        if before is not None:
            before()
        kept.append(made(*args))
        return kept[-1]

    setattr(cam, name, keeping)


def _cells(output: Tensor, grid: tuple[int, ...]) -> Tensor:
    """The output of a layer as (b, k, u, v), where `grid` is (k, u, v): tokens behind a prefix, or channels last."""
    if output.ndim == 3:
        prefix = output.shape[1] - grid[1] * grid[2]
        return output[:, prefix:].transpose(1, 2).unflatten(2, grid[1:])
    return output if tuple(output.shape[1:]) == grid else output.permute(0, 3, 1, 2)


@contextmanager
def _numpy_seeded() -> Iterator[None]:
    state = np.random.get_state()
    try:
        np.random.seed(0)
        yield
    finally:
        np.random.set_state(state)
