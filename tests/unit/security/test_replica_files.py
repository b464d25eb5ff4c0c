"""appliance.security.replica_files"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import StateError
from appliance.security.client_bundle import add_client
from appliance.security.replica_files import ReplicaFiles, read_access
from appliance.state_dir import write_atomic
from appliance.upstream_spec import UpstreamReplica
from tests.unit.security.making import DAY, NOW, PROFILES, founded


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    _, files = add_client(founded(), PROFILES, "front", NOW, life=90 * DAY)
    for name, data in files.items():
        write_atomic(tmp_path / name, data)
    return tmp_path


def replica(bundle: Path, **changes: Any) -> UpstreamReplica:
    files = {
        "key_file": str(bundle / "api.key"),
        "ca": str(bundle / "ca.crt"),
        "certificate": str(bundle / "client.crt"),
        "private_key": str(bundle / "client.key"),
    }
    return UpstreamReplica(**{"base_url": "https://back.example:8443/v1", **files, **changes})


def test_what_a_request_carries(bundle: Path) -> None:
    access = read_access(replica(bundle))
    assert access.authorization == f"Bearer {(bundle / 'api.key').read_text().strip()}"
    assert access.context is not None
    assert access.context.verify_mode is ssl.CERT_REQUIRED
    assert access.context.check_hostname
    # Only the one that is named, and none of the system's.
    assert len(access.context.get_ca_certs()) == 1


def test_plain_http_needs_no_context(bundle: Path) -> None:
    access = read_access(UpstreamReplica(base_url="http://127.0.0.1:8000/v1", key_file=str(bundle / "api.key")))
    assert access.context is None
    assert access.authorization is not None
    assert read_access(UpstreamReplica(base_url="http://127.0.0.1:8000/v1")).authorization is None


def test_they_are_read_anew_where_they_have_changed(bundle: Path) -> None:
    files = ReplicaFiles(replica(bundle))
    first = files()
    assert files() is first
    write_atomic(bundle / "api.key", b"another\n")
    assert files().authorization == "Bearer another"
    (bundle / "api.key").unlink()
    with pytest.raises(StateError, match="is missing; put it there, or correct"):
        files()
    write_atomic(bundle / "api.key", b"third\n")
    assert files().authorization == "Bearer third"


@pytest.mark.parametrize(
    ("name", "content", "mode", "says"),
    [
        ("api.key", b"key\n", 0o644, "has mode 0644"),
        ("client.key", None, 0o640, "has mode 0640"),
        ("api.key", b"", 0o600, "holds no API key"),
        ("api.key", b"two\nlines\n", 0o600, "holds no API key"),
        ("api.key", b"\xff\n", 0o600, "holds no API key"),
        ("ca.crt", None, 0o666, "can be changed by other users"),
        ("ca.crt", b"no certificate\n", 0o600, "no TLS with these files"),
        ("client.key", b"no key\n", 0o600, "no TLS with these files"),
        (
            "client.key",
            b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            0o600,
            "TLS",
        ),
    ],
)
def test_files_that_cannot_be_used(bundle: Path, name: str, content: bytes | None, mode: int, says: str) -> None:
    path = bundle / name
    if content is not None:
        path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(StateError, match=says) as refused:
        read_access(replica(bundle))
    assert name in str(refused.value)


def test_a_certificate_of_somebody_else(bundle: Path) -> None:
    _, other = add_client(founded(), PROFILES, "other", NOW, life=90 * DAY)
    write_atomic(bundle / "client.crt", other["client.crt"])
    with pytest.raises(StateError, match="no TLS with these files"):
        read_access(replica(bundle))
