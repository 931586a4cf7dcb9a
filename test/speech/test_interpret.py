"""From what engines write to what the robot is told: every kind of rule, and the gates."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmceln_core.speech import interpret
from jmceln_core.speech.engines import Transcription
from jmceln_core.speech.interpret import RULES, Interpreter, InterpreterConfig, normalise, plain
from support import ROOT


@pytest.mark.parametrize(
    ("said", "command"),
    [
        ("Could you please look at the red mug on the left?", "the red mug on the left"),
        ("The giraffe, not eating grass.", "the giraffe not eating grass"),
        ("Um, okay, so, find me the 2nd bottle from the left, please.", "the second bottle from the left"),
        ("Would you mind pointing at the man in the grey coat?", "the man in the gray coat"),
        ("I'd like you to track the dog, thank you.", "the dog"),
        ("I'm looking for the woman who is sitting.", "the woman who is sitting"),
        ("Robot, the cup.", "the cup"),
        ("Hey robot, can you see the leftmost chair?", "the leftmost chair"),
        ("Tell me where the blue pen is.", "the blue pen"),
        ("Where's the left most horse?", "the leftmost horse"),
        ("Find the mug right now.", "the mug"),
        ("Take a look at the person who's looking at us", "the person who's looking at us"),
        ("find the boy in the T-shirt for me", "the boy in the t-shirt"),
        ("No, I meant the other one.", "the other one"),
        ("Pick up that apple, would you?", "that apple"),
        ("mug", "mug"),
        ("can I have the cup", "the cup"),
        ("may I have the cup", "the cup"),
        ("can I get a fork", "a fork"),
        ("i would like to have the apple", "the apple"),
        ("go get the cup", "the cup"),
        ("go and get the cup", "the cup"),
        ("go find the cup", "the cup"),
        ("can you go get me a beer", "a beer"),
        ("come and look at the cup", "the cup"),
        ("let's find the cup", "the cup"),
        ("let's go to the door", "the door"),
        ("would you be able to find the cup", "the cup"),
        ("would you be so kind as to show me the cup", "the cup"),
        ("could you possibly find the cup", "the cup"),
        ("do you think you could find the cup", "the cup"),
        ("i was wondering if you could find the cup", "the cup"),
        ("i wonder where the cup is", "the cup"),
        ("do you know where my phone is", "my phone"),
        ("have you seen my phone", "my phone"),
        ("do you have a fork", "a fork"),
        ("i can't find my keys", "my keys"),
        ("i think it's the red one", "the red one"),
        ("excuse me, where is the cup", "the cup"),
        ("sorry, i meant the cup", "the cup"),
        ("find out where the cat is", "the cat"),
        ("tell me about the cup", "the cup"),
        ("did you see the cup", "the cup"),
        ("where can i find the cup", "the cup"),
        ("where did i put my keys", "my keys"),
        ("Stop, look at the red cup", "the red cup"),
        ("the can", "the can"),
        ("find the can", "the can"),
        ("pick up the can please", "the can"),
        ("find the robot", "the robot"),
        ("where is the robot", "the robot"),
        ("follow the other robot", "the other robot"),
        ("guy on right now", "guy on right"),
        ("Okay, red mug.", "red mug"),
        ("the guy on the far right now", "the guy on the far right"),
        ("bring me the red cup right now", "the red cup"),
        ("No, the other one.", "the other one"),
        ("Actually, the blue one, please.", "the blue one"),
        ("look at that dog over there", "that dog over there"),
        ("robot, red mug please", "red mug"),
        ("is there a fork on the table", "a fork on the table"),
        ("which one is the tallest man", "the tallest man"),
        ("show me where the cat is", "the cat"),
        ("can you tell me where the remote is", "the remote"),
        ("hello there, could you find the broom for me please", "the broom"),
    ],
)
def test_the_polite_frame_goes_and_the_expression_stays(said, command):
    decision = Interpreter().decide(Transcription(said, 1.0))
    assert decision.accepted
    assert not decision.ends
    assert decision.command == command


@pytest.mark.parametrize(
    "expression",
    [
        "watch on the left",
        "track on the right",
        "show poster behind the man",
        "robot arm on the left",
        "the stop sign",
        "the dog on the right",
        "the one on the right",
        "the find button on the keyboard",
        "point of the pencil",
        "second from left",
        "left elephant",
        "woman looking at the phone",
        "man about to take the ball",
        "the person giving the dog a ball",
        "the thank you card",
        "bottle labeled for me and you",
        "no hat",
        "no helmet",
        "no shirt guy",
        "no jacket",
        "no glasses lady",
        "no parking sign",
        "no entry sign",
        "well dressed man",
        "well-dressed man",
        "well lit lamp",
        "hi-vis vest guy",
        "okay sign",
        "now serving sign",
        "just married sign",
        "kindly gentleman",
        "the blue robot",
        "the toy robot",
        "the robot",
        "the can",
        "the well",
        "the guy on the far right",
        "looking at camera",
        "pointing at dog",
        "looking to the left",
        "hello kitty",
        "hello kitty backpack",
        "hello world shirt",
        "grab bag",
        "grab bar",
        "highlight pen",
        "segment of orange",
        "find button",
        "pick up truck",
        "the sign that says now",
        "man saying ok",
        "the one that's okay",
        "the guy who looks alright",
        "i love new york shirt",
        "i love you balloon",
        "i like turtles shirt",
        "we want you poster",
        "captions by the door",
        "the gift for me",
        "the card for us",
        "the tallest one there is",
        "10:15",
        "1/2 sandwich",
        "3/4 full glass",
        "0.5 liter bottle",
        "stop sign on the corner",
        "cancel button",
        "the man who stopped",
        "bus stop",
        "door stop",
        "end table",
        "thank you card",
        "clear glass",
        "the watch",
        "track suit guy",
        "show jumper",
        "quit smoking poster",
        "stop light",
        "the guy who stopped looking",
        "wait staff in black",
        "hold music sheet",
        "freezer on the left",
        "forgetful woman",
        "come in sign",
        "let it go poster",
        "right elephant",
        "right guy",
        "so many birds",
        "yes sign",
        "one on the left",
        "look alike twin",
        "help desk",
        "help wanted sign",
        "can opener",
        "can of coke",
        "will smith",
        "would be winner",
        "may pole",
        "go kart",
        "go pro camera",
        "move in truck",
        "turn signal",
        "take out box",
        "keep out sign",
        "point guard",
        "show horse",
        "hand bag",
        "pass out papers guy",
        "use by date label",
    ],
)
def test_an_expression_that_sounds_like_a_frame_is_left_alone(expression):
    assert normalise(expression) == expression


def test_normalising_twice_changes_nothing():
    @given(st.lists(st.sampled_from(sorted(_vocabulary())), max_size=12).map(" ".join))
    def check(text):
        once = normalise(text)
        assert normalise(once) == once

    check()


def _vocabulary():
    words = set(re.findall(r"[a-z']+", " ".join(rule.pattern for rule in RULES)))
    return (words | {"the", "red", "mug", "robot", "2nd", "3", "right", "left"}) - {"b", "w"}


@given(st.text(max_size=80), st.floats(0, 1))
def test_any_text_gets_a_decision(text, confidence):
    decision = Interpreter(InterpreterConfig(wake_phrase="robot")).decide(Transcription(text, confidence))
    assert decision.accepted == (not decision.reason)
    assert bool(decision.command) == (decision.accepted and not decision.ends)
    assert plain(decision.command) == decision.command


@pytest.mark.parametrize(
    "said",
    [
        "Stop.",
        "Stop!",
        "Please stop",
        "Okay, stop it now.",
        "Cancel.",
        "Cancel that.",
        "Never mind.",
        "Nevermind",
        "Robot, stop!",
        "Stop, stop, stop",
        "Forget it.",
        "Could you stop looking, please?",
        "That's enough, thanks.",
        "Stop! Stop! Stop! Stop!",
        "no no no no stop",
        "halt halt",
        "cancel, cancel",
        "abort abort",
        "whoa stop",
        "wait stop",
        "sorry stop",
        "stop following the man",
        "stop tracking him",
        "please stop following me",
        "you can stop looking for the cup now",
        "stop watching the dog",
        "stop moving",
        "stop right there",
        "stop talking",
        "let's stop",
        "you may stop",
        "don't look at the dog",
        "forget the cup",
        "cancel the last one",
        "cancel my last command",
        "That's all, thanks",
        "that's all thank you",
        "that is all",
        "wait",
        "freeze",
        "hold on",
        "Okay, that's enough.",
        "you can stop now",
        "Could you stop, please?",
        "Stop it please",
    ],
)
def test_stop_and_cancel_end_the_command(said):
    decision = Interpreter().decide(Transcription(said, 1.0))
    assert decision.accepted
    assert decision.ends
    assert decision.command == ""


def test_stop_needs_less_confidence_and_no_wake_phrase():
    interpreter = Interpreter(InterpreterConfig(min_confidence=0.6, wake_phrase="robot"))
    assert interpreter.decide(Transcription("Stop", 0.13)).ends  # said in noise it is written with no more
    assert not interpreter.decide(Transcription("Stop", 0.11)).accepted
    assert not interpreter.decide(Transcription("The stop sign", 0.5)).accepted
    assert not interpreter.decide(Transcription("robot, the cup", 0.4)).accepted


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("", "no words"),
        ("[MUSIC]", "no words"),
        ("(applause) ♪♪", "no words"),
        ("...", "no words"),
        ("Thank you.", "noise"),
        ("Thank you for watching!", "noise"),
        ("Thanks for watching, please subscribe.", "noise"),
        ("Please subscribe to my channel.", "noise"),
        ("Subtitles by the Amara.org community", "noise"),
        ("You", "noise"),
        ("Bye-bye.", "noise"),
        ("no no no no no no", "over and over"),
        ("the cup and the cup and the cup and the cup and", "over and over"),
        ("It is.", "names nothing"),
        ("Could you please?", "names nothing"),
        ("Okay, well.", "names nothing"),
        ("word " + "and word thing " * 3 + " ".join(map(chr, range(97, 122))), "at most 25"),
    ],
)
def test_what_is_no_command_is_refused_with_a_reason(said, reason):
    decision = Interpreter().decide(Transcription(said, 1.0))
    assert not decision.accepted
    assert reason in decision.reason


def test_confidence_is_a_gate():
    interpreter = Interpreter(InterpreterConfig(min_confidence=0.7))
    refused = interpreter.decide(Transcription("the red mug", 0.69))
    assert "0.69 is below 0.70" in refused.reason
    assert interpreter.decide(Transcription("the red mug", 0.7)).accepted


class TestWakePhrase:
    def test_it_is_needed_and_removed(self):
        interpreter = Interpreter(InterpreterConfig(wake_phrase="Robot"))
        assert "the wake phrase 'robot' was not said" in interpreter.decide(Transcription("The cup.", 1)).reason
        for said in ("Robot, the cup.", "Hey robot! Look at the cup", "robot the cup please"):
            assert interpreter.decide(Transcription(said, 1)).command == "the cup"
        assert not interpreter.decide(Transcription("robots are the best", 1)).accepted

    def test_alone_it_holds_for_a_while_and_for_one_command(self):
        interpreter = Interpreter(InterpreterConfig(wake_phrase="hello there", wake_window=5.0))
        assert "waiting" in interpreter.decide(Transcription("Hello there!", 1), 0.0, 1.0).reason
        assert interpreter.decide(Transcription("the cup", 1), 5.9, 7.0).command == "the cup"
        assert not interpreter.decide(Transcription("the spoon", 1), 7.5, 8.0).accepted
        assert "waiting" in interpreter.decide(Transcription("Hello there!", 1), 10.0, 11.0).reason
        assert not interpreter.decide(Transcription("the cup", 1), 16.1, 17.0).accepted

    @pytest.mark.parametrize(
        "said", ["um robot, the cup", "So, robot the cup.", "please robot the cup", "Hey there, Robot! The cup."]
    )
    def test_small_words_may_stand_before_it(self, said):
        assert Interpreter(InterpreterConfig(wake_phrase="robot")).decide(Transcription(said, 1)).command == "the cup"

    @pytest.mark.parametrize("said", ["Robot?", "robot robot", "Robot, please."])
    def test_it_is_alone_with_small_words_too(self, said):
        assert "waiting" in Interpreter(InterpreterConfig(wake_phrase="robot")).decide(Transcription(said, 1)).reason

    def test_a_word_that_begins_like_it_is_another(self):
        interpreter = Interpreter(InterpreterConfig(wake_phrase="robot"))
        assert "was not said" in interpreter.decide(Transcription("Robot's arm on the left", 1)).reason

    def test_it_is_not_woken_by_what_was_hardly_understood(self):
        interpreter = Interpreter(InterpreterConfig(wake_phrase="robot", min_confidence=0.5))
        assert "confidence" in interpreter.decide(Transcription("robot", 0.3)).reason

    @pytest.mark.parametrize("phrase", ["...", "(robot)"])
    def test_without_words_it_is_refused(self, phrase):
        with pytest.raises(ValueError, match="no words"):
            Interpreter(InterpreterConfig(wake_phrase=phrase))

    def test_what_is_refused_in_between_costs_nothing(self):
        interpreter = Interpreter(InterpreterConfig(wake_phrase="robot"))
        interpreter.decide(Transcription("Robot.", 1), 0.0, 1.0)
        assert not interpreter.decide(Transcription("um", 1), 2.0, 2.2).accepted
        assert interpreter.decide(Transcription("the cup", 1), 3.0, 4.0).accepted


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.where}-{rule.name}-{rule.example}")
def test_every_rule_applies_in_its_example(rule):
    decision = Interpreter().decide(Transcription(rule.example, 1.0))
    if rule.where == "whole":
        assert re.fullmatch(rule.pattern, rule.example)
        assert decision.ends if rule.replacement else rule.name in decision.reason
        return
    applied = []
    text = normalise(rule.example, applied)
    assert rule in applied
    assert re.search(r"\bcups?\b|t-shirt", text)
    assert len(text.split()) <= 5
    assert decision.command == text


def test_the_command_line_shows_the_rules(capsys):
    assert interpret.main(["Could you find the cup, please?"]) == 0
    out = capsys.readouterr().out
    assert "lead" in out
    assert "tail" in out
    assert out.splitlines()[-1] == "the cup"
    interpret.main(["Thank you."])
    assert capsys.readouterr().out.splitlines()[-1].startswith("refused: ")
    interpret.main(["robot, stop", "--wake-phrase", "robot"])
    assert capsys.readouterr().out.splitlines()[-1] == "stop"


def test_the_document_has_the_table_of_rules():
    assert interpret.table() in (ROOT / "docs" / "speech.md").read_text()
