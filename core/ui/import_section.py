"""“Import”: a file that somebody sent is checked and taken in, and one sentence says what came."""

import shutil
from pathlib import PurePath
from uuid import uuid4

import streamlit as st

from core.errors import AtlasError, explain_os_error, shown
from core.findings.bundle.importing import Imported
from core.findings.exchange.importing import import_any
from core.findings.exchange.staging import Wishes
from core.findings.findings import Findings
from core.ui import words
from core.ui.prose import quiet, sentence
from core.ui.server import Server
from core.workspace import Workspace

LARGEST_MB = 200
TYPES = ("zip", "json", "jsonl", "gz", "safetensors")
_SAID, _TURN = "import-said", "import-turn"


def import_section(server: Server) -> None:
    """The fold with the field for a file. Absent where nothing may be written."""
    if server.read_only:
        return
    if said := st.session_state.pop(_SAID, None):
        quiet(said, small=False)
    fold = st.expander("Import a file that somebody sent", key="import-fold", on_change="rerun")
    if not fold.open:
        return
    with fold:
        quiet(
            "A bundle (.atlas.zip), or files of another program in a zip. It is checked first, in a process of its own; doing it twice "
            "changes nothing. Larger ones, and folders: python -m core import FILE."
        )
        file = st.file_uploader(
            f"A file of at most {LARGEST_MB} MB", type=list(TYPES), key=f"import-file-{st.session_state.get(_TURN, 0)}",
            max_upload_size=LARGEST_MB,
        )  # fmt: skip
        model = st.text_input(
            "Model", key="import-model", max_chars=100, width=320, placeholder="as the file says",
            help="What the model is called, where the files of another program do not say.",
        )  # fmt: skip
        if file is None or not st.button("Import it", key="import-go", type="primary"):
            return
        try:
            with st.spinner("Checking the file, and taking in what is new…"):
                done = take_in(server.workspace, file.name, file.getvalue(), model=model)
                if done.runs:
                    server.ingest()
        except AtlasError as error:
            sentence(str(error))
            return
        st.session_state[_SAID] = said_of(done, file.name)
        st.session_state[_TURN] = st.session_state.get(_TURN, 0) + 1  # an empty field
    st.rerun()


def take_in(workspace: Workspace, name: str, content: bytes, *, model: str = "") -> Imported:
    """Import a file that was uploaded. model: its name, where the file does not say. Raises AtlasError, and changes nothing then."""
    workspace.check_writable()
    folder = workspace.scratch / f"import-{uuid4().hex}"
    path = folder / _safe(name)
    try:
        try:
            folder.mkdir(parents=True)
            path.write_bytes(content)
        except OSError as error:
            raise explain_os_error(error, "keeping the uploaded file") from None
        return import_any(workspace, path, findings=Findings(workspace), wishes=Wishes(model=model.strip()))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def said_of(done: Imported, name: str) -> str:
    """What came in, in one sentence, and one more for each thing that has to be known."""
    title = f"“{shown(done.title or name)}”, {words.count(len(done.units), 'unit')}"
    if not done.changed:
        said = [f"{title}: everything in it is here already."]
    else:
        parts = [words.count(len(done.runs), "new run")] if done.runs else []
        parts += [f"{words.count(done.findings, 'new word', 'new words')} of people"] if done.findings else []
        parts += ["a model's card"] if done.subjects and not parts else []
        said = [f"{title}: {' and '.join(parts)} came in."]
    if done.forked:
        entries = words.count(done.forked, "entry was", "entries were")
        said.append(f"{entries} changed on both sides: both texts are shown until somebody saves over them.")
    if done.remarks:
        said.append("Not carried: " + "; ".join(remark[:300] for remark in done.remarks[:5]) + ".")
    return " ".join(said)


def _safe(name: str) -> str:
    """The end of an uploaded name that tells what it is, of harmless characters only."""
    last = PurePath(name.replace("\\", "/")).name[-80:]
    return "".join(character if character.isalnum() or character in "._-" else "-" for character in last).lstrip(".-") or "upload"
