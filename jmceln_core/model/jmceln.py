"""JMCELN: encoders, neck, LSRAN, the cascade of stages, heads (the paper's section 3, Fig. 2a).

Shapes: B images, S sentences an image, N = B * S (the sentences of an image stand together), Q queries, C channels, H W
the height and width of C3, side the letterboxed square's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jmceln_core.config import ConfigError, ModelConfig
from jmceln_core.model.colour_path import ColourPath
from jmceln_core.model.encoders import (
    SIDES,
    ImageEncoder,
    TextEncoder,
    TextFeatures,
    build_image_encoder,
    build_text_encoder,
)
from jmceln_core.model.heads import CoarseMask, MaskHead, QueryHead
from jmceln_core.model.layers import Norm, repeat, sine_positions
from jmceln_core.model.lsran import LSRAN
from jmceln_core.model.neck import Neck
from jmceln_core.model.pan import Gates
from jmceln_core.model.stage import Stage, tokens

if TYPE_CHECKING:  # timm takes seconds to import, and not every network needs it
    from jmceln_core.model.encoders.dinov2 import DinoV2ImageEncoder


class ImageFeatures(NamedTuple):
    """The image half: everything that does not depend on the sentence.

    With fusion: queries that goes as far as `memory` F_m and `relations` F_mt; with fusion: neck only to `projected`,
    the image's factors of Eq. 1 and 2 (`Neck.project`), and `colours`, what F_m and F_mt^0 will gain by the colour
    path. `fine` is the head's skip.
    """

    projected: tuple[Tensor, Tensor, Tensor] | None
    memory: Tensor | None
    relations: Tensor | None
    fine: Tensor | None
    colours: tuple[Tensor, Tensor] | None = None

    @property
    def batch(self) -> int:
        """B."""
        tensor = self.memory if self.projected is None else self.projected[0]
        assert tensor is not None
        return tensor.shape[0]


class Prediction(NamedTuple):
    """`logits` (N, 2, h, w) over background and target cover the whole square. `coarse` has a (N, H, W) logit map of
    each stage with deep supervision. `presence`, `iou`: (N,) logits, None without the head. `queries`: (N, Q, C), the
    final contextual embeddings, None if there are none."""

    logits: Tensor
    coarse: list[Tensor]
    presence: Tensor | None
    iou: Tensor | None
    queries: Tensor | None


class JMCELN(nn.Module):
    """The network. `build_model` makes one from a config; the arguments are ModelConfig's fields of the same names."""

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        *,
        channels: int = 1024,
        stages: int = 6,
        queries: int = 20,
        heads: int = 8,
        fusion: Literal["neck", "queries"] = "neck",
        norm: Norm = "batch",
        lsran: bool = True,
        cascade: bool = True,
        pan: bool = True,
        adaptive: bool = True,
        contextual: bool = True,
        window: int = 13,
        dilations: tuple[int, ...] = (1, 6, 12, 18),
        head_channels: tuple[int, ...] = (512, 256, 128),
        positions: bool = False,
        words: bool = False,
        query_mixing: bool = False,
        dense_from: int = 0,
        pan_projection: bool = False,
        pan_gates: Gates = "product",
        colour_path: bool = False,
        fine_skip: bool = False,
        deep_supervision: bool = False,
        mask_prompt: bool = False,
        coarse_residual: bool = False,
        presence_head: bool = False,
        iou_head: bool = False,
        freeze_image: bool = False,
        freeze_text: bool = False,
        tuned_blocks: int = 0,
    ) -> None:
        super().__init__()
        self.image_encoder, self.text_encoder = image_encoder, text_encoder
        self.fusion, self.adaptive, self.dense_from = fusion, adaptive, dense_from
        c2, c3, c4, c5 = image_encoder.channels
        in_neck = fusion == "neck"
        self.neck = Neck(
            (c3, c4, c5), channels, sentence_channels=text_encoder.sentence_channels if in_neck else None, norm=norm
        )
        self.position = nn.Conv2d(channels, channels, 1, bias=False) if positions else None
        self.lsran = (
            LSRAN(channels, heads=heads, window=window, dilations=dilations, norm=norm) if lsran else nn.Identity()
        )
        self.stages = nn.ModuleList(
            Stage(
                channels,
                heads,
                dense=i >= dense_from,
                pan=pan,
                pan_projection=pan_projection,
                pan_gates=pan_gates,
                contextual=contextual,
                words=words,
                mixing=query_mixing,
            )
            for i in range(stages if cascade else 0)
        )
        embedded = cascade and contextual
        self.queries = nn.Parameter(torch.randn(queries, channels)) if embedded else None  # q^0
        read_words = cascade and (words or not contextual)
        self.to_words = _projection(text_encoder.channels, channels) if read_words else None
        self.to_query = _projection(text_encoder.sentence_channels, channels) if embedded and not in_neck else None
        self.coarse = CoarseMask(channels) if deep_supervision and cascade else None
        self.prompt = nn.Parameter(0.02 * torch.randn(channels)) if mask_prompt and self.coarse is not None else None
        self.coarse_residual = coarse_residual
        self.head = MaskHead(channels, head_channels, fine_channels=c2 if fine_skip else None, norm=norm)
        self.presence_head = QueryHead(channels) if presence_head else None
        self.iou_head = QueryHead(channels) if iou_head else None
        self.colour_path = ColourPath(channels) if colour_path else None
        self.frozen = [e.trunk_module for e, f in ((image_encoder, freeze_image), (text_encoder, freeze_text)) if f]
        for module in self.frozen:
            module.requires_grad_(False)
        if freeze_image and tuned_blocks:
            for module in cast("DinoV2ImageEncoder", image_encoder).tuned_modules(tuned_blocks):
                module.requires_grad_(True)
        self.train()

    def train(self, mode: bool = True) -> JMCELN:
        """As in nn.Module, but a frozen encoder stays in eval mode: its running statistics must not move either."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def encode_image(self, image_B3SS: Tensor, trunk: tuple[Tensor, ...] | None = None) -> ImageFeatures:
        """The image half, once per image: letterboxed RGB in [0, 1] (B, 3, side, side).

        `trunk` are cached features of a frozen encoder, `image_encoder.trunk(image)`.
        """
        levels = self.image_encoder.levels(image_B3SS, self.image_encoder.trunk(image_B3SS) if trunk is None else trunk)
        fine = levels.c2 if self.head.fine is not None else None
        projected = self.neck.project(levels.c3, levels.c4, levels.c5)
        colours = None if self.colour_path is None else self.colour_path(image_B3SS, projected[0].shape[-2:])
        if self.fusion == "neck":
            return ImageFeatures(projected, None, None, fine, colours)
        memory, relations = self._relate(self.neck.fuse(projected), colours)
        return ImageFeatures(None, memory, relations, fine)

    def encode_text(self, texts: list[str]) -> TextFeatures:
        """Word and sentence features of N sentences."""
        tokens_NL, mask_NL = self.text_encoder.tokenize(texts)
        return self.text_encoder.encode(tokens_NL.to(self.device), mask_NL.to(self.device))

    def _relate(self, memory: Tensor, colours: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """F_m as the stages read it (with colours and positions, if they are on), and F_mt^0 (with colours)."""
        if colours is not None:
            memory = memory + repeat(colours[0], len(memory))
        if self.position is not None:
            _, channels, height, width = memory.shape
            where = sine_positions(height, width, channels, device=memory.device).to(memory.dtype)
            memory = memory + self.position(where[None])
        relations = self.lsran(memory)
        if colours is not None:
            relations = relations + repeat(colours[1], len(memory))
        return memory, relations

    def first_queries(self, text: TextFeatures) -> Tensor | None:
        """The contextual embeddings that the stages start from: (N, Q, C), or None for a network without them.

        They are q^0; with fusion: queries the sentence is in them, with fusion: neck it comes by way of the pixels.
        """
        if self.queries is None:
            return None
        queries = self.queries.expand(len(text), -1, -1)
        return queries if self.to_query is None else queries + self.to_query(text.sentence)[:, None]

    def decode(
        self, image: ImageFeatures, text: TextFeatures, *, dense: int | None = None, start: Tensor | None = None
    ) -> Prediction:
        """The sentence half. N must be a multiple of B: sentence n is about image n // (N / B).

        With `dense`, only the first so many sentences of each image go on through the dense stages and the heads (N in
        what they return shrinks to B * dense): a training step can see many sentences for the price of a few.
        `start` (N, Q, C) takes the place of `first_queries`, for example `Prediction.queries` of a video's last frame.
        The sentence is not added to it: what the stages made of `first_queries` is a sum that has it already.
        """
        count = len(text)
        if count == 0 or count % image.batch:
            raise ValueError(f"{count} sentences for {image.batch} images: give every image the same number")
        repeats = count // image.batch
        if dense is not None and not 0 < dense <= repeats:
            raise ValueError(f"dense={dense}: there are {repeats} sentences an image")
        queries = self.first_queries(text) if start is None else start
        if start is not None:
            expected = None if self.queries is None else (count, *self.queries.shape)
            if tuple(start.shape) != expected:
                raise ValueError(f"start={tuple(start.shape)}: this network's first queries are {expected}")
        if image.projected is not None:
            memory, current = self._relate(self.neck.fuse(image.projected, text.sentence), image.colours)
        else:
            assert image.memory is not None
            assert image.relations is not None
            memory, current = image.memory, image.relations

        def first(x: Tensor) -> Tensor:
            """The rows of the sentences that go on; what there is once per image stays."""
            if dense is None or x.shape[0] == image.batch:
                return x
            return x.unflatten(0, (image.batch, -1))[:, :dense].flatten(0, 1)

        coarse: list[Tensor] = []
        words = text.words if self.to_words is None else self.to_words(text.words)
        mask, keys, initial = text.mask, tokens(memory), tokens(current)
        pixels: Tensor | None = None  # of the F_mt at hand
        for i, stage in enumerate(cast(list[Stage], self.stages)):
            if i == self.dense_from:
                queries = None if queries is None else first(queries)
                words, mask, keys, initial, current = (first(x) for x in (words, mask, keys, initial, current))
                pixels = None if pixels is None else first(pixels)
            if queries is not None:
                values = tokens(current) if self.adaptive else initial
                queries = stage.embed(queries, keys, values, words, mask)
            if self.coarse is not None:
                pixels = self.coarse.pixels(current) if pixels is None else pixels
                coarse.append(self.coarse(_mean(words, mask) if queries is None else queries, pixels))
            if i >= self.dense_from:
                prompt = None if self.prompt is None else coarse[-1].sigmoid()[:, None] * self.prompt[:, None, None]
                previous = repeat(current, words.shape[0])
                if queries is None:
                    current = stage.predict(words, previous, prompt, mask)
                else:
                    current = stage.predict(queries, previous, prompt)
                pixels = None
        current = repeat(first(current), image.batch * (dense or repeats))

        logits = self.head(current, image.fine)
        if self.coarse_residual and coarse:
            # the head corrects the last stage's coarse mask: half of it against the background, half for the target
            up = F.interpolate(coarse[-1][:, None], logits.shape[-2:], mode="bilinear", align_corners=False) / 2
            logits = logits + torch.cat([-up, up], dim=1)
        return Prediction(
            logits,
            coarse,
            self.presence_head(queries) if self.presence_head is not None and queries is not None else None,
            self.iou_head(queries) if self.iou_head is not None and queries is not None else None,
            queries,
        )

    def forward(
        self,
        image_B3SS: Tensor,
        text: tuple[Tensor, ...],
        trunk: tuple[Tensor, ...] | None = None,
        dense: int | None = None,
    ) -> Prediction:
        """Both halves in one call, for wrappers of the whole network (distributed training).

        The image is RGB in [0, 1], or uint8. `text` is (tokens, mask) as `text_encoder.tokenize` makes them, or cached
        features of a frozen encoder: (words, sentence, mask). `trunk`, `dense`: see `encode_image`, `decode`.
        """
        if image_B3SS.dtype == torch.uint8:
            image_B3SS = image_B3SS.float() / 255
        features = TextFeatures(*text) if len(text) == 3 else self.text_encoder.encode(*text)
        return self.decode(self.encode_image(image_B3SS, trunk), features, dense=dense)


def _projection(in_channels: int, channels: int) -> nn.Sequential:
    """Text features to C; the layer norm makes encoders of any scale start alike."""
    return nn.Sequential(nn.LayerNorm(in_channels), nn.Linear(in_channels, channels))


def _mean(words_NLC: Tensor, mask_NL: Tensor) -> Tensor:
    """(N, L, C) -> (N, 1, C): over the words that count."""
    weight = mask_NL[..., None].to(words_NLC.dtype)
    return (words_NLC * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp_min(1)


# the fields of ModelConfig that JMCELN takes as they are
_SAME = (
    "channels",
    "stages",
    "queries",
    "heads",
    "fusion",
    "norm",
    "lsran",
    "cascade",
    "pan",
    "adaptive",
    "contextual",
    "window",
    "dilations",
    "head_channels",
    "positions",
    "words",
    "query_mixing",
    "dense_from",
    "pan_projection",
    "pan_gates",
    "colour_path",
    "fine_skip",
    "deep_supervision",
    "mask_prompt",
    "coarse_residual",
    "presence_head",
    "iou_head",
)


def build_model(config: ModelConfig, *, pretrained: bool = False) -> JMCELN:
    """The network a config describes. `pretrained` loads the encoders' published weights, or a file's, where the config
    asks for them; leave it off when a checkpoint is loaded afterwards. Raises ConfigError for a side that the image
    encoder cannot take."""
    step = SIDES.get(config.image_encoder.name, 1)
    if config.image_size % step:
        raise ConfigError(f"image_size={config.image_size}: {config.image_encoder.name} needs a multiple of {step}")
    return JMCELN(
        build_image_encoder(
            config.image_encoder,
            pretrained=pretrained and config.image_encoder.pretrained,
            fine=config.fine_skip,
        ),
        build_text_encoder(config.text_encoder, pretrained=pretrained and config.text_encoder.pretrained),
        freeze_image=config.image_encoder.frozen,
        freeze_text=config.text_encoder.frozen,
        tuned_blocks=config.image_encoder.tuned_blocks,
        **{name: getattr(config, name) for name in _SAME},
    )
