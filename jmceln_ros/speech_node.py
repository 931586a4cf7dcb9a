"""speech_node: sound in, commands out.

Topics, parameters and how to run it are in docs/ros.md; what is listened to and how is in docs/speech.md.
"""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.time import Time
from std_msgs.msg import String
from std_srvs.srv import SetBool

from jmceln_core.speech.activity import ActivityConfig
from jmceln_core.speech.audio import AudioError
from jmceln_core.speech.engines import WORDS, Engine, load_engine
from jmceln_core.speech.interpret import InterpreterConfig
from jmceln_core.speech.listener import Listener
from jmceln_ros.common import parameters, qos
from jmceln_ros.common.lifecycle import ManagedNode, run
from jmceln_ros.common.parameters import AT_ACTIVATE, AT_CONFIGURE, ParameterProblem
from jmceln_ros.common.standing import Order
from jmceln_ros.msg import Transcript
from jmceln_ros.speech.chunks import RawFormat, Source
from jmceln_ros.speech.hearing import Hearer, Report
from jmceln_ros.speech.intake import AudioIntake
from jmceln_ros.speech.microphone import Microphone
from jmceln_ros.speech.recordings import Recordings
from jmceln_ros.speech.settings import SpeechSettings
from jmceln_ros.speech.statistics import DROPPED, UNUSABLE, Condition, HearingStatistics, to_status
from jmceln_ros.speech.topics import AudioTopics

#: Builds the engine from the parameters, and a listener around it.
EngineFactory = Callable[[SpeechSettings], Engine]
ListenerFactory = Callable[[Engine, SpeechSettings], Listener]

#: By how much speech must be less probable to end than to begin.
_HYSTERESIS = ActivityConfig().threshold - ActivityConfig().end_threshold

# Parameters that the listener is made from.
_LISTENER = ("threshold", "pause", "padding", "max_utterance", "min_confidence", "wake_phrase", "wake_window")


def make_engine(settings: SpeechSettings) -> Engine:
    """The engine of these parameters. Raises EngineMissing or SpeechModelError."""
    return load_engine(
        settings.engine,
        model=settings.engine_model,
        device=settings.device,
        threads=settings.threads,
        words=settings.words or WORDS,
    )


def make_listener(engine: Engine, settings: SpeechSettings) -> Listener:
    """What listens with these parameters. Raises EngineMissing."""
    return Listener(engine, *configs(settings))


def configs(settings: SpeechSettings) -> tuple[ActivityConfig, InterpreterConfig]:
    """The parameters as the core has them."""
    activity = ActivityConfig(
        threshold=settings.threshold,
        end_threshold=max(settings.threshold - _HYSTERESIS, settings.threshold / 2),
        pause=settings.pause,
        padding=settings.padding,
        max_utterance=settings.max_utterance,
    )
    return activity, InterpreterConfig(settings.min_confidence, settings.wake_phrase, settings.wake_window)


class SpeechNode(ManagedNode):
    """Listens to a source of sound and publishes what was said as commands.

    configure loads engine and voice detector, activate opens the source and starts the one worker thread in which all
    listening happens, deactivate stops both and keeps the engine, cleanup lets it go. Diagnostics are published in
    every state.
    """

    def __init__(
        self,
        make_engine: EngineFactory = make_engine,
        make_listener: ListenerFactory = make_listener,
        **options: Any,
    ) -> None:
        super().__init__("speech_node", **options)
        self._make_engine = make_engine
        self._make_listener = make_listener
        self._settings = parameters.declare(self, SpeechSettings)
        self._statistics = HearingStatistics()
        self._intake = AudioIntake(on_drop=lambda seconds: self._statistics.trouble(DROPPED, amount=seconds))
        self._engine: Engine | None = None
        self._listener: Listener | None = None
        self._source: Source | None = None
        self._hearer: Hearer | None = None
        self._outputs: list[Any] = []

        self._made: Listener | None = None  # by the parameters that are about to be set
        if not self._recover().enabled:
            self._intake.hear(False, self._now())
        self._stand()

        self._take_parameters()
        self._diagnostics = qos.publisher(self, DiagnosticArray, "/diagnostics", qos.RESULT)
        self.create_service(SetBool, "~/enable", self._on_enable)
        self.create_timer(1.0, self._diagnose, clock=Clock(clock_type=ClockType.STEADY_TIME))

    # Transitions. rclpy swallows exceptions in these, so each reports its own.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Loads the engine; a failure is logged as fatal with reason and remedy and leaves the node unconfigured."""
        settings = self._settings
        name = " ".join(filter(None, (settings.engine, settings.engine_model, settings.device)))
        self.get_logger().info(f"loading {name} ...")
        self._state, self._trouble = "configuring", ""
        self._diagnose()
        begin = time.perf_counter()

        def load() -> tuple[Engine, Listener]:
            engine = self._make_engine(settings)
            return engine, self._make_listener(engine, settings)

        try:
            self._engine, self._listener = self._aside(load)
        except Exception as error:
            self.get_logger().debug(traceback.format_exc())
            self._trouble = f"cannot load {name}: {error} [{type(error).__name__}]"
            remedy = "Install what is missing, or set engine, engine_model and device to what is there; configure again"
            return self._fail(f"{self._trouble}. {remedy}", "configure")
        try:
            for kind, topic, profile in (
                (String, "command", settings.qos_command),
                (Transcript, "~/transcript", settings.qos_result),
            ):
                self._outputs.append(qos.publisher(self, kind, topic, qos.PROFILES[profile], managed=True))
        except ParameterProblem as error:
            self._trouble = str(error)
            return self._fail(self._trouble, "configure")
        self._state = "inactive"
        self.get_logger().info(f"loaded {self._engine.name} in {time.perf_counter() - begin:.1f} s")
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Opens the source and starts to listen."""
        assert self._listener is not None
        result = super().on_activate(state)
        self._trouble = ""
        self._statistics.restart()
        self._hearer = Hearer(self._intake, self._listener, self._statistics, self._publish, self.get_logger())
        self._hearer.start()
        try:
            self._source = self._make_source()
            self._source.start()
        except Exception as error:
            self.get_logger().debug(traceback.format_exc())
            self.stop()
            super().on_deactivate(state)
            self._state, self._trouble = "inactive", str(error)
            if not isinstance(error, (AudioError, ParameterProblem)):  # those name the source and the remedy
                self._trouble = f"source {self._settings.source!r}: {error} [{type(error).__name__}]; give another one"
            return self._fail(self._trouble, "activate")
        self._state = "active"
        command, transcript = (output.topic_name for output in self._outputs)
        self.get_logger().info(f"active: sound from {self._source.name}, commands on {command}, texts on {transcript}")
        return result

    def stop(self) -> None:
        """Closes the source and ends the worker; waits for the engine, whose last answer is not published any more."""
        if self._source is not None:
            self._source.stop()
            self._source = None
        if self._hearer is not None:
            hearer, self._hearer = self._hearer, None
            self._outlast(hearer.stop)

    def _stand(self) -> None:
        """Keeps what is in force for a process to come."""
        assert self._standing is not None
        self._standing.keep(Order(not self._intake.deaf))

    def _fail(self, reason: str, transition: str) -> TransitionCallbackReturn:
        """Ends a transition that did not succeed, with a line that says what to do."""
        node = self.get_fully_qualified_name()
        self.get_logger().fatal(f"{reason} (ros2 lifecycle set {node} {transition})")
        if transition == "configure":
            self._release("unconfigured")
        self._diagnose()
        return TransitionCallbackReturn.FAILURE

    def _release(self, state: str) -> None:
        self._state = state
        while self._outputs:
            self.destroy_lifecycle_publisher(self._outputs.pop())
        self._engine = self._listener = None

    # Sound in.

    def _make_source(self) -> Source:
        settings, logger = self._settings, self.get_logger()
        kind, _, device = settings.source.partition(":")
        if settings.source == "topic":
            return AudioTopics(
                self,
                self._put,
                profile=qos.PROFILES[settings.qos_audio],
                raw=lambda: RawFormat(self._settings.raw_rate, self._settings.raw_channels, self._settings.raw_format),
                refuse=self._refuse,
                now=self._now,
            )
        if kind == "microphone":
            return Microphone(
                device.strip(),
                self._put,
                now=self._now,
                report=lambda reason: logger.error(f"{reason}; tried again every few seconds"),
                rate=settings.microphone_rate,
            )
        return Recordings(settings.source, self._put, now=self._now, report=logger.error, loop=settings.loop)

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._intake.hear(request.data, self._now())
        self._stand()
        response.success = True
        response.message = "enabled" if request.data else "disabled: what is said from now on is thrown away"
        self.get_logger().info(response.message)
        return response

    def _put(self, chunk: Any) -> None:
        self._statistics.received(chunk.seconds)
        self._intake.put(chunk)

    def _refuse(self, reason: str) -> None:
        self._statistics.trouble(UNUSABLE, reason)
        self.get_logger().warning(f"sound not used: {reason}", throttle_duration_sec=5.0)

    # Commands out. In the worker's thread.

    def _publish(self, report: Report) -> None:
        try:
            self._tell(report)
        except Exception:
            if self.context.ok():  # else shutting down: publishers are gone and nobody listens
                raise

    def _tell(self, report: Report) -> None:
        command, transcript = self._outputs
        heard = report.heard
        message = Transcript(reason=report.failure, duration=report.duration)
        message.engine = self._engine.name if self._engine else ""
        message.header.frame_id = report.frame_id
        if not math.isnan(report.start):
            message.header.stamp = Time(nanoseconds=max(0, round(report.start * 1e9))).to_msg()
        if heard is not None:
            message.text, message.confidence = heard.text, heard.confidence
            message.accepted, message.command = heard.decision.accepted, heard.decision.command
            message.reason = heard.decision.reason
        message.latency = age = self._now() - report.end
        longest = self._settings.max_latency
        if heard is not None and message.accepted and not heard.decision.ends and 0.0 < longest < age:
            message.accepted, message.command = False, ""
            message.reason = (
                f"too late: said {age:.1f} s ago by the stamps of the sound, max_latency is {longest:g} s; the engine "
                "is too slow, or the clock of the stamps is another one"
            )
        if message.accepted:
            command.publish(String(data=message.command))
        transcript.publish(message)
        if message.accepted:
            outcome = f"command {message.command!r}" if message.command else "the command ends"
        else:
            outcome = f"refused: {message.reason}"
        said = f"{message.text!r} ({message.confidence:.2f}): {outcome}"
        self.get_logger().info(f"{said}, {message.latency:.2f} s after it was said")
        self._statistics.heard(
            said,
            refused="" if message.accepted else message.reason or "no reason given",
            engine=heard.seconds if heard else math.nan,
            latency=message.latency,
        )

    # Parameters and diagnostics.

    def _refusal(self, values: dict[str, Any]) -> str:
        self._made = None
        reason = parameters.check(SpeechSettings, values)
        if not reason and self._engine is not None and any(name in values for name in _LISTENER):
            try:
                self._made = self._make_listener(self._engine, parameters.changed(self._settings, values))
            except Exception as error:
                reason = f"{error} [{type(error).__name__}]"
        return reason

    def _on_parameters(self, changes: list[Parameter]) -> None:
        values = {change.name: change.value for change in changes}
        self._settings = parameters.changed(self._settings, values)
        if self._made is not None:
            self._listener, self._made = self._made, None
            if self._hearer is not None:
                self._hearer.use(self._listener)
        waits = {
            "deactivated and activated": (AT_ACTIVATE, self._state == "active"),
            "cleaned up and configured": (AT_CONFIGURE, self._state != "unconfigured"),
        }
        for what, (when, needed) in waits.items():
            own = parameters.named(SpeechSettings)
            late = [name for name in values if name in own and own[name].metadata["changes"] == when]
            if late and needed:
                self.get_logger().info(f"{', '.join(late)}: in force once the node is {what}")

    def _diagnose(self) -> None:
        """Publishes the node's state, once a second by a timer of the steady clock."""
        source = self._source
        condition = Condition(
            state=self._state,
            engine=self._engine.name if self._engine else "",
            problem=self._trouble,
            source=source.name if source else self._settings.source,
            source_problem=source.trouble if source else "",
            ended=source.ended if source else False,
            enabled=not self._intake.deaf,
            extra={"seconds of sound that wait": f"{self._intake.seconds:.1f}"},
        )
        status = to_status(
            self._statistics.summary(),
            condition,
            name=f"{self.get_fully_qualified_name()}: speech",
            hardware_id=condition.source,
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def _now(self) -> float:
        """Seconds by the node's clock. From any thread."""
        return self.get_clock().now().nanoseconds * 1e-9


def main(args: Sequence[str] | None = None) -> None:
    """The executable speech_node."""
    run(SpeechNode, "speech_node", args)


if __name__ == "__main__":
    main()
