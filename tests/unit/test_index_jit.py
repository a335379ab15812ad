"""Compiled loops of sources that are no longer used are removed; those in use, by whatever process, stay."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from core.index.jit import remove_old

WEEK = 7 * 86_400


def _touch(path: Path, unused: float) -> None:
    moment = time.time() - unused
    os.utime(path, (moment, moment))


def _folder(home: Path, name: str, unused: float) -> Path:
    folder = home / name
    (folder / "core_index").mkdir(parents=True)
    (folder / "core_index" / "kernels.nbi").write_bytes(b"code")
    _touch(folder, unused)
    return folder


def test_only_folders_of_other_sources_that_nobody_uses_go(tmp_path: Path) -> None:
    own = _folder(tmp_path, "kernels-own", 10 * WEEK)
    old = [_folder(tmp_path, f"kernels-{number}", WEEK + 60) for number in range(20)]
    recent = _folder(tmp_path, "kernels-recent", WEEK - 60)
    other = _folder(tmp_path, "something-else", 10 * WEEK)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(remove_old, [own] * 16))
    assert sorted(tmp_path.iterdir()) == [own, recent, other]
    assert (own / "core_index" / "kernels.nbi").read_bytes() == b"code"
    assert len(old) == 20


def test_a_folder_that_cannot_be_removed_is_no_error(tmp_path: Path) -> None:
    own = _folder(tmp_path, "kernels-own", 0)
    (tmp_path / "kernels-link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "kernels-file").write_bytes(b"")
    _touch(tmp_path / "kernels-file", 2 * WEEK)
    remove_old(own)
    assert own.is_dir()
