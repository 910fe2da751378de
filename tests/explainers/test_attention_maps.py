"""Rollout, gradient-weighted attention and LeGrad against steps written out in float64, one image at a time."""

import pytest
import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import nn
from torchvision.models import VisionTransformer

from heatproof.base.attention import attending, read_tokens
from heatproof.base.errors import HeatproofError
from heatproof.explainers.attention import attention_rollout, chefer, legrad

TARGETS = torch.tensor([3, 0])
SMALL = {"embed_dim": 12, "depth": 3, "num_heads": 2, "num_classes": 4, "patch_size": 8}

# How each net is made; image size; tokens without a place; tokens that its head reads (None = all patches).
NETS = {
    "torchvision": (lambda: VisionTransformer(24, 8, 3, 2, 12, 24, num_classes=4), (24, 24), 1, [0]),
    "timm": (lambda: TimmViT(img_size=(24, 32), **SMALL), (24, 32), 1, [0]),
    "registers": (lambda: TimmViT(img_size=(32, 24), reg_tokens=2, init_values=0.5, **SMALL), (32, 24), 3, [0]),
    "distilled": (lambda: VisionTransformerDistilled(img_size=24, **SMALL), (24, 24), 2, [0, 1]),
    "averaged": (
        lambda: TimmViT(img_size=(16, 32), global_pool="avg", class_token=False, **SMALL), (16, 32), 0, None
    ),
    "averaged beside a class token": (lambda: TimmViT(img_size=24, global_pool="avg", **SMALL), (24, 24), 1, None),
}  # fmt: skip
each_net = pytest.mark.parametrize("name", NETS)


def make(name):
    build, size, *_ = NETS[name]
    with torch.random.fork_rng():
        torch.manual_seed(2)
        net = build().eval()
        for parameter in net.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.4)
    return net, torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))


def parts(net):
    """Blocks, the tokens that enter them and what follows them, for one image in float64."""
    if isinstance(net, VisionTransformer):
        blocks = list(net.encoder.layers)

        def enter(image):
            tokens = net.conv_proj(image[None]).flatten(2).transpose(1, 2)
            return torch.cat([net.class_token, tokens], 1)[0] + net.encoder.pos_embedding[0]

        return blocks, enter, lambda tokens: net.heads(net.encoder.ln(tokens)[0])

    def enter(image):
        return net._pos_embed(net.patch_embed(image[None]))[0]

    return list(net.blocks), enter, lambda tokens: net.forward_head(net.norm(tokens)[None])[0]


def qkv(block, tokens):
    """Queries, keys and values of each head, (heads, t, d)."""
    if hasattr(block, "self_attention"):
        attention, x = block.self_attention, block.ln_1(tokens)
        weight, bias = attention.in_proj_weight, attention.in_proj_bias
    else:
        attention, x = block.attn, block.norm1(tokens)
        weight, bias = attention.qkv.weight, attention.qkv.bias
    return (x @ weight.T + bias).view(len(tokens), 3, attention.num_heads, -1).permute(1, 2, 0, 3)


def through(block, tokens, matrices):
    """The block's output, given its attention matrices (heads, t, t)."""
    _, _, values = qkv(block, tokens)
    mixed = torch.cat([matrix @ v for matrix, v in zip(matrices, values, strict=True)], 1)
    if hasattr(block, "self_attention"):
        tokens = tokens + block.self_attention.out_proj(mixed)
        return tokens + block.mlp(block.ln_2(tokens))
    tokens = tokens + block.ls1(block.attn.proj(mixed))
    return tokens + block.ls2(block.mlp(block.norm2(tokens)))


def matrices_of(block, tokens):
    queries, keys, _ = qkv(block, tokens)
    found = torch.stack([(q @ k.T / q.shape[1] ** 0.5).softmax(1) for q, k in zip(queries, keys, strict=True)])
    return found.detach().requires_grad_() if not found.requires_grad else found


def steps(name, net, image, target):
    """Matrices of each block, gradients of the logit and of each block's own logit, of one image."""
    blocks, enter, leave = parts(net)
    tokens, matrices, own = enter(image).detach(), [], []
    for block in blocks:
        alone = matrices_of(block, tokens.detach()).detach().requires_grad_()
        logit = leave(through(block, tokens.detach(), alone))[target]
        own.append(torch.autograd.grad(logit, alone)[0])
        matrices.append(matrices_of(block, tokens))
        tokens = through(block, tokens, matrices[-1])
    logits = leave(tokens)
    torch.testing.assert_close(logits, net(image[None])[0], atol=1e-8, rtol=1e-6)
    return [m.detach() for m in matrices], torch.autograd.grad(logits[target], matrices), own


def laid_out(name, row):
    _, size, prefix, _ = NETS[name]
    return row[prefix:].view(size[0] // 8, size[1] // 8)


def readers(name, count):
    _, _, prefix, read = NETS[name]
    return list(range(prefix, count)) if read is None else read


def reference(name, method):
    net, images = make(name)
    net.double()
    found = []
    for image, target in zip(images.double(), TARGETS, strict=True):
        matrices, gradients, own = steps(name, net, image, target)
        count = matrices[0].shape[1]
        if method is legrad:
            row = torch.stack([g.clamp_min(0).mean(0).mean(0) for g in own]).mean(0)
        else:
            rollout = torch.eye(count, dtype=torch.float64)
            for matrix, gradient in zip(matrices, gradients, strict=True):
                if method is chefer:
                    rollout = rollout + (matrix * gradient).clamp_min(0).mean(0) @ rollout
                else:
                    rollout = (0.5 * matrix.mean(0) + 0.5 * torch.eye(count)) @ rollout
            row = rollout[readers(name, count)].mean(0)
        found.append(laid_out(name, row))
    return torch.stack(found)


@pytest.mark.parametrize("method", [attention_rollout, chefer, legrad])
@each_net
def test_equal_to_the_steps_written_out(name, method):
    net, images = make(name)
    expected = reference(name, method)
    found = method(net, images, TARGETS)
    assert found.shape == expected.shape
    assert (expected.amax((1, 2)) > expected.amin((1, 2))).all()
    scale = expected.amax()
    torch.testing.assert_close(found.double() / scale, expected / scale, atol=1e-4, rtol=0)


@each_net
def test_matrices_are_the_model_s_own_and_the_tokens_read_are_found(name):
    net, images = make(name)
    with torch.no_grad():
        logits = net(images)
    with attending(net, images) as attention:
        torch.testing.assert_close(attention.logits.detach(), logits, atol=1e-4, rtol=1e-4)
        assert len(attention.maps) == 3
        assert attention.layout.prefix == NETS[name][2]
        for matrix in attention.maps:
            torch.testing.assert_close(matrix.sum(-1), torch.ones_like(matrix[..., 0]))
        read = read_tokens(attention.gradients(TARGETS)[-1])
    expected = torch.zeros_like(read)
    expected[:, readers(name, read.shape[1])] = 1
    torch.testing.assert_close(read, expected / expected.sum(1, keepdim=True))


@each_net
@pytest.mark.parametrize("fails", [False, True])
def test_fused_kernels_and_hooks_are_as_before(name, fails):
    net, images = make(name)
    net.eval()

    def state():
        return [
            (vars(part).get("fused_attn"), len(part._forward_hooks), len(part._forward_pre_hooks), part.training)
            for part in net.modules()
        ]

    before = state()
    with torch.no_grad():
        logits = net(images)
    if fails:
        with pytest.raises(RuntimeError):
            chefer(net, images[:, :2], TARGETS)
    else:
        chefer(net, images, TARGETS)
        legrad(net, images, TARGETS)
    assert state() == before
    with torch.no_grad():
        assert torch.equal(net(images), logits)


def test_fused_attention_is_left_out_only_inside():
    net, images = make("timm")
    assert all(block.attn.fused_attn for block in net.blocks)
    with attending(net, images):
        assert not any(block.attn.fused_attn for block in net.blocks)
    assert all(block.attn.fused_attn for block in net.blocks)


def test_nets_without_attention_among_all_tokens_are_refused():
    images = torch.rand(1, 3, 32, 32)
    conv = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(HeatproofError, match="attention: this net has no attention that is understood"):
        chefer(conv, images, torch.tensor([0]))

    class Masked(nn.Module):
        """Every token looks at itself and those before it."""

        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Conv2d(3, 8, 8, 8), nn.Linear(8, 2)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            x = self.embed(x).flatten(2).transpose(1, 2)
            mask = torch.full((16, 16), float("-inf")).triu(1)
            return self.head(self.attention(x, x, x, attn_mask=mask)[0].mean(1))

    with pytest.raises(HeatproofError, match=r"not plain self-attention .* got 'attention'"):
        chefer(Masked().eval(), images, torch.tensor([0]))


def test_windows_are_refused():
    from timm.models.swin_transformer import SwinTransformer

    net = SwinTransformer(32, 2, embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4, num_classes=2).eval()
    with pytest.raises(HeatproofError, match="not among all tokens of the image"):
        attention_rollout(net, torch.rand(1, 3, 32, 32), torch.tensor([0]))
