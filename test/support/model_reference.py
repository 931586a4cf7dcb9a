"""The layers of the network once more, in numpy and loops: slow, plain, float64. The tests compare the modules with it.

Functions take a module only to read its numbers. Maps are (B, C, H, W), sequences (L, C) of one sample.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import open_clip
import torch
from torch import Tensor, nn


def array(x: Tensor) -> np.ndarray:
    """A float64 copy."""
    return x.detach().double().numpy().copy()


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Random values for every parameter and running average, in float64: no zero bias or unit scale hides an error."""
    generator = torch.Generator().manual_seed(seed)
    module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator, dtype=torch.float64))
            elif name.endswith("running_var"):
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator, dtype=torch.float64))
    return module


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unlearned(module: nn.Module) -> set[str]:
    """Names of the parameters without a gradient, or with one that is zero everywhere, after a backward pass.

    Not the biases of attention keys: they add the same to every logit of a query, so softmax takes them out.
    """
    return {
        name
        for name, p in module.named_parameters()
        if not name.endswith("to_k.bias") and (p.grad is None or not p.grad.abs().max() > 0)
    }


def leaky(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.01 * x)


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def linear(module: nn.Linear, x: np.ndarray) -> np.ndarray:
    out = x @ array(module.weight).T
    return out if module.bias is None else out + array(module.bias)


def attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int, bias: Callable[[int, int, int], float] | None = None
) -> np.ndarray:
    """softmax(q k^T / sqrt(d) + bias(head, query, key)) v, head by head and query by query."""
    d = q.shape[1] // heads
    out = np.zeros((len(q), v.shape[1]))
    for head in range(heads):
        part = slice(head * d, (head + 1) * d)
        for i in range(len(q)):
            logits = np.array(
                [q[i, part] @ k[j, part] / np.sqrt(d) + (bias(head, i, j) if bias else 0.0) for j in range(len(k))]
            )
            out[i, part] = softmax(logits) @ v[:, part]
    return out


def multi_head(module: nn.Module, query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
    """`MultiHeadAttention` on one sample, (Lq, C), (Lk, C), (Lk, C) -> (Lq, C)."""
    mixed = attention(linear(module.to_q, query), linear(module.to_k, key), linear(module.to_v, value), module.heads)
    return linear(module.to_out, mixed)


def conv2d(module: nn.Conv2d, x: np.ndarray) -> np.ndarray:
    """Output pixel by output pixel: the patch under the kernel, unfolded, times the weights."""
    weight, (stride, _), (dilation, _), (pad, _) = array(module.weight), module.stride, module.dilation, module.padding
    out_channels, in_group, size, _ = weight.shape
    reach = dilation * (size - 1) + 1
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    rows, columns = ((n - reach) // stride + 1 for n in x.shape[2:])
    out = np.zeros((x.shape[0], out_channels, rows, columns))
    out_group = out_channels // module.groups
    for g in range(module.groups):
        inside, outside = slice(g * in_group, (g + 1) * in_group), slice(g * out_group, (g + 1) * out_group)
        for r in range(rows):
            for c in range(columns):
                top, left = r * stride, c * stride
                patch = x[:, inside, top : top + reach : dilation, left : left + reach : dilation]
                out[:, outside, r, c] = np.einsum("bikl,oikl->bo", patch, weight[outside])
    return out if module.bias is None else out + array(module.bias)[:, None, None]


def norm(module: nn.Module, x: np.ndarray) -> np.ndarray:
    """Batch norm (in the module's mode), group norm, layer norm over the last axis."""
    if isinstance(module, nn.LayerNorm):
        mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        return (x - mean) / np.sqrt(var + module.eps) * array(module.weight) + array(module.bias)
    shape = (1, -1) + (1,) * (x.ndim - 2)
    weight, bias = array(module.weight).reshape(shape), array(module.bias).reshape(shape)
    if isinstance(module, nn.GroupNorm):
        groups = x.reshape(len(x), module.num_groups, -1)
        mean, var = groups.mean(-1, keepdims=True), groups.var(-1, keepdims=True)
        return ((groups - mean) / np.sqrt(var + module.eps)).reshape(x.shape) * weight + bias
    assert isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
    if module.training:
        axes = (0, *range(2, x.ndim))
        mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    else:
        mean, var = array(module.running_mean).reshape(shape), array(module.running_var).reshape(shape)
    return (x - mean) / np.sqrt(var + module.eps) * weight + bias


def block(module: nn.Sequential, x: np.ndarray) -> np.ndarray:
    """`conv_block`."""
    conv, normalise, _ = module
    return leaky(norm(normalise, conv2d(conv, x)))


def resize(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear, pixel centres at halves (align_corners=False), pixel by pixel."""
    h, w = x.shape[-2:]
    out = np.zeros((*x.shape[:-2], height, width))
    for r in range(height):
        for c in range(width):
            y = min(max((r + 0.5) * h / height - 0.5, 0), h - 1)
            z = min(max((c + 0.5) * w / width - 0.5, 0), w - 1)
            top, left = int(y), int(z)
            bottom, right = min(top + 1, h - 1), min(left + 1, w - 1)
            fy, fx = y - top, z - left
            out[..., r, c] = (1 - fy) * ((1 - fx) * x[..., top, left] + fx * x[..., top, right]) + fy * (
                (1 - fx) * x[..., bottom, left] + fx * x[..., bottom, right]
            )
    return out


def switch_norm(module: nn.Module, x: np.ndarray) -> np.ndarray:
    """`SwitchNorm` from the definition: three means and variances of the same numbers, mixed."""
    a, b = softmax(array(module.mean_weight)), softmax(array(module.var_weight))
    if module.training:
        batch_mean, batch_var = x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)
    else:
        batch_mean = array(module.running_mean)[None, :, None, None]
        batch_var = array(module.running_var)[None, :, None, None]
    mean = a[0] * x.mean((2, 3), keepdims=True) + a[1] * x.mean((1, 2, 3), keepdims=True) + a[2] * batch_mean
    variances = [x.var((2, 3), keepdims=True), x.var((1, 2, 3), keepdims=True), batch_var]
    if module.mix == "log":
        var = np.prod([(v + module.eps) ** w for v, w in zip(np.broadcast_arrays(*variances), b, strict=True)], axis=0)
    else:
        var = sum(w * v for v, w in zip(variances, b, strict=True)) + module.eps
    normed = (x - mean) / np.sqrt(var)
    return normed * array(module.weight)[:, None, None] + array(module.bias)[:, None, None]


def pan(module: nn.Module, current: np.ndarray, previous: np.ndarray) -> np.ndarray:
    """`PAN`, step by step as the paper lists them; with bounded gates, as its docstring says."""
    c = current.shape[1]
    wide = conv2d(module.depthwise, conv2d(module.project, current))

    def gate(x: np.ndarray) -> np.ndarray:
        return 2 / (1 + np.exp(-x)) if module.bounded else x

    if module.bounded:
        wide = norm(module.filter_norm, wide)
    f1, f2, f3 = wide[:, : c // 4], wide[:, c // 4 : c // 4 + c // 2], wide[:, c // 4 + c // 2 :]
    filtered = gate(conv2d(module.gate1, previous)) * f1
    filtered = gate(conv2d(module.gate2, filtered)) * f2
    filtered = gate(conv2d(module.gate3, filtered)) * f3
    out = switch_norm(module.norm, filtered)
    if isinstance(module.out, nn.Conv2d):
        out = conv2d(module.out, out)
    return out + previous


def window_attention(module: nn.Module, x: np.ndarray) -> np.ndarray:
    """`WindowAttention`: each window alone, only its real positions, the bias looked up by row and column offset."""
    side, table = module.window, array(module.bias).reshape(module.heads, 2 * module.window - 1, -1)
    out = x.copy()
    for sample in range(len(x)):
        for top in range(0, x.shape[2], side):
            for left in range(0, x.shape[3], side):
                places = [
                    (r, c)
                    for r in range(top, min(top + side, x.shape[2]))
                    for c in range(left, min(left + side, x.shape[3]))
                ]
                q, k, v = np.split(linear(module.to_qkv, np.array([x[sample, :, r, c] for r, c in places])), 3, axis=1)

                def bias(head: int, i: int, j: int, places: list[tuple[int, int]] = places) -> float:
                    down, along = places[i][0] - places[j][0], places[i][1] - places[j][1]
                    return table[head, down + side - 1, along + side - 1]

                mixed = linear(module.to_out, attention(q, k, v, module.heads, bias))
                for (r, c), row in zip(places, mixed, strict=True):
                    out[sample, :, r, c] += row
    return out


@functools.cache
def random_clip() -> nn.Module:
    """open_clip's own RN101-quickgelu with random weights, in eval mode; built once, do not change it.

    open_clip starts the last norm of every residual branch at zero; here each branch takes part.
    """
    torch.manual_seed(0)
    net = open_clip.create_model("RN101-quickgelu", pretrained=None)
    for name, parameter in net.visual.named_parameters():
        if name.endswith("bn3.weight"):
            nn.init.uniform_(parameter, 0.1, 0.4)
    return net.eval()
