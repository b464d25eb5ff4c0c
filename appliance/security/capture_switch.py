"""Turning the capture of prompts on and off: nobody is captured before it is in the audit log who wanted it."""

from __future__ import annotations

from appliance.access_config import Capture
from appliance.audit.log import AuditLog
from appliance.audit.record import Actor, AuditEvent
from appliance.capture.prompt_capture import PromptCapture


async def switch_capture(audit: AuditLog, capture: PromptCapture, settings: Capture, actor: Actor) -> None:
    """Makes `settings` count. Raises AuditUnavailable; then nobody is captured who was not captured before.

    An end counts at once, whether it can be recorded or not.
    """
    event = change_of(capture.settings, settings, actor)
    if not settings.enabled:
        capture.configure(settings)
    if event is not None:
        await audit.append_durably(event)
    capture.configure(settings)


def change_of(before: Capture, after: Capture, actor: Actor) -> AuditEvent | None:
    """What to record where it changes who is captured. Pure."""
    whose = set(after.principals) if after.enabled else set(before.principals)
    if before.enabled == after.enabled and (not after.enabled or set(before.principals) == whose):
        return None
    return AuditEvent(
        action="capture.enabled" if after.enabled else "capture.disabled",
        outcome="ok",
        actor=actor,
        resource="prompts",
        details={"principals": ", ".join(sorted(whose)) or "all", "count": len(whose)},
    )
