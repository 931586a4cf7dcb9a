"""From what was heard to a command: one table of rules, and the gates before it.

People say "Could you please look at the red mug on the left?"; the network wants "the red mug on the left". Every rule
is a line of RULES; `python -m jmceln_core.speech.interpret "could you find the cup, please"` shows which ones apply.
"""

from __future__ import annotations

import argparse
import re
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from jmceln_core.speech.engines import Transcription


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


@dataclass(frozen=True)
class InterpreterConfig:
    """The gates before a command.

    `min_confidence` is compared with Transcription.confidence. With a `wake_phrase` only what begins with it is a
    command ("robot, the cup"); said alone it holds for what is said in the next `wake_window` seconds. "stop" needs
    none.
    """

    min_confidence: float = 0.6
    wake_phrase: str = ""
    wake_window: float = 5.0


@dataclass(frozen=True)
class Decision:
    """What to do about an utterance.

    Accepted, `command` is the expression to look for; with `ends` there is none, and the command in force is to end.
    Not accepted, `reason` says why in words. `wakes`: it was the wake phrase alone.
    """

    command: str = ""
    accepted: bool = False
    ends: bool = False
    reason: str = ""
    wakes: bool = False


@dataclass(frozen=True)
class Rule:
    """`pattern` is replaced where it is found: spelling anywhere, lead at the beginning, tail at the end, and whole
    only when it is all there is. Patterns are over lower case words without punctuation."""

    where: str
    name: str
    pattern: str
    replacement: str = ""


_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_ORDINALS = {"1st": "first", "2nd": "second", "3rd": "third", "4th": "fourth", "5th": "fifth", "6th": "sixth"}

# A noun phrase begins with one of these. After verbs that are nouns too ("watch", "track"), only these make them verbs.
_DETERMINER = r"(?=(?:the|a|an|this|that|these|those|my|your|his|her|our|their|all|both|every|each|another|some) )"

#: Every rule, in the order in which they are tried. Those for beginning and end are tried until none applies any more.
RULES = (
    *(Rule("spelling", "ordinals", rf"\b{digits}\b", word) for digits, word in _ORDINALS.items()),
    *(Rule("spelling", "numbers", rf"\b{number}\b", word) for number, word in enumerate(_NUMBERS)),
    Rule("spelling", "American, as in RefCOCO", r"\bgrey\b", "gray"),
    Rule("spelling", "American, as in RefCOCO", r"\bcolour", "color"),
    Rule("spelling", "American, as in RefCOCO", r"\bcentre\b", "center"),
    Rule("spelling", "one word", r"\b(left|right|top|bottom|front|back|upper|lower) most\b", r"\1most"),
    Rule("spelling", "one word", r"\bt shirt\b", "t-shirt"),
    Rule("lead", "hesitation", r"(?:um+|uh+|er+|erm|hmm+|mm+|ah|oh)\b"),
    Rule("lead", "opening", r"(?:okay|ok|well|so|now|alright|all right|right so|yes|yeah|no|and|then|but|actually)\b"),
    Rule("lead", "greeting", r"(?:hey|hi|hello|good morning)(?: there)?(?: robot)?\b"),
    Rule("lead", "politeness", r"(?:please|kindly|just|quickly|maybe|perhaps|if you could|try to)\b"),
    Rule(
        "lead",
        "address",
        rf"robot (?:{_DETERMINER}|(?=(?:please|can|could|would|will|i|we|look|find|show|point|where|go|track|follow|get"
        r"|give|bring|pick|grab|search|stop|halt|cancel|never)\b))",
    ),
    Rule("lead", "asking", r"(?:would you mind|do you mind|are you able to|do you think you can|is it possible to)\b"),
    Rule("lead", "asking", r"(?:can|could|would|will) you\b"),
    Rule("lead", "asking", r"help (?:me|us)(?: to)?(?= \w)"),
    Rule("lead", "wishing", r"(?:i|we)(?: would|'d)?(?: really)? (?:want|need|like|love)(?: you)?(?: to)?\b"),
    Rule("lead", "wishing", r"(?:i'm|i am|we're|we are) (?:looking for|searching for|talking about|interested in)\b"),
    Rule("lead", "meaning", r"(?:i|we) (?:mean|meant|said|was talking about)\b"),
    Rule("lead", "permission", r"(?:let me see|let's see|let's look at|let us look at|let me have)\b"),
    Rule("lead", "looking", r"(?:have|take) a (?:closer )?look at\b"),
    Rule("lead", "looking", r"(?:look|looking|stare|glance|gaze|aim)(?: over)?(?: there)? (?:at|for|towards?|to)\b"),
    Rule("lead", "pointing", r"(?:point|pointing) (?:at|to|towards?|out)(?: to me| for me)?\b"),
    Rule("lead", "searching", r"(?:search|searching|watch out|keep looking) for\b"),
    Rule("lead", "following", r"(?:focus|concentrate|zoom in|keep an eye|keep your eye|keep your eyes) on\b"),
    Rule("lead", "going", r"(?:go|drive|move|come|walk|turn)(?: over)? (?:to|towards?)\b"),
    Rule("lead", "taking", r"(?:pick (?:up|out)|reach for|get hold of)\b"),
    Rule("lead", "giving", r"(?:show|bring|get|give|hand|fetch|find|tell|pass|grab) (?:me|us)(?: over)?(?= \w)"),
    Rule("lead", "finding", r"(?:find|finding|locate|segment|highlight|detect|identify|grab|grasp|fetch)(?= \w)"),
    Rule("lead", "asking where", r"(?:where is|where's|where are|what about|how about|which one is|which is)\b"),
    Rule("lead", "asking where", rf"where {_DETERMINER}"),
    Rule("lead", "asking whether", rf"(?:can|could|do) you see {_DETERMINER}"),
    Rule("lead", "asking whether", r"(?:is there|are there|there is|there's|there are)\b"),
    Rule("lead", "showing", rf"(?:it's|it is|that's|that is|this is) {_DETERMINER}"),
    Rule(
        "lead",
        "verbs that are nouns too",
        rf"(?:look|watch|track|follow|mark|show|point|select|get|take|see|choose|pick|outline|bring|give|hand|pass|want"
        rf"|need|try|use|hold|move|lift) {_DETERMINER}",
    ),
    Rule("tail", "politeness", r"(?:please|thanks|thank you|thanks a lot|thank you very much|will you|would you)"),
    Rule("tail", "politeness", r"(?:could you|can you|if you can|if you could|if you would|if you please|if possible)"),
    Rule("tail", "politeness", r"(?:if you don't mind|when you can|when you have a moment|okay|ok|alright|robot)"),
    Rule("tail", "for whom", r"for (?:me|us)"),
    Rule("tail", "when", r"(?:(?<!the )right now|now|for a (?:moment|second|minute)|at once|immediately)"),
    Rule("tail", "asking where", r"(?<=\w )(?:is|are)"),
    Rule(
        "whole",
        "ends the command",
        r"(?:please )?(?:stop|halt|cancel|quit|abort|enough|never ?mind|forget (?:it|that|about it|about that)"
        r"|that's enough|that is enough|that will do|that's all|leave it|let it go|stand down"
        r"|(?:stop|cancel|abort|quit|end|drop|clear)(?: (?:it|that|this|everything|the (?:command|search|task)|looking"
        r"|searching|tracking|following|watching|pointing))+)(?: (?:now|right now|robot|stop|at once))*",
        "<stop>",
    ),
    Rule(
        "whole",
        "speech engines write it on noise",
        r"(?:thank you|thanks)(?: very much| so much)?(?: for (?:watching|listening|your attention))?(?: everyone)?"
        r"|(?:please )?(?:like and )?subscribe(?: to (?:my|our|the) channel)?"
        r"|see you (?:next time|in the next video|later)"
        r"|(?:good)?bye(?:[ -]?bye)*|(?:subtitles|captions|transcription|translation) by .*|.*\bamara\.org.*|www\..*"
        r"|you|the end|music|applause|laughter|silence|blank audio|inaudible|foreign|beep|i'm sorry|sorry",
    ),
)

_STOP = "<stop>"  # the replacement that ends the command; every other whole one refuses
_COMPILED = {
    where: tuple((re.compile(rule.pattern), rule) for rule in RULES if rule.where == where)
    for where in ("spelling", "lead", "tail", "whole")
}

# What a sentence has besides things to look for.
_FUNCTION_WORDS = _words(
    "a an the this that these those it its it's is are was were be been am i i'm you we he she they me him her us "
    "them my your his our their and or but so if then of to in on at by for with from as not no yes yeah okay ok do "
    "does did don't can could will would should what when where who why how there here up out oh um uh well just like "
    "know think mean please thanks thank very really all right"
)
_LONGEST = 25  # words; nobody describes a thing in more


def plain(text: str) -> str:
    """Lower case words, one space apart, without punctuation; what stands in brackets (engines put noises there) goes.

    Apostrophes and hyphens within words stay.
    """
    text = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    text = re.sub(r"\[[^\]]*\]|\([^)]*\)|<[^>]*>|\*[^*]*\*|[♪♫]", " ", text)
    text = re.sub(r"[^\w\s'.-]|\.(?!\w)|(?<!\w)[.'-]|[-'](?!\w)", " ", text)
    text = " ".join(text.split())
    return _all(text, "spelling", [])


def normalise(text: str, applied: list[Rule] | None = None) -> str:
    """The referring expression in a polite sentence; "" where nothing is left of it. `applied` collects the rules."""
    applied = [] if applied is None else applied
    text = plain(text)
    while True:
        before = text
        for pattern, rule in _COMPILED["lead"]:
            if match := pattern.match(text):
                text = (rule.replacement + text[match.end() :]).strip()
                applied.append(rule)
        for pattern, rule in _COMPILED["tail"]:
            if match := re.search(rf"(?:^|(?<=\s))(?:{pattern.pattern})$", text):
                text = text[: match.start()].strip()
                applied.append(rule)
        if text == before:
            return text


class Interpreter:
    """Decides about one utterance after the other; remembers only when the wake phrase was said."""

    def __init__(self, config: InterpreterConfig | None = None) -> None:
        self.config = config or InterpreterConfig()
        self.reset()

    def reset(self) -> None:
        """A new stream begins, at time 0."""
        self._awake_until = -1.0

    def decide(self, heard: Transcription, start: float = 0.0, end: float = 0.0) -> Decision:
        """The decision about what was heard between `start` and `end`, seconds of the stream."""
        text = plain(heard.text)
        if not text:
            return Decision(reason="no words in it")
        if heard.confidence < self.config.min_confidence:
            return Decision(
                reason=f"not understood well enough: confidence {heard.confidence:.2f} is below "
                f"{self.config.min_confidence:.2f}"
            )
        if _repeats(text):
            return Decision(reason="the same words over and over, as engines write on noise")
        wake = plain(self.config.wake_phrase)
        addressed = start <= self._awake_until
        if wake and (match := re.match(rf"(?:(?:hey|hi|hello|okay|ok) )?{re.escape(wake)}\b", text)):
            addressed = True
            text = text[match.end() :].strip()
            if not text:
                self._awake_until = end + self.config.wake_window
                return Decision(reason=f"the wake phrase {wake!r}: waiting for the command", wakes=True)
        expression = normalise(text)
        for candidate in (text, expression):
            for pattern, rule in _COMPILED["whole"]:
                if pattern.fullmatch(candidate):
                    if rule.replacement == _STOP:
                        self._awake_until = -1.0
                        return Decision(accepted=True, ends=True)
                    return Decision(reason=f"{candidate!r} is what {rule.name}")
        if wake and not addressed:
            return Decision(reason=f"not meant for the robot: the wake phrase {wake!r} was not said")
        words = expression.split()
        if all(word in _FUNCTION_WORDS for word in words):
            return Decision(reason="it names nothing to look for")
        if len(words) > _LONGEST:
            return Decision(reason=f"{len(words)} words; a command has at most {_LONGEST}")
        self._awake_until = -1.0
        return Decision(command=expression, accepted=True)


def _all(text: str, where: str, applied: list[Rule]) -> str:
    for pattern, rule in _COMPILED[where]:
        text, count = pattern.subn(rule.replacement, text)
        applied += [rule] * count
    return text


def _repeats(text: str) -> bool:
    """Whether one to four words follow each other four times or more."""
    return re.search(r"\b(\w+(?: \w+){0,3})(?: \1){3,}\b", text) is not None


def main(args: Sequence[str] | None = None) -> int:
    """Prints what becomes of a sentence, and by which rules."""
    parser = argparse.ArgumentParser(prog="python -m jmceln_core.speech.interpret", description=__doc__)
    parser.add_argument("sentence", help="as an engine would write it")
    parser.add_argument("--wake-phrase", default="", help="what a command has to begin with")
    options = parser.parse_args(args)
    decision = Interpreter(InterpreterConfig(wake_phrase=options.wake_phrase)).decide(
        Transcription(options.sentence, 1.0)
    )
    rules: list[Rule] = []
    normalise(options.sentence, rules)
    for rule in rules:
        print(f"  {rule.where:5} {rule.name}")
    print(f"refused: {decision.reason}" if not decision.accepted else "stop" if decision.ends else decision.command)
    return 0


if __name__ == "__main__":
    sys.exit(main())
