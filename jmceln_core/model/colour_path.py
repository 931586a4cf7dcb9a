"""The colour path (beyond the paper): the picture's own colours at the places where words meet pixels."""

from __future__ import annotations

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Basic colour terms (Berlin and Kay's eleven, and beige) as they look in photographs: sRGB, 0 to 255.
COLOURS = {
    "black": (25, 25, 25),
    "white": (245, 245, 245),
    "gray": (128, 128, 128),
    "red": (190, 30, 40),
    "orange": (240, 130, 30),
    "yellow": (240, 210, 50),
    "green": (60, 140, 60),
    "blue": (40, 90, 180),
    "purple": (120, 50, 140),
    "pink": (240, 150, 185),
    "brown": (110, 70, 40),
    "beige": (220, 200, 165),
}
TEMPERATURE = 12.0  # standard deviation, in CIE Lab, of the colours that a term is used for
HIDDEN = 64  # width of the learned layer


class ColourPath(nn.Module):
    """What is to be added to F_m and to F_mt^0 for them to know the local colour.

    Of the colours that the trunk's features hold next to nothing reaches these two maps (docs/model.md has figures).
    Here a fixed code of every pixel, its colour in CIE Lab and which of the basic colour terms it is near to (`code`),
    is averaged over the cells of F_m and projected: 1x1 convolution, GELU, and a 1x1 convolution for each of the two
    maps. These start at zero: at first, and in a network that goes on from one without the path, nothing is added.
    """

    prototypes: Tensor  # (K, 3): the terms' colours in CIE Lab

    def __init__(self, channels: int) -> None:
        super().__init__()
        rgb = torch.tensor(list(COLOURS.values()))[:, :, None, None] / 255
        self.register_buffer("prototypes", lab(rgb)[:, :, 0, 0], persistent=False)
        self.read = nn.Sequential(nn.Conv2d(3 + len(COLOURS), HIDDEN, 1), nn.GELU())
        self.to_memory = nn.Conv2d(HIDDEN, channels, 1)
        self.to_relations = nn.Conv2d(HIDDEN, channels, 1)
        for parameter in (*self.to_memory.parameters(), *self.to_relations.parameters()):
            nn.init.zeros_(parameter)

    def forward(self, image_B3SS: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """RGB in [0, 1] and F_m's height and width -> what F_m and F_mt^0 gain, (B, C, H, W) each."""
        kind = image_B3SS.device.type
        # half precision cannot tell neighbouring colours apart; "meta" has no autocast to turn off
        with torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext():
            image = image_B3SS if image_B3SS.dtype == torch.float64 else image_B3SS.float()
            cells = F.adaptive_avg_pool2d(self.code(image), size)
        hidden = self.read(cells)
        return self.to_memory(hidden), self.to_relations(hidden)

    def code(self, image_B3HW: Tensor) -> Tensor:
        """RGB in [0, 1] -> (B, 3 + K, H, W): L, a, b in about [-1, 1], and softmax(-d_k^2 / (2 TEMPERATURE^2)) over the
        K colour terms, d_k the distance in CIE Lab."""
        colour = lab(image_B3HW)
        centres = self.prototypes.to(colour.dtype)
        # -d^2 / 2 without |colour|^2, which is the same for all terms
        near = torch.einsum("kc,bchw->bkhw", centres, colour) - centres.square().sum(1)[:, None, None] / 2
        lightness, opponents = colour[:, :1] / 50 - 1, colour[:, 1:] / 100
        return torch.cat([lightness, opponents, (near / TEMPERATURE**2).softmax(1)], dim=1)


def lab(rgb_B3HW: Tensor) -> Tensor:
    """sRGB in [0, 1] -> CIE 1976 L*a*b* under D65: L in 0 to 100, a (green to red) and b (blue to yellow) around 0."""
    rgb = rgb_B3HW
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb.clamp_min(0) + 0.055) / 1.055) ** 2.4)
    # IEC 61966-2-1, each row divided by the white point's X, Y, Z
    to_xyz = linear.new_tensor(
        [
            [0.4124564 / 0.95047, 0.3575761 / 0.95047, 0.1804375 / 0.95047],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339 / 1.08883, 0.1191920 / 1.08883, 0.9503041 / 1.08883],
        ]
    )
    xyz = torch.einsum("dc,bchw->bdhw", to_xyz, linear)
    edge = 6 / 29
    x, y, z = torch.where(xyz > edge**3, xyz.clamp_min(edge**3) ** (1 / 3), xyz / (3 * edge**2) + 4 / 29).unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)
