"""What is said of composed pictures: written sentences that are still true, and rule-made ones."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from jmceln_core.data.grounding import Expression, GroundingData
from jmceln_core.synthesis import vocabulary
from jmceln_core.synthesis.composition.backdrops import Backdrop
from jmceln_core.synthesis.composition.cutting import Cut
from jmceln_core.synthesis.composition.pasting import Composed
from jmceln_core.synthesis.rules import expressions, written
from jmceln_core.synthesis.rules.photograph import Scene
from jmceln_core.synthesis.rules.placing import Thing


class Speaker:
    """Says what is true of composed pictures. `data`: the pictures they are made of, with their written sentences."""

    def __init__(self, data: GroundingData, cuts: Sequence[Cut]) -> None:
        self.of_picture = data.by_picture()
        self.written: dict[tuple[int, int], list[str]] = defaultdict(list)  # of an instance: all that was written
        for e in data.expressions:
            if len(e.targets) == 1:
                self.written[e.picture_id, e.targets[0]].append(e.text)
        self.coloured: dict[str, list[str]] = defaultdict(list)  # of a kind: what was written of its colour
        for cut in cuts:
            self.coloured[cut.category] += [text for _, text in cut.texts if written.colours_in(text)]

    def __call__(self, made: Composed, into: Backdrop, rng: np.random.Generator) -> list[Expression]:
        """Written sentences that are still true, then rule-made ones about what was pasted and its rivals."""
        scene = Scene(made.picture, made.rgb, made.covers)
        source = into.picture.id
        said = {key: self.written[cut.source] for key, cut in made.pasted.items()}
        said |= {key: self.written[source, own] for key, own in made.origin.items()}
        sentences = [*self._of_pasted(scene, made, said), *self._of_backdrop(scene, made, source)]
        if made.picture.complete:
            sentences += self._by_rule(scene, made, rng)
            sentences += expressions.absent(scene, rng, limit=3, kinds=sorted(into.kinds))
            sentences += self._near_misses(scene, made, said, rng)
        heard = Counter(e.text for e in sentences)
        return [e for e in sentences if heard[e.text] == 1]

    def _of_pasted(self, scene: Scene, made: Composed, said: dict[int, list[str]]) -> Iterator[Expression]:
        for thing in scene.targets:
            cut = made.pasted.get(thing.instance.id)
            for kind, text in cut.texts if cut and made.picture.complete else ():
                if written.fits_none(scene, text, _rivals(scene, thing, text), said):
                    yield Expression(made.picture.id, (thing.instance.id,), text, kind)

    def _of_backdrop(self, scene: Scene, made: Composed, source: int) -> Iterator[Expression]:
        """Sentences about untouched things that nothing pasted could be taken for."""
        now = {own: key for key, own in made.origin.items()}
        pasted = [scene.thing(key) for key in made.pasted]
        heard = {name for t in pasted for name in t.names.heard}
        for e in self.of_picture.get(source, ()):
            if not e.targets:
                names = written.names_in(e.text)
                if names and heard.isdisjoint(names) and heard.isdisjoint(n.removesuffix("s") for n in names):
                    yield replace(e, picture_id=made.picture.id)
                continue
            keys = tuple(now.get(own, 0) for own in e.targets)
            if any(key == 0 or made.hidden[key] > 0 for key in keys):
                continue
            thing = scene.thing(keys[0])
            noun = written.noun_of(e.text, thing.category) if written.is_plain(e.text, thing.category) else ""
            if noun and heard.isdisjoint(thing.names.heard) and not any(_like(noun, t) for t in pasted):
                yield replace(e, picture_id=made.picture.id, targets=keys)

    def _by_rule(self, scene: Scene, made: Composed, rng: np.random.Generator) -> Iterator[Expression]:
        """About what was pasted, what may be taken for it, and what it hides; the rest is the backdrop's as ever."""
        pasted = [scene.thing(key) for key in made.pasted]
        heard = frozenset(name for t in pasted for name in t.names.heard)
        focus = {t.instance.id for t in scene.things if heard & t.names.heard or made.hidden[t.instance.id] > 0}
        yield from (e for e in expressions.describe(scene, rng, limit=4) if e.targets[0] in focus)
        yield from (e for e in expressions.plurals(scene, rng, limit=4) if focus & set(e.targets))

    def _near_misses(
        self, scene: Scene, made: Composed, said: dict[int, list[str]], rng: np.random.Generator
    ) -> Iterator[Expression]:
        """What was written of another thing of a kind that is here, but of a colour that none here has."""
        for kind in sorted({cut.category for cut in made.pasted.values()}):
            texts = self.coloured[kind]
            for k in rng.permutation(len(texts))[:6]:
                rivals = scene.heard_as(written.noun_of(texts[k], kind))
                if rivals and not written.sex([texts[k]]) and written.fits_none(scene, texts[k], rivals, said):
                    yield Expression(made.picture.id, (), texts[k], "absent")
                    break


def _like(noun: str, thing: Thing) -> bool:
    return noun in thing.names.heard or noun in {vocabulary.plural(name) for name in thing.names.heard}


def _rivals(scene: Scene, thing: Thing, text: str) -> list[Thing]:
    """What else the sentence's noun may mean: everything heard as it, and everything of the thing's own kind."""
    noun = written.noun_of(text, thing.category)
    heard = scene.heard_as(noun) + [u for u in scene.things if u.category == thing.category]
    return scene.distinct([u for u in dict.fromkeys(heard) if u is not thing])
