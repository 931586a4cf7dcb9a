"""Checkpoints: what is written comes back, in less space where asked, and everything else is refused by name."""

import copy
import json
import re
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from jmceln_core import checkpoint
from jmceln_core.checkpoint import CheckpointError
from jmceln_core.config import DecisionConfig, ImageEncoderConfig, ModelConfig

CONFIG = ModelConfig(
    name="little",
    image_encoder=ImageEncoderConfig(name="tiny", blocks=(3, 5)),
    channels=64,
    dilations=(1, 2),
    decision=DecisionConfig(mask=0.25),
)


class Net(nn.Module):
    """A model with every kind of tensor: kernels, matrices, biases, running statistics and an integer counter."""

    def __init__(self, width=8):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(32, 24), nn.LayerNorm(24))
        self.conv = nn.Conv2d(3, width, 3)
        self.norm = nn.BatchNorm2d(width)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def same(state, other):
    assert state.keys() == other.keys()
    for key in state:
        assert state[key].dtype == other[key].dtype, key
        assert torch.equal(state[key], other[key]), key


def rewrite(path, change):
    """Change the json in a file's metadata in place."""
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["jmceln"])
    change(header)
    save_file(load_file(path), path, {"jmceln": json.dumps(header)})


def test_weights_configuration_and_notes_come_back(net, path):
    assert checkpoint.save(path, net.state_dict(), CONFIG, extra={"step": 3, "scores": {"mIoU": 0.5}}) == path
    loaded = checkpoint.load(path)
    same(loaded.state, net.state_dict())
    assert loaded.config == CONFIG
    assert loaded.extra == {"step": 3, "scores": {"mIoU": 0.5}}
    assert loaded.path == path
    other = Net()
    loaded.load_into(other)
    same(other.state_dict(), net.state_dict())


def test_equal_checkpoints_are_equal_files(net, path, tmp_path):
    for storage in ("fp32", "fp16", "int8"):
        checkpoint.save(path, net.state_dict(), CONFIG, storage=storage, extra={"a": 1, "b": 2})
        again = checkpoint.save(
            tmp_path / "again.safetensors", net.state_dict(), CONFIG, storage=storage, extra={"b": 2, "a": 1}
        )
        assert path.read_bytes() == again.read_bytes()


def test_tied_and_non_contiguous_weights(path):
    weight = torch.randn(4, 6)
    state = {"a": weight, "b": weight, "c": weight.T, "d": weight[:, ::2]}
    checkpoint.save(path, state, CONFIG)
    same(checkpoint.load(path).state, state)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_floating_weights_come_back_as_float32(path, dtype):
    state = {"a": torch.randn(3, 4).to(dtype)}
    checkpoint.save(path, state, CONFIG)
    same(checkpoint.load(path).state, {"a": state["a"].float()})


def test_storage_in_fp16(net, path):
    beyond = {"large": torch.tensor([1e6, 1.0]), "small": torch.randn(9) * 1e-6}
    state = net.state_dict() | beyond | {"zero": torch.zeros(2), "empty": torch.zeros(0)}
    checkpoint.save(path, state, CONFIG, storage="fp16")
    stored = load_file(path)
    assert stored["conv.weight"].dtype == torch.float16
    assert stored["norm.num_batches_tracked"].dtype == torch.int64
    loaded = checkpoint.load(path).state
    for key, value in beyond.items():  # would become infinite, or coarse
        assert stored[key].dtype == torch.float32
        assert torch.equal(loaded[key], value)
    for key, value in state.items():
        assert loaded[key].dtype == (torch.float32 if value.is_floating_point() else value.dtype)
        torch.testing.assert_close(loaded[key], value, rtol=2**-11, atol=1e-7)


def test_storage_in_int8(net, path):
    checkpoint.save(path, net.state_dict(), CONFIG, storage="int8")
    stored = load_file(path)
    assert {key for key, value in stored.items() if value.dtype == torch.int8} == {"conv.weight", "encoder.0.weight"}
    assert stored["encoder.0.bias"].dtype == torch.float16
    assert checkpoint.load(path).state.keys() == net.state_dict().keys()


@given(
    shape=st.sampled_from([(5, 16), (1, 40), (3, 2, 3, 3), (7, 16, 1, 1)]),
    spread=st.floats(1e-6, 1e6),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_int8_is_within_half_a_step_of_its_row(shape, spread, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(shape, generator=generator) * spread ** torch.rand(shape[0], *[1] * (len(shape) - 1))
    rows[0, 0] = 0
    decoded = checkpoint.decode(checkpoint.encode({"w": rows}, "int8"))["w"]
    bound = rows.double().flatten(1).abs().amax(1) / 127 / 2
    error = (decoded.double() - rows.double()).flatten(1).abs().amax(1)
    assert (error <= bound * (1 + 1e-4)).all()


def test_int8_of_zero_rows_is_zero_and_finite():
    rows = torch.randn(4, 20)
    rows[2] = 0
    decoded = checkpoint.decode(checkpoint.encode({"w": rows}, "int8"))["w"]
    assert decoded.isfinite().all()
    assert not decoded[2].any()


def test_int8_file_is_a_quarter(path):
    state = {"w": torch.randn(256, 256)}
    checkpoint.save(path, state, CONFIG, storage="int8")
    small = path.stat().st_size
    checkpoint.save(path, state, CONFIG)
    assert small < 0.28 * path.stat().st_size


def test_unknown_storage_is_refused(path):
    with pytest.raises(CheckpointError, match="'int4': must be one of fp32, fp16, int8"):
        checkpoint.save(path, {}, CONFIG, storage="int4")


# ---- a frozen encoder in a file of its own


@pytest.fixture
def split(net, path):
    """A checkpoint whose encoder lies beside it."""
    encoder = checkpoint.save_tensors(
        path.with_name("encoder.int8.safetensors"), net.state_dict(), prefix="encoder.", storage="int8"
    )
    checkpoint.save(path, net.state_dict(), CONFIG, encoders={"image_encoder": encoder})
    return encoder


def test_encoder_beside_the_checkpoint(net, path, split):
    assert not any(key.startswith("encoder.") for key in load_file(path))
    loaded = checkpoint.load(path)
    assert loaded.encoders == {"image_encoder": split}
    loaded.load_into(Net())
    tensors = checkpoint.load_tensors(path.with_name(split.file))
    same({key: loaded.state["encoder." + key] for key in tensors}, tensors)
    assert torch.equal(loaded.state["conv.weight"], net.state_dict()["conv.weight"])


def test_saving_again_leaves_the_encoder_file_alone(path, split):
    before = path.with_name(split.file).read_bytes()
    loaded = checkpoint.load(path)
    again = checkpoint.save_tensors(path.with_name(split.file), loaded.state, prefix="encoder.", storage="int8")
    assert path.with_name(split.file).read_bytes() == before
    assert again == split


def test_missing_encoder_file_is_named(path, split):
    path.with_name(split.file).unlink()
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors: its image_encoder .* encoder\.int8\.safetensors, mis"
    ):
        checkpoint.load(path)


def test_changed_encoder_file_is_named(net, path, split):
    checkpoint.save_tensors(path.with_name(split.file), Net().state_dict(), prefix="encoder.")
    with pytest.raises(
        CheckpointError, match=rf"encoder\.int8\.safetensors: not the image_encoder .*{split.sha256[:12]}"
    ):
        checkpoint.load(path)


def test_encoder_that_was_not_frozen_is_not_left_out(net, path, split):
    state = net.state_dict()
    state["encoder.0.weight"] = state["encoder.0.weight"] + 0.1
    with pytest.raises(
        CheckpointError, match=r"1 of another shape or value: encoder\.0\.weight\. Was the encoder really frozen"
    ):
        checkpoint.save(path, state, CONFIG, encoders={"image_encoder": split})
    state["encoder.more"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=r"1 missing in the file: encoder\.more"):
        checkpoint.save(path, state, CONFIG, encoders={"image_encoder": split})


def test_what_was_tuned_of_an_encoder_is_in_the_checkpoint(net, path, split):
    tuned = replace(split, tuned=("0.bias",))
    state = net.state_dict()
    state["encoder.0.bias"] = state["encoder.0.bias"] + 0.1
    checkpoint.save(path, state, CONFIG, encoders={"image_encoder": tuned})
    assert {key for key in load_file(path) if key.startswith("encoder.")} == {"encoder.0.bias"}
    loaded = checkpoint.load(path)
    assert loaded.encoders == {"image_encoder": tuned}
    assert torch.equal(loaded.state["encoder.0.bias"], state["encoder.0.bias"])
    loaded.load_into(Net())
    state["encoder.0.weight"] = state["encoder.0.weight"] + 0.1  # the rest must still be the file's
    with pytest.raises(CheckpointError, match=r"1 of another shape or value: encoder\.0\.weight"):
        checkpoint.save(path, state, CONFIG, encoders={"image_encoder": tuned})


def test_encoder_file_stays_in_the_folder(path, split):
    rewrite(path, lambda header: header["encoders"]["image_encoder"].update(file="../encoder.int8.safetensors"))
    with pytest.raises(CheckpointError, match="must not have a folder"):
        checkpoint.load(path)


def test_encoder_file_is_not_a_checkpoint(path, split):
    with pytest.raises(CheckpointError, match="an encoder's weights alone; give the checkpoint"):
        checkpoint.load(path.with_name(split.file))


def test_key_in_both_files_is_refused(net, path, split):
    stored = load_file(path) | {"encoder.0.bias": torch.zeros(24)}
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file(stored, path, metadata)
    with pytest.raises(CheckpointError, match=r"encoder\.0\.bias is in encoder\.int8\.safetensors as well"):
        checkpoint.load(path)


def test_prefix_of_nothing_is_refused(net, path):
    with pytest.raises(CheckpointError, match=r"no tensor's name starts with 'encodr\."):
        checkpoint.save_tensors(path, net.state_dict(), prefix="encodr.")


# ---- what is refused


@pytest.mark.parametrize("length", [0, 5, 200, -1])
def test_truncated_file(net, path, length):
    checkpoint.save(path, net.state_dict(), CONFIG)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CheckpointError, match=rf"{re.escape(str(path))}: truncated"):
        checkpoint.load(path)


def test_foreign_safetensors_file(path):
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors: a safetensors file, but not a checkpoint of jmceln"
    ):
        checkpoint.load(path)
    save_file({"a": torch.zeros(2)}, path, {"format": "pt"})
    with pytest.raises(CheckpointError, match="not a checkpoint of jmceln"):
        checkpoint.load(path)
    same(checkpoint.load_tensors(path), {"a": torch.zeros(2)})  # its tensors are welcome as an encoder's


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_pickles_are_refused(tmp_path, name, zipped):
    path = tmp_path / name
    torch.save({"a": torch.zeros(2)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=rf"{re.escape(name)}: a pickle"):
        checkpoint.load(path)


def test_header_length_that_looks_like_a_pickle(path):
    """Length 640 is the bytes 80 02 00 ..., which is how a protocol 2 pickle starts."""
    for filler in range(640):
        save_file({"a": torch.zeros(2)}, path, {"filler": "x" * filler})
        if path.read_bytes().startswith(b"\x80\x02"):
            break
    assert path.read_bytes()[:2] == b"\x80\x02"
    same(checkpoint.load_tensors(path), {"a": torch.zeros(2)})


def test_other_format_version(net, path):
    checkpoint.save(path, net.state_dict(), CONFIG)
    rewrite(path, lambda header: header.update(version=99))
    with pytest.raises(CheckpointError, match="format version 99, this jmceln reads 1"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h["config"].update(chanels=3), "config.chanels: no such field"),
        (lambda h: h["config"].update(stages="six"), "config.stages: expected int"),
        (lambda h: h["config"].update(channels=7), "channels=7"),
        (lambda h: h.pop("config"), "damaged metadata"),
        (lambda h: h.update(encoders={"image_encoder": {"file": "a"}}), "damaged metadata"),
        (lambda h: h.update(encoders=[1]), "damaged metadata"),
    ],
)
def test_metadata_that_does_not_fit(net, path, change, message):
    checkpoint.save(path, net.state_dict(), CONFIG)
    rewrite(path, change)
    with pytest.raises(CheckpointError, match=rf"model\.safetensors: .*{re.escape(message)}"):
        checkpoint.load(path)


def test_metadata_that_is_not_json(path):
    for text in ("{", "3", "[1]"):
        save_file({"a": torch.zeros(2)}, path, {"jmceln": text})
        with pytest.raises(CheckpointError, match=r"model\.safetensors: damaged metadata"):
            checkpoint.load(path)


def test_keys_and_shapes_that_do_not_fit_are_named(net, path):
    state = net.state_dict()
    del state["conv.bias"], state["norm.weight"]
    state["new.weight"] = torch.zeros(1)
    state["encoder.0.bias"] = torch.zeros(23)
    checkpoint.save(path, state, CONFIG)
    other = Net()
    before = {key: value.clone() for key, value in other.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(path).load_into(other)
    message = str(caught.value)
    assert str(path) in message
    assert "2 missing: conv.bias, norm.weight;" in message
    assert "1 unexpected: new.weight;" in message
    assert "1 of another shape: encoder.0.bias (23,) (expected (24,))" in message
    same(other.state_dict(), before)


def test_parts_that_a_checkpoint_lacks_may_start_new_and_are_named(net, path):
    state = {key: value for key, value in net.state_dict().items() if not key.startswith("norm.")}
    del state["conv.bias"]
    checkpoint.save(path, state, CONFIG)
    other = Net()
    nn.init.ones_(other.norm.bias)
    before = {key: value.clone() for key, value in other.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"6 missing: conv\.bias, norm\.bias"):
        checkpoint.load(path).load_into(other)
    same(other.state_dict(), before)
    assert checkpoint.load(path).load_into(other, missing="new") == ["conv.bias", "norm"]
    same(other.state_dict(), before | state)


def test_modules_asked_for_start_new_whatever_the_checkpoint_has_of_them(net, path):
    state = net.state_dict()
    state["norm.old"] = torch.zeros(3)  # not the model's
    state["norm.weight"] = torch.zeros(2)  # of another shape
    del state["norm.bias"]
    checkpoint.save(path, state, CONFIG)
    other = Net()
    before = {key: value.clone() for key, value in other.state_dict().items()}
    for missing in ("error", "new"):
        with pytest.raises(CheckpointError, match=r"1 unexpected: norm\.old; 1 of another shape: norm\.weight"):
            checkpoint.load(path).load_into(other, missing="new")
        same(other.state_dict(), before)
        assert checkpoint.load(path).load_into(copy.deepcopy(other), missing=missing, new=["norm"]) == ["norm"]
    assert checkpoint.load(path).load_into(other, new=["norm"]) == ["norm"]
    kept = {key: value for key, value in before.items() if key.startswith("norm.")}
    same(other.state_dict(), net.state_dict() | kept)
    del state["conv.bias"]  # another part is missing all the same
    checkpoint.save(path, state, CONFIG)
    with pytest.raises(CheckpointError, match=r"1 missing: conv\.bias\. "):
        checkpoint.load(path).load_into(other, new=["norm"])


def test_long_lists_of_keys_are_cut(path):
    checkpoint.save(path, {f"w{i}": torch.zeros(1) for i in range(9)}, CONFIG)
    with pytest.raises(CheckpointError, match="9 unexpected: w0, w1, w2, w3, w4 and 4 more"):
        checkpoint.load(path).load_into(nn.Module())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(net, path, value):
    checkpoint.save(path, net.state_dict(), CONFIG)
    before = path.read_bytes()
    state = net.state_dict()
    state["norm.bias"][3] = value
    with pytest.raises(CheckpointError, match=r"not written, norm\.bias holds values that are not finite"):
        checkpoint.save(path, state, CONFIG)
    assert path.read_bytes() == before
    stored = load_file(path)
    stored["norm.bias"][3] = value
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file(stored, path, metadata)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: norm\.bias holds values that are not finite"):
        checkpoint.load(path)


def test_scales_need_their_matrix(path):
    save_file({"w::scale": torch.ones(3)}, path)
    with pytest.raises(CheckpointError, match="w::scale scales a tensor that is not there"):
        checkpoint.load_tensors(path)
    save_file({"w": torch.ones(2, 3, dtype=torch.int8), "w::scale": torch.ones(3)}, path)
    with pytest.raises(CheckpointError, match="w::scale must hold one value per row"):
        checkpoint.load_tensors(path)
    with pytest.raises(CheckpointError, match="a tensor's name may not contain '::scale'"):
        checkpoint.save(path, {"w::scale": torch.ones(3)}, CONFIG)


def test_a_failed_write_leaves_the_old_file(net, path, monkeypatch):
    checkpoint.save(path, net.state_dict(), CONFIG)
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CheckpointError, match=r"cannot be written \(No space left"):
        checkpoint.save(path, Net().state_dict(), CONFIG)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_another_suffix_is_refused(net, tmp_path):
    with pytest.raises(CheckpointError, match=r"model\.pt: a checkpoint's name ends in \.safetensors"):
        checkpoint.save(tmp_path / "model.pt", net.state_dict(), CONFIG)


def test_names(net, path, tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match=r"nothing\.safetensors: no such file"):
        checkpoint.load(tmp_path / "nothing.safetensors")
    with pytest.raises(CheckpointError, match="is a folder"):
        checkpoint.load(f"{tmp_path}/")
    with pytest.raises(CheckpointError, match="no bundled checkpoint 'bundeld'"):
        checkpoint.load("bundeld")
    checkpoint.save(path, net.state_dict(), CONFIG)
    monkeypatch.setattr(checkpoint, "resource", lambda name: path if name == "weights/bundled.safetensors" else None)
    for name in (None, "bundled"):
        same(checkpoint.load(name).state, net.state_dict())
