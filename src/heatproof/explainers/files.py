"""Maps made elsewhere, one file per image."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from heatproof.base.given import files_of, read_map
from heatproof.base.records import Classifier
from heatproof.base.registry import choice


@choice(given=True, source="the user's own")
def files(
    classifier: Classifier | nn.Module,
    images: Float[Tensor, "b c h w"],
    targets: Int64[Tensor, " b"],
    *,
    ids: Sequence[str],
    folder: str | None,
) -> Float[Tensor, "b h w"]:
    """The maps that lie in a folder under the images' names (`base/given.py`), enlarged bilinearly, values as they are.

    They explain whatever class they were made for: say so with `target`. They cannot be made again, so whatever reruns
    a method is undefined for them (`no_method`).
    Raises: HeatproofError for missing, ambiguous and unreadable files.
    """
    maps = []
    for path in files_of(folder, ids):
        held = torch.from_numpy(read_map(path))[None, None]
        maps.append(F.interpolate(held, size=images.shape[-2:], mode="bilinear", align_corners=False)[0, 0])
    return torch.stack(maps).to(images.device)
