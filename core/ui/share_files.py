"""What can be taken away of some units as one file: a bundle, a page, a table, and other programs' formats as archives. No Streamlit."""

import shutil
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from core.errors import AtlasError, explain_os_error
from core.findings.bundle.exporting import export_bundle
from core.findings.exchange import neuronpedia, openai, tables
from core.findings.findings import Findings
from core.findings.report.page import MOST_UNITS, report_html
from core.ui import words
from core.units import UnitName
from core.workspace import Workspace


@dataclass(frozen=True)
class Choice:
    """What is taken away. title, about: of a collection. run: the index to read the units from, the largest where it is empty.

    collections: the ids of those that go along in a bundle. findings: None to leave out what people wrote.
    """

    units: tuple[UnitName, ...]
    findings: Findings | None = None
    run: str = ""
    title: str = ""
    about: str = ""
    collections: tuple[str, ...] = ()


@dataclass(frozen=True)
class Made:
    """A file that was made. said: remarks, such as what goes along unasked."""

    content: bytes
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class Format:
    """A kind of file. lacks: what it cannot carry; wish: whether what people wrote can be left out."""

    label: str
    suffix: str
    mime: str
    make: Callable[[Workspace, Choice, Path], Made]
    lacks: tuple[str, ...] = ()
    wish: bool = False


@dataclass
class Job:
    """One press on a download's button: made in a thread of its own, and waited for by the page. sentence: what became of it."""

    make: Callable[[], Made]
    sentence: str = ""
    failed: bool = False
    begun: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    def content(self) -> bytes:
        """The file. Whatever it raises, a sentence of that is kept for the page."""
        self.begun.set()
        try:
            made = self.make()
            self.failed = False
            self.sentence = " ".join((f"{words.size(len(made.content))} were saved.", *made.said))
            return made.content
        except AtlasError as error:
            self.failed, self.sentence = True, str(error)
            raise
        except Exception as error:
            first = next(iter(str(error).splitlines()), "")[:300]
            self.failed, self.sentence = True, f"Internal error while the file was made: {type(error).__name__}: {first}."
            raise
        finally:
            self.ended.set()

    def wait(self, begin: float, end: float) -> None:
        """Until it has ended, if it begins within `begin` seconds, at most `end` seconds more."""
        if self.begun.wait(begin):
            self.ended.wait(end)


def make(workspace: Workspace, wanted: str, choice: Choice) -> Made:
    """The file of a format in FORMATS. Raises AtlasError. Nothing is left on the disk."""
    if not choice.units:
        raise AtlasError("There is no unit to share: choose some first.")
    folder = workspace.scratch / f"export-{uuid4().hex}"
    try:
        folder.mkdir(parents=True)
        return FORMATS[wanted].make(workspace, choice, folder)
    except OSError as error:
        raise explain_os_error(error, "making the file") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def file_stem(choice: Choice) -> str:
    """The name of the files without their ending: letters and digits of the title, or of the unit."""
    first = choice.units[0] if choice.units else None
    text = choice.title or (f"{first.site}-{first.basis}-{first.index}" if first is not None and len(choice.units) == 1 else "units")
    clean = "".join(character if character.isalnum() or character in "._-" else "-" for character in text)
    return "-".join(filter(None, clean.split("-")))[:80].strip(".-") or "units"


def _bundle(workspace: Workspace, choice: Choice, folder: Path) -> Made:
    path = folder / "units.atlas.zip"
    done = export_bundle(
        workspace, choice.units, path, run=choice.run or None, title=choice.title, findings=choice.findings, collections=choice.collections
    )
    return Made(path.read_bytes(), tuple(done.remarks))


def _report(workspace: Workspace, choice: Choice, folder: Path) -> Made:
    if len(choice.units) > MOST_UNITS:
        raise AtlasError(f"A page takes at most {MOST_UNITS} units, not {len(choice.units):,}: save a bundle or a table.")
    made = report_html(workspace, choice.units, title=choice.title, description=choice.about, run=choice.run or None)
    return Made(made.encode())


def _table(workspace: Workspace, choice: Choice, folder: Path, suffix: str) -> Made:
    path = folder / f"said{suffix}"
    tables.write_table(workspace, choice.units, path, run=choice.run or None)
    return Made(path.read_bytes())


def _archive(workspace: Workspace, choice: Choice, folder: Path, write: Callable[..., openai.WrittenFolder]) -> Made:
    """The files of another program's layout in one archive, in the order of their names."""
    content = folder / "content"
    write(workspace, choice.units, content, run=choice.run or None)
    path = folder / "content.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(one for one in content.rglob("*") if one.is_file()):
            archive.write(file, file.relative_to(content))
    return Made(path.read_bytes())


def _of(write: Callable[..., openai.WrittenFolder]) -> Callable[[Workspace, Choice, Path], Made]:
    return lambda workspace, choice, folder: _archive(workspace, choice, folder, write)


def _tabled(suffix: str) -> Callable[[Workspace, Choice, Path], Made]:
    return lambda workspace, choice, folder: _table(workspace, choice, folder, suffix)


_REPORT_LACKS = ("what another Neuron Atlas could import: save a bundle for that", "records beyond what fits into 250 kB a unit")
FORMATS: dict[str, Format] = {
    "bundle": Format(
        "Bundle for Neuron Atlas", ".atlas.zip", "application/zip", _bundle, ("the model", "the text beyond what records need"), wish=True
    ),
    "report": Format("Page to read (HTML)", ".html", "text/html", _report, _REPORT_LACKS),
    "csv": Format("Table (CSV)", ".csv", "text/csv", _tabled(".csv"), tables.NOT_CARRIED),
    "parquet": Format("Table (Parquet)", ".parquet", "application/vnd.apache.parquet", _tabled(".parquet"), tables.NOT_CARRIED),
    "openai": Format("OpenAI's neuron-explainer", "-openai.zip", "application/zip", _of(openai.write_openai), openai.NOT_CARRIED),
    "neuronpedia": Format(
        "Neuronpedia", "-neuronpedia.zip", "application/zip", _of(neuronpedia.write_neuronpedia), neuronpedia.NOT_CARRIED
    ),
}  # fmt: skip
