"""Checkpoints: one safetensors file that carries the weights and their configuration. Never a pickle.

The file's metadata has one entry, "jmceln", which is json: `kind` ("checkpoint" or "tensors"), `version`, and for a
checkpoint `config` (every field of ModelConfig), `encoders` and `extra`. One entry, because safetensors writes
several in no fixed order, and equal checkpoints shall be equal files.

Floating tensors are stored in one of three ways (`Storage`) and always come back as float32:

- "fp32": as they are;
- "fp16": half precision; a tensor that this would change by more than 2^-11 of its largest value (because it is beyond
  half precision's range, 6e-5 to 65504) stays fp32;
- "int8": matrices and convolution kernels (2-D, 4-D, 16 or more values a row) row by row. Row r becomes the integers
  q = round(w / s) with s = max|w| / 127, kept in fp32 under NAME::scale, so that |s q - w| <= s / 2. The rest is fp16.

A frozen encoder may live in a file of its own beside the checkpoint (`save_tensors`). The checkpoint names it with
its SHA-256, so that retraining what is not frozen leaves the encoder's file untouched.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from jmceln_core.config import ConfigError, ModelConfig, from_dict, resource, to_dict
from jmceln_core.files import whole

Storage = Literal["fp32", "fp16", "int8"]

VERSION = 1
SUFFIX = ".safetensors"
_HEADER = "jmceln"
_SCALE = "::scale"
_MIN_ROW = 16  # shorter rows gain nothing: a scale takes as much as four int8 values
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # torch.save: zip; older: bare


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written or used; the message names the file, the key and the remedy."""


@dataclass(frozen=True)
class EncoderFile:
    """A file of frozen weights beside the checkpoint: its tensor K is the model's PREFIX + K.

    Tensors whose K starts with one of `tuned` have learned since: the checkpoint has its own.
    """

    file: str  # name without a folder
    sha256: str  # of the whole file, hexadecimal
    prefix: str  # for example "image_encoder.net."
    tuned: tuple[str, ...] = ()  # for example "blocks.10."

    def frozen(self, key: str) -> bool:
        """Whether the model's tensor of that name is the file's."""
        return key.startswith(self.prefix) and not key.startswith(tuple(self.prefix + name for name in self.tuned))


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint read into memory: float32 weights of the whole model by their keys in its `state_dict()`."""

    path: Path
    state: dict[str, Tensor]
    config: ModelConfig
    extra: dict[str, Any] = field(default_factory=dict)  # what training noted: step, command, scores ...
    encoders: dict[str, EncoderFile] = field(default_factory=dict)

    def load_into(
        self, model: nn.Module, *, missing: Literal["error", "new"] = "error", new: Iterable[str] = ()
    ) -> list[str]:
        """Copy the weights into a model built from `config`.

        With missing="new" the model may have parts that the checkpoint lacks: they keep the values that they have. So
        do all modules named in `new`, whatever the checkpoint holds of them. Returns the names of the modules (or
        single tensors) that were left as they were.

        Raises CheckpointError that names the keys missing, unexpected or of another shape (found and expected); the
        model is then unchanged.
        """
        expected = model.state_dict()
        apart = tuple(f"{name}." for name in new)
        state = {key: value for key, value in self.state.items() if not key.startswith(apart)}
        left = expected.keys() - state.keys()
        problems = [
            *_named("missing", () if missing == "new" else (key for key in left if not key.startswith(apart))),
            *_named("unexpected", state.keys() - expected.keys()),
            *_named(
                "of another shape",
                (
                    f"{key} {tuple(state[key].shape)} (expected {tuple(expected[key].shape)})"
                    for key in expected.keys() & state.keys()
                    if state[key].shape != expected[key].shape
                ),
            ),
        ]
        if problems:
            raise CheckpointError(
                f"{self.path}: does not fit the model {self.config.name!r}: {'; '.join(problems)}. "
                "It was written by another version of the code or for another configuration"
            )
        model.load_state_dict(state, strict=False)  # the keys have been compared
        return _outermost(left, expected.keys() - left)


def save(
    path: str | Path,
    state: Mapping[str, Tensor],
    config: ModelConfig,
    *,
    storage: Storage = "fp32",
    encoders: Mapping[str, EncoderFile] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Write a checkpoint of `model.state_dict()` to PATH.safetensors and return its path.

    Frozen tensors of the `encoders` (by a name of your own; see `save_tensors`) are left out: their files must lie in
    the same folder and hold the same keys and, up to the rounding of int8, the same values. `extra`
    is anything json can hold. The file appears whole or not at all. Raises CheckpointError naming the key if an
    encoder's file does not hold the model's weights or if a value is not finite.
    """
    path = Path(path)
    encoders = dict(encoders or {})
    _check_folder(path)
    for name, encoder in encoders.items():
        file = _encoder_path(path, name, encoder)
        inside = {k: v for k, v in _prefixed(file, encoder).items() if encoder.frozen(k)}
        own = {key: value for key, value in state.items() if encoder.frozen(key)}
        problems = [
            *_named("missing in the file", own.keys() - inside.keys()),
            *_named("not in the model", inside.keys() - own.keys()),
            *_named(
                "of another shape or value", (k for k in own.keys() & inside.keys() if not _same(own[k], inside[k]))
            ),
        ]
        if problems:
            raise CheckpointError(
                f"{file}: does not hold the model's {encoder.prefix}*: {'; '.join(problems)}. "
                "Was the encoder really frozen? Write its file anew with save_tensors, or leave it in the checkpoint"
            )
    header = {
        "kind": "checkpoint",
        "version": VERSION,
        "config": to_dict(config),
        "encoders": {name: asdict(encoder) for name, encoder in encoders.items()},
        "extra": dict(extra or {}),
    }
    own = {key: value for key, value in state.items() if not any(e.frozen(key) for e in encoders.values())}
    _write(path, own, header, storage)
    return path


def save_tensors(
    path: str | Path, state: Mapping[str, Tensor], *, prefix: str = "", storage: Storage = "fp32"
) -> EncoderFile:
    """Write the tensors whose keys start with `prefix`, without it, and return what `save` needs to name the file.

    The same tensors and storage give the same bytes. Raises CheckpointError like `save`, and if nothing has the prefix.
    """
    path = Path(path)
    _check_folder(path)
    tensors = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    if not tensors:
        raise CheckpointError(f"{path}: no tensor's name starts with {prefix!r}, there is nothing to write")
    return EncoderFile(path.name, _write(path, tensors, {"kind": "tensors", "version": VERSION}, storage), prefix)


def load(name_or_path: str | Path | None = None) -> Checkpoint:
    """Read a checkpoint: a path, the name of a bundled one, or None for "bundled".

    Raises CheckpointError naming the file and the key: not there, truncated, a pickle, foreign, of another format
    version, a configuration that does not parse, an encoder's file missing or changed, a value that is not finite.
    Whether keys and shapes fit is `Checkpoint.load_into`'s to say.
    """
    path = locate(name_or_path)
    header, state = _read(path)
    kind = header.get("kind")
    if kind is None:
        raise CheckpointError(
            f"{path}: a safetensors file, but not a checkpoint of jmceln (no {_HEADER!r} in its metadata); "
            "only files written by jmceln_core.checkpoint.save carry the configuration to build the model"
        )
    if kind != "checkpoint":
        raise CheckpointError(f"{path}: holds an encoder's weights alone; give the checkpoint that names this file")
    try:
        config = from_dict(ModelConfig, header["config"], "config.")
        encoders = {
            name: EncoderFile(**values | {"tuned": tuple(values.get("tuned", ()))})
            for name, values in header["encoders"].items()
        }
        extra = dict(header["extra"])
    except ConfigError as error:
        raise CheckpointError(f"{path}: its configuration does not fit this version of jmceln: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: damaged metadata ({error!r}); fetch or train it again") from None
    for name, encoder in encoders.items():
        file = _encoder_path(path, name, encoder)
        tensors = {k: v for k, v in _prefixed(file, encoder).items() if encoder.frozen(k)}
        if twice := tensors.keys() & state.keys():
            raise CheckpointError(f"{path}: {min(twice)} is in {encoder.file} as well")
        state |= tensors
    return Checkpoint(path, state, config, extra, encoders)


def load_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of any safetensors file, floating ones as float32, int8 rows decoded. Errors as `load`."""
    return _read(Path(path))[1]


def locate(name_or_path: str | Path | None = None) -> Path:
    """The path of a checkpoint: None is "bundled"; a word without suffix or slash is a file of config/weights.

    Raises CheckpointError naming the bundled ones if there is no such name, or no such file.
    """
    text = "bundled" if name_or_path is None else str(name_or_path)
    path = Path(text)
    if path.suffix or "/" in text or os.sep in text or path.is_file():
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "no such file"
            raise CheckpointError(
                f"{path}: {what}; give the path of a {SUFFIX} checkpoint, or no name for the bundled one"
            )
        return path
    try:
        return resource(f"weights/{text}{SUFFIX}")
    except ConfigError as error:
        raise CheckpointError(
            f"no bundled checkpoint {text!r} ({error}); a file of your own is given by its path, ending in {SUFFIX}"
        ) from None


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def encode(state: Mapping[str, Tensor], storage: Storage) -> dict[str, Tensor]:
    """The tensors as they are stored (see the module's docstring); `decode` is the way back."""
    if storage not in get_args(Storage):
        raise CheckpointError(f"storage={storage!r}: must be one of {', '.join(get_args(Storage))}")
    stored = {}
    for key, value in state.items():
        if _SCALE in key:
            raise CheckpointError(f"{key}: a tensor's name may not contain {_SCALE!r}")
        tensor = value.detach().cpu()
        if not tensor.is_floating_point():
            stored[key] = tensor.clone()
            continue
        # A copy even if it is float32 already: safetensors refuses tensors that share memory, as tied weights do.
        tensor = tensor.to(torch.float32, copy=True).contiguous()
        if storage == "int8" and tensor.ndim in (2, 4) and tensor.numel() >= _MIN_ROW * len(tensor) > 0:
            scale = tensor.flatten(1).abs().amax(1) / 127
            rows = tensor.flatten(1) / torch.where(scale > 0, scale, 1.0)[:, None]
            stored[key] = rows.round().clamp(-127, 127).to(torch.int8).view(tensor.shape)
            stored[key + _SCALE] = scale
        elif storage != "fp32" and _difference(tensor.half(), tensor) <= 2**-11:
            stored[key] = tensor.half()
        else:
            stored[key] = tensor
    return stored


def decode(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as `encode` stored them -> floating ones in float32. ValueError names a key without its partner."""
    state = {}
    for key, value in stored.items():
        if key.endswith(_SCALE):
            if key.removesuffix(_SCALE) not in stored:
                raise ValueError(f"{key} scales a tensor that is not there")
        elif (scale := stored.get(key + _SCALE)) is not None:
            if value.ndim < 1 or scale.shape != value.shape[:1]:
                raise ValueError(f"{key}{_SCALE} must hold one value per row of {tuple(value.shape)}")
            state[key] = value.float() * scale.float().view(-1, *[1] * (value.ndim - 1))
        else:
            state[key] = value.float() if value.is_floating_point() else value
    return state


def _write(path: Path, state: Mapping[str, Tensor], header: dict[str, Any], storage: Storage) -> str:
    """Write the file whole or not at all; its SHA-256."""
    for key, value in state.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise CheckpointError(f"{path}: not written, {key} holds values that are not finite; the training diverged")
    data = to_bytes(encode(state, storage), {_HEADER: json.dumps(header, sort_keys=True)})
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with whole(path) as file:
            file.write(data)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror})") from None
    return hashlib.sha256(data).hexdigest()


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header (empty for a file that is not ours) and decoded tensors, all finite."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
        # Eight bytes of header length, then json: a length such as 640 looks like the start of a pickle.
        if start.startswith(_PICKLE_STARTS) and start[8:] != b"{":
            raise CheckpointError(
                f"{path}: a pickle (torch.save), which can run code when it is loaded: refused. "
                f"Only {SUFFIX} files are read"
            )
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from None
    except SafetensorError as error:
        raise CheckpointError(f"{path}: truncated, or not a safetensors file ({error}); fetch it again") from None
    header: dict[str, Any] = {}
    if _HEADER in metadata:
        try:
            header = dict(json.loads(metadata[_HEADER]))
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"{path}: damaged metadata ({error}); fetch or train it again") from None
        if header.get("version") != VERSION:
            raise CheckpointError(
                f"{path}: format version {header.get('version')}, this jmceln reads {VERSION}; "
                "use the version of jmceln that wrote it"
            )
    try:
        state = decode(stored)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None
    for key, value in state.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise CheckpointError(f"{path}: {key} holds values that are not finite; it cannot be used")
    return header, state


def _prefixed(file: Path, encoder: EncoderFile) -> dict[str, Tensor]:
    """The file's tensors by the model's names."""
    return {encoder.prefix + key: value for key, value in _read(file)[1].items()}


def _encoder_path(path: Path, name: str, encoder: EncoderFile) -> Path:
    """The encoder's file beside the checkpoint, its hash verified."""
    file = path.parent / encoder.file
    if Path(encoder.file).name != encoder.file:
        raise CheckpointError(f"{path}: its {name} names the file {encoder.file!r}, which must not have a folder")
    if not file.is_file():
        raise CheckpointError(
            f"{path}: its {name} is in the file {encoder.file}, missing in {path.parent}: put it there"
        )
    if (found := sha256(file)) != encoder.sha256:
        raise CheckpointError(
            f"{file}: not the {name} that {path.name} was trained with (SHA-256 {found[:12]}..., "
            f"expected {encoder.sha256[:12]}...): put the right file there"
        )
    return file


def _check_folder(path: Path) -> None:
    if path.suffix != SUFFIX:
        raise CheckpointError(f"{path}: a checkpoint's name ends in {SUFFIX}")


def _same(own: Tensor, stored: Tensor) -> bool:
    """Whether this is the stored tensor, up to what int8 rounds away: 1 / 254 of the largest value of the row."""
    return own.shape == stored.shape and _difference(own, stored) <= 1 / 250


def _difference(value: Tensor, reference: Tensor) -> float:
    """The largest difference between two tensors of one shape, relative to the reference's largest magnitude."""
    if not reference.any():  # empty, too
        return float(value.any())
    reference = reference.detach().cpu().float()
    return float((value.detach().cpu().float() - reference).abs().max() / reference.abs().max())


def _outermost(keys: Iterable[str], others: Iterable[str]) -> list[str]:
    """The largest modules that hold some of the keys and none of the others; a key where there is no such module."""

    def around(key: str) -> Iterator[str]:  # of a.b.c: a, a.b, a.b.c
        return accumulate(key.split("."), "{}.{}".format)

    taken = {name for key in others for name in around(key)}
    return sorted({next(name for name in around(key) if name not in taken) for key in keys})


def _named(what: str, keys: Iterable[str], limit: int = 5) -> list[str]:
    """["3 missing: a, b, c"], or [] without keys; at most `limit` of them are written out."""
    ordered = sorted(keys)
    more = f" and {len(ordered) - limit} more" if len(ordered) > limit else ""
    return [f"{len(ordered)} {what}: {', '.join(ordered[:limit])}{more}"] if ordered else []
