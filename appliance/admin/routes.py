"""The admin API's table: every route, what it is called in the audit log, and whose role it takes.

This is the only place that grants anything; a role that is not named here may not.
"""

from __future__ import annotations

from typing import Final

from appliance.access_config import AdminRole
from appliance.admin.handlers import (
    alerts,
    aliases,
    allow,
    audit,
    backup,
    capture,
    certificates,
    dify,
    doctor,
    evidence,
    general,
    instances,
    keys,
    logs,
    models,
    requests,
    secrets,
    telemetry,
)
from appliance.admin.route import Route
from appliance.models.rollout import RolloutPlan

_ANYONE: Final[frozenset[AdminRole]] = frozenset({"viewer", "operator", "security", "auditor"})
_LOOK: Final[frozenset[AdminRole]] = frozenset({"operator", "security"})
# To agree takes a role of the act itself, which `Approvals` asks for.
_DECIDES: Final[frozenset[AdminRole]] = frozenset({"operator", "security", "auditor"})
# What names clients and addresses.
_STAFF: Final[frozenset[AdminRole]] = frozenset({"operator", "security", "auditor"})
_OPERATOR: Final[frozenset[AdminRole]] = frozenset({"operator"})
_SECURITY: Final[frozenset[AdminRole]] = frozenset({"security"})
# A request as it was answered, without its text: who runs the models has to look into complaints.
_INQUIRES: Final[frozenset[AdminRole]] = frozenset({"operator", "auditor"})
_AUDITOR: Final[frozenset[AdminRole]] = frozenset({"auditor"})

ROUTES: Final[tuple[Route, ...]] = (
    Route("GET", "/whoami", "whoami", _ANYONE, general.whoami),
    Route("GET", "/status", "status", _ANYONE, general.status),
    Route("POST", "/reload", "config.reload", _LOOK, general.reload, general.Reload, plans=False),
    Route("GET", "/approvals", "approvals.list", _DECIDES, general.approvals),
    Route("POST", "/approvals/{id}/approve", "approval.approve", _DECIDES, general.approve, plans=False, alone=True),
    Route("POST", "/approvals/{id}/reject", "approval.reject", _DECIDES, general.reject, plans=False, alone=True),
    Route("GET", "/snapshot", "snapshot.show", _ANYONE, telemetry.snapshot),
    Route("GET", "/metrics", "metrics.show", _ANYONE, telemetry.metrics),
    Route("GET", "/events", "events.follow", _ANYONE, telemetry.events),
    Route("GET", "/history", "history.show", _ANYONE, telemetry.history),
    # Models that are served.
    Route("GET", "/instances", "instances.list", _ANYONE, instances.show),
    Route("GET", "/instances/{model}/preflight", "model.preflight", _ANYONE, instances.preflight),
    Route("POST", "/instances/{model}/load", "model.load", _OPERATOR, instances.load),
    Route("POST", "/instances/{model}/unload", "model.unload", _OPERATOR, instances.unload, instances.Unload),
    Route("POST", "/instances/{model}/pin", "model.pin", _OPERATOR, instances.pin),
    Route("POST", "/instances/{model}/unpin", "model.unpin", _OPERATOR, instances.unpin),
    Route("POST", "/models/apply", "models.apply", _OPERATOR, instances.apply),
    Route("GET", "/aliases", "aliases.list", _ANYONE, aliases.show),
    Route("POST", "/aliases/{alias}/rollout", "model.rollout", _OPERATOR, aliases.roll_out, RolloutPlan),
    Route("POST", "/aliases/{alias}/rollback", "model.rollback", _OPERATOR, aliases.roll_back),
    Route("POST", "/drain", "host.drain", _OPERATOR, instances.drain, instances.Drain),
    Route("POST", "/resume", "host.resume", _OPERATOR, instances.resume),
    # Alerts.
    Route("GET", "/alerts", "alerts.list", _ANYONE, alerts.show),
    Route("POST", "/alerts/ack", "alert.ack", _LOOK, alerts.ack, alerts.Ack),
    Route("POST", "/alerts/silence", "alert.silence", _LOOK, alerts.silence, alerts.SilenceFor),
    Route("POST", "/alerts/test", "alert.test", _LOOK, alerts.test),
    # Clients, keys, tokens.
    Route("GET", "/clients", "clients.list", _LOOK, keys.list_clients),
    Route("POST", "/clients", "client.create", _SECURITY, keys.create_client, keys.AddClient),
    Route("POST", "/clients/{name}/renew", "client.renew", _SECURITY, keys.renew, keys.RenewClient),
    Route("POST", "/clients/{name}/revoke", "client.revoke", _SECURITY, keys.revoke_client, keys.Because),
    Route("POST", "/clients/{name}/restore", "client.restore", _SECURITY, keys.restore_client),
    Route("GET", "/clients/{name}/dify", "client.dify", _SECURITY, dify.files),
    Route("GET", "/keys", "keys.list", _LOOK, keys.list_keys),
    Route("POST", "/keys", "key.create", _SECURITY, keys.create_key, keys.AddKey),
    Route("POST", "/keys/{kid}/rotate", "key.rotate", _SECURITY, keys.rotate, keys.RotateKey),
    Route("POST", "/keys/{kid}/revoke", "key.revoke", _SECURITY, keys.revoke_one, keys.Because),
    Route("POST", "/tokens/{token}/revoke", "token.revoke", _SECURITY, keys.revoke_token, keys.Because),
    # Certificates.
    Route("GET", "/certificates", "certificates.list", _LOOK, certificates.show),
    Route(
        "POST",
        "/certificates/revoke",
        "certificate.revoke",
        _SECURITY,
        certificates.revoke_certificate,
        certificates.RevokeCertificate,
    ),
    Route("POST", "/certificates", "certificate.issue", _SECURITY, certificates.issue, certificates.IssueCertificate),
    Route("POST", "/server/renew", "server.renew", _SECURITY, certificates.renew_server, certificates.Renew),
    Route("POST", "/server/activate", "server.activate", _SECURITY, certificates.activate),
    Route("POST", "/server/rollback", "server.rollback", _SECURITY, certificates.rollback_server),
    Route("POST", "/server/request", "server.request", _SECURITY, certificates.request),
    Route("POST", "/server/import", "server.import", _SECURITY, certificates.import_chain, certificates.Import),
    Route("GET", "/authorities/{name}", "authority.show", _LOOK, certificates.trust),
    Route(
        "POST",
        "/authorities/{name}/rotation",
        "authority.rotate",
        _SECURITY,
        certificates.rotate_authority,
        certificates.RotateAuthority,
    ),
    Route("GET", "/crl", "crl.show", _LOOK, certificates.give_crl),
    Route("POST", "/crls", "crl.import", _SECURITY, certificates.take_crl, certificates.ImportCrl),
    # Imported models.
    Route("GET", "/store", "store.list", _ANYONE, models.list_all),
    Route("GET", "/store/{name}", "store.show", _ANYONE, models.show),
    Route("POST", "/store", "model.import", _OPERATOR, models.start_import, models.Import),
    Route("POST", "/store/{name}/verify", "model.verify", _OPERATOR, models.start_verify, plans=False),
    Route("POST", "/store/{name}/quantize", "model.quantize", _OPERATOR, models.start_quantize, models.Quantize),
    Route("POST", "/store/{name}/remove", "model.remove", _OPERATOR, models.remove, models.Remove),
    Route("GET", "/jobs/{id}", "job.show", _LOOK, models.job),
    Route("POST", "/jobs/{id}/cancel", "job.cancel", _OPERATOR, models.cancel, plans=False, alone=True),
    Route("GET", "/doctor", "doctor.examine", _STAFF, doctor.show),
    Route("GET", "/logs", "logs.read", _STAFF, logs.show),
    # Requests. A report that names nobody is for anyone.
    Route("GET", "/requests", "requests.list", _INQUIRES, requests.show),
    Route("GET", "/requests/export", "requests.export", _INQUIRES, requests.export),
    Route("GET", "/usage", "usage.show", _ANYONE, requests.usage),
    Route("GET", "/evidence/{request_id}", "evidence.read", _INQUIRES, evidence.show),
    # The allowlist.
    Route("GET", "/allowlist", "allow.list", _LOOK, allow.show),
    Route("GET", "/allowlist/test", "allow.test", _LOOK, allow.test),
    Route("GET", "/allowlist/denied", "allow.denied", _LOOK, allow.denied),
    Route("POST", "/allowlist/stage", "allow.stage", _SECURITY, allow.stage, allow.Stage),
    Route("POST", "/allowlist/discard", "allow.discard", _SECURITY, allow.discard),
    Route("POST", "/allowlist/apply", "allow.apply", _SECURITY, allow.apply, allow.Apply),
    Route("POST", "/allowlist/confirm", "allow.confirm", _SECURITY, allow.confirm),
    Route("POST", "/allowlist/revert", "allow.revert", _SECURITY, allow.revert),
    # What encrypts, hashes and signs.
    Route("GET", "/secrets", "secrets.list", _SECURITY, secrets.show),
    Route("POST", "/data-keys/{purpose}/rotate", "data_key.rotate", _SECURITY, secrets.rotate_data_key),
    Route("POST", "/kek/rekey", "kek.rekey", _SECURITY, secrets.rekey),
    Route("POST", "/peppers/rotate", "pepper.rotate", _SECURITY, secrets.rotate_pepper),
    Route("POST", "/peppers/retire", "pepper.retire", _SECURITY, secrets.drop_pepper, secrets.RetirePepper),
    Route("POST", "/seal-key/rotate", "seal_key.rotate", _SECURITY, secrets.rotate_seal_key),
    # Evidence: for auditors alone, those who change things included among those who cannot read it.
    Route("GET", "/audit/records", "audit.read", _AUDITOR, audit.records),
    Route("GET", "/audit/export", "audit.export", _AUDITOR, audit.export_records),
    Route("GET", "/audit/head", "audit.head", _AUDITOR, audit.head),
    Route("POST", "/audit/verify", "audit.verify", _AUDITOR, audit.check, audit.Verify, plans=False, alone=True),
    Route("GET", "/capture", "capture.list", _AUDITOR, capture.index),
    Route("GET", "/capture/{request_id}", "capture.read", _AUDITOR, capture.show),
    Route("POST", "/backup", "backup.create", _SECURITY, backup.create, backup.Create),
    Route("POST", "/audit/take-key", "audit.take_key", _AUDITOR, audit.take_key, plans=False),
)
