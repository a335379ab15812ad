"""Headings and sentences in the page's own typography, as plain text whatever they contain."""

import html

import streamlit as st


def heading(title: str, note: str = "", *, link: tuple[str, str] | None = None) -> None:
    """A section's heading over a hairline, with a quiet note beside it. link: words and address after the note."""
    end = ""
    if link is not None:
        end = f' · <a href="{html.escape(link[1], quote=True)}" target="_self">{html.escape(link[0])}</a>'
    beside = f"<span>{html.escape(note)}{end}</span>" if note or end else ""
    st.html(f'<div class="na-h" role="heading" aria-level="2"><b>{html.escape(title)}</b>{beside}</div>')


def lead(*sentences: str) -> None:
    """What a page has to say first, one line each."""
    st.html(f'<p class="na-lead">{"<br>".join(map(html.escape, sentences))}</p>')


def quiet(text: str, *, small: bool = True) -> None:
    """A remark."""
    st.html(f'<p class="na-muted{" na-small" if small else ""} na-num">{html.escape(text)}</p>')


def sentence(text: str) -> None:
    """One sentence about something that went wrong."""
    st.html(f'<p role="alert" class="na-alert">{html.escape(text)}</p>')


def facts(rows: dict[str, str]) -> None:
    """Names and values, one a line."""
    body = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in rows.items())
    st.html(f'<dl class="na-facts na-small">{body}</dl>')
