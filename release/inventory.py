"""What a bundle is made of, for those who must know: a CycloneDX bill of materials, and the licences.

Read from the wheels themselves, so that it is true of what is carried.
"""

from __future__ import annotations

import email.message
import email.parser
import hashlib
import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from packaging.utils import canonicalize_name

_LICENCE_NAMES: Final = ("license", "licence", "copying", "notice", "authors")


@dataclass(frozen=True, slots=True)
class Component:
    """One wheel. licences: texts by the name that they have in it."""

    name: str
    version: str
    wheel: str
    sha256: str
    licence: str
    summary: str
    texts: tuple[tuple[str, str], ...]


def component(wheel: Path) -> Component:
    """What its metadata says. Raises ValueError where it has none."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        about = next((name for name in names if name.endswith(".dist-info/METADATA")), None)
        if about is None:
            raise ValueError(f"{wheel.name} has no metadata")
        found = email.parser.Parser().parsestr(archive.read(about).decode())
        inner = about.removesuffix("METADATA")
        texts = tuple(
            (name.removeprefix(inner), archive.read(name).decode(errors="replace"))
            for name in sorted(names)
            if name.startswith(inner) and _is_licence(name.removeprefix(inner))
        )
    return Component(
        name=canonicalize_name(found["Name"]),
        version=found["Version"],
        wheel=wheel.name,
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        licence=_licence(found),
        summary=found["Summary"] or "",
        texts=texts,
    )


def bill_of_materials(version: str, components: Iterable[Component]) -> dict[str, Any]:
    """CycloneDX 1.6. It has no time and no serial number: the same release has the same bill."""
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "llm-appliance", "version": version}},
        "components": [
            {
                "type": "library",
                "bom-ref": one.wheel,
                "name": one.name,
                "version": one.version,
                "description": one.summary,
                "purl": f"pkg:pypi/{one.name}@{one.version}",
                "hashes": [{"alg": "SHA-256", "content": one.sha256}],
                "licenses": [{"license": {"name": one.licence}}],
            }
            for one in sorted(components, key=lambda one: one.wheel)
        ],
    }


def write_inventory(version: str, wheels: Iterable[Path], folder: Path) -> None:
    """Writes sbom.cdx.json and licences/NAME.txt into the folder."""
    components = [component(wheel) for wheel in wheels]
    bill = bill_of_materials(version, components)
    (folder / "sbom.cdx.json").write_text(json.dumps(bill, indent=1, sort_keys=True) + "\n")
    texts = {one.name: one for one in components}
    (folder / "licences").mkdir()
    for one in texts.values():
        parts = [f"{one.name} {one.version}: {one.licence}\n"]
        parts += [f"\n--- {name} ---\n\n{text}" for name, text in one.texts]
        (folder / "licences" / f"{one.name}.txt").write_text("".join(parts))


def _is_licence(name: str) -> bool:
    return name.startswith("licenses/") or name.lower().startswith(_LICENCE_NAMES)


def _licence(about: email.message.Message) -> str:
    """The expression, or the classifiers, or the first line of the old field."""
    if expression := about["License-Expression"]:
        return str(expression)
    listed = [value.rsplit("::", 1)[-1].strip() for value in about.get_all("Classifier", []) if "License ::" in value]
    free = (about["License"] or "").strip().splitlines()
    return " / ".join(listed) or (free[0] if free else "see its text")
