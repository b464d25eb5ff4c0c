"""What receivers are still to be told: a bounded queue and a task for each, so that one that is away delays no other.

At least once: what was not delivered is tried again, also after a restart, until it is AGE_SECONDS old. Of one alert
only the newest word waits.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from appliance.alert_config import Alerts
from appliance.alerting.delivery.mail import MailDelivery
from appliance.alerting.delivery.receiver import DeliveryError, Receiver
from appliance.alerting.delivery.syslog import SyslogDelivery
from appliance.alerting.delivery.webhook import WebhookDelivery
from appliance.alerting.message import Sender, Told
from appliance.alerting.rules import UNDELIVERED
from appliance.errors import ConfigError
from appliance.tasks import TaskOwner

WAITING_MAX: Final = 200
BATCH_MAX: Final = 50
AGE_SECONDS: Final = 86_400.0
DELIVER_SECONDS: Final = 30.0
BACKOFF_SECONDS: Final = (2.0, 60.0)

_log = logging.getLogger(__name__)


class ReceiverStatus(Struct, frozen=True):
    """delivered, dropped: alerts since the start. failure: why nothing arrives now, None while it does."""

    name: str
    waiting: int
    delivered: int
    dropped: int
    failure: str | None


class ReceiverTest(Struct, frozen=True):
    """How a test message went. failure: None where it arrived."""

    name: str
    seconds: float
    failure: str | None


def receivers(settings: Alerts) -> list[Receiver]:
    """Those of appliance.yaml, whose files can be used now. Waits for the disk. Raises ConfigError."""
    made: list[Receiver] = [SyslogDelivery(one) for one in settings.syslog]
    made += [MailDelivery(one) for one in settings.mail]
    made += [WebhookDelivery(one) for one in settings.webhooks]
    names: set[str] = set()
    for receiver in made:
        if receiver.name in names:
            raise ConfigError(f"alerts: {receiver.name} is there twice")
        names.add(receiver.name)
        try:
            receiver.check()
        except DeliveryError as error:
            raise ConfigError(f"alerts: {receiver.name}: {error}") from error
    return made


class Outbox:
    """Belongs to the event loop."""

    def __init__(
        self,
        sender: Sender,
        clock: Callable[[], float],
        *,
        backoff: tuple[float, float] = BACKOFF_SECONDS,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._sender = sender
        self._clock = clock
        self._backoff = backoff
        self._jitter = jitter
        self._lanes: dict[str, _Lane] = {}
        self._tasks = TaskOwner("alerts")

    def start(self, found: Sequence[Receiver], waiting: Mapping[str, Sequence[Told]]) -> None:
        """Begins to deliver, also `waiting`, what an earlier daemon could not; again at a reload, with what waits now.

        What waits for a receiver that is no more is dropped.
        """
        old, self._lanes = self._lanes, {}
        for lane in old.values():
            lane.stop()
        for receiver in found:
            lane = _Lane(receiver, self)
            if (before := old.get(receiver.name)) is not None:
                lane.take_over(before)
            for told in waiting.get(receiver.name, ()):
                lane.put(told)
            self._lanes[receiver.name] = lane
            lane.start(self._tasks)
        for name in (set(old) | set(waiting)) - set(self._lanes):
            _log.info("%s is told of no alerts any more", name)

    async def close(self) -> None:
        """Ends deliveries; what waits stays in `waiting`."""
        await self._tasks.close()

    def put(self, told: Sequence[Told]) -> None:
        """To every receiver whom it concerns. Never blocks."""
        for lane in self._lanes.values():
            for each in told:
                if lane.concerned(each):
                    lane.put(each)

    async def test(self, told: Told) -> list[ReceiverTest]:
        """Sends one message to every receiver at once, past what waits; takes at most DELIVER_SECONDS."""
        async with asyncio.TaskGroup() as group:
            tries = [group.create_task(lane.test(told)) for lane in self._lanes.values()]
        return [each.result() for each in tries]

    @property
    def waiting(self) -> dict[str, tuple[Told, ...]]:
        """What is not delivered yet, by receiver."""
        return {name: lane.waiting for name, lane in self._lanes.items() if lane.waiting}

    @property
    def statuses(self) -> list[ReceiverStatus]:
        """One per receiver."""
        return [lane.status for lane in self._lanes.values()]

    @property
    def failures(self) -> dict[str, str]:
        """Receivers that are not reached, each with the reason."""
        return {one.name: one.failure for one in self.statuses if one.failure is not None}


class _Lane:
    """The way to one receiver."""

    def __init__(self, receiver: Receiver, outbox: Outbox) -> None:
        self._receiver = receiver
        self._outbox = outbox
        self._waiting: dict[tuple[str, str], Told] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._delivered = 0
        self._dropped = 0
        self._failure: str | None = None

    def start(self, tasks: TaskOwner) -> None:
        self._task = tasks.spawn(self._run(), name=self._receiver.name)

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def take_over(self, before: _Lane) -> None:
        """What the same receiver was not told before a reload."""
        self._waiting, self._failure = dict(before._waiting), before._failure
        self._delivered, self._dropped = before._delivered, before._dropped
        self._wake.set()

    def concerned(self, told: Told) -> bool:
        """A receiver that is not reached is not told that it is not."""
        if told.severity == "warning" and self._receiver.severity == "critical":
            return False
        return (told.name, told.what) != (UNDELIVERED, self._receiver.name)

    def put(self, told: Told) -> None:
        key = (told.name, told.what)
        self._waiting.pop(key, None)
        self._waiting[key] = told
        while len(self._waiting) > WAITING_MAX:
            self._drop(next(iter(self._waiting)), "too many wait")
        self._wake.set()

    async def test(self, told: Told) -> ReceiverTest:
        started = asyncio.get_running_loop().time()
        failure = await self._try((told,))
        if failure is None:
            self._note(None)
        return ReceiverTest(self._receiver.name, round(asyncio.get_running_loop().time() - started, 3), failure)

    @property
    def waiting(self) -> tuple[Told, ...]:
        return tuple(self._waiting.values())

    @property
    def status(self) -> ReceiverStatus:
        return ReceiverStatus(self._receiver.name, len(self._waiting), self._delivered, self._dropped, self._failure)

    async def _run(self) -> None:
        """Delivers what waits, with growing pauses while it cannot."""
        outbox, pause = self._outbox, self._outbox._backoff[0]
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                batch = tuple(self._waiting.items())[:BATCH_MAX]
                failure = await self._try([told for _, told in batch])
                self._note(failure)
                if failure is None:
                    pause = outbox._backoff[0]
                    self._delivered += len(batch)
                    for key, told in batch:
                        if self._waiting.get(key) is told:
                            del self._waiting[key]
                    continue
                await asyncio.sleep(pause * (0.5 + outbox._jitter() / 2))
                pause = min(pause * 2, outbox._backoff[1])
                for key, told in tuple(self._waiting.items()):
                    if outbox._clock() - told.at > AGE_SECONDS:
                        self._drop(key, "it could not be told for a day")

    async def _try(self, batch: Sequence[Told]) -> str | None:
        """None, or why it did not arrive."""
        try:
            async with asyncio.timeout(DELIVER_SECONDS):
                await self._receiver.deliver(batch, self._outbox._sender)
        except TimeoutError:
            return "does not answer"
        except DeliveryError as error:
            return str(error)
        except Exception as error:
            _log.exception("%s: a delivery failed in a way that it should not", self._receiver.name)
            return f"failed: {type(error).__name__}"
        return None

    def _note(self, failure: str | None) -> None:
        if failure is not None and failure != self._failure:
            _log.warning("alerts do not reach %s: %s", self._receiver.name, failure)
        elif failure is None and self._failure is not None:
            _log.info("alerts reach %s again", self._receiver.name)
        self._failure = failure

    def _drop(self, key: tuple[str, str], why: str) -> None:
        told = self._waiting.pop(key)
        self._dropped += 1
        _log.error("%s was not told of %s %s: %s", self._receiver.name, told.name, told.what, why)
