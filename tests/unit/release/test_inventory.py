from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from release.inventory import component, write_inventory

METADATA = "Metadata-Version: 2.1\nName: Some_Thing\nVersion: 1.2\nSummary: Does it\n{}\n"


def wheel(folder: Path, licence: str, texts: dict[str, str]) -> Path:
    path = folder / "some_thing-1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("some_thing-1.2.dist-info/METADATA", METADATA.format(licence))
        for name, text in texts.items():
            archive.writestr(f"some_thing-1.2.dist-info/{name}", text)
    return path


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("License-Expression: MIT OR Apache-2.0", "MIT OR Apache-2.0"),
        ("Classifier: License :: OSI Approved :: BSD License", "BSD License"),
        ("License: ISC", "ISC"),
        ("", "see its text"),
    ],
)
def test_a_wheel_says_what_it_is(tmp_path: Path, said: str, found: str) -> None:
    one = component(wheel(tmp_path, said, {}))
    assert (one.name, one.version, one.licence, one.summary) == ("some-thing", "1.2", found, "Does it")


def test_the_inventory_has_hashes_and_texts(tmp_path: Path) -> None:
    path = wheel(tmp_path, "License: ISC", {"licenses/LICENSE": "Permission is", "NOTICE": "Thanks", "RECORD": "x"})
    (tmp_path / "out").mkdir()
    write_inventory("1.0.0", [path], tmp_path / "out")
    bill = json.loads((tmp_path / "out/sbom.cdx.json").read_text())
    assert (bill["bomFormat"], bill["components"][0]["purl"]) == ("CycloneDX", "pkg:pypi/some-thing@1.2")
    text = (tmp_path / "out/licences/some-thing.txt").read_text()
    assert "Permission is" in text
    assert "Thanks" in text


def test_a_file_that_is_no_wheel_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.whl", "w"):
        pass
    with pytest.raises(ValueError, match="no metadata"):
        component(tmp_path / "a.whl")
