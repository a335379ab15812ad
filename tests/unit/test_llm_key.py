"""The key goes into one header and nowhere else: no file, sentence, traceback, log or printed object holds it."""

import asyncio
import logging
import pickle
import traceback
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from core.errors import AtlasError
from core.llm.budget import Budget
from core.llm.cache import ResponseCache
from core.llm.client import Client
from core.llm.endpoint import Endpoint
from core.llm.failures import LlmError
from core.llm.key import Key
from core.llm.retry import Retry
from tests.llm_endpoint import Fault, LlmEndpoint, chat_reply

KEY = "sk-proj-Zm9v/YmFy+0123456789abcdef"
SPELLINGS = (KEY, quote(KEY, safe=""), KEY[:20])


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATLAS_TEST_KEY", KEY)


def ask(server: LlmEndpoint, path: Path, content: str = "hello") -> tuple[list[str], BaseException | None]:
    """Everything printable that one call leaves behind, and its exception."""

    async def run() -> tuple[list[str], BaseException | None]:
        budget = Budget()
        with ResponseCache(path) as cache:
            client = Client(Endpoint(server.base_url, "tiny", key_env="ATLAS_TEST_KEY"), cache, budget, retry=Retry(attempts=1))
            seen: list[Any] = [client, client.endpoint, client.endpoint.to_json(), budget, client.dropped]
            caught: BaseException | None = None
            try:
                seen.append(await client.chat([{"role": "user", "content": content}], max_tokens=9))
            except AtlasError as error:
                caught = error
                seen.append("".join(traceback.TracebackException.from_exception(error).format()))
            await client.close()
        return [text for one in seen for text in (repr(one), str(one))] + [str(client.dropped)], caught

    return asyncio.run(run())


def assert_nowhere(texts: list[str], folder: Path) -> None:
    for spelling in SPELLINGS:
        assert not [text for text in texts if spelling in text]
        for path in folder.rglob("*"):
            if path.is_file():
                assert spelling.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("fault", ["ok", "401", "leak", "404", "500", "stall", "disconnect", "bad-json", "redirect", "refusal"])
def test_the_key_is_sent_and_appears_nowhere(fault: Fault, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with LlmEndpoint(faults=[fault], stall=0.2) as server:
        texts, error = ask(server, tmp_path / "llm.sqlite")
    assert server.authorizations == [f"Bearer {KEY}"]
    assert (error is None) == (fault in ("ok", "stall"))
    if error is not None:
        assert error.__context__ is None, "the package's exception knows the request's headers"
        assert error.__cause__ is None
    assert_nowhere([*texts, caplog.text], tmp_path)


def test_an_endpoint_that_sends_the_key_back_does_not_get_it_into_sentences_answers_or_files(tmp_path: Path) -> None:
    with LlmEndpoint(answer=lambda body: chat_reply(f"your key is {KEY}.")) as server:
        texts, _ = ask(server, tmp_path / "llm.sqlite")
    assert any("your key is [key]." in text for text in texts)
    assert_nowhere(texts, tmp_path)
    with LlmEndpoint() as server:
        server.rejects["max_tokens"] = f"{'x' * 280} {KEY} is not supported, nor is {quote(KEY, safe='')}"
        texts, error = ask(server, tmp_path / "llm.sqlite")
    assert isinstance(error, LlmError)
    assert "[key]" in str(error)
    assert_nowhere(texts, tmp_path)


def test_only_the_named_variable_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-another-0123456789")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-admin-0123456789")
    with LlmEndpoint() as server:
        ask(server, tmp_path / "llm.sqlite")
        monkeypatch.delenv("ATLAS_TEST_KEY")
        ask(server, tmp_path / "llm.sqlite", "again")
    assert server.authorizations == [f"Bearer {KEY}", "Bearer none"]


def test_a_missing_key_is_told_by_the_variables_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ATLAS_TEST_KEY")
    with LlmEndpoint(key="wanted") as server:
        _, error = ask(server, tmp_path / "llm.sqlite")
    assert "wants a key, and none is in the environment variable ATLAS_TEST_KEY" in str(error)


def test_a_key_in_the_wrong_field_is_refused_without_being_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong: list[dict[str, Any]] = [
        {"base_url": "http://localhost/v1", "model": "tiny", "key_env": KEY},
        {"base_url": "http://localhost/v1", "model": "tiny", "key_env": "gsk_abcdefghijklmnop0123"},
        {"base_url": f"http://user:{KEY}@localhost/v1", "model": "tiny"},
        {"base_url": f"http://localhost/v1?key={KEY}", "model": "tiny"},
        {"base_url": "http://localhost/v1", "model": "tiny", "timeout": KEY},
    ]
    for value in wrong:
        with pytest.raises(AtlasError) as caught:
            Endpoint.from_json(value)
        assert not any(spelling in str(caught.value) for spelling in (*SPELLINGS, "gsk_"))
    monkeypatch.setenv("ATLAS_TEST_KEY", "0123456789abcdef0123")
    for address, model in (("http://localhost/0123456789abcdef0123/v1", "m"), ("http://localhost/v1", "0123456789abcdef0123")):
        with pytest.raises(AtlasError, match="holds the key") as caught:
            Client(Endpoint(address, model, key_env="ATLAS_TEST_KEY"))
        assert "0123456789abcdef" not in str(caught.value)


@pytest.mark.parametrize("value", ["sk-\u00e9t\u00e9", "two\nlines", "sk-\x07"])
def test_a_key_that_cannot_be_sent_is_told_without_being_repeated(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATLAS_TEST_KEY", value)
    with pytest.raises(AtlasError, match="ATLAS_TEST_KEY holds characters") as caught:
        Client(Endpoint("http://localhost/v1", "tiny", key_env="ATLAS_TEST_KEY"))
    assert value not in str(caught.value)


def test_white_space_around_a_key_is_not_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATLAS_TEST_KEY", f" {KEY}\n")
    assert Key.of(Endpoint("http://localhost/v1", "tiny", key_env="ATLAS_TEST_KEY")).to_send == KEY


def test_a_key_cannot_be_printed_or_stored() -> None:
    secret = Key(KEY)
    assert (repr(secret), str(secret), f"{secret}", repr(Key())) == ("Key(set)", "Key(set)", "Key(set)", "Key(not set)")
    with pytest.raises(TypeError):
        pickle.dumps(secret)


def test_a_placeholder_that_is_a_word_changes_no_answer() -> None:
    assert Key("EMPTY").strike_answer("an EMPTY box") == "an EMPTY box"
    assert Key("EMPTY").strike("wrong key EMPTY") == "wrong key [key]"
