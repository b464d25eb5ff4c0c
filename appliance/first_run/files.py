"""The files that come of the answers. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Final

import msgspec
import yaml

from appliance.access_config import AdminRole
from appliance.first_run.answers import Answers
from appliance.first_run.handover import HANDOVER, handover_of

APPLIANCE_YAML: Final = "etc/appliance/appliance.yaml"
MODELS_YAML: Final = "etc/appliance/models.yaml"
SOCKET_DROP_IN: Final = "etc/systemd/system/appliance.socket.d/site.conf"
SERVICE_DROP_IN: Final = "etc/systemd/system/appliance.service.d/site.conf"
DEMO_FILE: Final = "demo-chat-q8_0.gguf"
# A Unix group for each role, so that a role is given and taken as any other right of a host.
GROUPS: Final[Mapping[AdminRole, str]] = {
    "viewer": "appliance-viewer",
    "operator": "appliance-operator",
    "security": "appliance-security",
    "auditor": "appliance-auditor",
}
_NOTE: Final = "# Written on the first day by `appliance first-run`; docs/CONFIGURATION.md has every key.\n"
_LOOPBACK: Final = ("127.0.0.0/8", "::1/128")


def files(answers: Answers) -> dict[str, str]:
    """Contents by path below the root."""
    handover = handover_of(answers)
    waiting = {} if handover is None else {HANDOVER: msgspec.json.encode(handover).decode() + "\n"}
    return waiting | {
        APPLIANCE_YAML: _NOTE + _text(_settings(answers)),
        MODELS_YAML: _NOTE + _text({"models": _models(answers)}),
        SOCKET_DROP_IN: _drop_in(
            "Socket", [f"ListenStream={_endpoint(answers)}"], answers.allow, clear=["ListenStream"]
        ),
        SERVICE_DROP_IN: _drop_in("Service", [], answers.allow, clear=[]),
    }


def _settings(answers: Answers) -> dict[str, Any]:
    # This host itself may always connect: it is where things are tried.
    listener = {"host": answers.address, "port": answers.port, "names": list(answers.names)}
    return {
        "listeners": {
            "api": listener | {"allow": [*answers.allow, *(net for net in _LOOPBACK if net not in answers.allow)]}
        },
        "key_encryption": {"source": answers.key_encryption},
        "admin": {"groups": {role: [group] for role, group in GROUPS.items()}},
    }


def _models(answers: Answers) -> list[dict[str, Any]]:
    folder = PurePosixPath(answers.model_dir)
    if not answers.models:
        demo = {"n_ctx": 8192, "parallel": 4, "preload": True, "sampling": {"temperature": 0}}
        return [{"id": "demo", "path": str(folder / DEMO_FILE)} | demo]
    return [{"id": one.id, "path": str(folder / one.file), "preload": True} for one in answers.models]


def _drop_in(section: str, lines: Sequence[str], allow: Sequence[str], clear: Sequence[str]) -> str:
    """A second fence in the kernel, behind the allowlist, has the same networks."""
    own = [f"{name}=" for name in clear]
    fence = ["IPAddressAllow=localhost", *(f"IPAddressAllow={network}" for network in allow)]
    return "\n".join(
        [
            "# Written by `appliance first-run` from the same answers as appliance.yaml.",
            f"[{section}]",
            *own,
            *lines,
            *fence,
            "",
        ]
    )


def _endpoint(answers: Answers) -> str:
    address = ipaddress.ip_address(answers.address)
    return f"[{address}]:{answers.port}" if address.version == 6 else f"{address}:{answers.port}"


def _text(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
