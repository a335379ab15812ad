"""Markdown that a stranger may have written, made safe to render: nothing is loaded, and links lead to web pages only."""

import html
import re

SCHEMES = ("http", "https", "mailto")
_BREAK = "\u200b"
"""A space without width: put between two characters that together would mean something."""
_INLINE = re.compile(r"\](?=\(\s*<?(?P<to>[^\s<>]*))")
_DEFINED = re.compile(r"\](?=:\s*<?(?P<to>[^\s<>]*))")
_AUTO = re.compile(r"<(?=(?P<to>[A-Za-z][A-Za-z0-9+.-]{1,31}:[^<>\s]*)>)")
_ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")


def inert(text: str) -> str:
    """The same Markdown in which an image is a link to it, and a link to anything but a web page, a page here or an address is plain text.

    HTML is left for the renderer, which must show it as text.
    """
    text = text.replace("![", f"!{_BREAK}[")
    for pattern in (_INLINE, _DEFINED, _AUTO):
        text = pattern.sub(lambda match: match[0] if _leads_well(match["to"]) else match[0] + _BREAK, text)
    return text


def _leads_well(target: str) -> bool:
    """Whether a link's target, as a renderer would decode it, has no scheme or a harmless one."""
    decoded = html.unescape(_ESCAPED.sub(r"\1", target))
    plain = "".join(character for character in decoded if character > " " and character.isprintable())
    scheme, colon, _ = re.split(r"[/?#]", plain, maxsplit=1)[0].partition(":")
    return not colon or scheme.lower() in SCHEMES
