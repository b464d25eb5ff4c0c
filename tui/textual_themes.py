"""The themes for what Textual draws by itself; the roles of our own lines are in `theme`."""

from __future__ import annotations

from textual.theme import Theme


def textual_themes() -> tuple[Theme, ...]:
    """Backgrounds and inputs of `dark`, `light` and `contrast`; `ansi` is Textual's own `ansi-dark`."""
    return (
        Theme(name="dark", primary="#6cb6ff", background="#101418", surface="#101418", panel="#1a2026", dark=True),
        Theme(name="light", primary="#0b57d0", background="#ffffff", surface="#ffffff", panel="#eef1f4", dark=False),
        Theme(
            name="contrast",
            primary="#ffffff",
            background="#000000",
            surface="#000000",
            panel="#000000",
            foreground="#ffffff",
            dark=True,
        ),
    )
