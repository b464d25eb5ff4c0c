"""Whether the appliance can do its work, as it sees itself."""

from __future__ import annotations

from appliance.admin.route import Answer, Call
from appliance.doctor.verdict import worst
from appliance.errors import ChangeRefused


async def show(call: Call) -> Answer:
    """Every verdict. full=true: has the engine compute a token too."""
    given = call.query.get("full", "false")
    if given not in ("true", "false"):
        raise ChangeRefused("invalid", f"full: {given[:40]!r} is neither true nor false")
    if call.site.examine is None:
        raise ChangeRefused("conflict", "nobody can be asked here")
    verdicts = await call.site.examine(given == "true")
    return call.answer({"worst": worst(verdicts), "verdicts": verdicts})
