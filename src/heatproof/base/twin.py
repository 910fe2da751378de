"""The inference twin: a copy of a net that gives the same logits faster, for passes that need no gradient."""

import copy
from collections import Counter
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Largest difference of logits that is accepted, in units of max(1, largest logit of the example).
TOLERANCE = 1e-4


class Twin:
    """Callable: images (n, c, h, w) in [0, 1] -> logits (n, k), without autograd.

    Batch norm is folded into the convolution before it (weights * gamma / sqrt(var + eps)), and memory is laid out
    channels-last. Both happen on a copy: the module itself is never touched. `example` (a few images on the module's
    device) is used to find out which batch norm directly follows which convolution, and to compare: where logits differ
    by more than `TOLERANCE`, folding is refused and a plain copy is used; `remarks` says so.
    `passes` counts the images that went through; `folded` the batch norms that are gone; `agree` whether a layer gives
    what it gives in the module, where somebody has looked.
    """

    def __init__(self, module: nn.Module, example: Float[Tensor, "n c h w"]) -> None:
        self.remarks: tuple[str, ...] = ()
        self.passes = 0
        self.agree: dict[str, bool] = {}
        # Weights made under inference mode would take part in no graph, and the net may be asked for gradients.
        with torch.inference_mode(False):
            plain = copy.deepcopy(module).eval()
            with torch.inference_mode():
                wanted = plain(example)
            self._net = copy.deepcopy(plain)
            self.folded = _fold(self._net, example.clone())
            self._net.to(memory_format=torch.channels_last)
        self._layout = torch.channels_last
        with torch.inference_mode():
            difference = float((self._run(example) - wanted).abs().max())
        limit = TOLERANCE * max(1.0, float(wanted.abs().max()))
        if not difference <= limit:
            self._net, self._layout, self.folded = plain, torch.contiguous_format, 0
            self.remarks = (
                f"the inference twin is refused: its logits differ by {difference:.1e} (limit {limit:.1e}); "
                "the net itself is used, which is slower",
            )

    def __call__(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        self.passes += len(images)
        with torch.inference_mode():
            return self._run(images)

    @property
    def net(self) -> nn.Module:
        """The copy that is run, for those who look inside it."""
        return self._net

    def laid_out(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """The images in the memory layout of the net."""
        return images.contiguous(memory_format=self._layout)

    def _run(self, images: Tensor) -> Tensor:
        logits: Tensor = self._net(self.laid_out(images))
        return logits


def _fold(net: nn.Module, example: Tensor) -> int:
    """Fold each batch norm that can be folded, in place; how many."""
    pairs = foldable_pairs(net, example)
    replaced: dict[nn.Module, nn.Module] = {}
    for conv, norm in pairs:
        replaced[conv], replaced[norm] = _folded(conv, norm), nn.Identity()
    for parent in list(net.modules()):
        for name, child in list(parent._modules.items()):
            if child in replaced:
                parent._modules[name] = replaced[child]
    return len(pairs)


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    shift = -norm.running_mean.double() * scale
    if norm.affine:
        scale, shift = scale * norm.weight.double(), shift * norm.weight.double() + norm.bias.double()
    if conv.bias is not None:
        shift = shift + conv.bias.double() * scale
    result = copy.deepcopy(conv)
    result.weight = nn.Parameter((conv.weight.double() * scale.view(-1, 1, 1, 1)).to(conv.weight), requires_grad=False)
    result.bias = nn.Parameter(shift.to(conv.weight), requires_grad=False)
    return result


class _Uses(TorchDispatchMode):
    """Counts how many operations read each tensor. Tensors are kept alive, so that no id is given twice."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: Counter[int] = Counter()
        self.kept: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        read = [leaf for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, Tensor)]
        self.reads.update({id(tensor) for tensor in read})
        result = func(*args, **(kwargs or {}))
        self.kept += [*read, *(leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor))]
        return result


def foldable_pairs(net: nn.Module, example: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Convolutions and the batch norm that reads their output, where nothing else reads it and both run once.

    Found by running the net, not by names or order of registration: DenseNet's norms come before the convolutions.
    """
    made: dict[int, nn.Conv2d] = {}
    follows: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []
    calls: Counter[nn.Module] = Counter()
    outputs: dict[nn.Module, Tensor] = {}

    def after_conv(conv: nn.Module, _inputs: Any, output: Tensor) -> None:
        assert isinstance(conv, nn.Conv2d)
        calls[conv] += 1
        outputs[conv] = output
        made[id(output)] = conv

    def before_norm(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        calls[norm] += 1
        if (conv := made.get(id(inputs[0]))) is not None:
            follows.append((conv, norm))

    handles = []
    for part in net.modules():
        # Subclasses may do more than their name says, and a hook may change what goes through.
        if part._forward_hooks or part._forward_pre_hooks:
            continue
        if type(part) is nn.Conv2d:
            handles.append(part.register_forward_hook(after_conv))
        elif type(part) is nn.BatchNorm2d and part.running_mean is not None:
            handles.append(part.register_forward_pre_hook(before_norm))
    uses = _Uses()
    try:
        with torch.no_grad(), uses:
            result = net(example[:1])
    finally:
        for handle in handles:
            handle.remove()
    final = {id(leaf) for leaf in tree_leaves(result)}
    return [
        (conv, norm)
        for conv, norm in follows
        if calls[conv] == calls[norm] == 1 and uses.reads[id(outputs[conv])] == 1 and id(outputs[conv]) not in final
    ]
