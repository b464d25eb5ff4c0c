"""What the dashboard can propose."""

from __future__ import annotations

from appliance.telemetry.snapshot import AlertFigures
from tests.tui.driving import frozen
from tui.admin_data import AllowEntry, Allowlist, ApiKeyRow, Issued, QuarantinedModel, StoredModel
from tui.demo.source import FROZEN_MOMENT
from tui.proposals import allow, keys, models, others, store
from tui.proposals.proposal import Proposal


def proposals() -> list[Proposal]:
    """One of each."""
    snapshot = frozen("slow")._world.snapshot(FROZEN_MOMENT)
    busy, _, off, _ = snapshot.models
    key = ApiKeyRow(kid="k_7f3a", principal="rag-indexer", state="active")
    issued = Issued(kind="client", name="li", not_after="2027-01-01T00:00:00+00:00", state="valid", serial="1f")
    alert = AlertFigures(name="DiskAlmostFull", severity="warning", what="/", state="firing", since=0.0, summary="full")
    then = "2026-11-20T00:00:00+00:00"
    stored = StoredModel(name="qwen", bytes=2**34, quantisation="Q4_K_M", imported=then, verified=then)
    entry = AllowEntry(network="10.0.0.0/8", hits=5)
    return [
        models.load(off, 1),
        models.unload(busy),
        models.pin(off),
        models.apply(),
        keys.new_key("li"),
        keys.rotate_key(key),
        keys.revoke_key(key),
        keys.new_client(),
        keys.revoke_client("li"),
        keys.revoke_certificate(issued),
        keys.renew_server(),
        keys.activate_server("CN=x"),
        keys.roll_back_server(),
        keys.import_server(),
        keys.request_server(),
        allow.add(),
        allow.edit(entry),
        allow.remove(entry),
        allow.discard(),
        allow.apply(Allowlist()),
        allow.keep(),
        allow.revert(),
        store.verify(stored),
        store.remove(stored),
        store.remove(QuarantinedModel(name="bad", reason="its worker died", since="2026-11-20T00:00:00+00:00")),
        others.verify(),
        others.approve({"id": "a1", "action": "key.revoke", "asked_by": "li", "resource": "k", "what": ""}, True),
        others.leave(["model.load x"]),
        others.ack(alert),
        others.silence(alert),
        others.diagnose((), "x.tar.gz"),
        others.screenshot("models", "x.svg"),
        others.replay_from(),
    ]
