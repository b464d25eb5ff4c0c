"""The questions in the terminal, each with what is usual; an answer that cannot be is asked for again."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from appliance.access_config import DEFAULT_PORT, AdminRole
from appliance.errors import ConfigError
from appliance.first_run.answers import Answers
from appliance.first_run.trial import check_taken

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Terminal:
    """ask: puts a question with its usual answer, and returns what was typed, or that. say: shows a line."""

    ask: Callable[[str, str], str]
    say: Callable[[str], None]


def ask_all(terminal: Terminal, host_name: str) -> Answers:
    """Raises EOFError where the terminal ends before the questions do."""
    while True:
        found = {
            "names": _asked(terminal, "Names that clients call this host by", host_name, _words),
            "address": _asked(terminal, "Address to listen at", "0.0.0.0", _address),
            "port": _asked(terminal, "Port", str(DEFAULT_PORT), int),
            "allow": _asked(
                terminal, "Networks that may connect, as 192.0.2.0/24; none: this host alone", "", _networks
            ),
            "certificate": _choice(
                terminal, "Server certificate, or a request for a CA of yours", "internal", "request"
            ),
            "administrators": _asked(terminal, "First operator, a user of this host; none: root alone", "", _operator),
            "model_dir": _asked(terminal, "Folder of the model files", "/srv/models", str),
            "key_encryption": _choice(terminal, "Key-encryption key, sealed to this host or not", "credential", "file"),
            "client": _asked(terminal, "First client, as webapp; none: `demo`, for this host", "", _optional),
        }
        try:
            answers = msgspec.convert(found, Answers)
            check_taken(answers)
        except (ConfigError, msgspec.ValidationError) as error:
            terminal.say(f"That does not go together: {error}. Once more:")
            continue
        terminal.say(msgspec.yaml.encode(answers).decode())
        if terminal.ask("Set it up like this? yes or no", "yes").strip().lower() in ("y", "yes"):
            return answers


def _asked(terminal: Terminal, question: str, usual: str, read: Callable[[str], T]) -> T:
    while True:
        try:
            return read(terminal.ask(question, usual).strip())
        except ValueError as error:
            terminal.say(f"  {error}")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


def _networks(text: str) -> tuple[str, ...]:
    return tuple(str(ipaddress.ip_network(word)) for word in _words(text))


def _address(text: str) -> str:
    return str(ipaddress.ip_address(text))


def _operator(text: str) -> dict[str, tuple[AdminRole, ...]]:
    return dict.fromkeys(_words(text), ("operator", "security"))


def _optional(text: str) -> str | None:
    return text or None


def _choice(terminal: Terminal, question: str, *choices: str) -> str:
    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"one of: {', '.join(choices)}")
        return text

    return _asked(terminal, f"{question}: {' or '.join(choices)}", choices[0], read)
