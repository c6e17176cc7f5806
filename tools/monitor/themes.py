"""Light and dark: Textual's own colours, and others where a text would not stand out from its ground."""

from __future__ import annotations

from dataclasses import replace

from textual.theme import BUILTIN_THEMES, Theme

_LIGHT, _DARK = BUILTIN_THEMES["textual-light"], BUILTIN_THEMES["textual-dark"]

THEMES: dict[str, Theme] = {
    "dark": replace(
        _DARK,
        name="redwire-dark",
        variables={**_DARK.variables, "text-disabled": "auto 70%"},
    ),
    "light": replace(
        _LIGHT,
        name="redwire-light",
        variables={
            **_LIGHT.variables,
            "text-success": "#14602c",
            "text-warning": "#7a4600",
            "foreground-muted": "#4a4a4a",
            "footer-key-foreground": "#004578",
            "text-disabled": "auto 80%",
        },
    ),
}
"""By the name that an operator gives. Every text has a contrast of 4.5 to 1 at least (WCAG 2.1, AA)."""
