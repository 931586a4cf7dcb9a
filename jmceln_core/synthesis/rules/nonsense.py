"""Words for nothing: what is in no picture that is trained on, and what is no English.

A network that was never asked for such things finds the nearest thing it knows. The list that is measured with
(`config/eval/unknown_words.txt`) shares no word with these (a test sees to it).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from jmceln_core.data.left_out import unknown_words
from jmceln_core.synthesis import vocabulary


def _lines(text: str) -> tuple[str, ...]:
    return tuple(entry.strip() for entry in " ".join(text.split()).split(",") if entry.strip())


# Things that none of the pictures shows, in English.
_NOWHERE = _lines(
    """the volcano, the telescope, microscope, the trampoline, accordion, the lighthouse, rocket, the dinosaur
    skeleton, the dragon, unicorn, the castle, the penguin, dolphin, the shark, spaceship, the excavator, the
    tank, a sled, the snowman, mermaid, the gravestone, the windmill, canoe, the waterfall, the cathedral,
    chandelier, the harp, xylophone, the parachute, the hot air balloon, satellite dish, the sewing machine,
    spinning wheel, the loom, the crocodile, hedgehog, the ostrich, flamingo, the squid, jellyfish, the
    scarecrow, the swing set, carousel, roller coaster, the gondola, the tepee, wigwam, drawbridge, the suit of
    armor, sword, the crossbow, cannonball, the treasure chest, crown, the throne, pipe organ, the tuning fork,
    stethoscope holder, the bunsen burner, the test tube, beaker, the x-ray machine, dentist chair, the hospital
    bed, the incubator, forklift, the bulldozer, cement mixer, the crane hook, oil rig, the wind turbine, solar
    panel, the cash register, vending machine, the slot machine, jukebox, the dartboard, punching bag, the
    treadmill, barbell, the pommel horse, hockey goal, the chess clock, the globe, the hammock, the beehive, the
    anthill, cobweb, the bird nest, the mole hill, fishing net, the harpoon, the harpoon gun"""
)
# Not things at all.
_SAID = _lines(
    """hello there, what time is it, thank you very much, play some music, turn on the lights, how are you,
    yesterday, the square root of two, democracy, happiness, never mind, okay, good morning, tell me a joke, the
    color of money, the day after tomorrow, twelve percent, because, whatever, the sound of rain, gravity,
    please, stop it, louder"""
)
# Everyday things in other languages.
_FOREIGN = _lines(
    """der Hund, die Katze, das Auto, die rote Tasse, der Mann links, die Frau, das Pferd, der Stuhl, der Tisch,
    das Buch, die Flasche, der Apfel, das Messer, der Baum, die Giraffe frisst kein Gras, der blaue Becher, ein
    Löffel, le chien, le chat, la voiture, la tasse rouge, l'homme à gauche, la femme, le cheval, la chaise, la
    bouteille, la pomme, le couteau, le livre, une cuillère, el perro, el gato, el coche, la taza roja, el
    hombre de la izquierda, la mujer, el caballo, la silla, la botella, la manzana, el cuchillo, il cane, il
    gatto, la macchina, la tazza rossa, l'uomo a sinistra, la donna, il cavallo, la sedia, la bottiglia, la
    mela, o cachorro, o carro, a xícara vermelha, o homem, a mulher, a maçã, de hond, de kat, de rode beker, het
    paard, de stoel, hunden, katten, den röda koppen, bilen, koira, kissa, punainen kuppi, pies, kot, czerwony
    kubek, samochód, krzesło, pes, červený hrnek, auto vlevo, kutya, macska, piros bögre, köpek, kedi, kırmızı
    bardak, araba, собака, кошка, красная чашка, машина, стул, яблоко, нож, человек слева, собака слева, синій
    стілець, кіт, σκύλος, γάτα, κόκκινη κούπα, το αυτοκίνητο, 狗, 猫, 红色的杯子,
    汽车, 左边的人, 椅子, 苹果, 书, 剪刀, 瓶子, 犬,
    赤いカップ, 車, りんご, 本, はさみ, 左の男, 개, 고양이, 빨간 컵, 자동차, 의자, 사과,
    كلب, قطة, الكوب الأحمر, سيارة, كرسي, تفاحة, כלב, חתול, הכוס האדומה, מכונית,
    कुत्ता, बिल्ली, लाल कप, गाड़ी, कुर्सी, หมา, แมว, แก้วสีแดง, con chó, con mèo, cái
    cốc đỏ, anjing, kucing, cangkir merah, mbwa, paka, kikombe chekundu"""
)
UNKNOWN = _NOWHERE + _SAID + 2 * _FOREIGN

_ONSETS = _lines(
    """b, bl, br, ch, cl, cr, d, dr, f, fr, g, gl, gr, h, j, k, kl, l, m, n, p, pl, pr, qu, r, s, sk, sl, sm, sp, st, t,
    th, tr, v, w, z"""
)
_VOWELS = _lines("a, e, i, o, u, oo, ee, ai, ou, y")
_CODAS = ("", *_lines("b, ck, d, ff, g, l, lk, m, mp, n, nd, ng, p, r, rt, sh, t, x, zz"))
_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm", "1234567890", "#%&*+=?~")


def nonsense(rng: np.random.Generator) -> str:
    """A word that is none ("the brong", "skaimp"), or fingers on a keyboard; nothing that is measured with."""
    text = _made_up(rng)
    while text in unknown_words() or _real_words() & set(text.split()):
        text = _made_up(rng)
    return text


@lru_cache
def _real_words() -> frozenset[str]:
    """Every word that is in a name of a known kind of thing."""
    names = (name for kind in vocabulary.known_categories() for name in vocabulary.names_of(kind).heard)
    return frozenset(word for name in names for word in name.split())


def _made_up(rng: np.random.Generator) -> str:

    def pick(of: Sequence[str]) -> str:
        return of[int(rng.integers(len(of)))]

    if rng.random() < 0.3:
        row = _KEYS[int(rng.integers(len(_KEYS)))]
        return " ".join(
            "".join(pick(row) for _ in range(int(rng.integers(2, 8)))) for _ in range(int(rng.integers(1, 3)))
        )
    syllables = [pick(_ONSETS) + pick(_VOWELS) + pick(_CODAS) for _ in range(int(rng.integers(1, 4)))]
    syllables += [pick(_ONSETS) + pick(_VOWELS)] * (len(syllables[0]) < 3)
    word = "".join(syllables)
    return str(rng.choice(["the ", "the ", "a ", "", "", "the red ", "the big "])) + word
