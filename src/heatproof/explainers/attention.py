"""Maps from the attention of vision transformers, on their grid of patches.

Conventions: raw maps (b, u, v), not negative. Which tokens the logit is read from (the class token, with distillation
two, all patches where the head averages them) is found by the gradient, not by a model's name.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from heatproof.base.attention import attending, read_tokens
from heatproof.base.records import Classifier
from heatproof.base.registry import choice


@choice(needs=("attention",), source="Abnar & Zuidema 2020, arXiv 2005.00928, section 3")
def attention_rollout(
    classifier: Classifier | nn.Module,
    images: Float[Tensor, "b c h w"],
    targets: Int64[Tensor, " b"],
    *,
    residual: float,
) -> Float[Tensor, "b u v"]:
    """Attention rollout: how much of each patch has flowed into the tokens that are read, whatever the class.

    `A_l' = residual * I + (1 - residual) * mean over heads of A_l`, `R = A_L' ... A_1'`; the map is the row of R of the
    tokens read.

    Source: Abnar & Zuidema 2020, section 3.
    """
    with attending(classifier, images) as attention:
        read = read_tokens(attention.gradients(targets)[-1])
        rollout = read
        for matrix in reversed(attention.maps):
            mixed = torch.einsum("bi,bij->bj", rollout, matrix.detach().mean(1))
            rollout = residual * rollout + (1 - residual) * mixed
        return attention.on_grid(rollout)


@choice(needs=("attention", "gradient"), source="Chefer 2021, arXiv 2103.15679, Eq. 5-6")
def chefer(
    classifier: Classifier | nn.Module, images: Float[Tensor, "b c h w"], targets: Int64[Tensor, " b"]
) -> Float[Tensor, "b u v"]:
    """Gradient-weighted attention: attention times its gradient, positive part, rolled out over the blocks.

    `A_l' = mean over heads of relu(grad_l * A_l)`, `R <- R + A_l' R` from R = I; the map is the row of R of the tokens
    read.

    Source: Chefer 2021, "Generic Attention-model Explainability", Eq. 5-6.
    """
    with attending(classifier, images) as attention:
        gradients = attention.gradients(targets)
        relevance = read_tokens(gradients[-1])
        # The rows read, times (I + A_L') ... (I + A_1') from the left: no matrix of all pairs is needed.
        for matrix, gradient in zip(reversed(attention.maps), reversed(gradients), strict=True):
            weighted = (matrix.detach() * gradient).clamp_min(0).mean(1)
            relevance = relevance + torch.einsum("bi,bij->bj", relevance, weighted)
        return attention.on_grid(relevance)


@choice(needs=("attention", "gradient"), source="Bousselham 2024, arXiv 2404.03214, section 3")
def legrad(
    classifier: Classifier | nn.Module, images: Float[Tensor, "b c h w"], targets: Int64[Tensor, " b"]
) -> Float[Tensor, "b u v"]:
    """LeGrad: positive gradients of every block's own logit with respect to its attention, averaged over heads, tokens
    that look, and blocks.

    A block's own logit is what the head says of that block's tokens; its gradient stays within the block.

    Source: Bousselham 2024, section 3, without the final scaling to [0, 1].
    """
    with attending(classifier, images, every_block=True) as attention:
        gradients = attention.gradients(targets.repeat(len(attention.maps)))
        tokens = torch.stack([gradient.clamp_min(0).mean((1, 2)) for gradient in gradients]).mean(0)
        return attention.on_grid(tokens)
