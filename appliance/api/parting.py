"""How the API's clients leave when the service stops: to the next process, and without noticing.

A client may send its next request over a kept connection at any moment, and what it says there has to be answered. So
from the beginning of a stop every answer says that it is its connection's last one, and a connection that has not been
told so yet brings one more request, which is served as any other. One that stays silent is closed: a client expects
that of an idle connection, and asks over another one. That, too, has its moment of danger, a request that is on its way
just then; so it is not done before the silence has lasted a while, within which a busy client's next request comes.
What was silent before the stop does not count: a client whose busy connections have got their last answers turns to
those that its pool has kept in reserve. And where this process was held up itself, by a paused virtual machine or a
starved host, its clients may have been too, and are about to go on: silence counts anew from then.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterable
from typing import Final, Protocol

# After this much silence a connection is closed.
IDLE_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.02
# A look that comes so late was held up.
LATE_SECONDS: Final = 0.25


class Connection(Protocol):
    """One of a client's."""

    @property
    def idle_since(self) -> float | None:
        """Since when nothing is asked over it, on the loop's clock; None while something is."""
        ...

    @property
    def ended(self) -> bool:
        """Whether nothing can be asked over it any more."""
        ...

    def force_close(self) -> None:
        """Says farewell to the client, and closes it."""
        ...


class Parting:
    """The end of one run. Belongs to the event loop."""

    def __init__(self) -> None:
        self._deadline: float | None = None
        self._hurried = asyncio.Event()
        # On the loop's clock: the latest look, and from when silence counts.
        self._looked: float | None = None
        self._counts_from = math.inf

    @property
    def begun(self) -> bool:
        """Whether each connection's next answer is its last one."""
        return self._deadline is not None

    @property
    def seconds_left(self) -> float:
        """How long clients may still be served."""
        if self._deadline is None or self._hurried.is_set():
            return 0.0
        return max(0.0, self._deadline - asyncio.get_running_loop().time())

    def begin(self, seconds: float) -> None:
        """The service stops, and clients are served for at most so long."""
        self._counts_from = asyncio.get_running_loop().time()
        self._deadline = self._counts_from + seconds

    def hurry(self) -> None:
        """No time is left, from now on."""
        self._hurried.set()

    async def wait(self, connections: Callable[[], Iterable[Connection]]) -> None:
        """Until all have gone, or no time is left; closes those that are idle."""
        while self.seconds_left > 0 and self._some_stay(connections()):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(_LOOK_SECONDS, self.seconds_left)):
                    await self._hurried.wait()

    def _some_stay(self, connections: Iterable[Connection]) -> bool:
        now = asyncio.get_running_loop().time()
        if self._looked is not None and now - self._looked > LATE_SECONDS:
            self._counts_from = now
        self._looked = now
        staying = [one for one in connections if not one.ended]
        for one in staying:
            if one.idle_since is not None and max(one.idle_since, self._counts_from) <= now - IDLE_SECONDS:
                one.force_close()
        return any(not one.ended for one in staying)
