"""Attention of a vision transformer as it runs: the matrices of all blocks, in one graph with the logits.

Conventions: `maps[l]` (b, heads, t, t) is block l's matrix behind the softmax, rows = the token that looks, columns =
the token looked at; `layout` says which tokens have a place in the image and where. Understood are torch's
`nn.MultiheadAttention` (torchvision) and attention that multiplies out the matrix and drops out of it (`attn_drop`:
timm). Fused kernels are left out while it runs, and only then. Weights, flags, modes, hooks and random states are as
before afterwards, also after an error.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from heatproof.base.errors import HeatproofError, fault
from heatproof.base.hooks import module_of, quiet
from heatproof.base.places import Grid, Layout, grids_seen, layout_of
from heatproof.base.records import Classifier


@dataclass(frozen=True)
class Attention:
    """What one pass gave. `layout`: where the tokens lie. `logits`: (b, k), of `every_block` (blocks * b, k)."""

    maps: list[Float[Tensor, "b heads t t"]]
    logits: Tensor
    layout: Layout

    def on_grid(self, tokens: Float[Tensor, "b t"]) -> Float[Tensor, "b u v"]:
        """One value a token laid out as the grid, tokens without a place left out."""
        return self.layout.cells(tokens[..., None])[:, 0]

    def gradients(self, targets: Int64[Tensor, " b"]) -> list[Float[Tensor, "b heads t t"]]:
        """Gradients of the target logits with respect to every block's matrix; zeros where they do not depend on it."""
        score = self.logits.gather(1, targets.clone()[:, None]).sum()
        found = torch.autograd.grad(score, self.maps, allow_unused=True)
        return [torch.zeros_like(a) if g is None else g for a, g in zip(self.maps, found, strict=True)]


@contextmanager
def attending(
    classifier: Classifier | nn.Module, images: Float[Tensor, "b c h w"], *, every_block: bool = False
) -> Iterator[Attention]:
    """One forward pass with all attention matrices kept; gradients may be asked for inside the block.

    `every_block`: the logits that each block's tokens give when they go straight to what follows the last block,
    stacked block by block; a block's matrix has a gradient from its own block's logits alone.
    Raises HeatproofError for a net without attention among all tokens, or none of whose layers shows the patch grid.
    """
    module = module_of(classifier)
    parts = _attention_parts(module)
    maps: list[Tensor] = []
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(quiet(module))
        for name, part in parts:
            stack.enter_context(_recorded(name, part, maps))
        grids = stack.enter_context(grids_seen(module))
        if every_block:
            stack.enter_context(_blocks_to_the_end(module, [name for name, _ in parts]))
        logits = module(images.clone() if images.is_inference() else images.detach())
        yield Attention(maps, logits, _layout(maps, images, grids, len(parts)))


def read_tokens(last: Float[Tensor, "b heads t t"]) -> Float[Tensor, "b t"]:
    """Which tokens the logit is read from, as weights that sum to 1: those whose row of the last block's attention has
    a gradient (the class token; with distillation two; all patches where the head averages them).

    Zeros where no row has one.
    """
    read = (last != 0).flatten(1, 1).any(1).any(-1).to(last)
    return read / read.sum(1, keepdim=True).clamp_min(1)


def _attention_parts(module: nn.Module) -> list[tuple[str, nn.Module]]:
    found = [(name, part) for name, part in module.named_modules() if _is_attention(part)]
    if not found:
        raise HeatproofError(
            fault(
                "attention",
                f"this net has no attention that is understood, it is a {_kind(module)}",
                hint="Explain it with gradcam or integrated_gradients, or take a vision transformer.",
            )
        )
    return found


def _is_attention(part: nn.Module) -> bool:
    return isinstance(part, nn.MultiheadAttention) or isinstance(getattr(part, "attn_drop", None), nn.Module)


def _kind(module: nn.Module) -> str:
    inner = getattr(module, "net", module)
    return type(inner if isinstance(inner, nn.Module) else module).__name__


@contextmanager
def _recorded(name: str, part: nn.Module, maps: list[Tensor]) -> Iterator[None]:
    def keep(attention: Tensor) -> Tensor:
        # The first matrix met starts the graph: nothing below it needs a gradient.
        maps.append(attention if attention.requires_grad else attention.detach().requires_grad_())
        return maps[-1]

    if isinstance(part, nn.MultiheadAttention):
        handle = part.register_forward_hook(
            lambda p, args, kwargs, output: (_written_out(name, p, args, kwargs, output[0], keep), output[1]),
            with_kwargs=True,
        )
        try:
            yield
        finally:
            handle.remove()
        return
    own, dropout = vars(part), part.get_submodule("attn_drop")
    fused = own.get("fused_attn")
    handle = dropout.register_forward_hook(lambda _p, _i, output: keep(output))
    try:
        if fused is not None:
            own["fused_attn"] = False
        yield
    finally:
        handle.remove()
        if fused is not None:
            own["fused_attn"] = fused


def _written_out(
    name: str, part: nn.MultiheadAttention, args: Sequence[Any], kwargs: dict[str, Any], given: Tensor, keep: Any
) -> Tensor:
    """The attention's output from a matrix that can be kept, checked against what the module itself gave."""
    tokens = args[0] if args else kwargs["query"]
    plain = part.in_proj_weight is not None and tokens.ndim == 3 and part.bias_k is None and not part.add_zero_attn
    if plain:
        tokens = tokens if part.batch_first else tokens.transpose(0, 1)
        q, k, v = (
            projected.unflatten(2, (part.num_heads, part.head_dim)).transpose(1, 2)
            for projected in F.linear(tokens, part.in_proj_weight, part.in_proj_bias).chunk(3, 2)
        )
        matrix = keep((q @ k.mT / part.head_dim**0.5).softmax(-1))
        output = part.out_proj((matrix @ v).transpose(1, 2).flatten(2))
        output = output if part.batch_first else output.transpose(0, 1)
        scale = given.detach().abs().amax().clamp_min(1e-6)
        tolerance = 1e-3 if given.dtype in (torch.float32, torch.float64) else 0.05
        plain = bool(((output - given).abs().amax() <= tolerance * scale).item())
    if not plain:
        raise HeatproofError(
            fault("attention", "this attention is not plain self-attention (masks, biases or other keys)", got=name)
        )
    return output


@contextmanager
def _blocks_to_the_end(module: nn.Module, names: Sequence[str]) -> Iterator[None]:
    """Inside, no gradient crosses from one block to the one before, and all blocks' tokens leave the last one."""
    blocks = [module.get_submodule(name) for name in block_names(names)]
    outputs: list[Tensor] = []

    def enter(_part: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (inputs[0].detach(), *inputs[1:])

    def leave(part: nn.Module, _inputs: Any, output: Tensor) -> Tensor | None:
        outputs.append(output)
        return torch.cat(outputs) if part is blocks[-1] else None

    handles: list[Any] = []
    try:
        handles += [block.register_forward_pre_hook(enter) for block in blocks]
        handles += [block.register_forward_hook(leave) for block in blocks]
        yield
    finally:
        for handle in handles:
            handle.remove()


def block_names(names: Sequence[str]) -> list[str]:
    """The blocks that hold these attention modules: the children of what holds them all.

    >>> block_names(["net.blocks.0.attn", "net.blocks.1.attn"])
    ['net.blocks.0', 'net.blocks.1']
    >>> block_names(["blocks.0.attn"])
    ['blocks.0']
    """
    split = [name.split(".") for name in names]
    if len(split) == 1:
        return [".".join(split[0][:-1])]
    common = 0
    while len({tuple(parts[: common + 1]) for parts in split}) == 1:
        common += 1
    return [".".join(parts[: common + 1]) for parts in split]


def _layout(maps: Sequence[Tensor], images: Tensor, grids: set[Grid], num_blocks: int) -> Layout:
    shapes = {tuple(matrix.shape) for matrix in maps}
    square = len(shapes) == 1 and len(maps) == num_blocks and maps[0].ndim == 4 and len(maps[0]) == len(images)
    if not square or maps[0].shape[2] != maps[0].shape[3]:
        raise HeatproofError(
            fault(
                "attention",
                "the blocks' attention is not among all tokens of the image (windows, stages or pooling)",
                got=[list(shape) for shape in sorted(shapes)],
                hint="Explain this net with gradcam or integrated_gradients.",
            )
        )
    layout = layout_of(maps[0][:, 0], images, grids)
    if layout is None:
        tokens = maps[0].shape[-1]
        raise HeatproofError(
            fault("attention", f"no convolution shows how the {tokens} tokens lie in the image", got=sorted(grids))
        )
    return layout
