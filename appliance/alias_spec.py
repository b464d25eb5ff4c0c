"""What models.yaml says: the models that are served, and aliases that lead to versions of them and to what steps in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta, Struct

from appliance.access_config import Seconds
from appliance.types import ModelId
from appliance.upstream_spec import ServedModel

Weight = Annotated[float, Meta(ge=0, le=1_000_000)]


class FallbackSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What steps in while no version of an alias can answer, in this order.

    repeats_mib: memory for answers that are given once more to exactly the same request of the same principal, at
    temperature 0; 0: none. repeats_seconds: how long one may be given. models: ids. answer: a text.
    """

    repeats_mib: Annotated[float, Meta(ge=0, le=65_536)] = 0.0
    repeats_seconds: Seconds = 86_400.0
    models: Annotated[tuple[ModelId, ...], Meta(max_length=16)] = ()
    answer: Annotated[str, Meta(min_length=1, max_length=65_536)] | None = None


class AliasSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of `aliases` in models.yaml.

    versions: ids with their weights. sticky: who always gets the same version: a principal, or each `user` of it.
    """

    versions: Annotated[dict[ModelId, Weight], Meta(min_length=1, max_length=16)]
    sticky: Literal["principal", "user"] = "principal"
    fallback: FallbackSpec = FallbackSpec()


class ModelsFile(Struct, frozen=True, kw_only=True):
    """All of models.yaml."""

    models: tuple[ServedModel, ...] = ()
    aliases: dict[str, AliasSpec] = {}

    def every_alias(self) -> Iterator[tuple[str, AliasSpec]]:
        """Those of single models too, which lead to that model alone."""
        for spec in self.models:
            for alias in spec.aliases:
                yield alias, AliasSpec(versions={spec.id: 1.0})
        yield from self.aliases.items()
