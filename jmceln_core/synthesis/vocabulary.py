"""What people call the things data sets annotate: everyday names, wider words and confusions of each category.

A line gives the names a speaker may use, with weights ("couch 5, sofa 4"). Names after a bar are wider words ("animal")
or names that some people would use ("a truck may be called a car"): they count when a sentence must be unambiguous.
Those marked `!` are wider words that are true of the thing and may be said; the others are never said.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

_TABLE: dict[str, str] = {
    "person": "person 12, human 0.3 | man, woman, guy, kid, boy, girl, lady, child, player",
    "bicycle": "bike 4, bicycle 3, cycle 0.4 | vehicle!, motorbike",
    "car": "car 9, auto 0.3, automobile 0.3 | vehicle!, truck, van, suv, taxi, bus",
    "motorcycle": "motorcycle 4, bike 2, motorbike 2, cycle 0.3 | vehicle!, bicycle, scooter, moped",
    "airplane": "plane 5, airplane 3, aircraft 0.5, jet 0.3 | vehicle",
    "bus": "bus 9 | vehicle!, truck, van, coach, car, train",
    "train": "train 9 | vehicle!, bus, tram",
    "truck": "truck 9 | vehicle!, car, van, bus, pickup",
    "boat": "boat 9 | vehicle, ship, surfboard",
    "traffic light": "traffic light 4, light 2, stoplight 1, signal 1, traffic signal 1 | street light",
    "fire hydrant": "hydrant 5, fire hydrant 4",
    "stop sign": "stop sign 6, sign 1.5",
    "parking meter": "meter 4, parking meter 4",
    "bench": "bench 8, seat 0.3 | chair, couch",
    "bird": "bird 9 | animal!, duck, seagull",
    "cat": "cat 8, kitty 0.7 | animal!, pet!, kitten",
    "dog": "dog 9 | animal!, pet!, puppy",
    "horse": "horse 9 | animal!, pony",
    "sheep": "sheep 9 | animal!, lamb, goat",
    "cow": "cow 9 | animal!, bull, calf, ox, horse",
    "elephant": "elephant 9 | animal!",
    "bear": "bear 9 | animal!, teddy bear, teddy",
    "zebra": "zebra 9 | animal!",
    "giraffe": "giraffe 9 | animal!",
    "backpack": "backpack 5, bag 1.5, rucksack 0.3 | handbag, suitcase, purse",
    "umbrella": "umbrella 9 | parasol",
    "handbag": "bag 4, handbag 3, purse 1.5 | backpack, suitcase",
    "tie": "tie 6, necktie 1",
    "suitcase": "suitcase 6, luggage 1.5, bag 1 | backpack, handbag",
    "frisbee": "frisbee 7, disc 1, disk 0.5 | ball",
    "skis": "skis 6 | snowboard, ski, board",
    "snowboard": "snowboard 5, board 2 | skis, skateboard, surfboard",
    "sports ball": "ball 8 | sports ball, frisbee",
    "kite": "kite 9 | umbrella",
    "baseball bat": "bat 5, baseball bat 3",
    "baseball glove": "glove 4, baseball glove 2, mitt 1.5",
    "skateboard": "skateboard 6, board 2 | snowboard, surfboard",
    "surfboard": "surfboard 5, board 2 | snowboard, skateboard",
    "tennis racket": "racket 4, tennis racket 3, racquet 0.7",
    "bottle": "bottle 9 | glass, drink, container",
    "wine glass": "wine glass 4, glass 4, wineglass 0.6 | cup, drink, wine",
    "cup": "cup 9 | glass, mug, drink, bowl, container",
    "fork": "fork 9 | utensil!, silverware, cutlery, spoon",
    "knife": "knife 9 | utensil!, silverware, cutlery, spoon",
    "spoon": "spoon 9 | utensil!, silverware, cutlery, fork",
    "bowl": "bowl 9 | cup, plate, dish, container",
    "banana": "banana 9 | fruit!, food!, bananas",
    "apple": "apple 9 | fruit!, food!",
    "sandwich": "sandwich 8 | food!, bread, burger, hot dog",
    "orange": "orange 9 | fruit!, food!, apple",
    "broccoli": "broccoli 8, broccoli piece 1.5 | food!, vegetable!, veggie",
    "carrot": "carrot 9 | food!, vegetable!, veggie",
    "hot dog": "hot dog 6, hotdog 3 | food!, sandwich",
    "pizza": "pizza 9 | food!",
    "donut": "donut 7, doughnut 3 | food!, cake, pastry",
    "cake": "cake 8 | food!, dessert!, donut, cupcake",
    "chair": "chair 9, seat 0.7 | couch, sofa, armchair, bench, stool",
    "couch": "couch 5, sofa 4 | chair, armchair, bench, bed, seat",
    "potted plant": "plant 6, potted plant 3 | flowers, vase, pot",
    "bed": "bed 9 | couch",
    "dining table": "table 9 | desk, counter, dining table",
    "toilet": "toilet 9 | sink, urinal",
    "tv": "tv 5, television 2, screen 1.5, monitor 1 | computer, laptop",
    "laptop": "laptop 7, laptop computer 0.5, computer 1 | screen, monitor, tv, keyboard",
    "mouse": "mouse 6, computer mouse 1.5",
    "remote": "remote 6, remote control 1.5, controller 0.7 | phone, cell phone",
    "keyboard": "keyboard 9 | laptop, computer",
    "cell phone": "phone 5, cell phone 3, cellphone 1 | remote, mobile",
    "microwave": "microwave 8, microwave oven 0.7 | oven, toaster, tv, appliance",
    "oven": "oven 5, stove 3 | microwave, toaster, appliance",
    "toaster": "toaster 9 | oven, appliance",
    "sink": "sink 8, basin 0.7 | toilet, tub",
    "refrigerator": "fridge 5, refrigerator 4 | freezer, appliance",
    "book": "book 9 | magazine, notebook",
    "clock": "clock 9 | watch",
    "vase": "vase 9 | pot, bottle, glass, plant, potted plant, jar, flowers, cup",
    "scissors": "scissors 8, pair of scissors 1",
    "teddy bear": "teddy bear 5, teddy 2, stuffed animal 1, bear 1 | toy, animal, doll",
    "hair drier": "hair dryer 4, blow dryer 1.5, hair drier 1, dryer 1",
    "toothbrush": "toothbrush 7, brush 1",
    # beyond COCO
    "mug": "mug 7, cup 3 | glass",
    "plate": "plate 8, dish 1.5 | bowl, tray",
    "screwdriver": "screwdriver 9 | tool!, driver",
    "wrench": "wrench 7, spanner 2 | tool!",
    "adjustable spanner": "adjustable wrench 4, wrench 3, spanner 1.5, adjustable spanner 1 | tool!",
    "gas wrench": "wrench 4, pipe wrench 3 | tool!, pliers, spanner, adjustable wrench",
    "hammer": "hammer 9 | tool!",
    "ratchet": "ratchet 8, ratchet wrench 1 | tool!, wrench, socket wrench, spanner",
    "pliers": "pliers 9 | tool!, cutters",
    "needle-nose pliers": "pliers 4, needle nose pliers 4 | tool!, cutters",
    "cutting pliers": "cutters 3, pliers 3, cutting pliers 2 | tool!, snips",
    "tape measure": "tape measure 6, measuring tape 2, tape 1 | tool!",
    "utility knife": "utility knife 4, box cutter 3, knife 2, cutter 1 | tool!",
    "drill": "drill 7, power drill 2 | tool!, gun",
    "backsaw": "saw 6, hand saw 1 | tool!, handsaw, backsaw",
    "handsaw": "saw 6, hand saw 2, handsaw 1 | tool!",
    "gun": "gun 7 | tool!, drill",
    "calipers": "calipers 6, caliper 2 | tool!, ruler",
    "kiwi": "kiwi 8, kiwi fruit 1 | fruit!, food!",
    "mango": "mango 9 | fruit!, food!",
    "lemon": "lemon 9 | fruit!, food!, lime",
    "rhesus monkey": "monkey 9 | animal!, ape",
    "deer": "deer 9 | animal!, elk, moose, stag, fawn",
    "otter": "otter 9 | animal!",
    "tiger": "tiger 9 | animal!, cat",
    "turtle": "turtle 8, tortoise 1 | animal!",
    "slice of bread": "slice of bread 4, bread 4, bread slice 2 | food!, toast, slice",
    "rice": "rice 8 | food!",
    "tofu": "tofu 8, piece of tofu 1.5 | food!, tempeh",
    "tempeh": "tempeh 8, piece of tempeh 1.5 | food!, tofu",
    "hand": "hand 9 | arm, person",
    "foam brick": "foam brick 5, brick 3, block 1",
    # cut-outs of household things
    "computer mouse": "mouse 5, computer mouse 3",
    "remote control": "remote 6, remote control 3, controller 0.5 | phone",
    "mobile phone": "phone 5, cell phone 2, mobile phone 1.5, mobile 0.5 | remote, remote control, calculator",
    "television": "tv 5, television 3 | screen, monitor",
    "tin can": "can 5, tin 2, tin can 1.5 | container, jar, cup",
    "drink can": "can 5, soda can 3, drink can 1 | tin, container",
    "marker": "marker 6, marker pen 2, pen 1 | pencil",
    "pen": "pen 8 | marker, pencil",
    "pencil": "pencil 8 | pen, marker",
    "correction pen": "correction pen 4, white out 1 | pen, marker, bottle",
    "frying pan": "frying pan 5, pan 4, skillet 0.5 | pot, bowl",
    "cooking pot": "pot 6, cooking pot 2 | pan, bowl",
    "jug": "jug 6 | pitcher, vase, cup, mug, bottle, glass jug",
    "glass jug": "jug 4, glass jug 4 | pitcher, glass, vase",
    "pitcher": "pitcher 6, jug 2 | vase, cup, mug",
    "ramekin": "ramekin 4, small bowl 1 | bowl, cup, dish",
    "candy jar": "candy jar 4, jar 4 | container, bottle, glass jar, can, bowl",
    "glass jar": "glass jar 4, jar 5 | container, bottle, glass, candy jar",
    "bar of soap": "soap 5, bar of soap 4 | bar, box, sponge",
    "tube of toothpaste": "toothpaste 6, tube of toothpaste 3, toothpaste tube 1 | tube, cream",
    "pack of cards": "pack of cards 4, deck of cards 3, cards 2 | box, book",
    "snack box": "snack box 3, box 5 | carton, container, package",
    "soccer ball": "soccer ball 4, ball 5 | football",
    "tennis ball": "tennis ball 5, ball 4",
    "basketball": "basketball 6, ball 3",
    "baseball": "baseball 6, ball 3",
    "billiard ball": "billiard ball 4, ball 4, pool ball 1",
    "american football": "football 6, ball 2 | rugby ball, american football",
    "rugby ball": "rugby ball 5, ball 3 | football",
    "golf ball": "golf ball 5, ball 4",
    "milk carton": "milk carton 4, milk 3, carton 2 | box, container, juice, juice carton",
    "juice carton": "juice carton 4, juice 3, carton 2 | box, container, milk, milk carton",
    "trash can": "trash can 5, garbage can 2, bin 2 | can, bucket, container",
    "toy car": "toy car 5, car 4 | truck, toy",
    "shoe": "shoe 8, sneaker 1 | boot",
    "speaker": "speaker 8 | radio",
    "camera": "camera 9",
    "lamp": "lamp 9 | light",
    "box": "box 9 | carton, container, package",
    "can": "can 8 | tin, container",
    "jar": "jar 8 | container, bottle",
    "tray": "tray 8 | plate",
}

_IRREGULAR = {
    "person": "people",
    "woman": "women",
    "man": "men",
    "knife": "knives",
    "die": "dice",
    "tomato": "tomatoes",
    "mouse": "mice",
    "computer mouse": "computer mice",
    "sheep": "sheep",
    "deer": "deer",
    "scissors": "scissors",
    "skis": "skis",
    "pliers": "pliers",
    "needle nose pliers": "needle nose pliers",
    "cutting pliers": "cutting pliers",
    "cutters": "cutters",
    "calipers": "calipers",
    "aircraft": "aircraft",
    "broccoli": "broccoli pieces",
    "tofu": "tofu pieces",
    "tempeh": "tempeh pieces",
    "bread": "pieces of bread",
    "luggage": "pieces of luggage",
    "rice": "piles of rice",
    "food": "pieces of food",
    "slice of bread": "slices of bread",
    "piece of tofu": "pieces of tofu",
    "piece of tempeh": "pieces of tempeh",
    "pair of scissors": "pairs of scissors",
    "box cutter": "box cutters",
    "kiwis": "kiwis",
    "asparagus": "asparagus",
}
# Of each of these a listener might take one for another, though no other name says so.
_FAMILIES = tuple(
    frozenset(line.split(", "))
    for line in (
        "flower, rose, tulip, sunflower, daisy, orchid",
        "plant, potted plant, bamboo plant, bonsai tree, fern, cactus, succulent",
        "bread, baguette",
        "melon, watermelon, watermelon slice",
        "cloth, napkin",
        "clock, stopwatch, watch, compass",
        "shoe, shoes, boots, cowboy boots, ski boots",
    )
)


@dataclass(frozen=True)
class Names:
    """What one category is called: `said` are (name, weight), `wider` true wider words, `heard` every name that a
    listener might take for it (all of the former included)."""

    said: tuple[tuple[str, float], ...]
    wider: tuple[str, ...]
    heard: frozenset[str]

    def says(self, name: str) -> bool:
        """Whether the name is surely true of the category."""
        return name in self.wider or any(name == said for said, _ in self.said)


@lru_cache(maxsize=4096)
def names_of(category: str) -> Names:
    """The names of a category. One that is not in the table is called by its own name and by its last word
    ("fried tofu": "fried tofu", "tofu")."""
    line = _TABLE.get(category)
    if line is None:
        words = category.replace("_", " ").split()
        own, head = " ".join(words), words[-1] if words else category
        base = names_of(head) if len(words) > 1 and head in _TABLE else None
        said: list[tuple[str, float]] = [(own, 5.0)]
        if base is not None:
            said += [(name, 0.5 * weight) for name, weight in base.said]
            return Names(tuple(said), base.wider, base.heard | {own} | _alike(own))
        return Names(tuple(said), (), frozenset({own, head}) | _alike(own))
    spoken, _, others = line.partition("|")
    pairs = [item.strip().rsplit(" ", 1) for item in spoken.split(",")]
    rest = [item.strip() for item in others.split(",") if item.strip()]
    wider = tuple(item[:-1] for item in rest if item.endswith("!"))
    heard = {name for name, _ in pairs} | {item.rstrip("!") for item in rest} | {category} | _alike(category)
    return Names(tuple((name, float(weight)) for name, weight in pairs), wider, frozenset(heard))


def _alike(name: str) -> frozenset[str]:
    """Its family's names; and of one thing the name of a pile, of a pile ("apples") what one of it may be called."""
    number = {plural(name)} - {name} or {name[:-1], name[:-2], f"{name[:-3]}y"}
    return frozenset(number).union(*(family for family in _FAMILIES if name in family))


def known_categories() -> tuple[str, ...]:
    """The categories with a line of their own."""
    return tuple(_TABLE)


def with_article(name: str) -> str:
    """ "a cup", "an orange cup"."""
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def plural(name: str) -> str:
    """The plural of a name: "cup" -> "cups", "wine glass" -> "wine glasses"."""
    if name in _IRREGULAR:
        return _IRREGULAR[name]
    head, of, rest = name.partition(" of ")
    if of:
        return f"{plural(head)} of {rest}"  # bars of soap
    if name.endswith("s") and not name.endswith(("ss", "us", "is")):
        return name  # boots, headphones: plural already
    if name.endswith(("s", "x", "ch", "sh")):
        return name + "es"
    if name.endswith("y") and name[-2:-1] not in "aeiou":
        return name[:-1] + "ies"
    return name + "s"
