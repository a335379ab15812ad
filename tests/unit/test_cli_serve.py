"""`serve`: who may reach it, where, and below which path. Each refusal is one sentence, and nothing is started."""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.dashboard import free_port
from core.cli import main
from core.workspace import READ_ONLY_ENV, WORKSPACE_ENV, Workspace
from tests import read_only
from tests.unit.test_access import ACCESS, AUTH

Capture = pytest.CaptureFixture[str]
Serve = Callable[..., str]


class Started(Exception):
    """In the place of the dashboard: what would take this process's place."""


@pytest.fixture
def serve(workspace: Workspace, capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Serve:
    """`serve("--host", "0.0.0.0")`: the sentence that refuses, or the command that would be started and what its environment adds."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in (READ_ONLY_ENV, WORKSPACE_ENV, "NEURON_ATLAS_LOGIN"):
        monkeypatch.delenv(name, raising=False)

    def instead(program: str, command: list[str]) -> None:
        assert program == sys.executable
        assert Path.cwd() == Path(__file__).resolve().parents[2]
        raise Started(" ".join([*command[1:], f"read-only={os.environ.get(READ_ONLY_ENV, '')}"]))

    monkeypatch.setattr(os, "execv", instead)

    def asked(*arguments: str) -> str:
        capsys.readouterr()
        try:
            status = main(["serve", "--no-browser", "--port", str(free_port()), "--workspace", str(workspace.path), *arguments])
        except Started as started:
            return str(started)
        finally:
            for name in (READ_ONLY_ENV, WORKSPACE_ENV, "NEURON_ATLAS_LOGIN"):
                os.environ.pop(name, None)
        captured = capsys.readouterr()
        assert status == 2
        assert captured.err.count("\n") == 1
        return captured.err

    return asked


def test_an_ordinary_dashboard_listens_here_alone(serve: Serve) -> None:
    assert serve().startswith("dashboard.py ")
    assert "127.0.0.1" in serve()
    assert serve().endswith("read-only=")


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_the_network_may_not_write(serve: Serve, host: str) -> None:
    assert "could change this workspace: add --read-only, or a login" in serve("--host", host)
    assert f" {host}  read-only=/" in serve("--host", host, "--read-only")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2"])
def test_this_machine_may(serve: Serve, host: str) -> None:
    assert f" {host} " in serve("--host", host)


@pytest.mark.parametrize("host", ["no.such.host.example", "203.0.113.7", "not an address", "", "127.0.0.1:80"])
def test_an_address_of_another_machine_is_refused(serve: Serve, host: str) -> None:
    if host:
        assert "is not an address of this machine" in serve("--host", host, "--read-only")
    else:
        assert "127.0.0.1" in serve("--host", host)


def test_a_login_lets_the_network_in_and_has_to_be_whole(serve: Serve, tmp_path: Path) -> None:
    pytest.importorskip("authlib")
    file = tmp_path / "login.toml"
    file.write_text(AUTH + ACCESS)
    assert " 0.0.0.0 " in serve("--host", "0.0.0.0", "--login", str(file))
    file.write_text(AUTH)
    assert "[access] is missing" in serve("--login", str(file))
    file.write_text("")
    assert "says nothing of a login" in serve("--login", str(file))
    assert "There is no file" in serve("--login", str(tmp_path / "none.toml"))


def test_a_login_in_streamlit_s_own_place_counts_too(serve: Serve, tmp_path: Path) -> None:
    pytest.importorskip("authlib")
    place = tmp_path / ".streamlit"
    place.mkdir()
    (place / "secrets.toml").write_text(AUTH)
    assert "[access] is missing" in serve()
    (place / "secrets.toml").write_text(AUTH + ACCESS)
    assert " 0.0.0.0 " in serve("--host", "0.0.0.0")


def test_a_login_needs_its_package(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "login.toml").write_text(AUTH + ACCESS)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "requirements-login.txt" in serve("--login", str(tmp_path / "login.toml"))


@pytest.mark.parametrize(("given", "base"), [("atlas", "atlas"), ("/atlas/", "atlas"), ("lab/a-t_l.a~s", "lab/a-t_l.a~s"), ("/", "")])
def test_a_base_path_is_handed_on_without_slashes_around_it(serve: Serve, given: str, base: str) -> None:
    assert f"127.0.0.1 {base} read-only=" in serve("--base-path", given)


@pytest.mark.parametrize("given", ["a b", "a?b", "..", "a/../b", "a//b", "<x>", "ä", "a\nb"])
def test_a_base_path_that_no_proxy_hands_on_is_refused(serve: Serve, given: str) -> None:
    assert "is not a path to serve under" in serve("--base-path", given)


def test_a_read_only_dashboard_needs_no_lock_of_the_owner_and_leaves_nothing(
    serve: Serve, workspace: Workspace, tmp_path: Path
) -> None:  # fmt: skip
    before = read_only.bytes_of(workspace)
    told = serve("--read-only")
    own = Path(told.rpartition("read-only=")[2])
    assert own.is_relative_to(tmp_path)
    assert read_only.bytes_of(workspace) == before
    assert "is not a port" in serve("--read-only", "--port", "0")
    assert list(tmp_path.glob("neuron-atlas-*")) == []


def test_a_read_only_dashboard_makes_no_workspace(serve: Serve, tmp_path: Path) -> None:
    assert "There is no workspace at" in serve("--read-only", "--workspace", str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()
    assert list(tmp_path.glob("neuron-atlas-*")) == []
