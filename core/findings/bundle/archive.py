"""The archive: a zip file from anywhere, opened without trusting it. Nothing is extracted before all that it claims has been looked at.

Names are those that this program writes (small letters, digits, dots, dashes, underscores), so there is no way out of a folder and no name
that two systems understand differently. Sizes are bounded as they are claimed, and again as they turn out.
"""

import hashlib
import re
import shutil
import stat
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, cast

from core.errors import AtlasError, shown
from core.findings.bundle.safe_json import parse

MEMBERS = 10_000
FILE_BYTES = 1 << 30
TOTAL_BYTES = 2 << 30
RATIO = 200
"""A member of more than a mebibyte may unpack to so many times its size: JSON shrinks to a twentieth, Parquet is packed already."""
_FREE = 1 << 20
_NAME = re.compile(r"[a-z0-9_][a-z0-9._-]*(/[a-z0-9_][a-z0-9._-]*){0,7}")
_LONGEST_NAME = 240
_DIRECTORY_BYTES = MEMBERS * 400
_END = struct.Struct("<4s4H2LH")
_LOCATOR = b"PK\x06\x07"
_JSON_BYTES = 64 << 20
_CHUNK = 1 << 20

MANIFEST = "manifest.json"


class Refused(AtlasError):
    """The file is not taken in. The sentence says why."""


def unpack(path: Path, folder: Path) -> dict[str, Any]:
    """Check an archive and extract it into the empty folder `folder`; returns its manifest.

    Every member must be named in the manifest's `files`, `{name: {bytes, sha256}}`, and be what is said there; the manifest itself is the
    member `manifest.json`. Raises Refused, and AtlasError when the disk is full.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            check_end(file, size)
        with zipfile.ZipFile(path) as archive:
            members = _check_members(archive.infolist())
            if shutil.disk_usage(folder).free < 2 * sum(info.file_size for info in members.values()):
                raise AtlasError("The disk has no room for what is in the bundle: free some space and try again.")
            return _extract(archive, members, folder)
    except FileNotFoundError:
        raise AtlasError(f"There is no file {path}.") from None
    except IsADirectoryError:
        raise AtlasError(f"{path} is a folder: name the .atlas.zip file.") from None
    except (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, NotImplementedError, struct.error, UnicodeError):
        raise Refused("The file is damaged, or no bundle: ask for it again.") from None
    except RuntimeError:  # what zipfile says of encrypted members
        raise Refused("The file is encrypted, which bundles are not.") from None


def read_json(content: bytes, what: str) -> dict[str, Any]:
    """A JSON object that Python can hold without harm, see `safe_json`. Raises Refused."""
    if len(content) > _JSON_BYTES:
        raise Refused(f"The {what} of the bundle is larger than any that this program writes.")
    try:
        found: Any = parse(content)
    except ValueError:
        raise Refused(f"The {what} of the bundle is damaged.") from None
    if not isinstance(found, dict):
        raise Refused(f"The {what} of the bundle is damaged.")
    return cast(dict[str, Any], found)


def check_end(file: Any, size: int) -> None:
    """Before the directory of the archive is read: that it is there, and how long it is."""
    if size > TOTAL_BYTES:
        raise Refused(f"The file has {size:,} bytes; a bundle has at most {TOTAL_BYTES:,}.")
    tail = min(size, _END.size + 20)
    file.seek(size - tail)
    content: bytes = file.read(tail)
    if len(content) < _END.size or content[-_END.size :][:4] != b"PK\x05\x06":
        raise Refused("The file is not a bundle, or its end is missing: ask for it again.")
    _, disk, first, here, members, directory, at, comment = _END.unpack(content[-_END.size :])
    if content[: -_END.size][-20:-16] == _LOCATOR or members > MEMBERS or directory > _DIRECTORY_BYTES:
        raise Refused(f"The file has more members than a bundle may have ({MEMBERS:,}).")
    if disk or first or comment or here != members or at + directory + _END.size != size:
        raise Refused("The file is not a bundle that this program wrote: something stands before, between or after its parts.")


def _check_members(members: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    found: dict[str, zipfile.ZipInfo] = {}
    for info in members:
        name = info.orig_filename
        if name != info.filename or len(name) > _LONGEST_NAME or ".." in name or _NAME.fullmatch(name) is None:
            raise Refused(f"The file has a member with the name “{shown(name)}”, which no bundle has.")
        if name in found:
            raise Refused(f"The file has two members with the name “{shown(name)}”.")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise Refused(f"“{shown(name)}” in the file is a link or device, which no bundle has.")
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Refused(f"“{shown(name)}” in the file is packed in a way that no bundle is.")
        if info.file_size > FILE_BYTES or info.file_size > max(_FREE, RATIO * info.compress_size):
            raise Refused(f"“{shown(name)}” in the file would unpack to {info.file_size:,} bytes, more than a bundle's may.")
        found[name] = info
    if sum(info.file_size for info in members) > TOTAL_BYTES:
        raise Refused(f"The file would unpack to more than the {TOTAL_BYTES:,} bytes that a bundle may have.")
    names = set(found)
    for name in names:
        if any(name.startswith(f"{other}/") for other in (name[:at] for at, sign in enumerate(name) if sign == "/") if other in names):
            raise Refused(f"“{shown(name)}” in the file lies in something that is a file itself.")
    return found


def _extract(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], folder: Path) -> dict[str, Any]:
    if MANIFEST not in members or members[MANIFEST].file_size > _JSON_BYTES:
        raise Refused("The file has no manifest: it is not a bundle.")
    manifest = read_json(_content(archive, members[MANIFEST]), "manifest")
    noted: Any = manifest.get("files")
    if manifest.get("format") != "neuron-atlas-bundle" or not isinstance(manifest.get("schema"), int):
        raise Refused("The file is not a bundle of Neuron Atlas.")
    if not isinstance(noted, dict) or set(cast(dict[str, Any], noted)) != set(members) - {MANIFEST}:
        raise Refused("The file's members are not those that its manifest names.")
    notes = cast(dict[str, Any], noted)
    for name, note in notes.items():
        sound = isinstance(note, dict) and cast(dict[str, Any], note).get("bytes") == members[name].file_size
        if not sound or not _copied(archive, members[name], folder / name, cast(dict[str, Any], note).get("sha256")):
            raise Refused(f"“{name}” in the file is not what its manifest says: it was damaged or changed on the way.")
    return manifest


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with archive.open(info) as file:
        content = file.read(info.file_size + 1)
    if len(content) != info.file_size:
        raise Refused("The file is damaged: ask for it again.")
    return content


def _copied(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, sha256: Any) -> bool:
    """Extract one member, never more than it claims to have; whether its content has the hash."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, left = hashlib.sha256(), info.file_size
    with archive.open(info) as source, target.open("xb") as file:
        while content := source.read(min(_CHUNK, left + 1)):
            left -= len(content)
            if left < 0:
                return False
            digest.update(content)
            file.write(content)
    return left == 0 and digest.hexdigest() == sha256
