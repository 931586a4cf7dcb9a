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

from jmceln_core.speech.protocol import Transcription


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


@dataclass(frozen=True)
class InterpreterConfig:
    """The gates before a command.

    `min_confidence` is compared with Transcription.confidence. With a `wake_phrase` only what begins with it is a
    command ("robot, the cup"); said alone it holds for what is said in the next `wake_window` seconds. "stop" needs
    none.
    """

    min_confidence: float = 0.5
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
    only when it is all there is. Patterns are over lower case words without punctuation.

    `example` is a sentence in which the rule applies.
    """

    where: str
    name: str
    pattern: str
    example: str
    replacement: str = ""


_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_ORDINALS = {"1st": "first", "2nd": "second", "3rd": "third", "4th": "fourth", "5th": "fifth", "6th": "sixth"}

# A noun phrase begins with one of these. After verbs that are nouns too ("watch", "track"), only these make them verbs.
_DETERMINER = r"(?=(?:the|a|an|this|that|these|those|my|your|his|her|our|their|all|both|every|each|another|some) )"

_STOP = "<stop>"  # the replacement of the rule that ends the command; other whole ones refuse

# How recordings end that speech engines learned from.
_GOODBYE = (
    r"(?:(?:thank you|thanks)(?: very much| so much)?(?: for (?:watching|listening|your attention))?(?: everyone)?"
    r"|(?:please |like and |don't forget to )*subscribe(?: to (?:my|our|the) channel)?"
    r"|see you (?:next time|in the next video|later)|(?:good)?bye(?:[ -]?bye)*)"
)

#: Every rule, in the order in which they are tried. Those for beginning and end are tried until none applies any more.
RULES = (
    *(Rule("spelling", "ordinals", rf"\b{digits}\b", f"the {digits} cup", word) for digits, word in _ORDINALS.items()),
    *(Rule("spelling", "numbers", rf"\b{n}\b", f"the {n} cups", word) for n, word in enumerate(_NUMBERS)),
    Rule("spelling", "American, as in RefCOCO", r"\bgrey\b", "the grey cup", "gray"),
    Rule("spelling", "American, as in RefCOCO", r"\bcolour", "the colourful cup", "color"),
    Rule("spelling", "American, as in RefCOCO", r"\bcentre\b", "the cup in the centre", "center"),
    Rule(
        "spelling",
        "one word",
        r"\b(left|right|top|bottom|front|back|upper|lower) most\b",
        "the left most cup",
        r"\1most",
    ),
    Rule("spelling", "one word", r"\bt shirt\b", "the boy in the t shirt", "t-shirt"),
    Rule("lead", "hesitation", r"(?:um+|uh+|er+|erm|hmm+|mm+|ah|oh)\b", "um the cup"),
    Rule(
        "lead",
        "opening",
        r"(?:okay|ok|well|so|now|alright|all right|right so|yes|yeah|no|and|then|but|actually)\b",
        "okay the cup",
    ),
    Rule("lead", "greeting", r"(?:hey|hi|hello|good morning)(?: there)?(?: robot)?\b", "hey robot the cup"),
    Rule("lead", "politeness", r"(?:please|kindly|just|quickly|maybe|perhaps|if you could|try to)\b", "please the cup"),
    Rule(
        "lead",
        "address",
        rf"robot (?:{_DETERMINER}|(?=(?:please|can|could|would|will|i|we|look|find|show|point|where|go|track|follow|get"
        r"|give|bring|pick|grab|search|stop|halt|cancel|never)\b))",
        "robot the cup",
    ),
    Rule(
        "lead",
        "asking",
        r"(?:would you mind|do you mind|are you able to|do you think you can|is it possible to)\b",
        "would you mind finding the cup",
    ),
    Rule("lead", "asking", r"(?:can|could|would|will) you\b", "could you find the cup"),
    Rule("lead", "asking", r"help (?:me|us)(?: to)?(?= \w)", "help me find the cup"),
    Rule(
        "lead",
        "wishing",
        r"(?:i|we)(?: would|'d)?(?: really)? (?:want|need|like|love)(?: you)?(?: to)?\b",
        "i'd like you to find the cup",
    ),
    Rule(
        "lead",
        "wishing",
        r"(?:i'm|i am|we're|we are) (?:looking for|searching for|talking about|interested in)\b",
        "i'm looking for the cup",
    ),
    Rule("lead", "meaning", r"(?:i|we) (?:mean|meant|said|was talking about)\b", "i meant the cup"),
    Rule(
        "lead",
        "permission",
        r"(?:let me see|let's see|let's look at|let us look at|let me have)\b",
        "let me see the cup",
    ),
    Rule("lead", "looking", r"(?:have|take) a (?:closer )?look at\b", "take a look at the cup"),
    Rule(
        "lead",
        "looking",
        r"(?:look|looking|stare|glance|gaze|aim)(?: over)?(?: there)? (?:at|for|towards?|to)\b",
        "look at the cup",
    ),
    Rule("lead", "pointing", r"(?:point|pointing) (?:at|to|towards?|out)(?: to me| for me)?\b", "point out the cup"),
    Rule("lead", "searching", r"(?:search|searching|watch out|keep looking) for\b", "search for the cup"),
    Rule(
        "lead",
        "following",
        r"(?:focus|concentrate|zoom in|keep an eye|keep your eye|keep your eyes) on\b",
        "keep an eye on the cup",
    ),
    Rule("lead", "going", r"(?:go|drive|move|come|walk|turn)(?: over)? (?:to|towards?)\b", "go to the cup"),
    Rule("lead", "taking", r"(?:pick (?:up|out)|reach for|get hold of)\b", "pick up the cup"),
    Rule(
        "lead",
        "giving",
        r"(?:show|bring|get|give|hand|fetch|find|tell|pass|grab) (?:me|us)(?: over)?(?= \w)",
        "show me the cup",
    ),
    Rule(
        "lead",
        "finding",
        r"(?:find|finding|locate|segment|highlight|detect|identify|grab|grasp|fetch)(?= \w)",
        "find the cup",
    ),
    Rule(
        "lead",
        "asking where",
        r"(?:where is|where's|where are|what about|how about|which one is|which is)\b",
        "where is the cup",
    ),
    Rule("lead", "asking where", rf"where {_DETERMINER}", "tell me where the cup is"),
    Rule("lead", "asking whether", rf"(?:can|could|do) you see {_DETERMINER}", "do you see the cup"),
    Rule("lead", "asking whether", r"(?:is there|are there|there is|there's|there are)\b", "is there a cup"),
    Rule("lead", "showing", rf"(?:it's|it is|that's|that is|this is) {_DETERMINER}", "it's the cup"),
    Rule(
        "lead",
        "verbs that are nouns too",
        rf"(?:look|watch|track|follow|mark|show|point|select|get|take|see|choose|pick|outline|bring|give|hand|pass|want"
        rf"|need|try|use|hold|move|lift) {_DETERMINER}",
        "track the cup",
    ),
    Rule(
        "tail",
        "politeness",
        r"(?:please|thanks|thank you|thanks a lot|thank you very much|will you|would you|could you|can you|if you can"
        r"|if you could|if you would|if you please|if possible|if you don't mind|when you can|when you have a moment)",
        "the cup please",
    ),
    Rule("tail", "closing", r"(?:okay|ok|alright|robot)", "the cup okay"),
    Rule("tail", "for whom", r"for (?:me|us)", "the cup for me"),
    Rule(
        "tail",
        "when",
        r"(?:(?<!the )right now|now|for a (?:moment|second|minute)|at once|immediately)",
        "the cup right now",
    ),
    Rule("tail", "asking where", r"(?<=\w )(?:is|are)", "tell me where the cup is"),
    Rule(
        "whole",
        "ends the command",
        r"(?:please |you can |that's enough )?(?:stop|halt|cancel|quit|abort|enough|never ?mind(?: that| it)?"
        r"|forget (?:it|that|about it|about that)|that's enough|that is enough|that will do|that's all|leave it"
        r"|let it go|stand down"
        r"|(?:stop|cancel|abort|quit|end|drop|clear)(?: (?:it|that|this|everything|the (?:command|search|task)|looking"
        r"|searching|tracking|following|watching|pointing))+)(?: (?:now|right now|robot|stop|at once))*",
        "stop looking",
        _STOP,
    ),
    Rule(
        "whole",
        "speech engines write it on noise",
        rf"{_GOODBYE}(?: {_GOODBYE})*|(?:subtitles|captions|transcription|translation) by .*|.*\bamara\.org.*|www\..*"
        r"|you|the end|music|applause|laughter|silence|blank audio|inaudible|foreign|beep|i'm sorry|sorry",
        "thank you for watching",
    ),
)

_STOP_SHARE = 0.5  # "stop" is believed with this share of the confidence that others need: short words have less
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
    return " ".join(text.split())


def normalise(text: str, applied: list[Rule] | None = None) -> str:
    """The referring expression in a polite sentence; "" where nothing is left of it. `applied` collects the rules."""
    applied = [] if applied is None else applied
    text = plain(text)
    for pattern, rule in _COMPILED["spelling"]:
        text, count = pattern.subn(rule.replacement, text)
        applied += [rule] * min(count, 1)
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
        doubt = Decision(
            reason=f"not understood well enough: confidence {heard.confidence:.2f} is below "
            f"{self.config.min_confidence:.2f}"
        )
        if heard.confidence < self.config.min_confidence * _STOP_SHARE:
            return doubt
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
                    return Decision(reason=f"{candidate!r}: {rule.name}")
        if heard.confidence < self.config.min_confidence:
            return doubt
        if wake and not addressed:
            return Decision(reason=f"not meant for the robot: the wake phrase {wake!r} was not said")
        words = expression.split()
        if all(word in _FUNCTION_WORDS for word in words):
            return Decision(reason="it names nothing to look for")
        if len(words) > _LONGEST:
            return Decision(reason=f"{len(words)} words; a command has at most {_LONGEST}")
        self._awake_until = -1.0
        return Decision(command=expression, accepted=True)


def _repeats(text: str) -> bool:
    """Whether one to four words follow each other four times or more."""
    return re.search(r"\b(\w+(?: \w+){0,3})(?: \1){3,}\b", text) is not None


def table() -> str:
    """RULES as a Markdown table, one line for rules of the same kind: for docs/speech.md."""
    examples: dict[tuple[str, str], list[str]] = {}
    for rule in RULES:
        examples.setdefault((rule.where, rule.name), []).append(rule.example)
    lines = ["| where | what | for example | becomes |", "|---|---|---|---|"]
    for (where, name), said in examples.items():
        decision = Interpreter().decide(Transcription(said[0], 1.0))
        becomes = decision.command or ("(the command ends)" if decision.ends else "(refused)")
        lines.append(f"| {where} | {name} | {said[0]} | {becomes} |")
    return "\n".join(lines)


def main(args: Sequence[str] | None = None) -> int:
    """Prints what becomes of a sentence, and by which rules; without one, the table of rules."""
    parser = argparse.ArgumentParser(prog="python -m jmceln_core.speech.interpret", description=__doc__)
    parser.add_argument("sentence", nargs="?", help="as an engine would write it; without it, the rules are printed")
    parser.add_argument("--wake-phrase", default="", help="what a command has to begin with")
    options = parser.parse_args(args)
    if options.sentence is None:
        print(table())
        return 0
    interpreter = Interpreter(InterpreterConfig(wake_phrase=options.wake_phrase))
    decision = interpreter.decide(Transcription(options.sentence, 1.0))
    rules: list[Rule] = []
    normalise(options.sentence, rules)
    for rule in rules:
        print(f"  {rule.where:5} {rule.name}")
    print(f"refused: {decision.reason}" if not decision.accepted else "stop" if decision.ends else decision.command)
    return 0


if __name__ == "__main__":
    sys.exit(main())
