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

from jmceln_core import markdown
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
    Not accepted, `reason` says why in words.
    """

    command: str = ""
    accepted: bool = False
    ends: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Rule:
    """`pattern` is replaced where it is found: spelling anywhere, lead at the beginning, tail at the end (of a request:
    only where a lead was found), and whole only when it is all there is. Patterns are over lower case words; where a
    sentence pauses, leads and tails see " , ".

    `example` is a sentence in which the rule applies.
    """

    where: str
    name: str
    pattern: str
    example: str
    replacement: str = ""


_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_ORDINALS = {"1st": "first", "2nd": "second", "3rd": "third", "4th": "fourth", "5th": "fifth", "6th": "sixth"}

# A noun phrase begins with one of these.
_DETERMINER = (
    r"(?= (?:the|a|an|this|that|these|those|my|your|his|her|our|their|all|both|every|each|another|some|one)(?![\w'-]))"
)
# What is asked for begins with one of these, or with a noun phrase.
_VERBS = (
    "look|find|show|point|go|come|track|follow|get|give|bring|pick|grab|fetch|take|hand|pass|search|watch|focus|locate|highlight"
    "|segment|select|mark|tell|let|keep|help|try|move|where|what|which|can|could|would|will|may|do|is|are|please|kindly|just"
    "|maybe|perhaps|quickly|i|i'm|i'd|we|we're|you|it's|that's|there's|stop|cancel|halt|abort|never|forget"
)
# Words before a sentence are only that if a pause follows them, which engines write as a comma, or a sentence does:
# "no, the cup", "no the cup", but "no hat" and "well dressed man".
_PAUSE = rf"(?: ,|{_DETERMINER}|(?= (?:{_VERBS})(?![\w'-])))"

_STOP = "<stop>"  # the replacement of the rules that end the command; other whole ones refuse
_POLITE = (
    r"(?:please|okay|ok|now|no|hey|robot|thanks|thank you|sorry|just|well|so|right now|right there|at once|yes|and"
    r"|you (?:can|may|should|could))"
)
_END = (
    r"(?:stop|halt|cancel|quit|abort|freeze|wait|whoa|enough|hold (?:on|it|still)|never ?mind|leave it|let it go"
    r"|let's stop|stand down|that will do|that'll do|(?:that's|that is) (?:all|enough|it)"
    r"|forget (?:it|that|about (?:it|that)))"
)
# How recordings end that speech engines learned from.
_GOODBYE = (
    r"(?:(?:thank you|thanks)(?: very much| so much)?(?: for (?:watching|listening|your attention))?(?: everyone)?"
    r"|(?:please |like and |don't forget to )*subscribe(?: to (?:my|our|the) channel)?"
    r"|see you (?:next time|in the next video|later)|(?:good)?bye(?:[ -]?bye)*)"
)

#: Every rule, in the order in which they are tried. Those for beginning and end are tried until none applies any more.
RULES = (
    *(Rule("spelling", "ordinals", rf"\b{digits}\b", f"the {digits} cup", word) for digits, word in _ORDINALS.items()),
    *(
        Rule("spelling", "numbers", rf"(?<![\w.:/-]){n}(?![\w:/-]|\.\w)", f"the {n} cups", word)
        for n, word in enumerate(_NUMBERS)
    ),
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
    Rule("lead", "hesitation", r"(?:um+|uh+|erm?|hmm+|mm+)", "um the cup"),
    Rule(
        "lead",
        "opening",
        rf"(?:okay|ok|oh|ah|well|so|now|alright|all right|right|yes|yeah|no|and|then|but|actually|sorry|excuse me"
        rf"|thank you|thanks|not that(?: one)?){_PAUSE}",
        "okay, the cup",
    ),
    Rule(
        "lead",
        "stop before something else",
        r"(?:stop|wait|hold on|never ?mind|cancel)(?: that| it)?(?: ,)?"
        r"(?= (?:look|find|show|point|go|track|follow|get|give|bring|pick|grab|search)(?![\w'-]))",
        "stop, look at the cup",
    ),
    Rule("lead", "greeting", r"(?:hey|hi|hello|good morning)(?: there)? robot", "hey robot the cup"),
    Rule("lead", "greeting", rf"(?:hey|hi|hello|good morning)(?: there)?{_PAUSE}", "hello there, the cup"),
    Rule("lead", "address", rf"robot{_PAUSE}", "robot, the cup"),
    Rule("lead", "politeness", r"(?:please|try to|if you (?:can|could))", "please the cup"),
    Rule("lead", "politeness", rf"(?:kindly|just|quickly|maybe|perhaps|possibly){_PAUSE}", "just the cup"),
    Rule(
        "lead",
        "asking",
        r"(?:would|do) you mind(?: (?:(?:looking|pointing) (?:at|for|to|out)|finding|tracking|following"
        r"|(?:showing|bringing|giving|getting|handing|passing) (?:me|us)))?",
        "would you mind pointing at the cup",
    ),
    Rule(
        "lead",
        "asking",
        r"(?:would you be (?:able to|so kind as to|kind enough to)|are you able to|is it possible to"
        r"|(?:do you think|i was wondering if|i wonder if) you (?:can|could))",
        "would you be so kind as to find the cup",
    ),
    Rule("lead", "asking", r"(?:can|could|would|will) you(?: possibly)?", "could you find the cup"),
    Rule("lead", "asking", r"(?:can|could|may) (?:i|we) (?:please )?(?:have|get|see)", "can i have the cup"),
    Rule("lead", "asking", r"help (?:me|us)(?: to)?(?= \w)", "help me find the cup"),
    Rule(
        "lead",
        "wishing",
        r"(?:i|we)(?: would|'d)?(?: really)? (?:want|need|like|love)(?: you)?"
        rf"(?: to(?: have| see| get)?|{_DETERMINER})",
        "i'd like you to find the cup",
    ),
    Rule(
        "lead",
        "wishing",
        r"(?:i'm|i am|we're|we are) (?:looking for|searching for|talking about|interested in|pointing at)",
        "i'm looking for the cup",
    ),
    Rule("lead", "missing", r"(?:i|we) (?:can't|cannot|can not|could not|couldn't) find", "i can't find the cup"),
    Rule("lead", "meaning", r"(?:i|we) (?:mean|meant|said|was talking about)(?= \w)", "i meant the cup"),
    Rule("lead", "thinking", rf"i (?:think|guess|believe)(?: it's| it is)?{_DETERMINER}", "i think it's the cup"),
    Rule("lead", "permission", r"(?:let me|let's|let us) (?:see|have|look at)", "let me see the cup"),
    Rule(
        "lead",
        "going to do it",
        r"(?:let's|let us|(?:go|come)(?: over)?(?: there)?(?: and)?)"
        r"(?= (?:find|go|look|see|get|fetch|grab|bring|pick|search|show|point|take)(?![\w'-]))",
        "go and get the cup",
    ),
    Rule("lead", "looking", r"(?:have|take) a (?:closer |good )?look at", "take a look at the cup"),
    Rule(
        "lead",
        "looking",
        r"(?:look|stare|glance|gaze|aim)(?: over)?(?: there)? (?:at|for|towards?|to)",
        "look at the cup",
    ),
    Rule("lead", "pointing", r"point (?:at|to|towards?|out)(?: to me| for me)?", "point out the cup"),
    Rule("lead", "searching", r"(?:search|watch out|keep looking) for", "search for the cup"),
    Rule(
        "lead",
        "following",
        r"(?:focus|concentrate|zoom in|keep an eye|keep your eyes?) on",
        "keep an eye on the cup",
    ),
    Rule("lead", "going", rf"(?:go|drive|move|come|walk|turn)(?: over)? (?:to|towards?){_DETERMINER}", "go to the cup"),
    Rule("lead", "taking", r"(?:pick (?:up|out)(?! truck)|reach for|get hold of)", "pick up the cup"),
    Rule("lead", "telling", r"tell (?:me|us) about", "tell me about the cup"),
    Rule(
        "lead",
        "giving",
        r"(?:show|bring|get|give|hand|fetch|find|tell|pass|grab) (?:me|us)(?: over)?(?= \w)",
        "show me the cup",
    ),
    Rule("lead", "finding", r"(?:find|locate|detect|identify)(?: out)?(?= \w)(?! (?:of|button)\b)", "find the cup"),
    Rule(
        "lead",
        "asking where",
        r"(?:do you know |i wonder |find out )?"
        r"(?:where is|where's|where are|what about|how about|which one is|which is)",
        "where is the cup",
    ),
    Rule(
        "lead",
        "asking where",
        r"(?:where (?:can|could|do) (?:i|we) find|where did (?:i|we|you) (?:put|leave|see)|have you seen|did you see"
        r"|do you have)",
        "have you seen the cup",
    ),
    Rule("lead", "asking where", rf"(?:do you know |i wonder )?where{_DETERMINER}", "do you know where the cup is"),
    Rule("lead", "asking whether", rf"(?:can|could|do) you see{_DETERMINER}", "do you see the cup"),
    Rule("lead", "asking whether", r"(?:is there|are there|there is|there's|there are)", "is there a cup"),
    Rule("lead", "showing", rf"(?:it's|it is|that's|that is|this is){_DETERMINER}(?! all)", "it's the cup"),
    Rule(
        "lead",
        "verbs that are nouns too",
        rf"(?:look|watch|track|follow|mark|show|point|select|get|take|see|choose|pick|outline|bring|give|hand|pass|want"
        rf"|need|try|use|hold|move|lift|grab|grasp|fetch|highlight|segment){_DETERMINER}",
        "track the cup",
    ),
    Rule(
        "tail",
        "politeness",
        r"(?:please|thanks|thank you|thanks a lot|thank you very much|will you|would you|could you|can you"
        r"|if you (?:can|could|would|please|don't mind)|if possible|when you can|when you have a moment)",
        "the cup please",
    ),
    Rule("tail", "closing", r", (?:okay|ok|alright|robot)", "the cup, okay"),
    Rule("tail", "when", r"(?:(?<!says )now|for a (?:moment|second|minute)|at once|immediately)", "the cup now"),
    # "the dog on the right now" has a side in it, "find the dog right now" has none.
    Rule(
        "tail of a request",
        "when",
        r"(?<!the )(?<!on )(?<!far )(?<!top )(?<!bottom )(?<!to )(?<!upper )(?<!lower )(?<!most )right now",
        "find the cup right now",
    ),
    Rule("tail of a request", "for whom", r"for (?:me|us)", "find the cup for me"),
    Rule("tail of a request", "asking where", r"(?<=\w )(?:is|are)", "tell me where the cup is"),
    Rule(
        "whole",
        "ends the command",
        rf"(?:{_POLITE} )*{_END}(?: (?:{_END}|{_POLITE}|that|it|this|everything))*",
        "stop",
        _STOP,
    ),
    Rule(
        "whole",
        "ends what was asked for",
        rf"(?:{_POLITE} |(?:could|would|can|will) you |you (?:can|may|should|could) )*"
        r"(?:stop (?:it|that|this|everything|him|her|them|me|the|\w\w+ing)(?: .*)?"
        r"|(?:cancel|abort|end|drop|clear|forget)(?: about)? (?:it|that|this|everything|the|my|your|last|all)(?: .*)?"
        r"|(?:don't|do not) (?:look|track|follow|watch|point|search|bother)(?: .*)?)",
        "stop looking at the cup",
        _STOP,
    ),
    Rule(
        "whole",
        "speech engines write it on noise",
        rf"{_GOODBYE}(?: {_GOODBYE})*|(?:subtitles|captions|transcription|translation) by (?!(?:the|a|my) (?!amara)).*"
        r"|.*\bamara\.org.*|www\..*"
        r"|you|the end|music|applause|laughter|silence|blank audio|inaudible|foreign|beep|i'm sorry|sorry",
        "thank you for watching",
    ),
)

# "stop" is believed with this share of the confidence that others need: short words have less, in noise a tenth, and an
# engine that hears something else or nothing hardly ever writes just this (`python -m jmceln_core.speech.bench.stop`).
_STOP_SHARE = 0.2
_COMPILED = {
    # After a rule for the beginning no word may go on: "hi-vis vest".
    where: tuple(
        (re.compile(f"(?:{rule.pattern})(?![\\w'-])" if where == "lead" else rule.pattern), rule)
        for rule in RULES
        if rule.where == where
    )
    for where in ("spelling", "lead", "tail", "tail of a request", "whole")
}

# What a sentence has besides things to look for.
_FUNCTION_WORDS = _words(
    "a an the this that these those it its it's is are was were be been am i i'm you we he she they me him her us "
    "them my your his our their and or but so if then of to in on at by for with from as not no yes yeah okay ok do "
    "does did don't could will would should what when where who why how there here up out oh um uh just like know "
    "think mean please thanks thank very really all"
)
_NOT_ALONE = _words("can well right left")  # things and sides in longer expressions
_CALL = "hey|hi|hello|there|okay|ok|um+|uh+|oh|so|now|well|please|yes|no|and"  # what may stand before the wake phrase
_LONGEST = 25  # words; nobody describes a thing in more


def plain(text: str) -> str:
    """Lower case words, one space apart, without punctuation; what stands in brackets (engines put noises there) goes.

    Apostrophes and hyphens within words stay, and what stands within numbers: 10:15, 1/2, 0.5.
    """
    return _with_pauses(text).replace(" ,", "").strip(" ,")


def _with_pauses(text: str) -> str:
    """As `plain`, with " , " where a sentence pauses."""
    text = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    text = re.sub(r"\[[^\]]*\]|\([^)]*\)|<[^>]*>|\*[^*]*\*|[♪♫]", " ", text)
    text = re.sub(r"(?<=\d)[:/](?=\d)", lambda match: {":": "\0", "/": "\1"}[match[0]], text)
    text = re.sub(r"[,;:!?]|\.(?!\w)", " , ", text)
    text = re.sub(r"[^\w\s',.\0\1-]|(?<!\w)[.'-]|[-'](?!\w)", " ", text)
    text = re.sub(r"(?: ,)+", " ,", " ".join(text.split()))
    return text.replace("\0", ":").replace("\1", "/").strip(" ,")


def normalise(text: str, applied: list[Rule] | None = None) -> str:
    """The referring expression in a polite sentence; "" where nothing is left of it. `applied` collects the rules."""
    applied = [] if applied is None else applied
    text = _with_pauses(text)
    for pattern, rule in _COMPILED["spelling"]:
        text, count = pattern.subn(rule.replacement, text)
        applied += [rule] * min(count, 1)
    while True:
        before = text
        for pattern, rule in _COMPILED["lead"]:
            if match := pattern.match(text):
                text = text[match.end() :].strip(" ,")
                applied.append(rule)
        asked = any(rule.where == "lead" for rule in applied)
        for pattern, rule in _COMPILED["tail of a request"] * asked + _COMPILED["tail"]:
            if match := re.search(rf"(?:^|(?<=\s))(?:{pattern.pattern})$", text):
                text = text[: match.start()].strip(" ,")
                applied.append(rule)
        if text == before:
            return text.replace(" ,", "")


class Interpreter:
    """Decides about one utterance after the other; remembers only when the wake phrase was said.

    Raises ValueError for a wake phrase without words, which nobody could say.
    """

    def __init__(self, config: InterpreterConfig | None = None) -> None:
        self.config = config or InterpreterConfig()
        if self.config.wake_phrase and not plain(self.config.wake_phrase):
            raise ValueError(f"the wake phrase {self.config.wake_phrase!r} has no words; leave it empty for none")
        self.reset()

    def reset(self) -> None:
        """A new stream begins, at time 0."""
        self._awake_until = -1.0

    def decide(self, heard: Transcription, start: float = 0.0, end: float = 0.0) -> Decision:
        """The decision about what was heard between `start` and `end`, seconds of the stream."""
        text = _with_pauses(heard.text)
        if not text:
            return Decision(reason="no words in it")
        least = self.config.min_confidence
        doubt = Decision(reason=f"not understood well enough: confidence {heard.confidence:.2f} is below {least:.2f}")
        if heard.confidence < least * _STOP_SHARE:
            return doubt
        wake = plain(self.config.wake_phrase)
        called = False
        if wake:
            name = re.escape(wake).replace(r"\ ", "(?: ,)? ")
            call = re.compile(rf"(?:(?:{_CALL})(?: ,)? )*{name}(?![\w'-])[ ,]*")
            while match := call.match(text):
                called, text = True, text[match.end() :]
        expression = normalise(text)
        refused = self._whole(text, expression)
        if refused is not None:
            return refused
        if _repeats(plain(text)):
            return Decision(reason="the same words over and over, as engines write on noise")
        if heard.confidence < least:
            return doubt
        if called and not expression:
            self._awake_until = end + self.config.wake_window
            return Decision(reason=f"the wake phrase {wake!r}: waiting for the command")
        if wake and not called and start > self._awake_until:
            return Decision(reason=f"not meant for the robot: the wake phrase {wake!r} was not said")
        words = expression.split()
        if all(word in _FUNCTION_WORDS for word in words) or (len(words) == 1 and words[0] in _NOT_ALONE):
            return Decision(reason="it names nothing to look for")
        if len(words) > _LONGEST:
            return Decision(reason=f"{len(words)} words; a command has at most {_LONGEST}")
        self._awake_until = -1.0
        return Decision(command=expression, accepted=True)

    def _whole(self, text: str, expression: str) -> Decision | None:
        """What the rules for whole utterances say, framed or not."""
        for candidate in (plain(text), expression):
            for pattern, rule in _COMPILED["whole"]:
                if not pattern.fullmatch(candidate):
                    continue
                if rule.replacement != _STOP:
                    return Decision(reason=f"{candidate!r}: {rule.name}")
                self._awake_until = -1.0
                return Decision(accepted=True, ends=True)
        return None


def _repeats(text: str) -> bool:
    """Whether one to four words follow each other four times or more."""
    return re.search(r"\b(\w+(?: \w+){0,3})(?: \1){3,}\b", text) is not None


def table() -> str:
    """RULES as a Markdown table, one line for rules of the same kind: for docs/speech.md."""
    examples: dict[tuple[str, str], list[str]] = {}
    for rule in RULES:
        examples.setdefault((rule.where, rule.name), []).append(rule.example)
    rows = []
    for (where, name), said in examples.items():
        decision = Interpreter().decide(Transcription(said[0], 1.0))
        becomes = decision.command or ("(the command ends)" if decision.ends else "(refused)")
        rows.append((where, name, said[0], becomes))
    return "\n".join(markdown.table(("where", "what", "for example", "becomes"), rows))


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
