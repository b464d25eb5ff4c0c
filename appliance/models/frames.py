"""A request as the frame that carries it to a worker. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.errors import RequestError, WireError
from appliance.types import Request
from appliance.wire import FRAME_BYTES_MAX, Add, encode


def add_frame(number: int, request: Request, seconds_max: float) -> Add:
    """`request` under the name it has on this connection. seconds_max: what is left of its time."""
    return Add(
        number=number,
        principal=request.principal,
        cache_domain=request.cache_domain,
        prompt=request.prompt,
        sampling=request.sampling,
        max_tokens=request.max_tokens,
        stop=request.stop,
        flow=request.flow,
        weight=request.weight,
        priority=request.priority,
        seconds_max=seconds_max,
        logprobs=request.logprobs,
        reasoning_budget=request.reasoning_budget,
        reading=request.reading,
        constraint=request.constraint,
        must_call=request.must_call,
    )


def check_encodable(choices: Sequence[Request]) -> None:
    """Refuses what cannot travel while it is nobody's; a bug here must not reach the backlog either."""
    sizes: dict[int, int] = {}
    try:
        for choice in choices:
            # Choices of one prompt differ in their seed alone.
            if id(choice.prompt) not in sizes:
                sizes[id(choice.prompt)] = len(encode(add_frame(0, choice, choice.seconds_max)))
    except (WireError, OverflowError, RecursionError, UnicodeEncodeError) as error:
        raise RequestError("invalid_request", f"the request cannot be sent to the engine: {error}") from error
    size = sum(sizes[id(choice.prompt)] for choice in choices)
    if size > FRAME_BYTES_MAX and len(choices) > 1:
        message = f"n: all choices are {size} bytes, and the engine takes {FRAME_BYTES_MAX} at once; ask for fewer"
        raise RequestError("invalid_request", message, param="n")
