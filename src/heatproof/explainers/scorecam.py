"""Score-CAM: channels of a layer weighted by what the net says of the image seen through them."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from heatproof.base.forwards import forwards_of, scores
from heatproof.base.hooks import activations_and_gradients, target_layer
from heatproof.base.records import Classifier
from heatproof.base.registry import choice


@choice(needs=("layer",), forwards=512, source="Wang 2020, arXiv 1910.01279, Eq. 3-6")
def scorecam(
    classifier: Classifier | nn.Module,
    images: Float[Tensor, "b c h w"],
    targets: Int64[Tensor, " b"],
    *,
    layer: str | None = None,
    relu: bool,
    align_corners: bool,
) -> Float[Tensor, "b u v"]:
    """`sum_k softmax_k(f_c(x * s(A_k))) A_k`: s enlarges a channel to the image and scales it to [0, 1].

    The softmax runs over the channels and takes away any baseline. Channels that are constant in space mask the whole
    image away, so they share one pass of the black image. One pass per other channel.

    `align_corners`: enlarge corner to corner, as pytorch-grad-cam does.
    """
    acts, _ = activations_and_gradients(classifier, images, targets, target_layer(classifier, layer))
    b, k = acts.shape[:2]
    flat = acts.flatten(2)
    alive = torch.nonzero(flat.amax(2) > flat.amin(2))
    forwards = forwards_of(classifier)
    black = forwards.logits(torch.zeros_like(images[:1])).expand(b, -1)
    found = scores(black, targets, "logit")[:, None].repeat(1, k)

    def masked(part: slice) -> Tensor:
        image, channel = alive[part].T
        masks = F.interpolate(
            acts[image, channel][:, None], size=images.shape[-2:], mode="bilinear", align_corners=align_corners
        )
        low, high = masks.amin((2, 3), keepdim=True), masks.amax((2, 3), keepdim=True)
        return images[image] * ((masks - low) / (high - low).clamp_min(1e-30))

    for part, logits in forwards.made(len(alive), masked):
        image, channel = alive[part].T
        found[image, channel] = scores(logits, targets[image], "logit")
    maps = torch.einsum("bk,bkuv->buv", found.softmax(1).to(acts), acts)
    return maps.clamp_min(0) if relu else maps
