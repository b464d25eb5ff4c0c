"""Models of the store: hashing their files again, taking one away. Pure."""

from __future__ import annotations

from appliance.admin_client import route
from tui.admin_data import QuarantinedModel, StoredModel
from tui.proposals.proposal import REASON, Field, Proposal
from tui.sentence import as_written, sentence
from tui.units import short_gib


def verify(model: StoredModel) -> Proposal:
    """Whether its files are still what was imported."""
    return Proposal(
        title="VERIFY MODEL",
        verb="Verify",
        action="model.verify",
        resource=model.name,
        role="operator",
        path=route("store", model.name, "verify"),
        command=lambda values: ("models", "verify", model.name),
        facts=(
            sentence("All of its files are read and hashed: {size}.", size=short_gib(model.bytes)),
            sentence("It goes on answering meanwhile. A wrong hash keeps it from being loaded again."),
        ),
        planned=None,
        done=lambda answer: (sentence("it has begun, and the list of the store says how far it is"),),
    )


def remove(model: StoredModel | QuarantinedModel) -> Proposal:
    """Deletes its files."""
    quarantined = isinstance(model, QuarantinedModel)
    return Proposal(
        title="REMOVE MODEL",
        verb="Remove",
        action="model.remove",
        resource=model.name,
        role="operator",
        path=route("store", model.name, "remove"),
        command=lambda values: (
            *("models", "remove", model.name),
            *(("--quarantined",) if quarantined else ()),
            *("--reason", values["reason"]),
        ),
        facts=(
            as_written(model.reason)
            if isinstance(model, QuarantinedModel)
            else sentence("Its files are deleted for good: {size}.", size=short_gib(model.bytes)),
            sentence("What models.yaml says of it stays, and fails to load."),
        ),
        fields=(
            Field("exact", "Type the model's name:", exact=model.name),
            Field("reason", REASON, required=True),
        ),
        body=lambda values: {"quarantined": quarantined, "reason": values["reason"]},
        done=lambda answer: (sentence("it is gone"),),
    )
