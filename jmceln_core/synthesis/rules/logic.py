"""What can be said of the things of a world, and of which of them it is true: three truth values, one decision.

True and False hold by a margin that nobody argues about; None is everything between, and whatever a listener might see
differently. A description is a noun with claims that all hold ("red", "on the tray") and at most one selector ("the
second from the left"), which picks among the things that the rest leaves. How a claim is measured is a world's own:
`photograph.Scene` measures masks, `tabletop.facts.Facts` where solids stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

Truth = bool | None

ANYTHING = ("thing", "object", "one", "item")  # nouns for whatever there is


def all_of(*truths: Truth) -> Truth:
    """Kleene's conjunction."""
    if False in truths:
        return False
    return None if None in truths else True


def negated(truth: Truth) -> Truth:
    """Kleene's negation."""
    return None if truth is None else not truth


# ---- claims: each is True, False or None of a thing


@dataclass(frozen=True)
class Claim:
    """One property or relation."""


@dataclass(frozen=True)
class Not(Claim):
    """The contrary."""

    claim: Claim


@dataclass(frozen=True)
class Colour(Claim):
    """Is of that colour as a whole (a person: the clothes of the upper body)."""

    name: str


@dataclass(frozen=True)
class Material(Claim):
    """Is visibly of that material."""

    name: str


@dataclass(frozen=True)
class Part(Claim):
    """Has "a red cap", "a lid", "a handle"."""

    name: str


@dataclass(frozen=True)
class Lying(Claim):
    """Lies on its side, though made to stand."""


@dataclass(frozen=True)
class Empty(Claim):
    """Could hold something and holds nothing."""


@dataclass(frozen=True)
class Relation(Claim):
    """Stands in the relation of that name (a rule of the book) to landmarks, given by their keys."""

    name: str
    landmarks: tuple[int, ...]


# ---- selectors: pick one of a group


@dataclass(frozen=True)
class Selector:
    """Picks one of several."""


@dataclass(frozen=True)
class Most(Selector):
    """The one farthest to a side (left, right, top, bottom, front, back), of two or more; or of one that is there."""

    side: str


@dataclass(frozen=True)
class Corner(Selector):
    """The one farthest to two sides at once: "the top left"."""

    sides: tuple[str, str]


@dataclass(frozen=True)
class Ordinal(Selector):
    """The `number`-th (from 1) counted from the left or right."""

    number: int
    side: str


@dataclass(frozen=True)
class Middle(Selector):
    """The middle one of three or five from left to right."""


@dataclass(frozen=True)
class Extreme(Selector):
    """The biggest, smallest, tallest, shortest or longest of two or more."""

    by: str


# ---- worlds, and what words mean in them


class Keyed(Protocol):
    """A thing of a world."""

    @property
    def key(self) -> int:
        """Tells it from the others."""


T = TypeVar("T", bound=Keyed)


class World(Protocol[T]):
    """What there is, and what is true of it."""

    things: list[T]

    def called(self, thing: T, noun: str) -> Truth:
        """Whether a listener takes the noun for the thing."""

    def holds(self, thing: T, claim: Claim) -> Truth:
        """Whether the claim is true of the thing."""


class Choosing(World[T], Protocol[T]):
    """A world that also picks."""

    def choice(self, selector: Selector, group: Sequence[T]) -> T | None:
        """The one of the group that is surely meant, None if that is in doubt."""


@dataclass(frozen=True)
class Meant(Generic[T]):
    """The things that words may mean: True for those they are true of, None for those in doubt; of others they are
    false.

    Every sentence rests on this: it means what it is true of, and is said only where nothing is in doubt.
    """

    truths: dict[T, Truth]

    @property
    def only(self) -> T | None:
        """The one thing meant; None if there is none, several, or doubt."""
        return next(iter(self.truths)) if list(self.truths.values()) == [True] else None

    @property
    def several(self) -> tuple[T, ...]:
        """The things meant if they are at least two and there is no doubt; else none."""
        return tuple(self.truths) if len(self.truths) > 1 and self.sure else ()

    @property
    def nothing(self) -> bool:
        """Whether surely nothing is meant."""
        return not self.truths

    @property
    def sure(self) -> bool:
        """Whether nothing is in doubt, so that the things can be counted and compared."""
        return None not in self.truths.values()

    def that(self, world: World[T], *claims: Claim) -> Meant[T]:
        """Those of them of which the claims are true as well."""
        held: dict[T, Truth] = {}
        for thing, truth in self.truths.items():
            for claim in claims:
                if truth is not False:
                    truth = all_of(truth, world.holds(thing, claim))
            if truth is not False:
                held[thing] = truth
        return Meant(held)


def named(world: World[T], noun: str) -> Meant[T]:
    """What a bare noun may mean."""
    truths = ((thing, world.called(thing, noun)) for thing in world.things)
    return Meant({thing: truth for thing, truth in truths if truth is not False})


@dataclass(frozen=True)
class Description:
    """A noun, filters that all hold, and a selector among what they leave."""

    noun: str
    filters: tuple[Claim, ...] = ()
    selector: Selector | None = None

    def meant(self, world: Choosing[T]) -> Meant[T]:
        """What it may mean. What the selector picks in doubt may be any of the group."""
        group = named(world, self.noun).that(world, *self.filters)
        if self.selector is None or group.nothing:
            return group
        counting = isinstance(self.selector, (Ordinal, Middle))
        best = None if counting and not group.sure else world.choice(self.selector, list(group.truths))
        if best is None or not group.truths[best]:
            return Meant(dict.fromkeys(group.truths))
        return Meant({best: True})

    def only(self, world: Choosing[T]) -> int | None:
        """The key of the one thing described, None if there is none, several, or doubt."""
        thing = self.meant(world).only
        return None if thing is None else thing.key

    def several(self, world: Choosing[T]) -> tuple[int, ...]:
        """The keys of the things described if they are at least two and there is no doubt; else none."""
        return tuple(thing.key for thing in self.meant(world).several)

    def nothing(self, world: Choosing[T]) -> bool:
        """Whether surely nothing in the picture is described."""
        return self.meant(world).nothing
