"""segment_node: a camera image and a sentence in, the target out.

Topics, services, parameters and how to run it are in docs/ros.md.
"""

from __future__ import annotations

import math
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String
from std_srvs.srv import SetBool

from jmceln_ros.common import parameters, qos
from jmceln_ros.common.lifecycle import ManagedNode, run
from jmceln_ros.common.parameters import ParameterProblem
from jmceln_ros.common.standing import Order
from jmceln_ros.msg import Target
from jmceln_ros.segment.answering import Answerer, refuse
from jmceln_ros.segment.inputs import Inputs, create_deferred_service
from jmceln_ros.segment.intake import Command, Intake, Unanswerable, blank
from jmceln_ros.segment.models import (
    MODEL_PARAMETERS,
    Models,
    SegmenterFactory,
    check_segmenter,
    free_memory,
    load_segmenter,
    remedy,
    same_model,
)
from jmceln_ros.segment.outputs import Outputs, name_problem, no_target, seconds_between
from jmceln_ros.segment.settings import SegmentSettings
from jmceln_ros.segment.statistics import Condition, Statistics, gpu_memory, to_status
from jmceln_ros.space.space import Space
from jmceln_ros.srv import Segment, SetCommand

#: How long a question about a camera nobody was listening to waits for its image, seconds.
QUESTION_PATIENCE = 2.0

#: How long a question about an image of its own waits for the depth and the calibration of that image, seconds.
DEPTH_PATIENCE = 1.0

#: Without an image for so long while a command is in force, seconds, the log says what may be wrong, so often.
_SILENCE, _REPEAT = 3.0, 30.0


class SegmentNode(ManagedNode):
    """Answers the newest image for the command in force, and questions asked beside the stream.

    configure loads the model, activate starts the one worker thread in which all inference happens and lets images in
    as they are needed, deactivate stops both and keeps the model, cleanup lets it go. Commands are kept, services
    answered and diagnostics published in every state.

    `make_segmenter` builds the model from the parameters; `check_model` says in words why that cannot succeed, as far
    as it is known beforehand. `options` are those of rclpy's Node.
    """

    def __init__(
        self,
        make_segmenter: SegmenterFactory = load_segmenter,
        check_model: Callable[[SegmentSettings], str] = check_segmenter,
        **options: Any,
    ) -> None:
        # Before the node: what goes wrong after this takes it down (destroy_node).
        self._models = Models(
            make_segmenter, lambda settings, error: self._later(lambda: self._on_model(settings, error))
        )
        super().__init__("segment_node", **options)
        self._check_model = check_model
        self._settings = parameters.declare(self, SegmentSettings)
        if problem := _problem(self._settings):
            raise ParameterProblem(f"parameter {problem}")
        self._statistics = Statistics()
        self._intake: Intake[Image | CompressedImage] = Intake(age=self._age, on_drop=self._statistics.dropped)
        self._space = Space()
        self._outputs: Outputs | None = None
        self._answerer: Answerer | None = None
        self._inputs = Inputs(self, self._on_frame, self._space, self._on_beside)
        self._asked = 0  # questions that are not answered yet
        self._lost = ""  # the command that a process which ended without being asked to has left
        self._resume(self._recover())

        # Work that other threads, and callbacks in which it is not allowed, leave to the executor.
        self._left: deque[Callable[[], None]] = deque()
        self._wake = self.create_guard_condition(self._catch_up)

        self._take_parameters()
        self._apply()
        self._active_command = qos.publisher(self, String, "~/active_command", qos.STATE)
        self._active_command.publish(String())
        self._diagnostics = qos.publisher(self, DiagnosticArray, "/diagnostics", qos.RESULT)
        self.create_timer(1.0, self._each_second, clock=Clock(clock_type=ClockType.STEADY_TIME))
        create_deferred_service(self, Segment, "~/segment", self._on_segment)
        self.create_service(SetCommand, "~/set_command", self._on_set_command)
        self.create_service(SetBool, "~/enable", self._on_enable)
        self._commands = qos.subscription(
            self, String, "command", self._on_command, qos.PROFILES[self._settings.qos_command]
        )

    # Transitions. rclpy swallows exceptions in these, so each reports its own.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Loads the model; a failure is logged as fatal with reason and remedy and leaves the node unconfigured."""
        name = _model_name(self._settings)
        self.get_logger().info(f"loading {name} ...")
        self._state = "configuring"
        self._diagnose()
        begin = time.perf_counter()
        try:
            self._models.load(self._settings, self._aside)
        except Exception as error:
            self.get_logger().debug(traceback.format_exc())
            self._trouble = f"cannot load {name}: {error} [{type(error).__name__}]"
            self.get_logger().fatal(f"{self._trouble}. {remedy(error, self.get_fully_qualified_name())}")
        else:
            self._trouble = ""
        if self._trouble:  # behind the handler: while it runs, the error keeps what was loaded so far
            self._release("unconfigured")
            self._diagnose()
            return TransitionCallbackReturn.FAILURE
        try:
            self._outputs = Outputs(self, qos.PROFILES[self._settings.qos_result])
        except ParameterProblem as error:
            self.get_logger().fatal(str(error))
            self._trouble = str(error)
            self._release("unconfigured")
            return TransitionCallbackReturn.FAILURE
        self._state = "inactive"
        segmenter = self._models.segmenter
        self.get_logger().info(f"loaded {segmenter and segmenter.name} in {time.perf_counter() - begin:.1f} s")
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Starts answering; images are subscribed to as soon as there is something to answer."""
        assert self._outputs is not None
        result = super().on_activate(state)
        self._answerer = Answerer(
            self,
            self._intake,
            self._models,
            self._outputs,
            self._space,
            self._statistics,
            self._settings,
            served=lambda: self._later(self._on_served),
        )
        self._statistics.restart()
        self._answerer.start()
        try:
            self._inputs.connect(self._settings)  # wanted or not: what is wrong with it is to be known now
            self._connect()
        except ParameterProblem as error:
            self.get_logger().fatal(str(error))
            self.stop()
            super().on_deactivate(state)
            return TransitionCallbackReturn.FAILURE
        self._state = "active"
        self.get_logger().info(
            f"active: images from {self._inputs.image_topic}, commands from {self._commands.topic_name}, "
            f"answers on {self._outputs.target_topic}"
        )
        return result

    def _resume(self, before: Order) -> None:
        """Stays disabled after a crash, and says what else is not as it was: nothing is resumed unseen."""
        self._intake.pause(not before.enabled)
        if before.command:
            self._lost = before.command
            self.get_logger().warning(
                f"command {before.command!r} was in force when the process before ended without being asked to, and is "
                "not now: send it again"
            )
        self._stand()

    def _stand(self) -> None:
        """Keeps what is in force for a process to come."""
        command = self._intake.active
        assert self._standing is not None
        self._standing.keep(Order(not self._intake.paused, command.text if command else self._lost))

    def stop(self) -> None:
        """Ends the subscriptions and the worker; waits for the inference that is running."""
        if self._answerer is not None:
            answerer, self._answerer = self._answerer, None
            self._outlast(answerer.stop)
        self._inputs.disconnect()
        self._space.forget()

    def destroy_node(self) -> None:
        """Takes the node down; nothing is told any more how a loading ended."""
        self._models.release()
        super().destroy_node()

    def _release(self, state: str) -> None:
        self._state = state
        if self._outputs is not None:
            self._outputs.destroy()
            self._outputs = None
        self._models.release()
        free_memory()

    # Callbacks: they only hand over.

    def _on_frame(self, message: Image | CompressedImage) -> None:
        self._statistics.received()
        asked = self._intake.waiting
        self._intake.put(message)
        if asked:
            self._later(self._connect)

    def _on_beside(self) -> None:
        self._intake.complete(lambda frame: not self._inputs.awaits_depth(frame))

    def _on_command(self, message: String) -> None:
        self._order(message.data)

    def _order(self, text: str) -> Command:
        """Puts a command in force, or ends the one that is, and says so."""
        command = self._intake.order(text, self._now())
        ends = blank(text)
        self._lost = ""
        self._stand()
        self._later(self._connect)
        self._active_command.publish(String(data="" if ends else text))
        if ends:
            self.get_logger().info("empty command: stopped")
        elif self._state != "active":
            self.get_logger().info(f"command {command.sequence} {text!r} is kept until the node is active")
        return command

    def _on_served(self) -> None:
        """Says which command is in force. In the executor's thread, where commands come: the last one said counts."""
        self._connect()
        self._stand()
        command = self._intake.active
        self._active_command.publish(String(data=command.text if command else ""))

    def _on_set_command(self, request: SetCommand.Request, response: SetCommand.Response) -> SetCommand.Response:
        command = self._order(request.command)
        response.success = True
        response.sequence, response.command_stamp = command.sequence, command.arrival
        if blank(request.command):
            response.message = "no command is in force now"
        elif self._state != "active":
            response.message = f"kept until the node is active; it is {self._state} now"
        elif self._intake.paused:
            response.message = "kept until the node is enabled"
        return response

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        refused = self._intake.pause(not request.data)
        refuse(refused, "the node was disabled before the question was answered")
        self._stand()
        self._later(self._connect)
        response.success = True
        response.message = "enabled" if request.data else "disabled: commands are kept, frames are not answered"
        self.get_logger().info(response.message)
        return response

    def _on_segment(self, request: Segment.Request, reply: Callable[[Segment.Response], None]) -> None:
        def answer(outcome: Target | str) -> None:
            if isinstance(outcome, str):
                reply(Segment.Response(success=False, message=outcome, target=no_target(request.command, outcome)))
            else:
                reply(Segment.Response(success=True, target=outcome))
            self._later(self._on_answered)

        image = request.image if len(request.image.data) else None
        if image is None:
            patience = QUESTION_PATIENCE if self._settings.lazy else 0.0
        else:
            patience = DEPTH_PATIENCE if self._inputs.awaits_depth(image) else 0.0
        self._asked += 1
        try:
            self._intake.ask(request.command, self._now(), answer, image, patience=patience)
        except Unanswerable as error:
            answer(str(error))
        else:
            self._later(self._connect)
            if patience:
                self._once(patience, self._give_up)

    def _on_answered(self) -> None:
        self._asked -= 1
        self._connect()

    def _give_up(self) -> None:
        """Refuses the questions for which no image came in time; those for which no depth came are answered without."""
        if self._statistics.summary().frame_age < QUESTION_PATIENCE:
            reason = f"images come, but older than max_frame_age ({self._settings.max_frame_age:g} s): check the clocks"
        else:
            reason = f"no image came within {QUESTION_PATIENCE:g} s: {self._inputs.silence()}"
        refuse(self._intake.overdue(), f"{reason}, or send an image along")
        self._connect()

    def _refusal(self, values: dict[str, Any]) -> str:
        reason = parameters.check(SegmentSettings, values)
        if not reason:
            settings = parameters.changed(self._settings, values)
            running = self._models.running
            reason = _problem(settings)
            if running is not None and not same_model(settings, running) and not same_model(settings, self._settings):
                reason = reason or self._check_model(settings)
        return reason

    def _on_parameters(self, changes: list[Parameter]) -> None:
        self._settings = parameters.changed(self._settings, {change.name: change.value for change in changes})
        self._apply()

    def _apply(self) -> None:
        """Lets the parameters take effect."""
        settings = self._settings
        self._intake.mode = settings.mode
        self._intake.max_rate = settings.max_rate
        self._intake.max_frame_age = settings.max_frame_age
        if self._answerer is not None:
            self._answerer.use(settings)
            self._later(self._connect)  # subscribing declares parameters, which cannot be done while some are set
        self._models.change(settings)

    def _connect(self) -> None:
        """Makes the topics what the parameters and the work ask for, while the node is active."""
        if self._answerer is not None and self._outputs is not None:
            idle = bool(self._idle())
            # Depth until the last question is answered: it is looked at after the model.
            self._inputs.connect(self._settings, images=not idle, depth=not idle or self._asked > 0)
            if idle:
                self._intake.forget()  # a question that comes later is not about what was seen now
            self._outputs.broadcast(self._settings.target_frame)

    def _idle(self) -> str:
        """Why no images are needed now, in a word or two; empty when they are."""
        if self._answerer is None:
            return self._state
        if not self._settings.lazy or self._intake.waiting:
            return ""
        if self._intake.paused:
            return "disabled"
        return "" if self._intake.active else "no command"

    def _on_model(self, settings: SegmentSettings, error: Exception | None) -> None:
        """The end of the loading that a change of the model's parameters began."""
        running = self._models.running
        if running is None or not same_model(settings, self._settings):
            return  # cleaned up, or something else is wanted by now
        if error is None:
            self._trouble = ""
            self.get_logger().info(f"answers come from {_model_name(settings)} now")
            return
        reason = self._trouble = f"cannot load {_model_name(settings)}: {error} [{type(error).__name__}]"
        self.get_logger().error(f"{reason}; answers come from {_model_name(running)} as before")
        self.set_parameters_atomically([Parameter(name, value=getattr(running, name)) for name in MODEL_PARAMETERS])

    def _each_second(self) -> None:
        """By a timer of the steady clock."""
        self._diagnose()
        self._connect()  # publishers may have come for which other subscriptions are better

    def _diagnose(self) -> None:
        """Publishes the node's state."""
        settings, command, loading = self._settings, self._intake.active, self._models.loading
        segmenter, idle = self._models.segmenter, self._idle()
        seconds, summary = self._inputs.seconds, self._statistics.summary()
        silence = ""
        if command and not self._intake.paused and min(seconds, summary.frame_age) > _SILENCE:
            silence = self._inputs.silence()
            self.get_logger().warning(
                f"no image for {min(seconds, summary.frame_age):.0f} s: {silence}", throttle_duration_sec=_REPEAT
            )
        condition = Condition(
            state=self._state,
            model=segmenter.name if segmenter else "",
            problem=self._trouble,
            enabled=not self._intake.paused,
            command=command.text if command else "",
            lost=self._lost,
            command_age=seconds_between(command.arrival, self._now()) if command else math.nan,
            subscribed=seconds,
            silence=silence,
            patience=max(Condition.patience, 3 / settings.max_rate if settings.max_rate else 0.0),
        )
        status = to_status(
            summary,
            condition,
            name=f"{self.get_fully_qualified_name()}: answers",
            hardware_id=self._inputs.image_topic,
            values={
                "images": f"not subscribed: {idle}" if idle else f"subscribed to {self._inputs.image_topic}",
                "model being loaded": _model_name(loading) if loading else "none",
                "GPU memory": gpu_memory(str(getattr(segmenter, "device", "cpu"))),
            },
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self._now()
        self._diagnostics.publish(message)

    # Small things.

    def _now(self) -> Time:
        return self.get_clock().now().to_msg()

    def _age(self, frame: Image | CompressedImage) -> float:
        """Seconds since the frame's stamp, nan without one."""
        return seconds_between(frame.header.stamp, self._now())

    def _once(self, seconds: float, work: Callable[[], None]) -> None:
        """Has the executor do something after a while."""

        def run() -> None:
            self.destroy_timer(timer)
            work()

        timer = self.create_timer(seconds, run, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _later(self, work: Callable[[], None]) -> None:
        """Has the executor do something soon; from any thread."""
        self._left.append(work)
        self._wake.trigger()

    def _catch_up(self) -> None:
        if self._left:
            work = self._left.popleft()
            if self._left:
                self._wake.trigger()  # one at a time: what fails must not keep the others from being done
            work()


def _problem(settings: SegmentSettings) -> str:
    """Why these parameters are refused, which may each be allowed; empty when they are fine."""
    if 0 < settings.depth_max < settings.depth_min:
        return (
            f"depth_min is {settings.depth_min:g} and depth_max {settings.depth_max:g}: no depth lies between them; "
            "make depth_min the smaller one, or depth_max 0, which is no limit"
        )
    problem = name_problem(settings.target_frame) if settings.target_frame else ""
    return f"target_frame is {settings.target_frame!r}: {problem}" if problem else ""


def _model_name(settings: SegmentSettings) -> str:
    """The model's name, and device and precision where they are given."""
    where = " ".join(filter(None, (settings.device, settings.precision)))
    return (settings.model or "the bundled model") + (f" ({where})" if where else "")


def main(args: Sequence[str] | None = None) -> None:
    """The executable segment_node."""
    run(SegmentNode, "segment_node", args)


if __name__ == "__main__":
    main()
