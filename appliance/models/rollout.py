"""How an alias moves to a new version, and when it moves back: the plan and the judgement. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from appliance.telemetry.recent_answers import AnswerFigures
from appliance.types import ModelId

# One-sided 95 %: how sure it must be that the new version fails more often.
_Z: Final = 1.645
# One may be anything.
_FAILURES_MIN: Final = 2
# A p95 of fewer answers is hardly more than the worst one.
_TAIL_ANSWERS_MIN: Final = 100
# Latencies below this are noise, whatever their ratio.
_SECONDS_MIN: Final = 0.05

Percent = Annotated[float, Meta(gt=0, le=100)]


class RolloutPlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """steps: percent of an alias's clients that get `model`, rising; the last one is 100.

    hold_seconds, answers_min: how long a step lasts at least, and how many answers of the new version it takes.
    mirror: before the first step it gets copies of the requests, as long as a step.
    failure_rise_max: by how much its share of failures may be above the old one's, 0 to 1.
    latency_factor_max: how many times the old one's seconds it may take.
    """

    model: ModelId
    steps: Annotated[tuple[Percent, ...], Meta(min_length=1, max_length=32)] = (5.0, 50.0, 100.0)
    hold_seconds: Annotated[float, Meta(ge=0, le=2_592_000)] = 600.0
    answers_min: Annotated[int, Meta(ge=0, le=1_000_000)] = 20
    mirror: bool = False
    failure_rise_max: Annotated[float, Meta(ge=0, le=1)] = 0.02
    latency_factor_max: Annotated[float, Meta(ge=1, le=1000)] = 2.0


class Judgement(Struct, frozen=True, kw_only=True):
    """What to do with a new version now, and why."""

    verdict: Literal["wait", "go_on", "roll_back"]
    reason: str


def fault_of(plan: RolloutPlan) -> str | None:
    """What is wrong with the steps; None where nothing is."""
    if list(plan.steps) != sorted(set(plan.steps)):
        return "steps must rise, such as 5,50,100"
    return None if plan.steps[-1] == 100 else "the last step must be 100"


def weights_at(model: str, percent: float, before: Mapping[str, float]) -> dict[str, float]:
    """Of an alias at one step: the new version comes first on the line, the others share the rest as they did."""
    others = {version: weight for version, weight in before.items() if version != model and weight}
    total = sum(others.values())
    if percent >= 100 or not total:
        return {model: 100.0}
    return {model: percent, **{version: weight * (100 - percent) / total for version, weight in others.items()}}


def judge(plan: RolloutPlan, new: AnswerFigures, old: AnswerFigures, held_seconds: float) -> Judgement:
    """new: of this step. old: what it is compared with. held_seconds: how long the step has lasted."""
    worst = _failure_fault(plan, new, old) or _latency_fault(plan, new, old)
    if worst is not None:
        return Judgement(verdict="roll_back", reason=worst)
    if new.answers < plan.answers_min:
        return Judgement(verdict="wait", reason=f"{new.answers} of {plan.answers_min} answers")
    if held_seconds < plan.hold_seconds:
        left = plan.hold_seconds - held_seconds
        return Judgement(verdict="wait", reason=f"{math.ceil(left)} s are left of this step")
    return Judgement(verdict="go_on", reason=f"{new.answers} answers, {new.failed} failed")


def _failure_fault(plan: RolloutPlan, new: AnswerFigures, old: AnswerFigures) -> str | None:
    if new.failed < _FAILURES_MIN or failed_share_at_least(new) <= old.failed_share + plan.failure_rise_max:
        return None
    return f"{new.failed} of {new.answers} answers failed; of the old version's {old.failed} of {old.answers}"


def failed_share_at_least(figures: AnswerFigures) -> float:
    """The share of failures that the version has in truth, at least, with 95 % confidence: the lower bound of Wilson's
    score interval (Wilson 1927, J. Am. Stat. Assoc. 22).
    """
    n = figures.answers
    if not n:
        return 0.0
    share = figures.failed_share
    spread = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return (share + _Z**2 / (2 * n) - spread) / (1 + _Z**2 / n)


def _latency_fault(plan: RolloutPlan, new: AnswerFigures, old: AnswerFigures) -> str | None:
    enough = max(1, plan.answers_min)
    if new.answers < enough or old.answers < enough:
        return None
    compared = [
        ("half of the first texts come after", new.ttft_p50, old.ttft_p50),
        ("half of the tokens take", new.token_p50, old.token_p50),
    ]
    if min(new.answers, old.answers) >= _TAIL_ANSWERS_MIN:
        compared.append(("one in twenty first texts comes after", new.ttft_p95, old.ttft_p95))
    for what, ours, theirs in compared:
        if ours is None or theirs is None:
            continue
        token = "token" in what
        if ours > plan.latency_factor_max * theirs and (token or ours - theirs > _SECONDS_MIN):
            return f"{what} {1000 * ours:.0f} ms; the old version's {1000 * theirs:.0f} ms"
    return None
