"""How what a person wrote is shown: Markdown that loads nothing, and lines of who and when."""

import html

import streamlit as st

from core.findings.entry import Version
from core.findings.markdown import inert
from core.ui import words

STYLE = """<style>
.nf-by {color: var(--na-muted); font-size: .82rem; margin: 0; font-variant-numeric: tabular-nums}
.nf-by b {color: var(--na-text); font-weight: 600}
.nf-was {white-space: pre-wrap; overflow-wrap: anywhere; border-left: 2px solid var(--na-hairline); padding-left: .8rem; margin: 0;
  font-size: .88rem; max-width: 62rem}
.nf-line {margin: 0; font-size: .92rem}
.nf-line bdi, .nf-by bdi {unicode-bidi: isolate}
[class*="st-key-nf-text-"] {max-width: 62rem; overflow-wrap: anywhere}
[class*="st-key-nf-text-"] :is(h1, h2, h3, h4, h5, h6) {font-size: 1rem; padding: .3rem 0 .1rem}
[class*="st-key-nf-text-"] [data-testid="stMarkdownContainer"] > :last-child {margin-bottom: 0}
[class*="st-key-nf-entry-"] {border-left: 2px solid var(--na-hairline); padding-left: .8rem}
[class*="st-key-nf-entry-"] [data-testid="stVerticalBlock"] {gap: .25rem}
[class*="st-key-nf-acts-"] button {min-height: 0; padding: 0 .1rem}
[class*="st-key-nf-acts-"] button p {font-size: .8rem}
[class*="st-key-nf-acts-"] [data-testid="stTooltipHoverTarget"] {display: flex}
[class*="st-key-nf-acts-"] {min-height: 1.6rem}
.nf-others {padding-bottom: .45rem}
</style>"""


def prose(text: str, key: str) -> None:
    """A note, rendered. Streamlit shows HTML in it as text."""
    with st.container(key=f"nf-text-{key}"):
        st.markdown(inert(text))


def by_line(version: Version, *more: str) -> str:
    """Who saved a version and when, as inert HTML."""
    said = " · ".join(html.escape(one) for one in (words.when(version.created), *more) if one)
    return f'<p class="nf-by"><b><bdi>{html.escape(version.by)}</bdi></b> · {said}</p>'


def was(text: str) -> str:
    """A text as it was typed, as inert HTML."""
    return f'<p class="nf-was" dir="auto">{html.escape(text)}</p>'
