"""Choosing an encoder by a matcher on pooled features: tiny encoders, drawn pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from jmceln_core.config import ConfigError, TextEncoderConfig
from jmceln_core.data.grounding import Expression, GroundingData, Instance, Picture, read_coco
from jmceln_core.model.encoders import TextFeatures, build_text_encoder
from jmceln_core.training import probe
from jmceln_core.training.features import TextFeatureCache
from jmceln_core.training.probe import Choice, Matcher, Spec, Things, TimmTrunk, choices, main, mean_under
from support import discs
from support.model_reference import array, random


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Discs whose place says nothing about their colour."""
    return discs.build(tmp_path_factory.mktemp("data"), pictures=48, shuffled=True)


class Identity(nn.Module):
    """An encoder whose only map is the image itself, at a quarter of its side."""

    @property
    def trunk_module(self) -> nn.Module:
        return self

    def trunk(self, image_B3SS: Tensor) -> tuple[Tensor, ...]:
        return (nn.functional.avg_pool2d(image_B3SS, 4),)


# ---- what is asked


def picture(key: int, folder: str, *things: Instance) -> Picture:
    return Picture(key, Path(folder) / f"{key}.png", 40, 80, things)


def thing(key: int, *, crowd: bool = False, box: tuple[float, float, float, float] = (0, 0, 8, 8)) -> Instance:
    return Instance(key, "thing", [], box, crowd)


def test_choices_are_written_sentences_that_mean_one_thing_among_others() -> None:
    crowded = picture(1, "a", thing(10), thing(11, crowd=True), thing(12))
    alone = picture(2, "a", thing(20), thing(21, crowd=True))
    said = [
        Expression(1, (12,), "the far one"),
        Expression(1, (10,), "the near one"),
        Expression(1, (11,), "the people"),  # a crowd
        Expression(1, (10, 12), "both", "plural"),
        Expression(1, (), "the sheep", "absent"),
        Expression(1, (10,), "a thing", "", "generated"),
        Expression(2, (20,), "the only one"),
    ]
    (choice,) = choices(GroundingData({1: crowded, 2: alone}, said))
    assert choice.picture is crowded
    assert [i.id for i in choice.things] == [10, 12]
    assert choice.texts == ("the far one", "the near one")
    assert choice.targets == (1, 0)


def test_so_many_pictures_of_each_folder_always_the_same() -> None:
    pictures = {k: picture(k, "a" if k < 6 else "b", thing(10 * k), thing(10 * k + 1)) for k in range(10)}
    data = GroundingData(pictures, [Expression(k, (10 * k,), "it") for k in pictures])
    drawn = [c.picture.id for c in choices(data, limit=3)]
    assert [k < 6 for k in drawn] == [True] * 3 + [False] * 3
    assert len(set(drawn)) == 6
    assert drawn == [c.picture.id for c in choices(data, limit=3)]
    assert {c.picture.id for c in choices(data)} == set(pictures)


def test_places_are_measured_from_the_middle_in_longer_sides() -> None:
    choice = Choice(picture(1, "a", thing(1, box=(0, 0, 80, 40)), thing(2, box=(60, 0, 20, 10))), (), (), ())
    places = Choice(choice.picture, choice.picture.instances, (), ()).places()
    torch.testing.assert_close(places, torch.tensor([[0, 0, 1, 0.5], [0.375, -0.1875, 0.25, 0.125]]))


def test_sizes_are_cocos_of_what_is_meant() -> None:
    edges = (0, 0, 31, 31), (0, 0, 33, 33), (0, 0, 97, 97)
    things = tuple(thing(n, box=box) for n, box in enumerate(edges))
    choice = Choice(Picture(1, Path("a.png"), 100, 100, things), things, ("a", "b", "c", "d"), (2, 0, 1, 0))
    assert probe.sizes_of([choice]).tolist() == ["large", "small", "medium", "small"]


# ---- pooling


def covered(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """(height, width) area of each place that is true, in pixels."""

    def shared(pixels: int, places: int) -> np.ndarray:
        """(places, pixels) length that a place and a pixel have in common."""
        side = pixels / places
        return np.array(
            [[max(0.0, min((p + 1) * side, i + 1) - max(p * side, i)) for i in range(pixels)] for p in range(places)]
        )

    return shared(mask.shape[0], height) @ mask.astype(np.float64) @ shared(mask.shape[1], width).T


@pytest.mark.parametrize("size", [(5, 5), (8, 8), (20, 20), (8, 5)])  # of the map: whole and broken strides
def test_the_mean_under_a_mask_counts_each_place_by_what_is_covered(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    masks = [rng.random((20, 20)) < share for share in (0.05, 0.5, 1.0)]
    features = random(3, *size)
    got = mean_under(features.float(), masks)
    for row, mask in zip(got, masks, strict=True):
        weight = covered(mask, *size)
        expected = (array(features) * weight).sum((1, 2)) / weight.sum()
        np.testing.assert_allclose(array(row), expected, rtol=1e-4, atol=1e-5)


def test_a_discs_pooled_pixels_have_its_colour(data: Path) -> None:
    for choice in choices(read_coco(data / "discs", "train"))[:3]:
        colours = 255 * probe.pool(Identity(), 64, choice)
        for one, colour in zip(colours, discs.COLOURS.values(), strict=True):
            assert (one - torch.tensor(colour)).abs().max() < 30  # grey comes in at the rim


def test_a_thing_thinner_than_a_pixel_has_the_features_of_its_place(data: Path) -> None:
    choice = choices(read_coco(data / "discs", "train"))[0]
    x, y, w, h = choice.things[0].box
    x, y = x + w / 2, y + h / 2
    thin = Instance(99, "hair", [[x, y - 3, x + 0.2, y - 3, x + 0.2, y + 3, x, y + 3]], (x, y - 3, 0.2, 6))
    seen = probe.pool(Identity(), 16, Choice(choice.picture, (choice.things[0], thin), (), ()))
    assert seen.isfinite().all()
    assert (255 * seen[1] - torch.tensor(discs.COLOURS["red"])).abs().max() < 60


def test_what_is_pooled_is_kept_for_the_same_encoder_side_and_pictures(data: Path, tmp_path: Path) -> None:
    asked = choices(read_coco(data / "discs", "train"))[:3]

    def pooled(spec: str, asked: list[Choice]) -> tuple[list[Tensor], dict[Path, int]]:
        torch.manual_seed(0)  # the tiny encoder's weights
        found = probe.pooled(Spec.parse(spec), asked, tmp_path)
        return found, {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}

    first, files = pooled("tiny:64", asked)
    again, same = pooled("tiny:64", asked)
    assert same == files
    for a, b, choice in zip(first, again, asked, strict=True):
        assert a.shape == (len(choice.things), 96 + 3 * 192)
        assert torch.equal(a, b)
    assert len(pooled("tiny:96", asked)[1]) == 2
    assert len(pooled("tiny:64", asked[:2])[1]) == 3


# ---- the matcher


def matcher(features: int = 6) -> Matcher:
    torch.manual_seed(0)
    return Matcher(torch.zeros(features), torch.ones(features), words=5, channels=8, heads=2).eval()


def sentences(count: int) -> TextFeatures:
    return TextFeatures(torch.randn(count, 4, 5), torch.randn(count, 5), torch.ones(count, 4, dtype=torch.bool))


def test_a_picture_with_fewer_things_is_scored_as_if_it_were_alone() -> None:
    one, other = Things(torch.randn(2, 6), torch.randn(2, 4)), Things(torch.randn(5, 6), torch.randn(5, 4))
    text, net = sentences(4), matcher()
    with torch.inference_mode():
        together = net([one, other], text)
        alone = net([one], text.select(slice(0, 2)))
    assert together.shape == (4, 5)
    torch.testing.assert_close(together[:2, :2], alone)
    assert together[:2, 2:].eq(-torch.inf).all()
    assert together[2:].isfinite().all()


def test_padding_of_a_sentence_changes_nothing_and_its_words_do() -> None:
    things, text, net = [Things(torch.randn(3, 6), torch.randn(3, 4))], sentences(1), matcher()
    padded = TextFeatures(
        torch.cat([text.words, torch.randn(1, 3, 5)], 1),
        text.sentence,
        torch.cat([text.mask, torch.zeros(1, 3, dtype=torch.bool)], 1),
    )
    with torch.inference_mode():
        torch.testing.assert_close(net(things, padded), net(things, text))
        assert not torch.allclose(net(things, sentences(1)), net(things, text), atol=1e-4)


def test_a_things_score_depends_on_its_rivals() -> None:
    things, text, net = Things(torch.randn(3, 6), torch.randn(3, 4)), sentences(1), matcher()
    changed = Things(things.features * torch.tensor([[1.0], [1.0], [-1.0]]), things.places)
    with torch.inference_mode():
        assert not torch.allclose(net([changed], text)[:, :2], net([things], text)[:, :2], atol=1e-4)


def test_every_parameter_of_the_matcher_learns() -> None:
    net, things = matcher().train(), [Things(torch.randn(3, 6), torch.randn(3, 4))]
    nn.functional.cross_entropy(net(things, sentences(2)), torch.tensor([0, 2])).backward()
    # what is added to all logits, or to all keys, is nothing to a softmax
    missing = {n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 1e-7}
    assert {n for n in missing if "to_k.bias" not in n and n != "score.0.bias"} == set()


def test_batches_hold_pictures_with_about_as_many_things_and_leave_none_out() -> None:
    counts = np.random.default_rng(0).integers(2, 40, 50).tolist()
    batches, seen, spread = probe._batches(counts, np.random.default_rng(1)), set(), []
    for _ in range(60):
        batch = next(batches)
        assert len(batch) == len(set(batch.tolist())) == probe.IMAGES
        seen |= set(batch.tolist())
        spread.append(np.std([counts[i] for i in batch]))
    assert seen == set(range(50))
    assert np.mean(spread) < 0.7 * np.std(counts)


def answered(data: Path, folder: Path, features: Sequence[Tensor] | None = None) -> probe.Answers:
    asked = choices(read_coco(data / "discs", "train"))
    config = TextEncoderConfig(name="tiny")
    torch.manual_seed(0)
    encoder = build_text_encoder(config, pretrained=True)
    texts = TextFeatureCache(folder, encoder.eval(), config)  # type: ignore[attr-defined]
    texts.fill(text for choice in asked for text in choice.texts)
    features = features or [probe.pool(Identity(), 64, choice) for choice in asked]
    return probe.answer(features, asked[:32], asked[32:], texts, steps=30, seeds=2)


def test_the_matcher_learns_colours_from_features_and_not_without(data: Path, tmp_path: Path) -> None:
    seeing = answered(data, tmp_path)
    assert seeing.right.shape == (48,)
    assert seeing.right.mean() > 0.9
    assert seeing.kind.min() == 1.0  # they are all balls
    assert np.mean(seeing.seeds) == pytest.approx(seeing.right.mean())
    blind = answered(data, tmp_path, [torch.zeros(3, 3)] * 48)
    assert blind.right.mean() < 0.6  # a third by chance


# ---- encoders


@pytest.mark.parametrize("text", ["dinov2_vits14", "tiny:", "tiny:big", ":64", "tiny:0", "tiny:-64"])
def test_an_encoder_without_a_name_or_a_side_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected NAME:SIDE"):
        Spec.parse(text)


def test_a_file_may_have_colons_in_its_name() -> None:
    spec = Spec.parse("timm:resnet14t@C:/w.safetensors:320")
    assert spec == ("timm:resnet14t@C:/w.safetensors", 320)
    assert str(spec) == "timm:resnet14t:320"


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    save_file(timm.create_model("resnet14t", pretrained=False).state_dict(), path)
    return path


def test_any_of_timms_networks_is_a_pyramid_with_the_files_weights(resnet: Path) -> None:
    encoder = Spec.parse(f"timm:resnet14t@{resnet}:64").build()
    torch.manual_seed(0)
    net = timm.create_model("resnet14t", pretrained=False).eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        maps = encoder.trunk(image)
        mean, std = (torch.tensor(net.default_cfg[k])[:, None, None] for k in ("mean", "std"))
        expected = net.forward_features((image - mean) / std)
    assert [m.shape[-1] for m in maps] == [16, 8, 4, 2]
    torch.testing.assert_close(maps[-1], expected, rtol=1e-4, atol=1e-5)


def test_the_first_resnets_stride_in_a_blocks_first_convolution(resnet: Path) -> None:
    strides = {}
    for name in ("resnet14t", "resnet14t_v1"):
        block = dict(TimmTrunk(name, resnet).trunk_module.named_modules())["layer2.0"]
        strides[name] = block.conv1.stride, block.conv2.stride
    assert strides == {"resnet14t": ((1, 1), (2, 2)), "resnet14t_v1": ((2, 2), (1, 1))}


def test_a_file_that_does_not_fit_is_refused(resnet: Path, tmp_path: Path) -> None:
    part = tmp_path / "part.safetensors"
    save_file({name: x for name, x in load_file(resnet).items() if not name.startswith("layer4.0.conv1")}, part)
    with pytest.raises(ConfigError, match=r"the file lacks layer4.0.conv1.weight; it needs timm's names"):
        TimmTrunk("resnet14t", part)
    with pytest.raises(ConfigError, match="size mismatch"):
        TimmTrunk("tf_efficientnet_lite0", resnet)
    with pytest.raises(ConfigError, match="none"):
        TimmTrunk("resnet14t", tmp_path / "none")
    with pytest.raises(ConfigError, match="resnet9000"):
        TimmTrunk("resnet9000", resnet)


def test_times_are_taken_with_so_many_threads_and_these_are_put_back() -> None:
    seen: list[int] = []

    class Watched(Identity):
        def trunk(self, image_B3SS: Tensor) -> tuple[Tensor, ...]:
            seen.append(torch.get_num_threads())
            return ()

    before = torch.get_num_threads()
    assert probe.milliseconds(Watched(), 32, threads=2, count=3) > 0
    assert seen == [2] * 5
    assert torch.get_num_threads() == before


# ---- the command


def test_the_command_measures_accuracy_and_time(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--data.root", str(data), "--sources", "discs/train", "--validation", "12", "--text", "tiny"]
    command += ["--encoders", "tiny:64", "tiny:96", "--steps", "30", "--seeds", "2", "--output", str(tmp_path)]
    torch.manual_seed(0)
    assert main([*command, "--times", "2"]) == 0
    found = json.loads((tmp_path / "probe.json").read_text())
    table = capsys.readouterr().out
    assert "| tiny:64 | " in table
    assert "Learned from 36 pictures in 30 steps, 2 seeds; tested on 36 sentences about 12 others" in table
    assert table.strip() == (tmp_path / "table.md").read_text().strip()
    first, second = (found["accuracy"]["encoders"][name] for name in ("tiny:64", "tiny:96"))
    assert first["metrics"]["right"]["value"] > 0.6  # a third by chance
    assert first["metrics"]["kind"]["value"] == 1.0
    assert first["minus the first"]["value"] == 0
    difference = second["metrics"]["right"]["value"] - first["metrics"]["right"]["value"]
    assert second["minus the first"]["value"] == pytest.approx(difference)
    assert found["accuracy"]["chance"] == pytest.approx(1 / 3)
    assert found["time"]["encoders"]["tiny:64"].keys() == {"1", "2"}

    torch.manual_seed(0)
    assert main([*command, "--only-time", "--times", "3"]) == 0
    again = json.loads((tmp_path / "probe.json").read_text())
    assert again["accuracy"] == found["accuracy"]
    assert again["time"]["count"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--encoders", "tiny"], "expected NAME:SIDE"),
        (["--encoders", "vgg:64"], "no such encoder"),
        (["--sources", "nothing/train", "--times", "0"], "no such file"),
        (["--encoders", "tiny_vit_5m:100"], "multiple of 32"),
    ],
)
def test_what_cannot_be_measured_is_said(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    common = ["--data.root", str(data), "--sources", "discs/train", "--text", "tiny", "--output", str(tmp_path)]
    assert main([*common, *arguments]) == 2
    assert message in capsys.readouterr().err
