"""Aliases: which versions they lead to, and the rollouts that move them to new ones."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from appliance.admin.route import Answer, Call
from appliance.alias_spec import FallbackSpec
from appliance.errors import ChangeRefused
from appliance.models.rollout import RolloutPlan
from appliance.models.rollouts import Rollout, Rollouts
from appliance.models.routes import Routes
from appliance.telemetry.recent_answers import AnswerFigures


class RolloutView(Struct, frozen=True, kw_only=True):
    """percent: of the clients that get `model` now. new, old: what it is judged by. since: of this step, UTC seconds.

    reason: what it waits for, or why it was rolled back.
    """

    model: str
    phase: str
    percent: float
    steps: tuple[float, ...]
    mirror: bool
    swapped: bool
    began: float
    since: float
    reason: str
    new: AnswerFigures
    old: AnswerFigures


class AliasView(Struct, frozen=True, kw_only=True):
    """versions: ids with their weights now. listed: by models.yaml. fallback: what steps in, as models.yaml has it."""

    alias: str
    versions: Mapping[str, float]
    listed: Mapping[str, float]
    sticky: str
    fallback: FallbackSpec
    rollout: RolloutView | None


async def show(call: Call) -> Answer:
    """Every alias, those of single models too."""
    rollouts, routes = _rollouts(call), _routes(call)
    return call.answer([_view(rollouts, routes, alias) for alias in routes.aliases()])


async def roll_out(call: Call) -> Answer:
    """Begins to move an alias to a new version; `show` tells how far it is."""
    rollouts, alias, plan = _rollouts(call), call.match["alias"], call.parsed(RolloutPlan)
    await rollouts.check(alias, plan)
    if not call.plan:
        await call.office.audit.append_durably(call.event("allow", alias))
        await rollouts.begin(alias, plan)
    return call.answer(_view(rollouts, _routes(call), alias))


async def roll_back(call: Call) -> Answer:
    """Brings back what an alias led to before its newest rollout, at once."""
    rollouts, alias = _rollouts(call), call.match["alias"]
    rollouts.check_back(alias)
    if not call.plan:
        await call.office.audit.append_durably(call.event("allow", alias))
        await rollouts.roll_back(alias)
    return call.answer(_view(rollouts, _routes(call), alias))


def _rollouts(call: Call) -> Rollouts:
    if call.site.rollouts is None:
        raise ChangeRefused("conflict", "no daemon runs here; start it, and ask again")
    return call.site.rollouts


def _routes(call: Call) -> Routes:
    assert call.site.router is not None, "where there are rollouts there is a router"
    return call.site.router.registry.routes


def _view(rollouts: Rollouts, routes: Routes, alias: str) -> AliasView:
    spec, rollout = routes.aliases()[alias], rollouts.find(alias)
    return AliasView(
        alias=alias,
        versions=routes.weights(alias),
        listed=spec.versions,
        sticky=spec.sticky,
        fallback=spec.fallback,
        rollout=None if rollout is None else _rollout_view(rollouts, rollout),
    )


def _rollout_view(rollouts: Rollouts, rollout: Rollout) -> RolloutView:
    new, old = rollouts.figures(rollout)
    total = sum(rollout.weights.values())
    return RolloutView(
        model=rollout.plan.model,
        phase=rollout.phase,
        percent=round(100 * rollout.weights.get(rollout.plan.model, 0.0) / total, 3),
        steps=rollout.plan.steps,
        mirror=rollout.plan.mirror,
        swapped=rollout.swapped,
        began=rollout.began,
        since=rollout.since,
        reason=rollout.reason,
        new=new,
        old=old,
    )
