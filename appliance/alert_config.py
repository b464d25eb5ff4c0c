"""The part of appliance.yaml that says who is told of alerts."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

FilePath = Annotated[str, Meta(min_length=1, max_length=4096)]
Target = Annotated[str, Meta(min_length=1, max_length=512)]
MailAddress = Annotated[str, Meta(pattern=r"^[!-?A-~]{1,64}@[!-?A-~]{1,255}\Z")]
LeastSeverity = Literal["warning", "critical"]


class SyslogReceiver(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A collector that takes RFC 5424 over TLS.

    target: `host:port`. ca: PEM, who signs its certificate; by default those that the system trusts. certificate, key:
    PEM, what we show it. severity: the least that it is told of. Files of receivers are relative to appliance.yaml.
    """

    target: Target
    ca: FilePath | None = None
    certificate: FilePath | None = None
    key: FilePath | None = None
    severity: LeastSeverity = "warning"


class MailReceiver(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A mail server.

    target: `host:port`. security: `starttls`, `tls` from the first byte, or `none`, to this host alone. sender, to:
    addresses. username, password_file: where it asks who we are; the file is the service's alone.
    """

    target: Target
    sender: MailAddress
    to: Annotated[tuple[MailAddress, ...], Meta(min_length=1, max_length=32)]
    security: Literal["starttls", "tls", "none"] = "starttls"
    ca: FilePath | None = None
    username: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    password_file: FilePath | None = None
    severity: LeastSeverity = "warning"


class WebhookReceiver(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A server that takes a POST of JSON, as Prometheus' Alertmanager sends it.

    url: https, or http to this host. secret_file: signs what is sent; the file is the service's alone.
    """

    url: Annotated[str, Meta(min_length=1, max_length=2048)]
    ca: FilePath | None = None
    certificate: FilePath | None = None
    key: FilePath | None = None
    secret_file: FilePath | None = None
    severity: LeastSeverity = "warning"


class Alerts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is told of alerts. repeat_hours: how often of one that goes on; 0: once."""

    syslog: Annotated[tuple[SyslogReceiver, ...], Meta(max_length=8)] = ()
    mail: Annotated[tuple[MailReceiver, ...], Meta(max_length=8)] = ()
    webhooks: Annotated[tuple[WebhookReceiver, ...], Meta(max_length=8)] = ()
    repeat_hours: Annotated[float, Meta(ge=0, le=720)] = 4.0
