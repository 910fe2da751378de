"""Class activation maps with a weight of its own for every channel and place: gradient times activation.

Conventions: as `gradcam.py`: raw maps (b, u, v) at the layer's own resolution.
"""

from jaxtyping import Float, Int64
from torch import Tensor, nn

from heatproof.base.hooks import activations_and_gradients, target_layer
from heatproof.base.records import Classifier
from heatproof.base.registry import choice


@choice(needs=("layer", "gradient"), source="Draelos & Carin 2020, arXiv 2011.08891, Eq. 5")
def hirescam(
    classifier: Classifier | nn.Module,
    images: Float[Tensor, "b c h w"],
    targets: Int64[Tensor, " b"],
    *,
    layer: str | None = None,
    relu: bool,
) -> Float[Tensor, "b u v"]:
    """HiResCAM: `sum_k g_k A_k`, the first-order effect of each place on the target logit.

    Without `relu` the map is signed and, behind the last non-linear layer, sums to the logit less the biases.

    Source: Draelos & Carin 2020, Eq. 5; they keep the sign.
    """
    acts, grads = activations_and_gradients(classifier, images, targets, target_layer(classifier, layer))
    maps = (grads * acts).sum(1)
    return maps.clamp_min(0) if relu else maps


@choice(needs=("layer", "gradient"), source="Jiang 2021, LayerCAM, IEEE TIP 30, Eq. 5-7")
def layercam(
    classifier: Classifier | nn.Module,
    images: Float[Tensor, "b c h w"],
    targets: Int64[Tensor, " b"],
    *,
    layer: str | None = None,
    relu: bool,
) -> Float[Tensor, "b u v"]:
    """LayerCAM: `sum_k relu(g_k) A_k`; without `relu` negative only where activations are.

    Source: Jiang 2021, Eq. 5-7.
    """
    acts, grads = activations_and_gradients(classifier, images, targets, target_layer(classifier, layer))
    maps = (grads.clamp_min(0) * acts).sum(1)
    return maps.clamp_min(0) if relu else maps


@choice(needs=("layer", "gradient"), source="Gildenblat 2021, pytorch-grad-cam, GradCAMElementWise")
def elementwise(
    classifier: Classifier | nn.Module,
    images: Float[Tensor, "b c h w"],
    targets: Int64[Tensor, " b"],
    *,
    layer: str | None = None,
) -> Float[Tensor, "b u v"]:
    """Element-wise Grad-CAM: `sum_k relu(g_k A_k)`, what speaks for the class, never set off against what speaks
    against it; not negative.

    Source: pytorch-grad-cam, `GradCAMElementWise`.
    """
    acts, grads = activations_and_gradients(classifier, images, targets, target_layer(classifier, layer))
    return (grads * acts).clamp_min(0).sum(1)
