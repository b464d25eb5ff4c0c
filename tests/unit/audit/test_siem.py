"""appliance.audit.siem and backlog: a real TLS collector that goes away and comes back."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.access_config import Audit, Siem
from appliance.audit import siem
from appliance.audit.backlog import Backlog
from appliance.audit.log import AuditLog
from appliance.audit.siem import SiemForwarder
from appliance.errors import ConfigError
from appliance.tasks import TaskOwner
from tests.ports import free_port
from tests.unit.audit.making import Site, event, three_segments
from tests.waiting import until


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "collector")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


class Collector:
    """Takes octet-counted messages. messages: the JSON of each, in order of arrival."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificate, key)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.messages: list[dict[str, object]] = []
        # It comes back to its port, which nobody may get meanwhile.
        self.port = free_port()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls)

    async def vanish(self) -> None:
        """Cuts every connection and stops to listen."""
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()
        await asyncio.sleep(0)

    @property
    def seqs(self) -> list[int]:
        return [seq for message in self.messages if isinstance(seq := message["seq"], int)]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    length = int(await reader.readuntil(b" "))
                    message = await reader.readexactly(length)
                    self.messages.append(json.loads(message[message.index(b"] ") + 2 :]))
        finally:
            self._writers.discard(writer)
            writer.close()


def cursor_of(site: Site) -> int | None:
    """Up to where the forwarder would not send again."""
    path = site.folder / siem.CURSOR_FILE
    return json.loads(path.read_bytes())["seq"] if path.exists() else None


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(siem, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(siem, "CONFIRM_SECONDS", 0.1)


@pytest.fixture
def collector(tmp_path: Path) -> Collector:
    return Collector(*make_certificate(tmp_path))


@pytest.fixture
async def log(site: Site) -> AsyncIterator[AuditLog]:
    site.settings = Audit(commit_seconds=0.005, segment_bytes_max=32 * 1024)
    # At noon: midnight begins another segment, which is a record.
    log = AuditLog.open(site.folder, site.settings, site.cipher, site.seal_key, clock=site.time.clock())
    try:
        yield log
    finally:
        log.close()


@contextlib.asynccontextmanager
async def forwarding(site: Site, log: AuditLog, settings: Siem) -> AsyncIterator[SiemForwarder]:
    tasks = TaskOwner("test")
    forwarder = SiemForwarder(site.folder, settings, site.cipher, log, backoff=(0.02, 0.1))
    forwarder.start(tasks)
    try:
        yield forwarder
    finally:
        await tasks.close()


def syslog(collector: Collector, tmp_path: Path, buffer_bytes_max: int = 2**20) -> Siem:
    target = f"127.0.0.1:{collector.port}"
    return Siem(format="syslog", target=target, ca=str(tmp_path / "cert.pem"), buffer_bytes_max=buffer_bytes_max)


async def test_every_record_arrives_although_the_collector_goes_away(
    site: Site, log: AuditLog, collector: Collector, tmp_path: Path
) -> None:
    await collector.start()
    async with forwarding(site, log, syslog(collector, tmp_path)) as forwarder:
        for round_ in range(3):
            for number in range(200):
                log.append(event(number))
            await log.append_durably(event(round_))
            await until(lambda: log.head.seq in collector.seqs)
            await collector.vanish()
            await until(lambda: forwarder.status.failure is not None)
            for number in range(200):
                log.append(event(number))
            await log.append_durably(event(round_))
            await asyncio.sleep(0.05)
            await collector.start()
            await until(lambda: log.head.seq in collector.seqs)
            await until(lambda: forwarder.status.failure is None)
    await collector.vanish()
    first_copies = list(dict.fromkeys(collector.seqs))
    assert first_copies == list(range(1, log.head.seq + 1))
    assert forwarder.status.dropped == 0


async def test_it_goes_on_after_a_restart_where_it_was(
    site: Site, log: AuditLog, collector: Collector, tmp_path: Path
) -> None:
    await collector.start()
    settings = syslog(collector, tmp_path)
    async with forwarding(site, log, settings):
        # What is not in the cursor yet comes once more.
        await until(lambda: cursor_of(site) == log.head.seq)
    collector.messages.clear()
    await log.append_durably(event())
    async with forwarding(site, log, settings):
        await until(lambda: log.head.seq in collector.seqs)
    await collector.vanish()
    assert collector.seqs == [log.head.seq]


async def test_a_collector_of_another_authority_gets_nothing(
    site: Site, log: AuditLog, collector: Collector, tmp_path: Path
) -> None:
    await collector.start()
    settings = syslog(collector, tmp_path)
    make_certificate(tmp_path)
    async with forwarding(site, log, settings) as forwarder:
        await until(lambda: "CERTIFICATE_VERIFY_FAILED" in (forwarder.status.failure or ""))
    await collector.vanish()
    assert collector.messages == []


async def test_what_waits_is_bounded_and_what_is_dropped_is_told(
    site: Site, log: AuditLog, collector: Collector, tmp_path: Path
) -> None:
    await collector.start()
    settings = syslog(collector, tmp_path, buffer_bytes_max=100 * 1024)
    async with forwarding(site, log, settings) as forwarder:
        await until(lambda: log.head.seq in collector.seqs)
        await until(lambda: (site.folder / siem.CURSOR_FILE).exists())
        await collector.vanish()
        collector.messages.clear()
        for number in range(1000):
            log.append(event(number))
        await log.append_durably(event())
        await until(lambda: forwarder.status.dropped > 0)
        await collector.start()
        await until(lambda: any(message["action"] == "audit.siem_dropped" for message in collector.messages))
        dropped = forwarder.status.dropped
    await collector.vanish()
    told = [message["details"] for message in collector.messages if message["action"] == "audit.siem_dropped"]
    assert sum(details["records"] for details in told if isinstance(details, dict)) <= dropped
    first_copies = list(dict.fromkeys(collector.seqs))
    assert first_copies == list(range(first_copies[0], first_copies[-1] + 1))
    assert 500 < dropped < 1000


async def test_json_lines_go_to_a_file(site: Site, log: AuditLog, tmp_path: Path) -> None:
    target = tmp_path / "copies.jsonl"
    async with forwarding(site, log, Siem(format="file", target=str(target))) as forwarder:
        for number in range(100):
            log.append(event(number))
        await log.append_durably(event())
        await until(lambda: forwarder.status.seq == log.head.seq)
        target.rename(tmp_path / "rotated")
        await log.append_durably(event())
        await until(lambda: target.exists() and forwarder.status.seq == log.head.seq)
    seqs = [
        json.loads(line)["seq"] for path in (tmp_path / "rotated", target) for line in path.read_text().splitlines()
    ]
    assert seqs == list(range(1, log.head.seq + 1))


def test_the_backlog_reads_across_encrypted_segments(site: Site) -> None:
    three_segments(site)
    backlog = Backlog(site.folder, site.cipher, 2**20, 0)
    seqs = [copied.record.seq for copied in backlog.read(41)]
    assert seqs == list(range(1, 42)) and backlog.read(41) == []
    backlog.seek(20)
    assert [copied.record.seq for copied in backlog.read(25)] == [21, 22, 23, 24, 25]
    assert [copied.record.seq for copied in backlog.read(30)] == [26, 27, 28, 29, 30]
    (site.folder / "00000001.log.enc").unlink()
    backlog.seek(3)
    assert backlog.read(41)[0].record.seq == 16 and backlog.dropped == 12
    backlog.close()


def test_missing_tls_files_are_refused(site: Site) -> None:
    settings = Siem(format="syslog", target="host:1", ca="/nonexistent.pem")
    with pytest.raises(ConfigError, match="TLS files"):
        SiemForwarder(site.folder, settings, site.cipher, None)  # type: ignore[arg-type]
