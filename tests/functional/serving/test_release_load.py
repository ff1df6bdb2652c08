"""A row of releases under callers who pin `stable`, over both protocols."""

from __future__ import annotations

import random
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from servable_client import ServableError
from servable_serving.release.promote import promote, roll_back
from servable_serving.release.steps import Step, Steps
from servable_serving.repository import history

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.functional.serving.releases import Stage

_CALLERS = 8
_RELEASES = 12
_PAUSE = 0.2
# Over REST the SDK asks by the number that the label stood for, and looks again every second.
_FOLLOWS = {"grpc": 0.0, "http": 1.0}


class Moment(Steps):
    """Keeps when a release begins to move its label."""

    labelled = float("inf")

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        if name == "label":
            self.labelled = time.monotonic()
        with super().step(name) as step:
            yield step


@dataclass
class Caller:
    """Asks the model that is stable, all the time."""

    stage: Stage
    scheme: str
    failures: list[ServableError] = field(default_factory=list)
    # When it was asked and when it was answered, the version, and the class.
    answers: list[tuple[float, float, int | None, int]] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        picture = np.zeros([28, 28], np.uint8)
        with self.stage.client(self.scheme, label="stable", timeout=60) as client:
            while not self.stopping.wait(_PAUSE):
                asked = time.monotonic()
                try:
                    answer = client.classify(picture)
                except ServableError as error:
                    self.failures.append(error)
                else:
                    now = time.monotonic()
                    self.answers.append((asked, now, answer.version, answer.class_id))


def test_no_request_fails_and_each_answer_is_of_the_version_that_held_the_label(
    stage: Stage,
) -> None:
    favourites = {stage.push(0): 0}
    # From when until when each version held the label, as far as can be told from outside: from
    # the beginning of the move to it to the end of the move away.
    held: list[list[float]] = [[1, time.monotonic(), float("inf")]]
    callers = [Caller(stage, scheme) for scheme in ("grpc", "http") * (_CALLERS // 2)]
    draw = random.Random(20)
    done = dict.fromkeys(("push", "push --promote", "promote", "rollback"), 0)
    try:
        for _ in range(_RELEASES):
            with stage.deployment() as deployment:
                now = deployment.labels()["stable"]
                choices = ["push", "push --promote"]
                choices += ["promote"] if deployment.labels().get("canary", now) != now else []
                back = history.before(stage.repository.history(), now)
                choices += ["rollback"] if back is not None else []
                what = min(draw.sample(choices, len(choices)), key=lambda c: done[c])
                done[what] += 1
                moment = Moment(None)
                if what.startswith("push"):
                    favourite = len(favourites) % len(stage.candidates)
                    pushed = stage.push(favourite, promote=what == "push --promote", steps=moment)
                    favourites[pushed] = favourite
                elif what == "promote":
                    promote(deployment.labels()["canary"], deployment, moment)
                else:
                    assert roll_back(deployment, moment) == back
                stable = deployment.labels()["stable"]
                if stable != now:
                    held[-1][2] = time.monotonic()
                    held.append([stable, moment.labelled, float("inf")])
        # And then each is asked a few times more.
        for caller in callers:
            more = len(caller.answers) + 5
            while len(caller.answers) < more and not caller.failures:
                time.sleep(_PAUSE)
    finally:
        for caller in callers:
            caller.stopping.set()
        for caller in callers:
            caller.thread.join()
    assert sum(done.values()) == _RELEASES
    assert min(done.values()) >= 3, done
    assert not [failure for caller in callers for failure in caller.failures]
    for caller in callers:
        follows = _FOLLOWS[caller.scheme]
        assert len(caller.answers) > _RELEASES
        assert len({version for _, _, version, _ in caller.answers}) >= 3
        for asked, answered, version, class_id in caller.answers:
            # What it says is what that version says, and that version held the label.
            assert version is not None
            assert favourites[version] == class_id
            assert any(
                version == number and begin <= answered and asked - follows <= end
                for number, begin, end in held
            ), (caller.scheme, asked, version, held)
