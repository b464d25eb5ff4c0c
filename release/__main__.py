"""`python -m release`: makes the bundle of the checked-out commit, and a key to sign it where there is none."""

from __future__ import annotations

import argparse
from pathlib import Path

from installer.signature import fingerprint
from release.bundle import Order, make_bundle
from release.signing import load_key, new_key, public_pem


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m release", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    bundle = commands.add_parser("bundle", help="make the bundle")
    bundle.add_argument("--out", type=Path, default=Path("build/release"))
    bundle.add_argument("--key", type=Path, required=True, help="signs it; made where there is none")
    bundle.add_argument("--engine-wheel", type=Path, help="a llama-cpp-python that is built already")
    bundle.add_argument("--backend", choices=("cpu", "cuda13"), default="cpu")
    bundle.add_argument("--pythons", nargs="+", default=["3.11", "3.12", "3.13"])
    asked = parser.parse_args()
    key = load_key(asked.key) if asked.key.exists() else new_key(asked.key)
    made = make_bundle(
        Order(
            out=asked.out,
            key=key,
            engine_wheel=asked.engine_wheel,
            backend=asked.backend,
            pythons=tuple(asked.pythons),
        )
    )
    print(f"{made}: {made.stat().st_size / 1e6:.1f} MB")
    print(f"signed by {fingerprint(public_pem(key))}")


if __name__ == "__main__":
    main()
