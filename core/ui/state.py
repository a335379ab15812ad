"""Reading the address: every value is checked before a widget sees it, and a wrong one is a sentence, never another page's content."""

import re
from collections.abc import Sequence

import streamlit as st

from core.errors import AtlasError, shown

_WHOLE = re.compile(r"[0-9]{1,9}")


def raw(name: str) -> str:
    """The value in the address, or an empty string. Of several, the last."""
    return st.query_params.get(name, "")


def whole(name: str, what: str, low: int, high: int, default: int | None = None) -> int | None:
    """A whole number from the address within [low, high]. Raises AtlasError saying what it must be."""
    text = raw(name)
    if not text:
        return default
    if _WHOLE.fullmatch(text) is None or not low <= int(text) <= high:
        raise AtlasError(f"“{shown(text)}” is not {what}: use a whole number from {low} to {high:,}.")
    return int(text)


def choice(name: str, what: str, options: Sequence[str], default: str) -> str:
    """One of `options` from the address. Raises AtlasError naming some of them."""
    text = raw(name) or default
    if text not in options:
        named = [option for option in options if option]  # an empty one is none chosen, which the address leaves out
        some = ", ".join(named[:8]) + (" …" if len(named) > 8 else ".")
        raise AtlasError(f"“{shown(text)}” is not {what}: use {some}" if named else f"“{shown(text)}” is not {what}.")
    return text


def phrase(name: str, what: str, limit: int, default: str = "") -> str:
    """Text from the address, at most `limit` characters. Raises AtlasError when it is longer."""
    text = st.query_params.get(name, default)
    if len(text) > limit:
        raise AtlasError(f"The {what} in the address has {len(text):,} characters; at most {limit:,} are taken.")
    return text


def write(**values: str | int | float | None) -> None:
    """Put values into the address; None and empty strings remove theirs. Nothing is sent when nothing changes."""
    for name, value in values.items():
        text = "" if value is None else str(value)
        if text and st.query_params.get(name) != text:
            st.query_params[name] = text
        elif not text and name in st.query_params:
            del st.query_params[name]
