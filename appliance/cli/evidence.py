"""`appliance evidence`: which version of a model made an answer, and how to have it again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from appliance.admin_client import route
from appliance.cli.common import Appliance, moment, print_facts, print_json
from appliance.cli.options import JsonOption


def evidence(
    request_id: Annotated[str, typer.Argument(help="X-Request-Id of an answer, or its id (chatcmpl-…, cmpl-…).")],
    appliance: Appliance,
    json: JsonOption = False,
) -> None:
    """Show what made an answer: model, version, file, settings, seed, whose request. No text is kept or shown.

    The audit log gets a record of who looked. Example: appliance evidence chatcmpl-0f8e2c6a5b
    """
    found = appliance.ask(route("evidence", request_id))
    if json:
        print_json(found)
        return
    record = found["record"]
    time = datetime.fromtimestamp(record["time"], UTC).isoformat()
    shown = {**{name: value for name, value in record.items() if name != "evidence"}, "time": moment(time, "seconds")}
    sections = {"request": shown, "asked and answered by": record.get("evidence")}
    sections |= {"version": found["version"], "to replay, send": found["replay"]}
    print_facts({name: section for name, section in sections.items() if section})
