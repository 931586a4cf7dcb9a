"""Switchable normalisation (Luo et al., ICLR 2019), which closes the PAN; batch statistics over several processes."""

from __future__ import annotations

from typing import Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

Mix = Literal["linear", "log"]


class SwitchNorm(nn.Module):
    """Normalises with a learned mixture of instance, layer and batch statistics: (B, C, H, W) -> (B, C, H, W).

    y = weight * (x - sum_k a_k mean_k) / sqrt(sum_k b_k var_k + eps) + bias, with a = softmax(mean_weight) and
    b = softmax(var_weight) over k = instance, layer, batch. In eval mode the batch statistics are running averages.
    Variances are the biased ones. Statistics are taken in float32, also under autocast. With `sync` (`synchronise`) the
    batch is that of all processes together. `gain` is what weight starts with.

    Beyond the paper, `mix="log"` mixes the logarithms of the variances: prod_k (var_k + eps)^b_k takes the place of
    sum_k b_k var_k + eps. In a sum the layer variance, which is the largest channels', outweighs the small channels'
    own variances by as much as the channels differ, and these come out as nothing; in a product each has its share b_k.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self, channels: int, *, eps: float = 1e-5, momentum: float = 0.1, mix: Mix = "linear", gain: float = 1.0
    ) -> None:
        super().__init__()
        self.eps, self.momentum, self.mix, self.sync = eps, momentum, mix, False
        self.weight = nn.Parameter(torch.full((channels,), gain))
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
        mean_in = x.mean((2, 3))  # (B, C)
        centred = x - mean_in[:, :, None, None]
        var_in = centred.square().mean((2, 3))  # torch.var_mean takes ten times as long on a CPU
        mean_ln = mean_in.mean(1, keepdim=True)
        var_ln = var_in.mean(1, keepdim=True) + mean_in.var(1, correction=0, keepdim=True)
        if self.training:
            if self.sync:
                mean_bn, var_bn, _ = _of_all_processes(mean_in, var_in, x[0, 0].numel())
            else:
                mean_bn = mean_in.mean(0, keepdim=True)
                var_bn = var_in.mean(0, keepdim=True) + mean_in.var(0, correction=0, keepdim=True)
            with torch.no_grad():
                self.running_mean.lerp_(mean_bn[0].to(self.running_mean), self.momentum)
                self.running_var.lerp_(var_bn[0].to(self.running_var), self.momentum)
        else:
            mean_bn, var_bn = self.running_mean[None], self.running_var[None]
        a, b = F.softmax(self.mean_weight, 0), F.softmax(self.var_weight, 0)
        mean, variances = _mixed(a, mean_in, mean_ln, mean_bn), (var_in, var_ln, var_bn)
        if self.mix == "log":
            inverse = (_mixed(b, *((var + self.eps).log() for var in variances)) / -2).exp()
        else:
            inverse = (_mixed(b, *variances) + self.eps).rsqrt()
        scale = self.weight * inverse  # (B, C)
        shift = self.bias + (mean_in - mean) * scale
        return torch.addcmul(shift[:, :, None, None], centred, scale[:, :, None, None]).to(x_BCHW.dtype)


def _mixed(weights_3: Tensor, instance: Tensor, layer: Tensor, batch: Tensor) -> Tensor:
    return weights_3[0] * instance + weights_3[1] * layer + weights_3[2] * batch


def synchronise(model: nn.Module, device: torch.device | None = None) -> nn.Module:
    """The model with the training statistics of its batch norms and SwitchNorms taken over all processes, so that they
    are those of the whole batch however it is spread; parameters and buffers stay the same objects.

    Call it before an optimiser or a wrapper is made. `device` is where the model will train (None: where it is): on a
    GPU the batch norms become PyTorch's own SyncBatchNorm, elsewhere ours, because PyTorch's needs a GPU. Micro-batches
    of one process stay apart. Returns the model, or its replacement if it is itself a batch norm.
    """
    for module in model.modules():
        if isinstance(module, SwitchNorm):
            module.sync = True
    if (device or next(model.parameters()).device).type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                setattr(parent, name, ProcessesBatchNorm(child))
    return ProcessesBatchNorm(model) if isinstance(model, nn.BatchNorm1d | nn.BatchNorm2d) else model


class ProcessesBatchNorm(nn.Module):
    """A batch norm, taken over, whose training statistics are those of all processes: (N, C, ...) -> (N, C, ...)."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        super().__init__()
        if norm.momentum is None or not norm.affine or not norm.track_running_stats:
            raise ValueError(
                f"{norm}: only a batch norm with weights, running averages and a momentum can be synchronised"
            )
        self.eps, self.momentum = norm.eps, norm.momentum
        self.weight, self.bias = norm.weight, norm.bias
        for name, buffer in norm.named_buffers():
            self.register_buffer(name, buffer)
        self.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        wide = x if x.dtype == torch.float64 else x.float()
        dims = [d for d in range(x.ndim) if d != 1]
        var, mean = torch.var_mean(wide, dim=dims, correction=0)
        mean_1C, var_1C, count = _of_all_processes(mean[None], var[None], x.numel() // x.shape[1])
        if count <= 1:
            raise ValueError(
                "batch norm cannot train on one value a channel: take more sentences a step, or norm=group"
            )
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean_1C[0].to(self.running_mean), self.momentum)
            unbiased = var_1C[0] * count / (count - 1)
            self.running_var.lerp_(unbiased.to(self.running_var), self.momentum)
        shape = [1, -1] + [1] * (x.ndim - 2)
        scale = self.weight * (var_1C + self.eps).rsqrt()
        return torch.addcmul((self.bias - mean_1C * scale).view(shape), wide, scale.view(shape)).to(x.dtype)


def _of_all_processes(mean_RC: Tensor, var_RC: Tensor, numbers: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (1, C), variance (1, C) and count () of all processes' numbers, from those of equal parts of this process's:
    each of the R rows speaks for `numbers` of them. The processes may have unequal numbers."""
    rows = mean_RC.new_full((1,), mean_RC.shape[0])
    total = _AllSum.apply(numbers * torch.cat([mean_RC.sum(0), rows]))
    count = total[-1]
    mean_1C = total[None, :-1] / count
    # around the mean of all: the difference of second moments would cancel
    squares = _AllSum.apply(numbers * (var_RC + (mean_RC - mean_1C).square()).sum(0))
    return mean_1C, squares[None] / count, count


class _AllSum(torch.autograd.Function):
    """The sum over all processes, everywhere; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return _sum(x)

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:  # type: ignore[override]
        return _sum(grad)


def _sum(x: Tensor) -> Tensor:
    x = x.clone(memory_format=torch.contiguous_format)
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(x)
    return x
