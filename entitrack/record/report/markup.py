"""Elements of HTML and SVG, every text escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


Content = str | Markup | Iterable["str | Markup"]
VOID = {"meta", "br", "col", "input", "hr"}


def tag(name: str, *content: Content, **attributes: str | float | bool | None) -> Markup:
    """An element.

    Args:
        name: Of the element.
        content: What is in it; whatever is not markup is escaped.
        attributes: Its attributes: `class_` is class, other underscores are hyphens; None and False are left out, True
            has no value.
    """
    inside = "".join(_escaped(part) for part in content)
    opened = f"<{name}{''.join(_attribute(key, value) for key, value in attributes.items())}>"
    return Markup(opened if name in VOID else f"{opened}{inside}</{name}>")


def _escaped(content: Content) -> str:
    if isinstance(content, Markup):
        return content
    return html.escape(content, quote=False) if isinstance(content, str) else "".join(map(_escaped, content))


def _attribute(key: str, value: str | float | bool | None) -> str:
    name = key.removesuffix("_").replace("_", "-") if key != "viewBox" else key
    if value is None or value is False:
        return ""
    if value is True:
        return f" {name}"
    return f' {name}="{html.escape(number(value) if isinstance(value, float) else str(value))}"'


def number(value: float) -> str:
    """A coordinate, to a hundredth."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
