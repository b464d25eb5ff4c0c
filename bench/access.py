"""What access control costs a connection and a request.

python -m bench.access
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Final, Literal, get_args

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec.structs import replace

from appliance.access_config import JwtIssuer, Listener, ListenerMode, PrincipalSettings
from appliance.audit.keys import SealKey
from appliance.clock import utc_now
from appliance.config import Config
from appliance.security import jwt_tokens
from appliance.security.access_view import AccessView, ConfiguredAccess
from appliance.security.address_rates import ADDRESSES_MAX, AddressRates
from appliance.security.allowlist import Allowlist, Network, Rule
from appliance.security.api_keys import ApiKey, KeyRecord
from appliance.security.authority import AccessControl
from appliance.security.credentials import Credentials, Revocation, RevocationKind
from appliance.security.entry_hits import EntryHits
from appliance.security.failure_delay import FailureDelays
from appliance.security.founding import found
from appliance.security.identity import Peer, peer_identity
from appliance.security.issuing import sign_leaf
from appliance.security.jwt_tokens import JwtVerifier
from appliance.security.key_changes import peppers_of
from appliance.security.last_seen import LastSeen
from appliance.security.limits import Admission, PrincipalLimits
from appliance.security.profiles import Profiles
from appliance.security.refusal import Refusal
from appliance.security.token_bucket import TokenBucket

REPEATS: Final = 5
CALLS: Final = 50_000
SLICE: Final = 500
KEYS: Final = 10_000
CLIENTS: Final = 1000
KEYS_EACH: Final = KEYS // CLIENTS
NETWORKS: Final = 10_000
PRINCIPALS: Final = 1000
NOW: Final = datetime.now(UTC)
HOME: Final = IPv4Address("10.0.0.1")
MODES: Final[tuple[ListenerMode, ...]] = get_args(ListenerMode)
REVOKED: Final[tuple[RevocationKind, ...]] = ("certificate", "token", "principal")
UNLIMITED: Final = PrincipalSettings()
LIMITED: Final = PrincipalSettings(
    requests_per_minute=1_000_000,
    tokens_per_minute=10**10,
    tokens_per_day=10**12,
    tokens_per_month=10**12,
    concurrent_max=100,
)
USED_UP: Final = PrincipalSettings(requests_per_minute=1)

Algorithm = Literal["EdDSA", "ES256", "RS256"]
PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def buckets() -> Iterator[tuple[str, float]]:
    """The gate's decision about a new connection, and what it is made of."""
    bucket = TokenBucket(100, 1000)
    yield "token bucket: take", best(lambda number: bucket.take(1, number * 1e-3))
    rates = AddressRates(100, 200)
    known = [IPv4Address(number) for number in range(1000)]
    yield "address rate: one of 1,000 known", best(lambda number: rates.take(known[number % 1000], number * 1e-4))
    refusing = AddressRates(1, 1)
    yield "address rate: refused", best(lambda number: refusing.take(known[0], 0))
    full = AddressRates(100, 200)
    strangers = [IPv6Address(random.getrandbits(128)) for _ in range(CALLS)]
    for stranger in strangers:
        full.take(stranger, 0)
    assert len(full) == ADDRESSES_MAX
    yield "address rate: a new one in a full table", best(lambda number: full.take(strangers[number], 0))
    delays = FailureDelays()
    yield "delay of a failure", best(lambda number: delays.failed(known[number % 1000], number * 1e-3))


def limits() -> Iterator[tuple[str, float]]:
    """A request's way through its principal's limits."""
    for name, settings in (("without limits", UNLIMITED), ("all five limits", LIMITED)):
        yield f"limits: admit and settle, {name}", best(_requests(settings))
    refusing = PrincipalLimits()
    refusing.admit("app", USED_UP, 10, 0, NOW)
    yield "limits: refused", best(lambda number: refusing.admit("app", USED_UP, 10, 0, NOW))
    admission = PrincipalLimits().admit("app", LIMITED, 10, 0, NOW)
    yield "limits: headers", best(lambda number: admission.headers())


def _requests(settings: PrincipalSettings) -> Callable[[int], None]:
    owner = PrincipalLimits()
    names = [f"principal-{number}" for number in range(PRINCIPALS)]

    def request(number: int) -> None:
        admission = owner.admit(names[number % PRINCIPALS], settings, 500, number * 1e-3, NOW)
        assert isinstance(admission, Admission)
        with admission:
            admission.settle(400, number * 1e-3)

    return request


def tokens(folder: Path) -> Iterator[tuple[str, float]]:
    """The check of a JWT that is new, and of one that was seen before."""
    for algorithm, key in _issuer_keys().items():
        yield from _tokens_of(algorithm, key, folder)


def _tokens_of(algorithm: Algorithm, key: PrivateKey, folder: Path) -> Iterator[tuple[str, float]]:
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{algorithm}.pem").write_bytes(public)
    issuer = JwtIssuer(issuer="bench", audience="bench", keys=(f"{algorithm}.pem",), algorithms=(algorithm,))
    verifier = JwtVerifier.load([issuer], folder)
    claims = {"iss": "bench", "aud": "bench", "sub": "app", "exp": NOW + timedelta(hours=1)}
    # More than are remembered, in a circle: none is found again.
    count = jwt_tokens.CACHED_MAX + 1000
    texts = [jwt.encode(claims | {"jti": str(number)}, key, algorithm) for number in range(count)]
    yield f"JWT {algorithm}: new", best(lambda number: verifier.verify(texts[number], NOW), count)
    yield f"JWT {algorithm}: seen before", best(lambda number: verifier.verify(texts[-1 - number % 1000], NOW))


def _issuer_keys() -> dict[Algorithm, PrivateKey]:
    return {
        "EdDSA": ed25519.Ed25519PrivateKey.generate(),
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "RS256": rsa.generate_private_key(65537, 2048),
    }


def requests(folder: Path) -> Iterator[tuple[str, float]]:
    """Who a request is from, as the daemon asks for each one: CLIENTS clients with a certificate and KEYS keys in all.

    Every client has networks of its own, and KEYS certificates, keys and tokens are revoked.
    """
    document, clients = _clients()
    access = _access(folder, document)
    peers = {mode: [Peer(HOME, certificate, mode, NOW) for certificate, _ in clients] for mode in MODES}
    shown = [[f"Bearer {text}"] for _, texts in clients for text in texts]
    unknown = [[f"Bearer {ApiKey.generate().reveal()}"] for _ in range(1000)]

    def ask(mode: ListenerMode) -> Callable[[int], object]:
        each = peers[mode]
        return lambda number: access.authenticate(each[number % KEYS // KEYS_EACH], shown[number % KEYS])

    def refused(headers: Sequence[Sequence[str]]) -> Callable[[int], object]:
        def call(number: int) -> None:
            with contextlib.suppress(Refusal):
                access.authenticate(peers["key"][0], headers[number % len(headers)])

        return call

    def whole(number: int) -> None:
        peer = peers["cert_and_key"][number % KEYS // KEYS_EACH]
        access.authenticate(peer, shown[number % KEYS])

    assert access.authenticate(peers["key"][0], shown[0]).id == "client-0"
    yield f"request: API key, of {KEYS:,} (at most 20)", best(ask("key"))
    yield f"request: certificate, of {CLIENTS:,}", best(ask("cert"))
    yield "request: certificate, key and allowlist (at most 100)", best(whole)
    yield "request: unknown API key", best(refused(unknown))
    yield "request: mistyped API key", best(refused([[shown[0][0][:-1] + "!"]]))
    certificates = [certificate for certificate, _ in clients]
    yield (
        "certificate: parsed, once a connection",
        best(lambda number: peer_identity(certificates[number % CLIENTS], document.appliance_id), 10 * CLIENTS),
    )
    yield "change: the view compiled anew", best(lambda number: AccessView.build(access.view.configured, document), 20)
    swap = partial(AccessView.build, access.view.configured, previous=access.view)
    yield "change: the view compiled anew, TLS as it was", best(lambda number: swap(document), 20)


def _clients() -> tuple[Credentials, list[tuple[bytes, list[str]]]]:
    """A document, and of each client the certificate (DER) and its keys' texts."""
    profiles = Profiles.shipped()
    document = found(profiles, ["localhost"], SealKey.generate().private_bytes, NOW)
    peppers, keys, clients = peppers_of(document), {}, []
    for number in range(CLIENTS):
        document, leaf = sign_leaf(document, profiles, "client", f"client-{number}", NOW)
        made = [ApiKey.generate() for _ in range(KEYS_EACH)]
        for key in made:
            record = KeyRecord.of(key, f"client-{number}", peppers, created=NOW, not_after=NOW + timedelta(days=90))
            keys[key.kid] = record
        clients.append((ssl.PEM_cert_to_DER_cert(leaf.certificate.decode()), [key.reveal() for key in made]))
    revocations = tuple(
        Revocation(kind=kind, value=f"{kind}-{number}", time=NOW, by="bench")
        for kind in REVOKED
        for number in range(KEYS)
    )
    return replace(document, keys=keys, revocations=revocations), clients


def _access(folder: Path, document: Credentials) -> AccessControl:
    allow = ("10.0.0.0/8", "192.0.2.0/24")
    listeners: dict[str, Listener] = {mode: Listener(mode=mode, allow=allow) for mode in MODES}
    principals = {f"client-{number}": PrincipalSettings(allow=("10.0.0.0/16",)) for number in range(CLIENTS)}
    configured = ConfiguredAccess.load(Config(listeners=listeners, principals=principals), folder, NOW)
    logging.getLogger("appliance").setLevel(logging.CRITICAL)
    seen = LastSeen(folder / "last_seen.json")
    return AccessControl(AccessView.build(configured, document), seen, EntryHits(folder / "hits"), utc_now)


def allowlists() -> Iterator[tuple[str, float]]:
    """One look-up among NETWORKS random networks of all prefix lengths."""
    chance = random.Random(1)
    v4: list[Network] = [
        IPv4Network((chance.getrandbits(32), chance.randint(16, 32)), strict=False) for _ in range(NETWORKS // 2)
    ]
    v6: list[Network] = [
        IPv6Network((chance.getrandbits(128), chance.randint(32, 128)), strict=False) for _ in range(NETWORKS // 2)
    ]
    allowlist, now = Allowlist(map(Rule, v4 + v6)), utc_now()
    strangers_v4 = [IPv4Address(chance.getrandbits(32)) for _ in range(1000)]
    strangers_v6 = [IPv6Address(chance.getrandbits(128)) for _ in range(1000)]
    where = f"not among {NETWORKS:,} networks"
    yield f"allowlist: IPv4, {where}", best(lambda number: allowlist.allows(strangers_v4[number % 1000], now))
    yield f"allowlist: IPv6, {where}", best(lambda number: allowlist.allows(strangers_v6[number % 1000], now))


def best(call: Callable[[int], object], count: int = CALLS) -> float:
    """Seconds a call, the loop around it left out. The call is given its number.

    The best SLICE of calls in REPEATS times `count`: what others do on this machine meanwhile falls into the rest.
    """
    size = min(SLICE, count)

    def run(called: Callable[[int], object]) -> float:
        fastest = float("inf")
        for first in range(0, count - size + 1, size):
            began = time.perf_counter()
            for number in range(first, first + size):
                called(number)
            fastest = min(fastest, time.perf_counter() - began)
        return fastest

    return (min(run(call) for _ in range(REPEATS)) - min(run(lambda number: None) for _ in range(REPEATS))) / size


def main() -> None:
    """Prints every figure."""
    asyncio.run(_run())


async def _run() -> None:
    """On an event loop, whose timers the refusals' log takes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for group in (requests(folder), buckets(), limits(), tokens(folder), allowlists()):
            for what, seconds in group:
                print(f"{what:55} {seconds * 1e6:7.2f} µs")


if __name__ == "__main__":
    main()
