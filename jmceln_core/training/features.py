"""Cached features of frozen encoders: computed once, read at every step.

An image file holds one view of one picture: the trunk's maps in fp16 and the letterboxed square itself. A text file
holds the word features of many sentences. Everything is written whole or not at all and skipped if it is there, so that
an interrupted run goes on where it stopped.

Files are named by all that their content depends on: weights, image size, the picture's bytes and the view drawn of it.
A picture or a number that changed has another file, and a copy of the data, at any place and of any time, has the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor
from tqdm import tqdm

from jmceln_core.data.grounding import DataError, Picture
from jmceln_core.data.views import View
from jmceln_core.files import whole
from jmceln_core.geometry import Resize
from jmceln_core.model.encoders import ImageEncoder, TextEncoder, TextFeatures


def fingerprint(module: torch.nn.Module, *extra: object) -> str:
    """Sixteen hex digits that change with the module's weights and with `extra`: names a cache folder."""
    digest = hashlib.sha256(json.dumps([str(e) for e in extra]).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _device(encoder: ImageEncoder | TextEncoder) -> torch.device:
    return next(encoder.trunk_module.parameters()).device


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: no readable features ({error}); remove the file and start again") from None


def write_features(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a file whole or not at all. Raises DataError naming it."""
    try:
        with whole(path, sync=False) as file:
            file.write(save(tensors))
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: features cannot be written ({error}); make room or move data.cache") from None


class ImageFeatureCache:
    """Trunk features of a frozen image encoder, a file per (picture, view) under FOLDER/<fingerprint>/.

    `variant` is whatever else the features depend on, besides weights, image size and `resize`: the encoder's
    configuration. The encoder itself is not kept, so that processes that read the files need no copy of it.
    """

    def __init__(
        self,
        folder: str | Path,
        encoder: ImageEncoder,
        size: int,
        variant: object = None,
        *,
        resize: Resize = "letterbox",
    ) -> None:
        self.size, self.resize = size, resize
        self.folder = Path(folder) / fingerprint(encoder.trunk_module, size, variant, resize)
        self.folder.mkdir(parents=True, exist_ok=True)
        # as they were when first looked at: a file is one thing to a run
        self._contents: dict[tuple[Path, int, int], str] = {}

    def path(self, picture: Picture, view: int) -> Path:
        """The file of one view. Raises DataError if the picture cannot be read."""
        read = picture.path, picture.height, picture.width
        content = self._contents.get(read) or self._contents.setdefault(read, picture.content)
        drawn = hashlib.sha256(repr(View.draw(picture, view)).encode()).hexdigest()[:8]
        return self.folder / f"{content}_{drawn}.safetensors"

    @torch.inference_mode()
    def fill(self, encoder: ImageEncoder, pictures: Iterable[Picture], views: Sequence[int]) -> None:
        """Compute what is missing, with the encoder the cache was made for. A picture that cannot be read is said and
        left out."""
        device = _device(encoder)
        every = [(p, v) for v in views for p in pictures]
        for picture, view in tqdm(every, desc="image features", unit="view", disable=not every):
            try:
                path = self.path(picture, view)
                if path.exists():
                    continue
                square = View.draw(picture, view).image(picture, picture.load(), self.size, self.resize)
            except DataError as error:
                tqdm.write(f"skipped: {error}")
                continue
            image = torch.from_numpy(square).permute(2, 0, 1)[None].to(device)
            features = encoder.trunk(image.float() / 255)
            tensors = {f"f{i}": f[0].half().cpu().contiguous() for i, f in enumerate(features)}
            write_features(path, tensors | {"image": torch.from_numpy(square)})

    def read(self, picture: Picture, view: int, *, mirrored: bool = False) -> tuple[np.ndarray, tuple[Tensor, ...]]:
        """(S, S, 3) uint8 RGB square and the trunk's maps (C, h, w) float32, mirrored if asked.

        Mirrored features stand in for the features of the mirrored picture; they are close, not equal. Raises DataError
        if the file is missing or broken.
        """
        tensors = _read(self.path(picture, view))
        image = tensors.pop("image").numpy()
        features = tuple(tensors[f"f{i}"].float() for i in range(len(tensors)))
        if mirrored:
            image, features = image[:, ::-1], tuple(f.flip(-1) for f in features)
        return image, features


class TextFeatureCache:
    """Word features of a frozen text encoder, in memory, kept in one file FOLDER/text_<fingerprint>.safetensors.

    `variant` is what the features depend on besides the weights, such as the number of tokens.
    """

    def __init__(self, folder: str | Path, encoder: TextEncoder, variant: object = None) -> None:
        self.encoder = encoder
        self.path = Path(folder) / f"text_{fingerprint(encoder.trunk_module, variant)}.safetensors"
        self.row: dict[str, int] = {}
        self.words: list[Tensor] = []  # (L, Ct) fp16 each, real tokens only
        self.sentences: list[Tensor] = []  # (Cs,) fp16 each
        if self.path.exists():
            tensors = _read(self.path)
            texts = json.loads(bytes(tensors["texts"].numpy()))
            self.row = {text: i for i, text in enumerate(texts)}
            self.words = list(tensors["words"].split(tensors["lengths"].tolist()))
            self.sentences = list(tensors["sentences"])

    @torch.inference_mode()
    def fill(self, texts: Iterable[str], *, batch: int = 64) -> None:
        """Encode the sentences that are missing and write the file."""
        todo = sorted({t for t in texts if t not in self.row}, key=len)
        if not todo:
            return
        device = _device(self.encoder)
        for start in tqdm(range(0, len(todo), batch), desc="text features", unit="batch"):
            chunk = todo[start : start + batch]
            features = self.encoder.encode(*(x.to(device) for x in self.encoder.tokenize(chunk))).to(
                torch.device("cpu")
            )
            for i, text in enumerate(chunk):
                self.row[text] = len(self.words)
                self.words.append(features.words[i][features.mask[i]].half())
                self.sentences.append(features.sentence[i].half())
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_features(
            self.path,
            {
                "texts": torch.from_numpy(np.frombuffer(json.dumps(list(self.row)).encode(), np.uint8).copy()),
                "words": torch.cat(self.words),
                "lengths": torch.tensor([len(w) for w in self.words]),
                "sentences": torch.stack(self.sentences),
            },
        )

    def read(self, texts: Sequence[str]) -> TextFeatures:
        """Features of these sentences (KeyError for one that was never encoded)."""
        rows = [self.row[t] for t in texts]
        words = torch.nn.utils.rnn.pad_sequence([self.words[r].float() for r in rows], batch_first=True)
        lengths = torch.tensor([len(self.words[r]) for r in rows])
        mask = torch.arange(words.shape[1])[None] < lengths[:, None]
        return TextFeatures(words, torch.stack([self.sentences[r].float() for r in rows]), mask)
