"""Real architectures, random weights, written by hand: decoder with grouped queries, mixture of experts, ViT, ResNet,
a diffusion transformer and a diffusion U-Net. Nothing is downloaded.
"""

# ruff: noqa: D101, D102 - names, sizes and one-line forwards say it

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

Cache = list[tuple[Tensor, Tensor]]


class Attention(nn.Module):
    """Scaled dot products of ``q`` [B, H, S, E] with ``k``, ``v`` [B, G, T, E]; a module, so that pairs can be counted.

    Causal attention needs S = T here.
    """

    def forward(self, q: Tensor, k: Tensor, v: Tensor, is_causal: bool) -> Tensor:
        grouped = q.shape[1] != k.shape[1]
        return functional.scaled_dot_product_attention(q, k, v, is_causal=is_causal, enable_gqa=grouped)


class SelfAttention(nn.Module):
    """``x`` [B, S, D] -> [B, S, D]; ``groups`` key heads for ``heads`` query heads."""

    def __init__(self, width: int, heads: int, groups: int, *, is_causal: bool) -> None:
        super().__init__()
        self.heads, self.groups, self.head = heads, groups, width // heads
        self.q, self.o = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.k, self.v = (nn.Linear(width, groups * self.head, bias=False) for _ in range(2))
        self.core, self.is_causal = Attention(), is_causal

    def forward(self, x: Tensor, cache: tuple[Tensor, Tensor] | None = None) -> Tensor:
        batch, length, width = x.shape
        q = self.q(x).view(batch, length, self.heads, self.head).transpose(1, 2)
        k = self.k(x).view(batch, length, self.groups, self.head).transpose(1, 2)
        v = self.v(x).view(batch, length, self.groups, self.head).transpose(1, 2)
        if cache is not None:
            k, v = torch.cat([cache[0], k], 2), torch.cat([cache[1], v], 2)
        mixed = self.core(q, k, v, self.is_causal and cache is None)
        return self.o(mixed.transpose(1, 2).reshape(batch, length, width))


class GatedMlp(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(functional.silu(self.gate(x)) * self.up(x))


class Experts(nn.Module):
    """Each token goes to ``chosen`` of the experts; which, the host learns: an honest eager mixture of experts."""

    def __init__(self, width: int, inner: int, count: int, chosen: int) -> None:
        super().__init__()
        self.router, self.chosen = nn.Linear(width, count, bias=False), chosen
        self.experts = nn.ModuleList(GatedMlp(width, inner) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(0, -2)
        weights, which = self.router(flat).softmax(-1).topk(self.chosen, -1)
        out = torch.zeros_like(flat)
        for index, expert in enumerate(self.experts):
            token, rank = torch.where(which == index)
            out.index_add_(0, token, expert(flat[token]) * weights[token, rank, None])
        return out.view_as(x)


class Block(nn.Module):
    def __init__(self, width: int, heads: int, groups: int, mlp: nn.Module, *, is_causal: bool) -> None:
        super().__init__()
        self.before, self.between = nn.RMSNorm(width), nn.RMSNorm(width)
        self.attention, self.mlp = SelfAttention(width, heads, groups, is_causal=is_causal), mlp

    def forward(self, x: Tensor, cache: tuple[Tensor, Tensor] | None = None) -> Tensor:
        x = x + self.attention(self.before(x), cache)
        return x + self.mlp(self.between(x))


@dataclass(frozen=True)
class Sizes:
    """Of a decoder."""

    width: int = 2048
    layers: int = 12
    heads: int = 16
    groups: int = 4
    vocabulary: int = 32_000
    length: int = 2048
    experts: int = 0

    @property
    def head(self) -> int:
        return self.width // self.heads


SMALL = Sizes(width=64, layers=2, heads=4, groups=2, vocabulary=256, length=32)


class Decoder(nn.Module):
    """Token ids [B, S] -> logits [B, S, vocabulary]."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width = sizes.width

        def mlp() -> nn.Module:
            return Experts(width, width, sizes.experts, 2) if sizes.experts else GatedMlp(width, 4 * width)

        self.embedding = nn.Embedding(sizes.vocabulary, width)
        self.blocks = nn.ModuleList(
            Block(width, sizes.heads, sizes.groups, mlp(), is_causal=True) for _ in range(sizes.layers)
        )
        self.norm, self.head = nn.RMSNorm(width), nn.Linear(width, sizes.vocabulary, bias=False)

    def forward(self, ids: Tensor, cache: Cache | None = None) -> Tensor:
        x = self.embedding(ids)
        for index, block in enumerate(self.blocks):
            x = block(x, None if cache is None else cache[index])
        return self.head(self.norm(x))


class VisionTransformer(nn.Module):
    """Pictures [B, 3, P, P] -> classes."""

    def __init__(self, width: int, layers: int, heads: int, patch: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.blocks = nn.ModuleList(
            Block(width, heads, heads, _plain_mlp(width), is_causal=False) for _ in range(layers)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 1000)

    def forward(self, pictures: Tensor) -> Tensor:
        x = self.patches(pictures).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


def _plain_mlp(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))


class Residual(nn.Module):
    """A bottleneck of a ResNet."""

    def __init__(self, given: int, inner: int, stride: int) -> None:
        super().__init__()
        made = 4 * inner
        self.body = nn.Sequential(
            *_convolution(given, inner, 1), nn.ReLU(), *_convolution(inner, inner, 3, stride), nn.ReLU(),
            *_convolution(inner, made, 1),
        )  # fmt: skip
        same = given == made and stride == 1
        self.skip = nn.Identity() if same else nn.Sequential(*_convolution(given, made, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.body(x) + self.skip(x))


def _convolution(given: int, made: int, size: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(given, made, size, stride, size // 2, bias=False), nn.BatchNorm2d(made)]


def resnet(width: int, depths: tuple[int, ...]) -> nn.Module:
    """(64, (3, 4, 6, 3)) is ResNet-50."""
    layers: list[nn.Module] = [*_convolution(3, width, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    given = width
    for stage, depth in enumerate(depths):
        inner = width << stage
        for index in range(depth):
            layers.append(Residual(given, inner, 2 if stage and not index else 1))
            given = 4 * inner
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(given, 1000))


class DiffusionBlock(nn.Module):
    """A diffusion transformer's block: ``x`` [B, S, D], steered by a condition [B, D] (adaptive layer norm)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.steer = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.before, self.between = (nn.LayerNorm(width, elementwise_affine=False) for _ in range(2))
        self.attention, self.mlp = SelfAttention(width, heads, heads, is_causal=False), _plain_mlp(width)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = self.steer(condition)[:, None].chunk(6, -1)
        x = x + gate * self.attention(self.before(x) * (1 + scale) + shift)
        return x + gate_mlp * self.mlp(self.between(x) * (1 + scale_mlp) + shift_mlp)


class DiffusionTransformer(nn.Module):
    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(DiffusionBlock(width, heads) for _ in range(layers))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, condition)
        return x


class Stage(nn.Module):
    """Group norm, SiLU, convolution, twice, with a time embedding between and a skip around."""

    def __init__(self, given: int, made: int, time: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.GroupNorm(8, given), nn.SiLU(), nn.Conv2d(given, made, 3, 1, 1))
        self.time = nn.Linear(time, made)
        self.second = nn.Sequential(nn.GroupNorm(8, made), nn.SiLU(), nn.Conv2d(made, made, 3, 1, 1))
        self.skip = nn.Identity() if given == made else nn.Conv2d(given, made, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.skip(x) + self.second(self.first(x) + self.time(time)[..., None, None])


class UNet(nn.Module):
    """Down, attention at the bottom, up with skips: [B, 4, P, P] and a time embedding [B, T] -> [B, 4, P, P]."""

    def __init__(self, width: int, time: int) -> None:
        super().__init__()
        self.enter, self.leave = nn.Conv2d(4, width, 3, 1, 1), nn.Conv2d(width, 4, 3, 1, 1)
        self.high, self.low = Stage(width, width, time), Stage(width, 2 * width, time)
        self.down = nn.Conv2d(width, width, 3, 2, 1)
        self.attention = SelfAttention(2 * width, 8, 8, is_causal=False)
        self.up = Stage(3 * width, width, time)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        high = self.high(self.enter(x), time)
        low = self.low(self.down(high), time)
        flat = low.flatten(2).transpose(1, 2)
        low = (flat + self.attention(flat)).transpose(1, 2).unflatten(2, low.shape[2:])
        return self.leave(self.up(torch.cat([functional.interpolate(low, scale_factor=2), high], 1), time))
