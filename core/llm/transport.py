"""One attempt at one request over HTTP, through the `openai` package. Whatever happens comes back as a value."""

import asyncio
import json
import time
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from core.llm.endpoint import Endpoint
from core.llm.failures import Failure, from_status
from core.llm.key import Key

_CONNECT_SECONDS = 10.0


class Transport:
    """A connection pool to one endpoint. Failures are values, so that no exception that knows the request's headers is ever passed on."""

    def __init__(self, endpoint: Endpoint, key: Key) -> None:
        # Here and not above: it takes half a second, which pages that only name an endpoint need not spend.
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient, Timeout

        self._endpoint, self._key = endpoint, key
        self._client = AsyncOpenAI(
            base_url=endpoint.base_url,
            api_key=key.to_send,
            max_retries=0,
            timeout=Timeout(endpoint.timeout, connect=min(_CONNECT_SECONDS, endpoint.timeout)),
            # A proxy named in the environment has no way to a server on this machine.
            http_client=DefaultAsyncHttpxClient(trust_env=not _is_loopback(endpoint.base_url)),
        )

    async def ask(self, route: str, body: dict[str, Any]) -> Any:
        """POST the body to the route. Returns the JSON value of the answer, or a Failure."""
        import openai

        failure: Failure | None = None
        text = ""
        try:
            # The package's own limit is on each wait for bytes: an answer that trickles would pass it for ever.
            async with asyncio.timeout(self._endpoint.timeout):
                text = await self._send(route, body)
        except (TimeoutError, openai.APITimeoutError) as error:
            failure = self._unreachable(error) if _never_connected(error) else self._late()
        except openai.APIStatusError as error:
            answer = error.response
            failure = from_status(self._endpoint, route, error.status_code, answer.headers, answer.text, self._key, time.time())
        except openai.APIConnectionError as error:
            failure = self._unreachable(error) if _never_connected(error) else self._broken_off(error)
        except openai.OpenAIError as error:
            failure = Failure("broken", f"{self._place} cannot be asked: {self._why(error)}.")
        except UnicodeError as error:
            # Of the prompt, or of a host's name that no name server could have.
            half = getattr(error, "encoding", "") == "utf-8"
            text = "The prompt holds half a character (a lone surrogate), which cannot be sent."
            failure = Failure("refused", text) if half else self._unreachable(error)
        return self._read(text, route) if failure is None else failure

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _send(self, route: str, body: dict[str, Any]) -> str:
        # No redirects: they would carry prompts to an address nobody has chosen. And the named key only, not the administrator's key
        # that the package also looks for in the environment.
        options: Any = {"follow_redirects": False, "security": {"bearer_auth": True}}
        return await self._client.post(route, cast_to=str, body=body, options=options)

    def _read(self, text: str, route: str) -> Any:
        try:
            value: Any = json.loads(self._key.strike_answer(text))
        except (ValueError, RecursionError):
            return Failure("broken", f"The answer of {self._place} is not JSON.", retry=True, billed=True)
        error: Any = value.get("error") if isinstance(value, dict) and "choices" not in value else None
        if not error:
            return value
        # Brokers pass an error on in an answer that says it is well.
        code: Any = error.get("code") if isinstance(error, dict) else None
        status = code if isinstance(code, int) and 400 <= code < 600 else 500
        return from_status(self._endpoint, route, status, {}, text, self._key, time.time())

    def _late(self) -> Failure:
        text = f"{self._place} gave no answer within {self._endpoint.timeout:g} seconds."
        return Failure("timeout", text, retry=True, billed=True)

    def _unreachable(self, error: Exception) -> Failure:
        text = f"Nothing answers at {self._place} ({self._why(error)}): start the server, or check the address and the network."
        return Failure("missing", text, retry=True)

    def _broken_off(self, error: Exception) -> Failure:
        text = f"{self._place} broke off the connection ({self._why(error)})."
        return Failure("broken", text, retry=True, billed=True)

    @property
    def _place(self) -> str:
        return self._endpoint.base_url

    def _why(self, error: Exception) -> str:
        """The innermost reason in one line."""
        inner: BaseException = error
        while inner.__cause__ is not None:
            inner = inner.__cause__
        return " ".join(self._key.strike(str(inner)).split())[:200] or type(inner).__name__


def _never_connected(error: BaseException) -> bool:
    """Whether the connection was never made, so that the endpoint knows nothing of the request.

    By name: the package that these classes come from is openai's choice, and has changed.
    """
    inner: BaseException | None = error
    while inner is not None:
        if type(inner).__name__ in ("ConnectError", "ConnectTimeout", "ProxyError", "UnsupportedProtocol"):
            return True
        inner = inner.__cause__
    return False


def _is_loopback(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
