"""appliance.security.profiles"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.errors import ConfigError
from appliance.security.certificates import issue_client, new_ca
from appliance.security.profiles import Profiles

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = (ROOT / "certs" / "profiles.yaml").read_text()


def test_what_is_shipped() -> None:
    profiles = Profiles.shipped()
    assert profiles == Profiles.parse("x", SHIPPED)
    assert [profile.life_days for profile in (profiles.server_ca, profiles.client_ca, profiles.admin_ca)] == [3650] * 3
    assert (profiles.server.life_days, profiles.client.life_days, profiles.admin.life_days) == (397, 365, 180)
    assert profiles.admin.purpose == profiles.client.purpose == "clientAuth"


@pytest.mark.parametrize("name", ["server_ca", "client_ca", "admin_ca", "server", "client", "admin"])
def test_the_readme_tells_the_same(name: str) -> None:
    profile = getattr(Profiles.shipped(), name)
    (row,) = re.findall(rf"^\| `{name}` .*$", (ROOT / "certs" / "README.md").read_text(), re.MULTILINE)
    life = f"{profile.life_days} days" if profile.life_days < 1000 else f"{profile.life_days // 365} years"
    assert f"| {life} | two thirds |" in row
    assert profile.renew_at == pytest.approx(2 / 3, abs=0.001)


def test_renewal_is_due_after_two_thirds_of_a_certificates_own_life() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    profiles = Profiles.shipped()
    ca = new_ca(profiles.client_ca, "CA", now)
    early = profiles.client.renewal(issue_client(ca, "demo", "x://demo", profiles.client, now).certificate)
    assert abs(early - now - timedelta(days=365) * 2 / 3) < timedelta(days=1)
    late = now + timedelta(days=3600)
    cut = issue_client(ca, "demo", "x://demo", profiles.client, late).certificate
    assert late < profiles.client.renewal(cut) < cut.not_valid_after_utc == ca.certificate.not_valid_after_utc


@pytest.mark.parametrize(
    ("pattern", "replacement", "message"),
    [
        (r"life_days: 397", "life_days: 398", "server.life_days: .*<= 397"),
        (r"life_days: 365\b", "life_days: 0", "client.life_days: .*>= 1"),
        (r"life_days: 3650", "life_days: 396", "server_ca.life_days: .*>= 397"),
        (r"life_days: 3650", "life_days: 7301", "server_ca.life_days: .*<= 7300"),
        (r"life_days: 397", "life_days: '397'", "server.life_days: expected a whole number, got text"),
        (r"renew_at: 0.667", "renew_at: 1.0", "server_ca.renew_at: .*<= 0.9"),
        (r"renew_at: 0.667", "renew_at: 0.1", "server_ca.renew_at: .*>= 0.5"),
        (r"clock_skew_hours: 24", "clock_skew_hours: 73", "server_ca.clock_skew_hours"),
        (r"path_length: 0", "path_length: 2", "server_ca.path_length"),
        (r"curve: P-256", "curve: P-192", "server_ca.curve: invalid enum value 'P-192'"),
        (r"curve: P-256", "curve: P-256\n  extra: 1", "server_ca: unknown key extra"),
        (r"  path_length: 0\n", "", "server_ca.path_length: missing"),
        (r"\[keyCertSign, cRLSign\]", "[keyCertSign]", "server_ca: an authority's key_usage is"),
        (r"\[digitalSignature\]", "[keyCertSign]", "server.key_usage"),
        (r"\[digitalSignature\]", "[]", "server.key_usage"),
        (r"\[serverAuth\]", "[clientAuth]", "a server's extended_key_usage is serverAuth"),
        (r"\[clientAuth\]", "[serverAuth]", "a client's and an administrator's extended_key_usage is clientAuth"),
        (r"\[clientAuth\]", "[clientAuth, serverAuth]", "client.extended_key_usage"),
        (r"\[clientAuth\]", "[anyExtendedKeyUsage]", "client.extended_key_usage"),
        (r"(?s)\nadmin:.*", "", "admin: missing"),
        (r"admin:", "other:", "unknown key other"),
    ],
)
def test_bounds_that_hold_whatever_the_file_says(pattern: str, replacement: str, message: str) -> None:
    text = re.sub(pattern, replacement, SHIPPED, count=1)
    assert text != SHIPPED
    with pytest.raises(ConfigError, match=f"^profiles.yaml:[0-9]+: .*({message})"):
        Profiles.parse("profiles.yaml", text)


@pytest.mark.slow
def test_an_installed_wheel_has_them_too(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("appliance", "certs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.gguf"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps", "--no-index", "-w",
         str(tmp_path), str(source)],
        check=True, env={**os.environ, "PYTHONPATH": "", "PYTHONWARNINGS": "ignore"},
    )  # fmt: skip
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "installed")
    told = subprocess.run(
        [sys.executable, "-c", "import appliance.security.profiles as p; print(p.__file__, p.Profiles.shipped())"],
        check=True, cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
    ).stdout  # fmt: skip
    assert told.startswith(str(tmp_path / "installed"))
    assert "life_days=397" in told
