"""The issuance profiles: what a certificate of each kind may be used for, and for how long.

They are part of the product (`certs/profiles.yaml`), so that a review of one file shows all that is ever issued. The
bounds here hold whatever the file says.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from importlib import resources
from typing import Annotated, Final, Literal

import msgspec
from cryptography import x509
from msgspec import Meta, Struct

from appliance.errors import ConfigError
from appliance.validation import explain
from appliance.yaml_source import YamlSource

LEAF_DAYS_MAX: Final = 397
_PACKAGE: Final = "certs"
_FILE: Final = "profiles.yaml"

ExtendedUsage = Literal["serverAuth", "clientAuth"]


class _Profile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    curve: Literal["P-256"]
    renew_at: Annotated[float, Meta(ge=0.5, le=0.9)]
    clock_skew_hours: Annotated[int, Meta(ge=0, le=72)]

    @property
    def clock_skew(self) -> timedelta:
        """How long before its issue a certificate begins to be valid."""
        return timedelta(hours=self.clock_skew_hours)

    def renewal(self, certificate: x509.Certificate) -> datetime:
        """When a certificate of this profile is due to be issued anew; by its own dates, which its CA may have cut."""
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        return begin + self.renew_at * (end - begin)


class AuthorityProfile(_Profile, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A certificate authority: signs certificates and revocation lists, and nothing else."""

    life_days: Annotated[int, Meta(ge=LEAF_DAYS_MAX, le=7300)]
    path_length: Annotated[int, Meta(ge=0, le=1)]
    key_usage: tuple[Literal["keyCertSign", "cRLSign"], ...]

    def __post_init__(self) -> None:
        if sorted(self.key_usage) != ["cRLSign", "keyCertSign"]:
            raise ValueError("an authority's key_usage is keyCertSign and cRLSign")

    @property
    def life(self) -> timedelta:
        """From the issue to the end."""
        return timedelta(days=self.life_days)


class LeafProfile(_Profile, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A certificate that signs no other. It has one purpose, so that none can stand in for another."""

    life_days: Annotated[int, Meta(ge=1, le=LEAF_DAYS_MAX)]
    key_usage: Annotated[tuple[Literal["digitalSignature"], ...], Meta(min_length=1, max_length=1)]
    extended_key_usage: Annotated[tuple[ExtendedUsage, ...], Meta(min_length=1, max_length=1)]

    @property
    def life(self) -> timedelta:
        """From the issue to the end, where the authority does not end before."""
        return timedelta(days=self.life_days)

    @property
    def purpose(self) -> ExtendedUsage:
        """The one extended key usage."""
        return self.extended_key_usage[0]


class Profiles(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All profiles: three authorities and what each of them issues."""

    server_ca: AuthorityProfile
    client_ca: AuthorityProfile
    admin_ca: AuthorityProfile
    server: LeafProfile
    client: LeafProfile
    admin: LeafProfile

    def __post_init__(self) -> None:
        if self.server.purpose != "serverAuth":
            raise ValueError("a server's extended_key_usage is serverAuth")
        if {self.client.purpose, self.admin.purpose} != {"clientAuth"}:
            raise ValueError("a client's and an administrator's extended_key_usage is clientAuth")

    @classmethod
    def shipped(cls) -> Profiles:
        """The product's own. Reads a small file; raises ConfigError where the installation is damaged."""
        try:
            text = resources.files(_PACKAGE).joinpath(_FILE).read_text("utf-8")
        except (ImportError, OSError) as error:
            raise ConfigError(
                f"{_PACKAGE}/{_FILE} is missing; install the product again (in a checkout: make setup)"
            ) from error
        return cls.parse(f"{_PACKAGE}/{_FILE}", text)

    @classmethod
    def parse(cls, path: str, text: str) -> Profiles:
        """Raises ConfigError with file, line and key; `path` is for that sentence only."""
        source = YamlSource(path, text)
        try:
            return msgspec.convert(source.data, cls, strict=True)
        except msgspec.ValidationError as error:
            message, where = explain(error)
            raise source.error(f"{where}: {message}" if where else message, where) from error
