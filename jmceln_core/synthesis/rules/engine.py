"""How sentences come about: drafts with weights, drawn and put into words."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np

from jmceln_core.synthesis.rules.book import COMMANDS, Wordings, said_of

Rng = np.random.Generator

_AGAIN = 0.3  # how much less likely a draft is once it was drawn
_COMMANDS = tuple(said_of(COMMANDS, world) for world in (0, 1))
_NO_ARTICLE = {"left", "right", "top", "bottom", "middle", "center", "far left", "far right"}


class Weighted(Protocol):
    """What is drawn by weight."""

    @property
    def weight(self) -> float: ...


D = TypeVar("D", bound=Weighted)


@dataclass(frozen=True)
class Draft:
    """A sentence in the making: its kind, how often people say such a one, its wordings (templates with weights), what
    fills them, and the keys of the things it means."""

    kind: str
    weight: float
    templates: Wordings
    fills: Mapping[str, str] = field(default_factory=dict)
    means: tuple[int, ...] = ()

    def weighing(self, weight: float) -> Draft:
        """The same with another weight."""
        return Draft(self.kind, weight, self.templates, self.fills, self.means)

    @property
    def wordings(self) -> Wordings:
        """Texts with weights."""
        return filled(self.templates, self.fills)

    def worded(self, rng: Rng) -> str:
        """One of its wordings."""
        return drawn_text(self.wordings, rng)


def filled(templates: Wordings, fills: Mapping[str, str]) -> Wordings:
    """The templates with these words in them; `{n}` stays where it is not among them."""
    fills = {"n": "{n}", **fills}
    return {text.format_map(fills): weight for text, weight in templates.items()}


def pick(weights: Iterable[float], rng: Rng) -> int:
    """An index drawn by weight."""
    ends = list(itertools.accumulate(weights))
    return min(bisect.bisect_right(ends, rng.random() * ends[-1]), len(ends) - 1)


def drawn_text(wordings: Wordings, rng: Rng) -> str:
    """A text drawn by weight."""
    return list(wordings)[pick(wordings.values(), rng)]


def draw(
    drafts: Iterable[D], rng: Rng, limit: int, say: Callable[[D, Rng], str | None], tries: int = 0
) -> dict[str, D]:
    """Up to `limit` different texts with their drafts, by weight, in so many `tries` (3 for each). `say` words a draft,
    or finds that it must not be said."""
    kept = [draft for draft in drafts if draft.weight > 0]
    weights = [draft.weight for draft in kept]
    drawn: dict[str, D] = {}
    for _ in range((tries or 3 * limit) if kept else 0):
        if len(drawn) >= limit:
            break
        k = pick(weights, rng)
        weights[k] *= _AGAIN
        if text := say(kept[k], rng):
            drawn.setdefault(text, kept[k])
    return drawn


def phrases(noun: str, parts: Sequence[Wordings], place: Wordings | None = None) -> Wordings:
    """Every way to say the noun with these parts, each by its wordings around `{n}`, and with a place: before the rest,
    or after it."""
    found: Wordings = {}
    places = {"{n}": 1.0} if place is None else place
    for chosen in itertools.product(*(part.items() for part in parts)):
        around = [[end.strip() for end in text.split("{n}")] for text, _ in chosen]
        words = [*(before for before, _ in around), noun, *(after for _, after in around)]
        phrase = " ".join(word for word in words if word)
        for text, often in places.items():
            found[text.replace("{n}", phrase)] = often * math.prod(weight for _, weight in chosen)
    return found


def spoken(text: str, rng: Rng, articles: float, commands: float, world: int = 0) -> str:
    """The text as said: sometimes with an article, seldom as a command (those of photographs, 0, or tables, 1)."""
    article, command = rng.random(2)
    if text in _NO_ARTICLE:
        return text
    full = text if text.startswith(("the ", "all ", "both ")) else f"the {text}"
    if command < commands:
        return f"{drawn_text(_COMMANDS[world], rng)} {full}"
    return full if article < articles else text
