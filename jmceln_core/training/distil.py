"""Distillation: a trained network, the teacher, answers what a smaller one, the student, is learning to answer.

Shapes: B pictures, N sentences (a picture's together), side that of the square the teacher sees.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from jmceln_core import checkpoint
from jmceln_core.checkpoint import CheckpointError
from jmceln_core.config import ConfigError, DistilConfig, ModelConfig
from jmceln_core.model import build_model
from jmceln_core.training.losses import Lesson


class Teacher:
    """The network of a checkpoint, as it is: in evaluation mode, without gradients, no part of the run's state.

    Raises ConfigError if it cannot be read, or cannot teach this student.
    """

    def __init__(self, config: DistilConfig, student: ModelConfig, device: torch.device | None = None) -> None:
        try:
            saved = checkpoint.load(config.teacher)
            self.model = build_model(saved.config)
            saved.load_into(self.model)
        except CheckpointError as error:
            raise ConfigError(f"distil.teacher: {error}") from None
        self.side = saved.config.image_size
        if self.side % student.image_size:
            raise ConfigError(
                f"distil.teacher={config.teacher} sees pictures of {self.side} x {self.side}, the model those of "
                f"{student.image_size} x {student.image_size}: the first must be a whole multiple of the second"
            )
        if saved.config.resize != student.resize:
            raise ConfigError(
                f"distil.teacher={config.teacher} sees pictures with resize={saved.config.resize}, the model with "
                f"resize={student.resize}: they must see the same"
            )
        if config.coarse and not (student.deep_supervision and student.cascade):
            raise ConfigError(
                f"distil.coarse={config.coarse} needs a model with deep_supervision=true and cascade=true; "
                "set them or distil.coarse=0"
            )
        for who, head in (("model", student.presence_head), ("teacher", saved.config.presence_head)):
            if config.presence and not head:
                raise ConfigError(
                    f"distil.presence={config.presence} needs a {who} with presence_head=true, or distil.presence=0"
                )
        self.model.requires_grad_(False).eval()
        self.model.to(device).to(memory_format=torch.channels_last)

    @torch.no_grad()
    def __call__(self, images_B3SS: Tensor, texts: list[str]) -> Lesson:
        """What it says to N sentences about squares (B, 3, side, side) uint8."""
        text = tuple(x.to(images_B3SS.device) for x in self.model.text_encoder.tokenize(texts))
        prediction = self.model(images_B3SS, text)
        presence = None if prediction.presence is None else prediction.presence.float().sigmoid()
        return Lesson((prediction.logits[:, 1] - prediction.logits[:, 0]).float().sigmoid(), presence)


def shrunk(images_B3SS: Tensor, side: int) -> Tensor:
    """Squares (B, 3, S, S) uint8 at `side`, which divides S: area averages in [0, 1]. Of that side they stay as they
    are."""
    factor = images_B3SS.shape[-1] // side
    return images_B3SS if factor == 1 else F.avg_pool2d(images_B3SS.float() / 255, factor)
