"""What an API key may do and was used for, in a row of a list and in lines below it. Pure."""

from __future__ import annotations

from typing import Final

from tui import units
from tui.admin_data import ApiKeyRow
from tui.lines import Line, Role, fitted, line, shorten
from tui.look import Look
from tui.sentence import sentence

_MODELS_CELLS_MAX: Final = 60


def scope(key: ApiKeyRow, look: Look) -> str:
    """The models that it may use."""
    if key.role == "viewer":
        return look.say("list only")
    return ",".join(key.models) or look.say("all")


def short_limit(key: ApiKeyRow, look: Look) -> str:
    """The limit that is felt first."""
    limits = key.limits
    if limits.requests_per_minute is not None:
        return f"{units.count(limits.requests_per_minute)}/{look.say('min')}"
    for tokens, word in (
        (limits.tokens_per_minute, look.say("min")),
        (limits.tokens_per_day, look.say("day")),
        (limits.tokens_per_month, look.say("month")),
    ):
        if tokens is not None:
            return f"{units.count(tokens)}/{word}"
    return units.NONE if limits.concurrent_max is None else f"{limits.concurrent_max} {look.say('at once')}"


def short_use(key: ApiKeyRow) -> str:
    """Requests of a day, with a mark where some were not answered."""
    day = key.last_day
    if day is None:
        return units.NONE
    wrong = day.refused + day.failed
    return f"{units.count(day.requests)} !" if wrong and wrong * 20 >= day.requests else units.count(day.requests)


def use_role(key: ApiKeyRow) -> Role:
    """Worth a look from a twentieth of requests on."""
    return "warn" if short_use(key).endswith("!") else ""


def key_lines(key: ApiKeyRow | None, width: int, look: Look) -> list[Line]:
    """What the row has no room for."""
    if key is None:
        return []
    say, rule, limits = look.say, look.glyphs.rule, key.limits
    head = f"{rule * 2} {key.kid} "
    given = [
        f"{units.count(value)} {word}"
        for value, word in (
            (limits.requests_per_minute, say("requests/min")),
            (limits.tokens_per_minute, say("tokens/min")),
            (limits.tokens_per_day, say("tokens/day")),
            (limits.tokens_per_month, say("tokens/month")),
            (limits.concurrent_max, say("at once")),
        )
        if value is not None
    ]
    models = shorten(", ".join(key.models) or scope(key, look), _MODELS_CELLS_MAX, look.glyphs.cut)
    may = f" {say('models')} {models}   {say('limits')} {', '.join(given) or say('none')}"
    lines = [line((head + rule * max(0, width - len(head)), "dim")), line(may), line(_used(key, look))]
    return [fitted(one, width) for one in lines]


def _used(key: ApiKeyRow, look: Look) -> str:
    day = key.last_day
    label = f"   {look.say('label')} {key.label}" if key.label else ""
    if day is None:
        return f" {look.say('24 h: the request log cannot be read')}{label}"
    return (
        " "
        + look.say(
            sentence(
                "24 h: {requests} requests, {refused} refused, {failed} failed; tokens {read} in, {written} out",
                requests=units.thousands(day.requests),
                refused=units.thousands(day.refused),
                failed=units.thousands(day.failed),
                read=units.count(day.prompt_tokens),
                written=units.count(day.completion_tokens),
            )
        )
        + label
    )
