"""Switchable normalisation (Luo et al., ICLR 2019), which closes the PAN."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SwitchNorm(nn.Module):
    """Normalises with a learned mixture of instance, layer and batch statistics: (B, C, H, W) -> (B, C, H, W).

    y = weight * (x - sum_k a_k mean_k) / sqrt(sum_k b_k var_k + eps) + bias, with a = softmax(mean_weight) and
    b = softmax(var_weight) over k = instance, layer, batch. In eval mode the batch statistics are running averages.
    Variances are the biased ones. Statistics are taken in float32, also under autocast.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.mean_weight = nn.Parameter(torch.ones(3))
        self.var_weight = nn.Parameter(torch.ones(3))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        # none of what follows is among the operations that autocast makes half precision
        x = x_BCHW if x_BCHW.dtype == torch.float64 else x_BCHW.float()
        # layer and batch statistics follow from the instance statistics: mean of means, and mean of variances plus
        # variance of means (the difference of second moments would cancel)
        var_in, mean_in = torch.var_mean(x, dim=(2, 3), correction=0)  # (B, C)
        mean_ln = mean_in.mean(1, keepdim=True)
        var_ln = var_in.mean(1, keepdim=True) + mean_in.var(1, correction=0, keepdim=True)
        if self.training:
            mean_bn = mean_in.mean(0, keepdim=True)
            var_bn = var_in.mean(0, keepdim=True) + mean_in.var(0, correction=0, keepdim=True)
            with torch.no_grad():
                self.running_mean.lerp_(mean_bn[0].to(self.running_mean), self.momentum)
                self.running_var.lerp_(var_bn[0].to(self.running_var), self.momentum)
        else:
            mean_bn, var_bn = self.running_mean[None], self.running_var[None]
        a, b = F.softmax(self.mean_weight, 0), F.softmax(self.var_weight, 0)
        mean = a[0] * mean_in + a[1] * mean_ln + a[2] * mean_bn
        var = b[0] * var_in + b[1] * var_ln + b[2] * var_bn
        scale = self.weight * (var + self.eps).rsqrt()  # (B, C)
        shift = self.bias - mean * scale
        return torch.addcmul(shift[:, :, None, None], x, scale[:, :, None, None]).to(x_BCHW.dtype)
