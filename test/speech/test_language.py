"""The language model against its definition, the beam search against trying everything, and the two together."""

from __future__ import annotations

import gzip
import itertools
import json
import math

import numpy as np
import pytest

from jmceln_core.speech import language
from jmceln_core.speech.decoding import SPACE, BeamSearch
from jmceln_core.speech.language import BEGIN, END, LanguageModel, count, sentences_of, words

FRAMES = {"asking": ["find"], "polite": ["please {}"], "alone": ["where is {}"], "ending": ["stop"]}
SENTENCES = ["red cup", "red cup on the left", "blue cup", "left dog", "dog on the red sofa", "the dog"] * 3


@pytest.fixture(scope="module")
def counts():
    return count(SENTENCES, FRAMES)


def naive(counts, word, history):
    """Witten-Bell (method C), straight from the formula in float64."""
    history = history[-2:]
    if not history:
        following = {key[0]: n for key, n in counts.items() if len(key) == 1}
        lower = language._UNKNOWN
        seen = following.get(word, 0)
    else:
        following = {key[-1]: n for key, n in counts.items() if key[:-1] == history}
        lower = naive(counts, word, history[1:])
        seen = following.get(word, 0)
    total, kinds = sum(following.values()), len(following)
    return (seen + kinds * lower) / (total + kinds) if kinds else lower


def test_probabilities_are_those_of_the_definition(counts):
    model = LanguageModel(counts)
    vocabulary = [key[0] for key in counts if len(key) == 1] + ["never-seen"]
    histories = [(), (BEGIN,), (BEGIN, "the"), ("red", "cup"), ("never-seen", "cup"), ("a", "b")]
    for history, word in itertools.product(histories, vocabulary):
        assert model.probability(word, history) == pytest.approx(naive(counts, word, history), rel=1e-12)


def test_the_words_share_what_the_unknown_leave(counts):
    model = LanguageModel(counts)
    vocabulary = [key[0] for key in counts if len(key) == 1]
    for history in [(BEGIN,), ("the", "red"), ("never-seen", "cup"), ("on", "the")]:
        total = sum(model.probability(word, history) for word in vocabulary)
        assert 0.99 < total < 1.0


def test_a_sentence_is_the_product_of_its_words(counts):
    model = LanguageModel(counts)
    steps = [("red", (BEGIN,)), ("cup", (BEGIN, "red")), (END, ("red", "cup"))]
    expected = sum(math.log(naive(counts, word, history)) for word, history in steps)
    assert model.score(["red", "cup"]) == pytest.approx(expected)
    assert model.score(["red", "cup"]) > model.score(["cup", "red"]) > model.score(["cup", "zebra"])


def test_given_words_become_likelier(counts):
    plain, biased = LanguageModel(counts), LanguageModel(counts, ["gizmo", "cup"])
    assert "gizmo" not in plain
    assert "gizmo" in biased
    assert biased.probability("gizmo", (BEGIN,)) > 50 * plain.probability("gizmo", (BEGIN,))
    assert biased.probability("cup", ("red",)) == pytest.approx(plain.probability("cup", ("red",)), rel=0.2)


def test_sentences_are_counted_framed_and_slips_left_out():
    counts = count([*SENTENCES, "zebrra with a slip"], FRAMES)
    for key in [
        ("red",),
        (BEGIN, "the"),
        ("the", "red", "cup"),
        ("where", "is"),
        ("find", "the"),
        (BEGIN, "stop", END),
    ]:
        assert counts[key] >= 2, key
    assert ("zebrra",) not in counts
    assert ("slip",) not in counts
    assert all(n >= 2 for key, n in counts.items() if len(key) == 3)
    assert count(SENTENCES, FRAMES) == count(SENTENCES, FRAMES)


def test_a_file_gives_back_what_was_saved(counts, tmp_path):
    LanguageModel(counts).save(tmp_path / "a.txt.gz")
    LanguageModel(counts).save(tmp_path / "b.txt.gz")
    assert (tmp_path / "a.txt.gz").read_bytes() == (tmp_path / "b.txt.gz").read_bytes()
    again = LanguageModel.load(tmp_path / "a.txt.gz")
    assert again.score(words("the red cup")) == LanguageModel(counts).score(words("the red cup"))


def test_a_broken_file_is_named(tmp_path):
    with gzip.open(tmp_path / "words.txt.gz", "wt") as file:
        file.write("hello\n")
    with pytest.raises(ValueError, match=r"words\.txt\.gz: no counts"):
        LanguageModel.load(tmp_path / "words.txt.gz")
    (tmp_path / "plain.txt.gz").write_text("3\tthe\n")
    with pytest.raises(OSError, match="gzip"):
        LanguageModel.load(tmp_path / "plain.txt.gz")


def test_the_command_reads_text_and_json(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("\n".join(SENTENCES))
    record = {"expressions": [{"text": "red cup", "kind": "short"}], "more": {"captions": ["A dog.", "A cat."]}}
    (tmp_path / "b.json").write_text(json.dumps(record))
    assert set(sentences_of(tmp_path / "b.json")) == {"red cup", "A dog.", "A cat."}
    assert language.main([str(tmp_path / "a.txt"), str(tmp_path / "b.json"), "--out", str(tmp_path / "m.txt.gz")]) == 0
    assert "counts" in capsys.readouterr().out
    assert "cup" in LanguageModel.load(tmp_path / "m.txt.gz")


def test_test_sentences_can_be_left_out(tmp_path):
    (tmp_path / "a.txt").write_text("\n".join([*SENTENCES, *["the orange kettle", "orange kettle"] * 9]))
    (tmp_path / "s.yaml").write_text('test: [{say: "find the orange kettle", command: "the orange kettle"}]\n')
    for arguments, known in ([], True), (["--without", str(tmp_path / "s.yaml")], False):
        language.main([str(tmp_path / "a.txt"), *arguments, "--out", str(tmp_path / "m.txt.gz")])
        assert ("kettle" in LanguageModel.load(tmp_path / "m.txt.gz")) == known


def test_a_word_that_was_never_counted_has_a_bounded_cost():
    """Otherwise "broom", which nobody has told it of, is heard as "room", and "router" as nothing at all."""
    model = LanguageModel.load()
    assert "router" not in model
    assert model.log_probability("router", ("find", "the")) == pytest.approx(math.log(language._LEAST))
    assert model.probability("router", ("find", "the")) < language._LEAST


def test_the_bundled_model_prefers_what_people_say_to_robots():
    model = LanguageModel.load()
    pairs = [
        ("the yellow train", "the yellow drain"),
        ("look at the red cup", "look at the read cup"),
        ("second guy from the right", "second by from the right"),
        ("the woman in the blue coat", "the woman in the blue goat"),
        ("stop looking", "stop cooking"),
    ]
    for likely, unlikely in pairs:
        assert model.score(words(likely)) > model.score(words(unlikely)) + 2.0, likely


# A vocabulary of pieces: <s> and </s>, words and parts of words.
PIECES = [b"<s>", b"</s>", *(text.encode() for text in (f"{SPACE}red", f"{SPACE}cu", "p", "t"))]
END_TOKEN = 1


def random_engine(seed):
    """Log-probabilities that depend on the whole text so far, as a decoder's do."""

    def logits(tokens):
        return np.random.default_rng([seed, *tokens]).normal(0, 2, len(PIECES))

    return logits


def search(logits, steps, **options):
    beam = BeamSearch(PIECES, END_TOKEN, **options)
    for _ in range(steps):
        if not beam.extend(np.stack([logits(h.tokens) for h in beam.alive])):
            break
    return beam.best


def everything(logits, steps, model, weight, bonus):
    """The best of all texts that end within so many tokens, scored as BeamSearch says."""
    best = (-math.inf, ())
    waiting = [((), 0.0)]
    while waiting:
        tokens, sound = waiting.pop()
        logs = logits(tokens)
        logs = logs - np.log(np.exp(logs).sum())
        for token, log in enumerate(logs):
            longer = (*tokens, token)
            if token != END_TOKEN:
                if len(longer) < steps:
                    waiting.append((longer, sound + log))
            elif log >= logs.max() - (3.0 if tokens else 0.0):  # no text at all only if that is the likeliest
                said = words(b"".join(PIECES[t] for t in tokens).decode().replace(SPACE, " "))
                value = sound + log + bonus * len(said) + weight * model.score(said)
                best = max(best, (value, longer))
    return best


@pytest.mark.parametrize("seed", range(8))
def test_a_wide_beam_finds_what_trying_everything_finds(counts, seed):
    """Without a bonus scores only fall, so that what is dropped cannot come back."""
    model = LanguageModel(counts)
    logits = random_engine(seed)
    value, tokens = everything(logits, 5, model, 0.35, 0.0)
    found = search(logits, 5, width=10_000, language=model, weight=0.35)
    assert found.tokens == tokens
    assert found.score == pytest.approx(value)


def test_a_beam_of_one_without_language_takes_the_likeliest_token():
    logits = random_engine(7)
    tokens = ()
    while not tokens or (tokens[-1] != END_TOKEN and len(tokens) < 6):
        tokens = (*tokens, int(logits(tokens).argmax()))
    assert search(logits, 6, width=1).tokens == tokens


def test_the_language_model_turns_a_near_miss():
    """The sound says "red cut" a little more than "red cup"."""
    script = {(): {2: 5.0}, (2,): {3: 5.0}, (2, 3): {5: 2.0, 4: 1.5}, (2, 3, 4): {1: 5.0}, (2, 3, 5): {1: 5.0}}

    def logits(tokens):
        scores = np.full(len(PIECES), -5.0)
        for token, score in script.get(tuple(tokens), {1: 5.0}).items():
            scores[token] = score
        return scores

    model = LanguageModel(count(SENTENCES, FRAMES))
    assert search(logits, 5, width=4).tokens == (2, 3, 5, 1)
    assert search(logits, 5, width=4, language=model, weight=0.35, bonus=2.0).tokens == (2, 3, 4, 1)


def test_texts_that_sound_the_same_to_a_person_are_one():
    """Capitals and stops take no place in the beam from other words."""
    pieces = [b"<s>", b"</s>", *(text.encode() for text in (f"{SPACE}red", f"{SPACE}Red", f"{SPACE}cup"))]
    beam = BeamSearch(pieces, END_TOKEN, width=3)
    assert beam.extend(np.array([[-9.0, -9.0, 3.0, 3.1, 1.0]])) == [0, 0]
    assert [h.tokens for h in beam.alive] == [(3,), (4,)]


def test_the_end_is_the_engines_to_say():
    """A short text is cheap to the language model, but here the sound clearly goes on."""

    def logits(tokens):
        scores = np.full(len(PIECES), -8.0)
        scores[2 if len(tokens) < 3 else 1] = 5.0
        scores[1] = max(scores[1], 0.0)
        return scores

    model = LanguageModel(count(SENTENCES, FRAMES))
    found = search(logits, 6, width=4, language=model, weight=2.0)
    assert found.tokens == (2, 2, 2, 1)
    assert found.ended
    assert found.said == ("red", "red", "red")
