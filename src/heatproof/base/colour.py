"""Grey values of images, one definition for views and controls."""

from jaxtyping import Float
from torch import Tensor

# ITU-R BT.601 luma: how bright a colour looks.
LUMA = (0.299, 0.587, 0.114)


def grey(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h w"]:
    """Luma of three channels; the plain mean of any other number."""
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    return (images * images.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
