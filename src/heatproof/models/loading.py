"""What the builders of torchvision's and timm's nets share: weights put in with a report, sizes that patches fit."""

from collections.abc import Mapping

from torch import Tensor, nn

from heatproof.base.errors import HeatproofError, fault
from heatproof.base.layers import head_names
from heatproof.base.nets import Provenance
from heatproof.base.weights import load_state


def put_in(
    net: nn.Module, state: Mapping[str, Tensor], origin: str, num_classes: int, *, optional: tuple[str, ...] = ()
) -> Provenance:
    """Weights put into a net strictly; what was left out (a head of another size, `optional` parts) is said.

    Raises: HeatproofError for anything else that does not match.
    """
    heads = head_names(net)
    left_out = load_state(net, state, heads, optional=optional)
    remarks = tuple(
        f"{origin}: the head {part!r} does not fit {num_classes} classes and starts from random weights"
        if part in heads
        else f"{origin}: the part {part.rstrip('.')!r} is left out"
        for part in left_out
    )
    return Provenance("backbone" if set(heads) & set(left_out) else "all", remarks)


def check_patches(name: str, size: int, patch: int) -> None:
    """Nothing; raises HeatproofError where images of `size` px cannot be cut into whole patches."""
    if size % patch:
        near = sorted({max(patch, size // patch * patch), (size // patch + 1) * patch})
        raise HeatproofError(
            fault(
                "dataset.size",
                f"{name} cuts images into patches of {patch} px, so their side must be a multiple",
                got=size,
                hint=f"Near: {', '.join(map(str, near))}.",
            )
        )
