"""Serves the queue, a few requests in turns, in this process or by a child."""

import atexit
import itertools
import threading
from collections.abc import Sequence

from trainer import zoo
from trainer.prediction import Plain
from workbench.explain import DEFAULT_OPTIONS, ExplainOptions
from workbench.lab import requests
from workbench.lab.answers import Answer, RequestQueue
from workbench.lab.failures import LabFailed, OutOfMemory, as_stillroom_error, from_json, shutting_down
from workbench.lab.frames import Frame
from workbench.lab.process import Bystander, Process
from workbench.lab.requests import RESULTS, Request
from workbench.lab.turns import LANES, Turns
from workbench.model_cache import CACHE
from workbench.predict import Arm


class InProcessLab:
    """The lab in this process, which imports torch: for tests, and where models must live in the main process."""

    # Of all labs in one process, as is the cache of models.
    _turns, _numbers = Turns(), itertools.count(1)

    def __init__(self) -> None:
        self._queue = RequestQueue()
        for lane in range(LANES):
            threading.Thread(target=self._serve, name=f"lab {lane}", daemon=True).start()

    def submit(
        self,
        text: str,
        arm: Arm,
        *,
        hypothesis: str = "",
        question: str = "",
        relations: str | None = None,
        deadline_s: float | None = None,
    ) -> Answer:
        """What the arm finds in the text, and how a model for relations relates that: an Answer with a Prediction.

        hypothesis: for a model of pairs; question: for one that answers it; others do not read them. deadline_s:
        seconds after which the answer fails with TooLate, whether it waits or is being served.
        """
        options = {"relations": relations} if relations else {}
        return self._queue.add(
            Request(text, arm, options=options, hypothesis=hypothesis, question=question), deadline_s
        )

    def explain(
        self,
        text: str,
        arm: Arm,
        target: str,
        options: ExplainOptions = DEFAULT_OPTIONS,
        *,
        hypothesis: str = "",
        question: str = "",
        deadline_s: float | None = None,
    ) -> Answer:
        """Why the arm gives `target` (START:END:LABEL or LABEL): an Answer with an Explanation, first a `coarse` one.

        The text is read in the arm's way, whatever the options say.
        """
        asked = {"target": target, "how": options.model_dump()}
        return self._queue.add(Request(text, arm, "explain", asked, hypothesis, question), deadline_s)

    def ablate(
        self,
        text: str,
        arm: Arm,
        target: str,
        places: Sequence[tuple[int, int]],
        *,
        baseline: str | None = None,
        context: bool = True,
        hypothesis: str = "",
        question: str = "",
        deadline_s: float | None = None,
    ) -> Answer:
        """The target's probability without the [start, end) places of the text: an Answer with an Ablation."""
        how = ExplainOptions(baseline=baseline, context=context).model_dump()
        options = {"target": target, "places": list(places), "how": how}
        return self._queue.add(Request(text, arm, "ablate", options, hypothesis, question), deadline_s)

    def close(self) -> None:
        """Serve what is waiting, then stop."""
        self._queue.close()

    def _serve(self) -> None:
        while self._serve_next():
            pass

    def _serve_next(self) -> bool:
        # A function of its own: the thread may wait for hours, and no note may stay in its variables meanwhile.
        taken = self._queue.take()
        if taken is None:
            return False
        answer, request = taken
        try:
            answer.settle(self._answer(answer, request))
        except Exception as error:
            answer.settle(None, as_stillroom_error(error).with_traceback(None))
        return True

    def _answer(self, answer: Answer, request: Request) -> Plain | None:
        frame = request.to_frame(zoo.resolve(request.arm.model)) | {"number": next(self._numbers)}
        try:
            return requests.answer(frame, report=answer.report, cancelled=answer.done, turns=self._turns)
        except Exception as error:
            if isinstance(as_stillroom_error(error), OutOfMemory):
                CACHE.clear()
            raise


class Lab(InProcessLab):
    """The lab in a child process, started with the first request."""

    def __init__(self) -> None:
        self._child: Process | None = None
        self._starting = threading.Lock()
        self._closed = False
        atexit.register(self.close)
        super().__init__()

    @property
    def pid(self) -> int | None:
        """The child's process id, while there is one."""
        return self._child.pid if self._child else None

    def close(self) -> None:
        """End the child at once; waiting requests start no other."""
        self._closed = True
        super().close()
        atexit.unregister(self.close)
        if self._child:
            self._child.end()

    def _answer(self, answer: Answer, request: Request) -> Plain | None:
        answer.report(stage="loading")
        frame = request.to_frame(zoo.resolve(request.arm.model))
        try:
            child, last = self._ask(frame, answer)
            if last is None:
                return None
        except LabFailed as error:
            raise (shutting_down() if self._closed else error) from None
        if "answer" in last:
            return RESULTS[request.kind].model_validate(last["answer"])
        failure = from_json(last["error"])
        if isinstance(failure, OutOfMemory):
            child.end()  # frees its memory
        raise failure

    def _ask(self, frame: Frame, answer: Answer) -> tuple[Process, Frame | None]:
        """The child and its last frame, None if the answer was done before; again if the child died of another."""
        while True:
            child = self._ready()
            if answer.done():  # while the child started
                return child, None
            try:
                return child, child.ask(frame, answer)
            except Bystander:
                continue

    def _ready(self) -> Process:
        """The child, started if there is none."""
        with self._starting:
            if self._closed:
                raise shutting_down()
            child = self._child
            if child is None or child.pid is None:
                child = self._child = Process()
                if self._closed:  # `close` ran before there was a child
                    child.end()
                child.wait_until_ready()
            return child
