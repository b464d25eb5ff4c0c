"""The pictures that the README shows: a command makes them, and they are as they are committed."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Final

import numpy as np
import pytest

import appliance
from tests.e2e.appliance_process import run_command
from tests.tui.driving import driven, frozen
from tests.tui.png import read_png, write_png
from tui.messages import Propose
from tui.proposals import keys

_FOLDER: Final = Path(appliance.__file__).parents[1] / "docs" / "images"
_FONTS: Final = ("DejaVu Sans Mono", "WenQuanYi Micro Hei Mono")
# Screen, size and scenario, by the name of the file.
PICTURES: Final = {
    "overview": ("overview", "160x45", "expired"),
    "overview-80x24": ("overview", "80x24", "expired"),
    "models": ("models", "120x30", "slow"),
    "requests": ("requests", "120x30", "slow"),
}
_BYTES_MAX: Final = 150_000
# Another release of the renderer may smooth edges another way: how far pixels are off on average, and how many by much.
_MEAN_MAX: Final = 2.0
_MUCH: Final = 64
_MUCH_SHARE_MAX: Final = 0.01


def picture(name: str, folder: Path) -> str:
    """Made by the command, as the README says."""
    screen, size, scenario = PICTURES[name]
    path = folder / f"{name}.svg"
    done = run_command(
        *("top", "--demo", "--seed", "1", "--scenario", scenario),
        *("--screenshot", path, "--screen", screen, "--size", size),
        env={"TERM": "dumb", "TZ": "America/Caracas"},
    )
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return path.read_text()


def drawn(svg: str) -> bytes:
    done = subprocess.run(["rsvg-convert"], input=svg.encode(), capture_output=True, check=True, timeout=60)
    return write_png(read_png(done.stdout))


def can_draw() -> bool:
    """Whether the renderer is at hand, and the fonts that the files were drawn with."""
    if shutil.which("rsvg-convert") is None or shutil.which("fc-list") is None:
        return False
    found = subprocess.run(["fc-list", ":", "family"], capture_output=True, text=True, check=True, timeout=60).stdout
    return all(font in found for font in _FONTS)


@pytest.mark.slow
@pytest.mark.parametrize("name", PICTURES)
def test_the_pictures_of_the_readme_are_those_of_this_dashboard(name: str, tmp_path: Path) -> None:
    svg = picture(name, tmp_path)
    committed = _FOLDER / f"{name}.svg"
    if os.environ.get("UPDATE_GOLDEN"):
        committed.write_text(svg)
        committed.with_suffix(".png").write_bytes(drawn(svg))
    assert svg == committed.read_text(), "UPDATE_GOLDEN=1 pytest tests/tui/test_screenshot.py draws them anew"
    assert committed.with_suffix(".png").stat().st_size <= _BYTES_MAX


@pytest.mark.slow
@pytest.mark.skipif(not can_draw(), reason="rsvg-convert, DejaVu or WenQuanYi is not installed")
@pytest.mark.parametrize("name", PICTURES)
def test_they_are_drawn_from_their_svg(name: str) -> None:
    shown = read_png((_FOLDER / f"{name}.png").read_bytes()).astype(int)
    made = read_png(drawn((_FOLDER / f"{name}.svg").read_text())).astype(int)
    assert shown.shape == made.shape
    off = np.abs(shown - made)
    assert off.mean() <= _MEAN_MAX
    assert (off.max(axis=2) > _MUCH).mean() <= _MUCH_SHARE_MAX


def test_the_readme_shows_them() -> None:
    text = (_FOLDER.parents[1] / "README.md").read_text()
    for name in PICTURES:
        assert f"docs/images/{name}.png" in text


@pytest.mark.slow
def test_a_wrong_size_is_explained(tmp_path: Path) -> None:
    done = run_command("top", "--demo", "--screenshot", tmp_path / "x.svg", "--size", "wide")
    assert done.returncode != 0
    assert "as 160x45" in done.stderr


@pytest.mark.slow
def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "x.svg").write_text("mine")
    done = run_command("top", "--demo", "--screenshot", tmp_path / "x.svg")
    assert done.returncode == 1
    assert "File exists" in done.stderr
    assert (tmp_path / "x.svg").read_text() == "mine"


@pytest.mark.slow
def test_an_appliance_that_does_not_answer_is_named(tmp_path: Path) -> None:
    done = run_command("top", "--state-dir", tmp_path, "--screenshot", tmp_path / "x.svg")
    assert done.returncode == 1
    assert "no appliance answers at" in done.stderr
    assert not (tmp_path / "x.svg").exists()


async def test_what_is_in_sight_is_written_to_a_file_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with driven(frozen(), size=(100, 30)) as made:
        await made.press("2", "colon", *"screenshot", "enter")
        assert "appliance top --screenshot" in made.text()
        await made.press("tab", "enter")
        assert "the screenshot is in" in made.text()
    path = tmp_path / "models-20261119T191415Z.svg"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    svg = path.read_text()
    assert "&lt;2Models&gt;" in svg
    # Of the screen, not of the box that asked for the file.
    assert "SCREENSHOT" not in svg


@pytest.mark.slow
async def test_no_screenshot_is_made_of_a_secret() -> None:
    async with driven(frozen(), size=(100, 30)) as made:
        made.app.post_message(Propose(keys.new_key("li")))
        await made.settle()
        await made.press("tab", "enter")
        assert getattr(made.app.screen, "secret", False)
        await made.press("colon")
        assert getattr(made.app.screen, "secret", False)
        with pytest.raises(AssertionError, match="a secret is in sight"):
            made.app.action_save_screenshot()
