"""What composing has to know of kinds of things; a kind that is in no list is an ordinary thing of a hand's size."""

from __future__ import annotations

from jmceln_core.synthesis import vocabulary
from jmceln_core.synthesis.rules.placing import kinds

# Surfaces and containers: what is pasted over one of them lies on it, and nothing is put behind it.
BENEATH = kinds(
    """dining table, bed, couch, bench, chair, plate, bowl, sink, oven, toilet, refrigerator, microwave, toaster, tv,
    hand, rice"""
)
# Kinds that are in many photographs although nobody annotated them: only pasted where they were looked for.
EVERYWHERE = kinds(
    """person, hand, chair, dining table, plate, bowl, cup, bottle, wine glass, fork, knife, spoon, book, potted plant,
    car, bench, handbag, backpack, rice, slice of bread, tie, truck, bird, bicycle"""
)
# Kinds that are seen with lettering or a side that a mirror shows wrongly.
LETTERED = kinds(
    """stop sign, book, bottle, bus, truck, train, airplane, boat, car, tv, keyboard, clock, laptop, cell phone,
    microwave, tape measure, parking meter, remote, oven, refrigerator, motorcycle, gelatin box"""
)
# Kinds without limbs, handles or openings: one that is not nearly convex is hidden by something.
COMPACT = kinds(
    """apple, orange, kiwi, mango, keyboard, book, laptop, tv, refrigerator, microwave, oven, pizza, donut, bowl, cup,
    mug, bottle, mouse, cell phone, clock, stop sign, toaster, sink, suitcase, backpack, handbag, car, bus, truck, bed,
    train, vase, sports ball, frisbee, remote, traffic light, parking meter, slice of bread, sandwich, couch, cake,
    snowboard, skateboard, surfboard, tofu, steamed tofu, fried tofu, braised tofu, tempeh, steamed tempeh,
    fried tempeh, braised tempeh"""
)
# Rough lengths in metres; HANDY where not given. Only so that a mug is not pasted as large as the bus beside it.
HANDY, ON_TABLE = 0.25, 0.5
_METRES = {
    4.0: "car, bus, truck, train, airplane, boat, elephant",
    2.0: """person, horse, cow, motorcycle, bicycle, couch, bed, bench, giraffe, zebra, bear, deer, tiger, refrigerator,
    surfboard, dining table""",
    1.0: """chair, dog, sheep, suitcase, umbrella, kite, tv, snowboard, skis, otter, rhesus monkey, potted plant, oven,
    toilet, fire hydrant, parking meter, stop sign, backpack, turtle""",
    0.5: """cat, handbag, bird, teddy bear, laptop, keyboard, microwave, skateboard, tennis racket, baseball bat, sink,
    vase, pizza, handsaw, backsaw, traffic light, toaster""",
}
_ANY_WAY = {"tool", "food", "fruit", "vegetable", "utensil"}  # wider names of what lies any way round
_LENGTH = {kind: metres for metres, text in _METRES.items() for kind in kinds(text)}


def length(kind: str) -> float:
    """Metres, roughly."""
    return _LENGTH.get(kind, HANDY)


def any_way_round(kind: str) -> bool:
    """Whether things of the kind lie about any way round, so that a cut may be turned."""
    return not _ANY_WAY.isdisjoint(vocabulary.names_of(kind).wider)
