"""People composed into pictures, from a drawn folder of people: rectangles with labels."""

import json
import re
from collections import Counter, defaultdict

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from jmceln_core.data.grounding import DataError, Expression, GroundingData, Instance, Picture
from jmceln_core.synthesis import colours
from jmceln_core.synthesis.composition import live as composition
from jmceln_core.synthesis.composition.clothes import FACE, HEAD, Look, person_of, read_people
from jmceln_core.synthesis.composition.cutting import Cut
from jmceln_core.synthesis.composition.people import People, _judged, _subject, _written
from jmceln_core.synthesis.rules.facts import Staged, _claims, sentences

LABELS = ("null", "hair", "skin", "coat", "pants", "shoes", "hat", "bag", "accessories", "dress", "skirt", "blouse")
SIZE = 300, 120  # height, width of a photograph
RGB = {
    "red": (200, 20, 30), "green": (20, 150, 40), "yellow": (240, 215, 30), "blue": (30, 70, 200),
    "black": (12, 12, 12), "white": (245, 245, 245), "brown": (98, 60, 35), "skin": (224, 178, 150),
}  # fmt: skip
COATS = ("red", "green", "yellow", "blue")


def drawn(parts):
    """A photograph and its labels: parts are (label, colour or RGB, y0, y1, x0, x1)."""
    rgb, labels = np.full((*SIZE, 3), 110, np.uint8), np.zeros(SIZE, np.uint8)
    for label, colour, y0, y1, x0, x1 in parts:
        rgb[y0:y1, x0:x1] = RGB[colour] if isinstance(colour, str) else colour
        labels[y0:y1, x0:x1] = LABELS.index(label)
    return rgb, labels


def entry(key, parts, *, coat="", **known):
    """What the table says of them. `known` overrides it."""
    garments = [
        {"label": label, "area": (y1 - y0) * (x1 - x0), "colour": colour, "share": 1.0, "pattern": False}
        for label, colour, y0, y1, x0, x1 in parts
        if label not in ("hair", "skin")
    ]
    say = {
        "short": f"woman in {coat} coat" if coat else "woman", "fragment": "", "full": "the woman", "hair": "brown",
        "glasses": False, "hat": any(g["label"] == "hat" for g in garments), "bad": False, "others": False,
        "carries": "black bag" if any(g["label"] == "bag" for g in garments) else None,
    }  # fmt: skip
    say |= {k: v for k, v in known.items() if k in say}
    rest = {k: v for k, v in known.items() if k not in say}
    return {
        "id": key, "file_name": f"images/{key}.png", "person_box": [30, 8, 60, 275], "garments": garments,
        "sex": "woman", "say": say, "label_doubt": [], **rest,
    }  # fmt: skip


def body(coat, *, hat="", bag=False):
    """A whole person: a coat, black pants and brown shoes."""
    parts = [
        ("hair", "brown", 20, 40, 48, 72), ("skin", "skin", 40, 55, 48, 72), ("coat", coat, 55, 160, 35, 85),
        ("pants", "black", 160, 262, 40, 80), ("shoes", "brown", 262, 280, 38, 82),
    ]  # fmt: skip
    return parts + [("hat", hat, 8, 22, 46, 74)] * bool(hat) + [("bag", "black", 150, 185, 84, 104)] * bag


def folder(root, people):
    """`people`: id to (parts, what the table says otherwise)."""
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    images = []
    for key, (parts, known) in people.items():
        rgb, labels = drawn(parts)
        cv2.imwrite(str(root / f"images/{key}.png"), rgb[..., ::-1])
        cv2.imwrite(str(root / f"labels/{key}.png"), labels)
        images.append(entry(key, parts, **known))
    table = {"labels": {str(k): name for k, name in enumerate(LABELS)}, "images": images}
    (root / "people.json").write_text(json.dumps(table))
    return root


@pytest.fixture(scope="module")
def dressed(tmp_path_factory):
    """Twenty in coats of four colours, a third with hats, a half with bags."""
    people = {
        f"{k:04d}": (
            body(COATS[k % 4], hat="white" if k % 3 == 0 else "", bag=k % 2 == 0),
            {"coat": COATS[k % 4], "sex": "man" if k % 5 == 0 else "woman"},
        )
        for k in range(20)
    }
    return folder(tmp_path_factory.mktemp("dressed"), people)


@pytest.fixture(scope="module")
def staged(dressed):
    people = People(dressed)
    return [people(k, np.random.default_rng(k)) for k in range(60)]


def share(staged, subject, colour):
    """How much of what is seen of somebody surely has the colour."""
    named, _ = colours.name_pixels(staged.rgb[subject.instance.mask(*staged.rgb.shape[:2])])
    return colours.shares(named)[colours.NAMES.index(colour)]


def possible(staged, subject, colour):
    _, bits = colours.name_pixels(staged.rgb[subject.instance.mask(*staged.rgb.shape[:2])])
    return colours.possible_shares(bits)[colours.NAMES.index(colour)]


def test_the_same_seed_gives_the_same_picture_and_sentences(dressed):
    def made():
        rng = np.random.default_rng(3)
        staged = People(dressed)(7, rng)
        return staged, sentences(staged, rng)

    (one, said), (two, again) = made(), made()
    assert one.rgb.tobytes() == two.rgb.tobytes()
    assert one.picture == two.picture
    assert one.subjects == two.subjects
    assert one.facts == two.facts
    assert said == again


def test_masks_are_the_visible_pixels(tmp_path):
    """People all of one colour each, which nobody dyes: under a mask is that colour, and nowhere else."""
    hues = range(0, 180, 15)
    paint = {
        f"{k:04d}": cv2.cvtColor(np.uint8([[[h, 255, 230]]]), cv2.COLOR_HSV2RGB)[0, 0].tolist()
        for k, h in enumerate(hues)
    }
    whole = {key: [("skin", colour, 10, 280, 35, 85)] for key, colour in paint.items()}
    people = People(folder(tmp_path / "plain", {key: (parts, {}) for key, parts in whole.items()}))
    cross, hidden = np.ones((5, 5), np.uint8), 0
    for number in range(12):
        staged = people(number, np.random.default_rng(number))
        assert 2 <= len(staged.subjects) <= 7
        assert [s.instance.id for s in staged.subjects] == [number * 1000 + k + 1 for k in range(len(staged.subjects))]
        hue, saturation, _ = cv2.split(cv2.cvtColor(staged.rgb, cv2.COLOR_RGB2HSV))
        masks = [s.instance.mask(*staged.rgb.shape[:2]) for s in staged.subjects]
        found = []
        for mask in masks:
            inside = cv2.erode(mask.astype(np.uint8), cross, borderValue=1) > 0
            nearest = np.round(hue[inside] / 15).astype(int) % 12
            found.append(np.bincount(nearest).argmax())
            assert np.mean(nearest == found[-1]) > 0.99
            assert np.mean(saturation[inside] > 150) > 0.99
        assert len(set(found)) == len(found)  # nobody twice
        assert np.max(np.sum(masks, 0)) == 1
        beside = cv2.dilate(np.any(masks, 0).astype(np.uint8), cross) == 0
        assert np.mean(saturation[beside] > 150) < 0.001
        hidden += len(staged.covers)
    assert hidden


def test_held_out_persons_and_their_doubles_are_not_in_train(tmp_path):
    people = {f"{k:04d}": (body("red"), {"coat": "red"}) for k in range(30)}
    people["0001"][1]["dup_of"], people["0002"][1]["dup_of"] = "0009", "0001"
    people["0003"][1]["bad"] = True
    root = folder(tmp_path / "many", people)
    train, held = ({p.id for p in People(root, split=split).people} for split in ("train", "heldout"))
    assert not train & held
    assert train | held == people.keys() - {"0003"}
    assert len(held) in (5, 6, 7)
    assert {"0001", "0002", "0009"} <= train or {"0001", "0002", "0009"} <= held


def test_facts_agree_with_the_drawn_and_dyed_colours(staged):
    seen = Counter()
    for s in staged:
        keys = {fact.key for fact in s.facts}
        for subject in s.subjects:
            assert subject.facts.keys() <= keys
            for colour in colours.CHROMATIC:
                coat, pants = (subject.facts.get(f"wears:{colour} {name}") for name in ("coat", "pants"))
                if coat or pants:
                    assert possible(s, subject, colour) > 0.15
                    seen[colour] += 1
                elif coat is pants is False:
                    assert share(s, subject, colour) < 0.08
                    seen["none"] += 1
                if subject.facts.get(f"in:{colour}"):
                    assert possible(s, subject, colour) > 0.15
            for key in ("wears:dress", "wears:skirt"):
                assert not subject.facts.get(key)
    assert min(seen[colour] for colour in (*COATS, "none")) > 5
    assert seen["purple"] + seen["pink"] + seen["orange"] > 5  # nobody was drawn in these


def test_the_same_person_in_two_colours_differs_in_that_alone(dressed):
    people, met = People(dressed), 0
    for number in range(30):
        worn = defaultdict(list)
        for person, dyes in people._choose(5, np.random.default_rng(number)):
            worn[person.id].append(dyes)
        for twins in (dyes for dyes in worn.values() if len(dyes) > 1):
            assert len({frozenset(dyes.values()) for dyes in twins}) == len(twins)
            assert len({frozenset(dyes) for dyes in twins}) == 1
            met += 1
    assert met > 5


def look(root, hidden=slice(0, 0), dyes=None, key="0000"):
    """What one sees of the first person, of whom rows are hidden."""
    people, names = read_people(root)
    person = next(p for p in people if p.id == key)
    rgb, labels = cv2.imread(str(person.image))[..., ::-1].copy(), cv2.imread(str(person.labels), cv2.IMREAD_UNCHANGED)
    for old, new in person.renamed.items():
        labels[labels == names.index(old)] = names.index(new)
    mask = labels > 0
    mask[hidden] = False
    top = int(np.flatnonzero(labels.any(1))[0])
    return Look(person, dyes or {}, names, labels[top:281], top, mask, labels, rgb)


def test_what_is_hidden_is_in_doubt(dressed):
    whole = look(dressed)
    assert whole.wears("coat") is whole.wears("coat", "red") is whole.is_in("red") is whole.wears("hat") is True
    assert whole.wears("coat", "green") is whole.is_in("green") is whole.wears("skirt") is False
    assert whole.wears("jacket") is None  # some would call it so
    coatless = look(dressed, slice(100, 300))
    assert coatless.wears("coat") is coatless.wears("coat", "red") is coatless.wears("pants") is None
    assert look(dressed, slice(0, 60)).wears("hat") is None
    assert look(dressed, slice(0, 60)).has_hair("brown") is None
    assert look(dressed, slice(130, 290)).wears("bag") is None


def test_that_somebody_carries_a_bag_was_told(tmp_path):
    root = folder(tmp_path, {"0000": (body("red", bag=True), {}), "0001": (body("red", bag=True), {"carries": None})})
    assert look(root).wears("bag") is True
    assert look(root, key="0001").wears("bag") is None  # a strap is labelled so, too


def test_what_is_not_seen_is_not_denied(dressed):
    """Nobody takes a person without a head for one in a hat, nor says that there is none on it."""
    hatted, bare, headless = look(dressed), look(dressed, key="0001"), look(dressed, slice(0, 60), key="0001")
    assert hatted.wears("hat") is True
    assert bare.wears("hat") is headless.wears("hat") is False
    assert bare.shows(HEAD)
    assert not headless.shows(HEAD)
    for looks, denied in (((hatted, bare), True), ((hatted, headless), False)):
        facts, known = _judged(looks, np.random.default_rng(0))
        (hat,) = (fact for fact in facts if fact.key == "wears:hat")
        assert bool(hat.denied) is denied
        assert [of["wears:hat"] for of in known] == [True, False]


def test_glasses_need_a_face_large_enough(tmp_path):
    people = {"0000": (body("red"), {"coat": "red", "glasses": True}), "0001": (body("red"), {"coat": "red"})}
    root = folder(tmp_path / "glasses", people)
    assert look(root).has_glasses("glasses") is True
    assert look(root).has_glasses("sunglasses") is None  # no label says of which sort they are
    assert look(root, key="0001").has_glasses("glasses") is False
    assert look(root, slice(0, 50)).has_glasses("glasses") is None
    assert FACE.tall > 100


def test_the_description_corrects_the_label(tmp_path):
    skirt = [*body("red")[:2], ("blouse", "white", 55, 130, 35, 85), ("dress", "blue", 130, 240, 38, 82)]
    people = {
        "0000": (skirt, {"short": "woman in white blouse and blue skirt", "label_doubt": ["dress"]}),
        "0001": (skirt, {"short": "woman in white blouse", "label_doubt": ["dress"]}),
        "0002": (body("red"), {"coat": "green"}),
    }
    root = folder(tmp_path / "labels", people)
    assert look(root).wears("skirt", "blue") is True
    assert look(root).wears("dress") is False
    assert look(root).wears("shirt", "white") is True
    unsure = look(root, key="0001")
    assert unsure.wears("skirt") is unsure.wears("dress") is unsure.wears("skirt", "blue") is None
    told = look(root, key="0002")  # red by its pixels, green by the description
    assert told.wears("coat") is True
    assert told.wears("coat", "red") is told.wears("coat", "green") is None
    assert look(root, dyes={"coat": "red"}, key="0002").wears("coat", "red") is True


NOUN = "(?:the )?(woman|lady|girl|man|guy|person)"
IN_COAT = re.compile(NOUN + r" (not )?(?:in|wearing) an? (\w+) coat")
WITH_BAG = re.compile(NOUN + r" (without|with no|not carrying)?(?:with|carrying|holding)? a? ?bag")


def test_a_sentence_means_all_of_whom_its_claim_is_true(staged):
    """Read naively, and looked at: a coat's colour fills much of those who are meant and hardly any of the others."""
    read = Counter()
    for s in staged:
        for e in sentences(s, np.random.default_rng(s.picture.id)):
            assert set(e.targets) <= {i.id for i in s.picture.instances}
            assert " no a " not in e.text
            if coat := IN_COAT.fullmatch(e.text):
                noun, value, colour = coat[1], not coat[2], coat[3].replace("grey", "gray")
            elif bag := WITH_BAG.fullmatch(e.text):
                noun, value, colour = bag[1], not bag[2], ""
            else:
                continue
            key = f"wears:{colour} coat" if colour else "wears:bag"
            meant = {subject.instance.id for subject in s.subjects if noun in dict(subject.said)}
            true = {subject.instance.id for subject in s.subjects if subject.facts.get(key) is value}
            assert set(e.targets) == meant & true
            if colour in colours.CHROMATIC and value:
                for subject in s.subjects:
                    if subject.instance.id in e.targets:
                        assert possible(s, subject, colour) > 0.15
                    elif subject.instance.id in meant and not subject.facts.get(f"wears:{colour} pants", True):
                        assert share(s, subject, colour) < 0.08
            read[bool(e.targets), bool(colour), value] += 1
    assert read[True, True, True] > 10
    assert read[True, False, True] > 1
    assert read[True, False, False] > 1


def test_wordings(staged):
    wordings = {fact.key: fact for s in staged for fact in s.facts}
    coat, pants, hat = wordings["wears:green coat"], wordings["wears:black pants"], wordings["wears:hat"]
    assert coat.after == ("in a green coat", "wearing a green coat")
    assert coat.many == ("in green coats", "wearing green coats")
    assert coat.alone == ("green coat",)
    assert pants.after == pants.many == ("in black pants", "wearing black pants")
    assert {"without a hat", "not wearing a hat"} <= set(hat.denied)
    assert all(fact.after or fact.before for fact in wordings.values())


def test_a_folder_without_people_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"people\.json"):
        People(tmp_path)
    (tmp_path / "people.json").write_text('{"labels": {"0": "null"}}')
    with pytest.raises(DataError, match="not a table of people"):
        People(tmp_path)
    root = folder(tmp_path / "lonely", {"0000": (body("red"), {"coat": "red"})})
    with pytest.raises(DataError, match="fewer than two"):
        People(root)


@pytest.mark.parametrize(
    "content", ["[]", '{"labels": {}, "images": []}', '{"labels": {"0": "null"}, "images": [null]}']
)
def test_a_table_that_is_none_is_refused_by_name(tmp_path, content):
    (tmp_path / "people.json").write_text(content)
    with pytest.raises(DataError, match=r"people\.json: not a table of people"):
        People(tmp_path)


def cut_out(*texts, coat="blue", mirrors=True):
    """Somebody in a coat, cut out of a photograph, of whom this was written."""
    rgb, labels = drawn(body(coat))
    box = slice(20, 280), slice(35, 85)
    alpha = np.where(labels[box] > 0, 255, 0).astype(np.uint8)
    return Cut((3, 4), "person", rgb[box], alpha, tuple(("appearance", text) for text in texts), mirrors)


def photographed(cut):
    """What one sees of somebody cut out of a photograph, all of whom counts as a coat."""
    mask = cut.alpha > 127
    labels = np.where(mask, LABELS.index("coat"), 0).astype(np.uint8)
    return Look(person_of(cut), {}, LABELS, labels, 0, mask, labels, cut.rgb)


def subjects_of(looks):
    """The people as subjects 1, 2, ... and the facts about them."""
    facts, known = _judged(looks, np.random.default_rng(0))
    return facts, tuple(_subject(k, look, of) for k, (look, of) in enumerate(zip(looks, known, strict=True), 1))


def claims(*looks):
    """Noun and fact to the ids of whom they are true, for all that may be said."""
    facts, subjects = subjects_of(looks)
    staged = Staged(Picture(1, None, *SIZE), np.zeros((*SIZE, 3), np.uint8), subjects, facts)
    return {(c.noun, c.claim[0][0].key): c.targets for c in _claims(staged) if len(c.claim) == 1 and c.claim[0][1]}


def test_of_a_photographed_person_only_absent_colours_are_known():
    look = photographed(cut_out("woman in blue coat and green hat"))
    assert look.wears("coat") is look.wears("coat", "blue") is look.is_in("blue") is look.wears("bag") is None
    assert look.has_hair("brown") is look.has_glasses("glasses") is None
    assert look.wears("coat", "yellow") is look.wears("hat", "yellow") is look.is_in("yellow") is False
    assert look.wears("hat", "green") is None  # too small a one to be found
    assert photographed(cut_out("woman in blue coat")).wears("hat", "green") is False


@pytest.mark.parametrize(
    ("texts", "woman"),
    [
        (("woman in blue",), True),
        (("girl in blue", "lady in a coat"), True),
        (("guy in blue", "boy in a blue coat"), False),
        (("girl in blue", "kid in a coat"), None),  # no woman, perhaps
        (("person in blue",), None),
        (("man in blue", "lady in blue"), None),
    ],
)
def test_a_photographed_person_is_of_the_sex_that_is_written(texts, woman):
    assert person_of(cut_out(*texts)).woman is woman


def test_what_a_photographed_person_leaves_in_doubt_is_not_said(dressed):
    yellow = look(dressed, key="0002")  # a woman in a yellow coat, with a bag
    beside = claims(yellow, photographed(cut_out("woman in blue coat")))
    assert beside["woman", "wears:yellow coat"] == (1,)
    assert ("woman", "wears:coat") not in beside
    assert ("woman", "wears:bag") not in beside
    assert ("woman", "hair:brown") not in beside
    assert ("woman", "wears:yellow coat") not in claims(yellow, photographed(cut_out("woman in blue and yellow")))
    assert ("woman", "wears:yellow coat") not in claims(yellow, photographed(cut_out("woman", coat="yellow")))
    man = claims(yellow, photographed(cut_out("man in blue coat")))
    assert man["woman", "wears:coat"] == man["woman", "wears:bag"] == man["woman", "hair:brown"] == (1,)


@pytest.mark.parametrize(
    ("text", "misfits"),
    [
        ("woman in yellow coat", False),
        ("woman in green coat", True),
        ("player in yellow coat and green cap", True),
        ("woman in black and green pants", True),
        ("woman in gold coat", False),  # yellow, perhaps
        ("woman in green polo and coat", False),  # of which the polo is green
        ("woman in green", False),  # of no garment
        ("woman in dress", False),  # of no colour
        ("woman without a green coat", False),
        ("woman in green dress pants", False),  # of what garment?
    ],
)
def test_a_written_sentence_misfits_who_lacks_a_garment_in_its_colour(dressed, text, misfits):
    assert look(dressed, key="0002").misfits(text) is misfits


def test_a_written_sentence_is_used_where_nobody_else_may_be_meant(dressed):
    man, woman = look(dressed, key="0000"), look(dressed, key="0004")  # both in red coats
    own = photographed(cut_out("man in blue coat", "man in red coat", "guy"))

    def used(*looks):
        return set(_written(0, looks, subjects_of(looks)[1]))

    assert used(own, woman) == {"man in blue coat", "man in red coat", "guy"}  # no woman is "man" or "guy"
    assert used(own, man) == used(own, man, woman) == {"man in blue coat"}
    assert used(own, look(dressed, key="0003")) == used(own, woman)
    assert used(own, look(dressed, slice(0, 60), key="0003")) == {"man in red coat"}  # of the sex one sees nothing
    assert used(man, own) == set()


def test_whom_one_does_not_see_whole_keeps_no_written_sentence(dressed):
    assert look(dressed).whole
    assert look(dressed, slice(270, 300)).whole
    assert not look(dressed, slice(210, 300)).whole
    assert not look(dressed, slice(0, 40)).whole  # no head


def test_written_sentences_are_about_those_who_were_pasted(dressed):
    people, used, made = People(dressed, further=[cut_out("woman in pink coat", coat=(255, 120, 190))]), 0, 0
    for number in range(80):
        staged = people(number, np.random.default_rng(number))
        pink = {s.instance.id for s in staged.subjects if possible(staged, s, "pink") > 0.25}
        women = [s for s in staged.subjects if s.is_called("woman") is not False]
        coats = {s.instance.id for s in women if s.facts.get("wears:pink coat")}  # of others
        made += bool(pink - coats)
        for e in staged.written:
            assert len(e.targets) == 1
            assert set(e.targets) <= pink
            assert not coats
            assert (e.picture_id, e.text) == (number, "woman in pink coat")
            assert (e.kind, e.origin) == ("appearance", "generated")
            used += 1
    assert 5 < used < made


def test_photographed_persons_are_in_some_of_the_pictures_and_mirrored_where_that_may_be(dressed):
    paint = {"left": (255, 0, 255), "right": (0, 255, 255)}
    ways = {}
    for mirrors in (False, True):
        cut = cut_out("person", mirrors=mirrors)
        cut.rgb[:, :25], cut.rgb[:, 25:] = paint["left"], paint["right"]
        people, ways[mirrors] = People(dressed, further=[cut]), Counter()
        for number in range(80):
            staged = people(number, np.random.default_rng(number))
            near = {side: np.abs(staged.rgb.astype(int) - rgb).max(-1) < 70 for side, rgb in paint.items()}
            if all(np.count_nonzero(there) > 150 for there in near.values()):
                left, right = (np.nonzero(near[side])[1].mean() for side in paint)
                ways[mirrors][bool(left < right)] += 1
    assert 10 < ways[False][True] < 45
    assert ways[False][False] == 0
    assert min(ways[True].values()) > 3


def test_who_does_not_fit_in_changes_nothing(dressed):
    lying = cut_out("woman in blue coat")
    lying = Cut((1, 2), "person", lying.rgb.transpose(1, 0, 2), lying.alpha.T, lying.texts, mirrors=True)
    unknown, dog = cut_out(), cut_out("blue dog")
    dog = Cut((1, 2), "dog", dog.rgb, dog.alpha, dog.texts, mirrors=True)
    plain, same = People(dressed), People(dressed, further=[lying, unknown, dog])
    for number in range(10):
        one, other = (people(number, np.random.default_rng(number)) for people in (plain, same))
        assert one.rgb.tobytes() == other.rgb.tobytes()
        assert one.subjects == other.subjects
        assert one.written == other.written == ()
    assert not People(dressed, split="heldout", further=[cut_out("woman in blue coat")]).further


def test_photographed_persons_too_are_drawn_by_the_seed_alone(dressed):
    further = [cut_out("woman in pink coat", coat=(255, 120, 190)), cut_out("man in green coat", coat="green")]
    pair, written = (People(dressed, further=further), People(dressed, further=further)), 0
    for number in range(20):
        one, other = (people(number, np.random.default_rng(number)) for people in pair)
        assert one.rgb.tobytes() == other.rgb.tobytes()
        assert (one.subjects, one.written) == (other.subjects, other.written)
        written += len(one.written)
    assert written


def test_persons_of_the_training_photographs_are_cut_out_once(dressed, tmp_path, monkeypatch):
    (tmp_path / "people").symlink_to(dressed)
    rgb, labels = drawn(body("blue"))
    cv2.imwrite(str(tmp_path / "x.png"), rgb[..., ::-1])
    rle = coco_mask.encode(np.asfortranarray(labels > 0, np.uint8))
    picture = Picture(3, tmp_path / "x.png", *SIZE, (Instance(4, "person", rle, (35, 20, 50, 260)),))
    said = [
        Expression(3, (4,), "woman in blue coat", "people: clothes"),
        Expression(3, (4,), "woman on the left", "people: looks"),
        Expression(3, (4,), "woman in pink coat", "people: clothes", "generated"),
    ]
    loaded, load = [], Picture.load
    monkeypatch.setattr(Picture, "load", lambda self: loaded.append(self.id) or load(self))
    monkeypatch.setattr(composition, "Tables", lambda *_, further, **__: further)
    made = composition.makers(tmp_path, ["tables", "people"], photographs=GroundingData({3: picture}, said))
    (person,) = made["people"].further
    assert person.cut.texts == (("people: clothes", "woman in blue coat"),)
    assert loaded == [3]
    assert not composition.makers(tmp_path, ["people"])["people"].further
