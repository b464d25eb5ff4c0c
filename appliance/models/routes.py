"""Where a name in a request leads: to a model, or over an alias to one of its versions and what steps in for it. Pure.

An alias's versions share the line from 0 to 1 by their weights, in order. Who asks has a place on that line, by a hash,
and so always gets the same version; a rollout's new version comes first, so that its growing share only ever takes
over those that had another one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from types import MappingProxyType

from msgspec import Struct

from appliance.alias_spec import AliasSpec, FallbackSpec, ModelsFile

NO_FALLBACK = FallbackSpec()


class Route(Struct, frozen=True, kw_only=True):
    """name: as it was asked for. alias: whether that is an alias.

    models: ids; the first one answers, and where it cannot the next one, in this order. fallback: what else there is.
    mirror: an id that gets a copy of the request, and answers nobody.
    """

    name: str
    alias: bool
    models: tuple[str, ...]
    fallback: FallbackSpec = NO_FALLBACK
    mirror: str | None = None


class Routes:
    """The names of one models.yaml, and the weights that a rollout has put in the place of the file's."""

    def __init__(self, file: ModelsFile) -> None:
        self._ids = {spec.id for spec in file.models}
        self._listed = dict(file.every_alias())
        self._alone = {spec.id: {spec.id, *spec.aliases} for spec in file.models}
        self._weights: dict[str, Mapping[str, float]] = {}
        self._mirrors: dict[str, str] = {}

    def succeeded_by(self, file: ModelsFile) -> Routes:
        """Those of a changed file. What a rollout has changed counts on where the file has the versions that it had."""
        after = Routes(file)
        kept = {alias for alias, spec in after._listed.items() if _same_versions(self._listed.get(alias), spec)}
        after._weights = {
            alias: weights
            for alias, weights in self._weights.items()
            if alias in kept and after._ids.issuperset(weights)
        }
        after._mirrors = {
            alias: model for alias, model in self._mirrors.items() if alias in kept and model in after._ids
        }
        return after

    def aliases(self) -> Mapping[str, AliasSpec]:
        """As models.yaml has them; those of single models too."""
        return MappingProxyType(self._listed)

    def weights(self, alias: str) -> Mapping[str, float]:
        """Of its versions, now. Raises KeyError where there is no such alias."""
        return self._weights.get(alias, self._listed[alias].versions)

    def set_weights(self, alias: str, weights: Mapping[str, float] | None) -> None:
        """In the place of the file's, which None brings back. In the order of the line."""
        if weights is None:
            self._weights.pop(alias, None)
        else:
            self._weights[alias] = dict(weights)

    def set_mirror(self, alias: str, model: str | None) -> None:
        """Who gets copies of the requests for an alias."""
        if model is None:
            self._mirrors.pop(alias, None)
        else:
            self._mirrors[alias] = model

    def model(self, name: str) -> str | None:
        """The id, where a name leads to one model alone."""
        if name in self._ids:
            return name
        weights = self._weights.get(name) or (self._listed[name].versions if name in self._listed else {})
        versions = [version for version, weight in weights.items() if weight]
        return versions[0] if len(versions) == 1 else None

    def permitted(self, model: str, allowed: Collection[str]) -> bool:
        """Whether who may use the names in `allowed` may use a model by its id; an empty one means all."""
        return not allowed or not self._alone[model].isdisjoint(allowed)

    def find(self, name: str, principal: str, user: str = "", allowed: Collection[str] = ()) -> Route | None:
        """Where it leads for whoever asks; None where there is no such name, or they may not use it.

        allowed: ids and aliases that they may use, all where empty. An alias in it allows all that it leads to.
        """
        if name in self._ids:
            return Route(name=name, alias=False, models=(name,)) if self.permitted(name, allowed) else None
        alias = self._listed.get(name)
        if alias is None:
            return None
        usable = self._ids if name in allowed else {model for model in self._ids if self.permitted(model, allowed)}
        weights = {model: weight for model, weight in self.weights(name).items() if model in usable and weight}
        if not weights:
            return None
        chosen = version_of(weights, place_of(name, principal, user if alias.sticky == "user" else ""))
        others = sorted((model for model in weights if model != chosen), key=lambda model: -weights[model])
        spare = [model for model in alias.fallback.models if model in usable]
        mirror = self._mirrors.get(name)
        return Route(
            name=name,
            alias=True,
            models=tuple(dict.fromkeys((chosen, *others, *spare))),
            fallback=alias.fallback,
            mirror=None if mirror in (None, chosen) or mirror not in usable else mirror,
        )


def place_of(alias: str, principal: str, user: str = "") -> float:
    """Where on the line from 0 to 1 somebody stands, the same for ever; another place for every alias."""
    digest = hashlib.sha256("\0".join((alias, principal, user)).encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def version_of(weights: Mapping[str, float], place: float) -> str:
    """The version whose part of the line `place` is in. weights: not all 0."""
    rest = place * sum(weights.values())
    for version, weight in weights.items():
        rest -= weight
        if rest < 0:
            return version
    # Rounding, at the very end of the line.
    return [version for version, weight in weights.items() if weight][-1]


def _same_versions(before: AliasSpec | None, after: AliasSpec) -> bool:
    return before is not None and before.versions == after.versions
