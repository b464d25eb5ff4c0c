"""kill -9 at random moments while everything secret is changed: always a whole generation, and nothing taken back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import random
import time
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from multiprocessing.context import ForkServerContext

import pytest
from cryptography import x509
from msgspec.structs import replace

from appliance.audit.keys import SealKey
from appliance.audit.record import AuditEvent
from appliance.clock import utc_now
from appliance.offline import offline_admin
from appliance.security.certificate_facts import issuer_key_id
from appliance.security.identity import Peer
from appliance.security.opening import Security, open_security
from appliance.state_dir import StateDir
from tests.security.change_maker import CONFIG, Told, change_for_ever
from tests.security.daemons import verified

SEED = 20_270_114
START_SECONDS = 60.0

_log = logging.getLogger(__name__)


@dataclass
class Promised:
    """What finished commands have handed out or refused for ever. Of what was only begun either outcome is right."""

    keys: dict[str, str] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    certificates: dict[str, str] = field(default_factory=dict)
    doubtful_clients: set[str] = field(default_factory=set)
    revoked_keys: set[str] = field(default_factory=set)
    revoked_clients: set[str] = field(default_factory=set)
    generation: int = 0
    changes: int = 0

    def hear(self, told: Told) -> None:
        self.generation = max(self.generation, told.generation)
        self.changes += told.done and told.generation > 0
        match told.kind:
            case "key" | "client" if told.done and told.subject not in self.doubtful_clients:
                kid = told.key.split("_")[2]
                self.keys[kid] = told.key
                self.owners[kid] = told.subject
                if told.certificate:
                    self.certificates[told.subject] = told.certificate
            case "revoke_key":
                self.keys.pop(told.subject, None)
                if told.done:
                    self.revoked_keys.add(told.subject)
            case "revoke_client":
                self.doubtful_clients.add(told.subject)
                self.keys = {kid: key for kid, key in self.keys.items() if self.owners[kid] != told.subject}
                if told.done:
                    self.revoked_clients.add(told.subject)
            case "end_authority":
                # The old authority's certificates, or the new one's.
                self.certificates.clear()

    def check(self, security: Security) -> None:
        access, view = security.office.access, security.office.access.view
        assert view.document.generation >= self.generation
        peer = Peer(IPv4Address("127.0.0.1"), None, "api", utc_now())
        for kid, key in self.keys.items():
            assert access.authenticate(peer, [f"Bearer {key}"]).id == self.owners[kid]
        for kid in self.revoked_keys:
            assert view.document.keys[kid].revoked is not None
        assert self.revoked_clients <= view.revocations.principals
        for pem in self.certificates.values():
            assert issuer_key_id(x509.load_pem_x509_certificate(pem.encode())) in view.issuers


@pytest.mark.parametrize("kills", [5, pytest.param(200, marks=pytest.mark.slow)])
def test_killed_while_changing(state: StateDir, kills: int) -> None:
    began, chance, promised = time.monotonic(), random.Random(SEED), Promised()
    with state.lock():
        open_security(state, CONFIG, state.path, {}, create=True).close()
    # One server process imports everything once and forks a maker of changes per kill.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.security.change_maker"])
    results: list[str] = []
    for number in range(kills):
        _run_and_kill(context, state, number, chance, promised)
        results.append(verified(state.path).result)
        with state.lock():
            assert not list(state.path.rglob("*.tmp"))
            with contextlib.closing(open_security(state, CONFIG, state.path, {}, create=False)) as security:
                assert security.office.audit.degraded == ()
                promised.check(security)
                security.office.audit.append(AuditEvent(action="test.checked", outcome="ok"))
        assert verified(state.path).findings == ()
    _log.info(
        "%d kills in %.0f s: %d changes done, generation %d, the audit log was incomplete after %d of them",
        *(kills, time.monotonic() - began, promised.changes, promised.generation, results.count("incomplete")),
    )


async def test_a_seal_key_whose_rotation_was_cut_short(state: StateDir) -> None:
    """The document has a key that the log has never used. The next rotation keeps the one that it does use."""
    with state.lock(), contextlib.closing(open_security(state, CONFIG, state.path, {}, create=True)) as security:
        document = security.office.document
        (used,) = document.seal_keys
        fresh = SealKey.generate().private_bytes
        security.office.store.commit(document.generation, replace(document, seal_keys=(used, fresh)))
    async with offline_admin(state, CONFIG, state.path, {}, create=False) as admin:
        assert (await admin.get("/secrets"))["seal_key"] == SealKey.from_bytes(used).key_id
        await asyncio.gather(*(admin.post("/seal-key/rotate", {}) for _ in range(3)))
        (second, third) = (await admin.post("/seal-key/rotate", {})), (await admin.get("/secrets"))
        assert second["seal_key"] == third["seal_key"]
    with state.lock(), contextlib.closing(open_security(state, CONFIG, state.path, {}, create=False)) as security:
        assert SealKey.from_bytes(security.office.document.seal_keys[-1]).key_id == third["seal_key"]
    assert verified(state.path).findings == ()


def _run_and_kill(
    context: ForkServerContext, state: StateDir, number: int, chance: random.Random, promised: Promised
) -> None:
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=change_for_ever, args=(state.path, SEED + number, writer))
    process.start()
    writer.close()
    with reader:
        if chance.random() < 0.8:  # else it is killed while it starts
            assert reader.poll(START_SECONDS), "it did not start"
            promised.hear(reader.recv())
        # How many changes there are between two kills is the machine's matter, but not that there is one at all.
        while number == 0 and not promised.changes:
            assert reader.poll(START_SECONDS), "it does not get on"
            promised.hear(reader.recv())
        process.join(chance.uniform(0, 0.3))
        assert process.exitcode is None, "it ended by itself"
        process.kill()
        process.join()
        with contextlib.suppress(EOFError):
            while True:
                promised.hear(reader.recv())
    process.close()
