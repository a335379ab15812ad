"""Files and folders appear whole or not at all, and what a rename names is on disk before it."""

import errno
import os
from pathlib import Path

import pytest

from core.workspace import whole_folder, write_atomic


class Disk:
    """Remembers what was flushed, and at each rename what in the renamed thing was not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.flushed: dict[int, int] = {}
        self.unsafe: list[str] = []
        self.renamed: list[str] = []
        fsync, replace = os.fsync, Path.replace

        def remember(descriptor: int) -> None:
            fsync(descriptor)
            self.flushed[os.fstat(descriptor).st_ino] = os.fstat(descriptor).st_size

        def rename(path: Path, target: Path) -> Path:
            inside = [path, *path.rglob("*")]
            self.unsafe += [each.name for each in inside if self.flushed.get(each.stat().st_ino) != each.stat().st_size]
            self.renamed.append(target.name)
            return replace(path, target)

        monkeypatch.setattr(os, "fsync", remember)
        monkeypatch.setattr(Path, "replace", rename)


def test_everything_in_a_folder_is_on_disk_before_it_takes_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    with whole_folder(tmp_path / "parts" / "7") as folder:
        assert folder.parent == tmp_path / "parts"
        assert folder.name.startswith(".")
        (folder / "mlp.0").mkdir()
        (folder / "mlp.0" / "units.parquet").write_bytes(b"u" * 5000)
        (folder / "part.json").write_text("{}", "utf8")
        assert not (tmp_path / "parts" / "7").exists()
    assert (disk.renamed, disk.unsafe) == (["7"], [])
    assert (tmp_path / "parts").stat().st_ino in disk.flushed  # the new name too
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*")) if path.is_file()] == [
        "parts/7/mlp.0/units.parquet",
        "parts/7/part.json",
    ]


def test_a_folder_that_fails_leaves_the_one_before(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "7") as folder:
        (folder / "a").write_text("before", "utf8")

    def fill_half() -> None:
        with whole_folder(tmp_path / "7") as folder:
            (folder / "b").write_text("half", "utf8")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        fill_half()
    assert [path.name for path in tmp_path.rglob("*")] == ["7", "a"]
    with whole_folder(tmp_path / "7") as folder:
        (folder / "b").write_text("after", "utf8")
    assert [path.name for path in tmp_path.rglob("*")] == ["7", "b"]


def test_a_file_and_its_name_are_on_disk_when_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    write_atomic(tmp_path / "manifest.json", b"{}")
    assert (disk.renamed, disk.unsafe) == (["manifest.json"], [])
    assert tmp_path.stat().st_ino in disk.flushed
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]
