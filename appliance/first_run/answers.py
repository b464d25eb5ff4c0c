"""What a site says on the first day, as a file has it or the questions collect it."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from appliance.access_config import DEFAULT_PORT, PRINCIPAL_NAME, AdminRole, Networks
from appliance.errors import ConfigError
from appliance.types import MODEL_NAME
from appliance.validation import explain
from appliance.yaml_source import YamlSource

Port = Annotated[int, Meta(ge=1, le=65535)]
UnixUser = Annotated[str, Meta(pattern=r"^[a-z_][a-z0-9_-]{0,31}\Z")]
HostName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9:][A-Za-z0-9:.-]{0,252}\Z")]
PRINCIPALS: Final = ("administrators",)


class ServedFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model that is served from the first day. file: in the model directory."""

    id: Annotated[str, Meta(pattern=rf"^{MODEL_NAME}\Z")]
    file: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,128}\Z")]


class Answers(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """address, port: where the API listens. names: what clients call this host, besides its own name and addresses.

    allow: networks that may connect. certificate: `internal` is issued by our own authority; `request` writes a signing
    request for an authority of the site, and serves with our own until the answer is imported. administrators: users of
    this host and the roles that they get. model_dir: where model files are. models: none means the demo model.
    key_encryption: `credential` seals the key-encryption key to this host (its TPM, where it has one), `file` keeps it
    beside what it protects. client: the first client, besides `demo`, which is for trying out on this host. Client and
    request are made once the appliance serves (handover).
    """

    address: str = "0.0.0.0"
    port: Port = DEFAULT_PORT
    names: Annotated[tuple[HostName, ...], Meta(max_length=64)] = ()
    allow: Networks = ()
    certificate: Literal["internal", "request"] = "internal"
    administrators: Annotated[dict[UnixUser, tuple[AdminRole, ...]], Meta(max_length=64)] = {}
    model_dir: str = "/srv/models"
    models: Annotated[tuple[ServedFile, ...], Meta(max_length=256)] = ()
    key_encryption: Literal["credential", "file"] = "credential"
    client: Annotated[str, Meta(pattern=rf"^{PRINCIPAL_NAME}\Z")] | None = None


def read_answers(path: Path) -> Answers:
    """Raises ConfigError, which names file, line and key."""
    source = YamlSource.read(path, verbatim=PRINCIPALS)
    try:
        answers = msgspec.convert(source.data, Answers)
    except msgspec.ValidationError as error:
        message, place = explain(error, Answers)
        raise source.error(f"{place}: {message}" if place else message, place) from None
    try:
        check_answers(answers)
    except ConfigError as error:
        raise ConfigError(str(error), path=path) from None
    return answers


def check_answers(answers: Answers) -> None:
    """What the single values do not say. Raises ConfigError."""
    try:
        # A scope may be of any characters.
        if not answers.address.isprintable() or " " in answers.address:
            raise ValueError
        ipaddress.ip_address(answers.address)
    except ValueError:
        raise ConfigError(f"address: {answers.address!r} is no IP address") from None
    if answers.certificate == "request" and not answers.names:
        raise ConfigError("names: a CA of the site must be told what clients call this host; give at least one name")
    if not Path(answers.model_dir).is_absolute() or any(character.isspace() for character in answers.model_dir):
        raise ConfigError(f"model_dir: {answers.model_dir!r} must be an absolute path without spaces")
