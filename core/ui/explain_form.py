"""The end of a form that explains: the estimate, what stands in the way, and the button. Shared by Explain and Studies."""

from collections.abc import Callable
from typing import TypeVar

import streamlit as st

from core.autointerp.cost import check_budget, cost, over_budget, record_tokens
from core.autointerp.request import ExplainRequest
from core.errors import AtlasError
from core.runs.registry import Run
from core.store.catalog import IndexInfo
from core.ui.explain_estimate import expected
from core.ui.prose import quiet, sentence
from core.ui.server import Server

T = TypeVar("T")


def start_button(server: Server, label: str, request: ExplainRequest, index: IndexInfo) -> Run | None:
    """The estimate and the button. Returns the run that was just queued, or the one already doing the same. Raises AtlasError."""
    tokens = record_tokens(index.slice)
    spend = cost(request, tokens)
    check_budget(request.budget, spend)
    quiet(expected(request, tokens, server.registry.list(), index.tokens_kept), small=False)
    if short := over_budget(request.budget, spend):
        sentence(short)
    if not st.button(label, key="start_explaining"):
        return None
    run = server.registry.submit("explain", request.to_params(), lane="batch")
    server.ensure_worker()
    return run


def cannot_start(error: AtlasError, label: str) -> None:
    """What is wrong, and the button that waits for it to be mended."""
    sentence(str(error))
    st.button(label, disabled=True, key="start_explaining")


def attempt(draw: Callable[[], T]) -> T | AtlasError:
    """What a part of a form gives, or what is wrong with it: the parts after it are drawn all the same and keep what was typed."""
    try:
        return draw()
    except AtlasError as error:
        return error


def told(part: T | AtlasError) -> T:
    """What `attempt` gave. Raises what was wrong."""
    if isinstance(part, AtlasError):
        raise part
    return part
