"""The language models of one run: a client for each endpoint, a loaded model for each in-process one, under one budget and one cache."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from core.autointerp.explanation import Explanation, Simulator
from core.autointerp.patient import PatientChat
from core.autointerp.request import ExplainerChoice, SimulatorChoice
from core.errors import AtlasError
from core.llm.answers import Chat
from core.llm.budget import Budget, Spend
from core.llm.cache import FILE, ResponseCache
from core.llm.client import Client
from core.llm.endpoint import Endpoint
from core.workspace import Workspace


class Models:
    """Made once a run, used from one event loop, closed there. Torch is imported when the first in-process model is wanted."""

    def __init__(
        self,
        workspace: Workspace,
        budget: Mapping[str, float] | None = None,
        given: Callable[[str], Explanation] | None = None,
        spent: Spend | None = None,
    ) -> None:
        """given: finds an explanation by its identity. spent: before, on the same budget. Raises AtlasError for a senseless budget."""
        limits = dict(budget or {})
        calls, tokens = limits.get("calls"), limits.get("tokens")
        self.budget = Budget(
            calls=None if calls is None else int(calls),
            tokens=None if tokens is None else int(tokens),
            money=limits.get("money"),
            spent=spent,
        )
        self._workspace = workspace
        self._given = given
        self._cache: ResponseCache | None = None
        self._clients: dict[Endpoint, Client] = {}
        self._patient: dict[Endpoint, PatientChat] = {}
        self._local: dict[str, Any] = {}
        self._simulators: dict[SimulatorChoice, Simulator] = {}

    def chat(self, choice: ExplainerChoice) -> PatientChat:
        """The model that a choice of explainer names."""
        if choice.endpoint is None:
            raise AtlasError(f"The explainer “{choice.name}” needs a language model: name an endpoint and a model.")
        return self.chat_at(choice.endpoint)

    def chat_at(self, endpoint: Endpoint) -> PatientChat:
        """The chat model at an endpoint: one for all who ask, so that a model which thinks first is found out once. Raises AtlasError when
        it cannot be loaded."""
        if endpoint not in self._patient:
            self._patient[endpoint] = PatientChat(self._bare(endpoint))
        return self._patient[endpoint]

    def simulator(self, choice: SimulatorChoice) -> Simulator:
        """The simulator of a choice with a model. Raises AtlasError."""
        if choice not in self._simulators:
            self._simulators[choice] = self._make(choice)
        return self._simulators[choice]

    def given(self, identity: str) -> Explanation:
        """An explanation that is there already. Raises AtlasError."""
        if self._given is None:
            raise AtlasError("No earlier explanation can be read here.")
        return self._given(identity)

    def spend(self) -> dict[str, Any]:
        """What was spent so far."""
        return self.budget.spent.to_json()

    async def calm(self, seconds: float) -> None:
        """Begin no further call and wait for those in flight, at most so long: their answers are paid for, and kept for a resumed run."""
        self.budget.stop()
        end = time.monotonic() + seconds
        while self.budget.in_flight and time.monotonic() < end:
            await asyncio.sleep(0.02)

    async def close(self) -> None:
        """Close the connections and the cache."""
        for client in self._clients.values():
            await client.close()
        if self._cache is not None:
            self._cache.close()

    def _make(self, choice: SimulatorChoice) -> Simulator:
        endpoint = choice.endpoint
        if endpoint is None:
            raise AtlasError(f"The simulator “{choice.name}” needs a language model: name an endpoint and a model.")
        if choice.name == "local":
            from core.autointerp.local import LocalSimulator

            return LocalSimulator(self._loaded(endpoint.model))
        if choice.name == "completions":
            from core.autointerp.completions import CompletionsSimulator

            return CompletionsSimulator(self._client(endpoint), logprobs=choice.logprobs)
        from core.autointerp.chat_simulator import ChatSimulator

        return ChatSimulator(self._bare(endpoint), logprobs=choice.logprobs)

    def _bare(self, endpoint: Endpoint) -> Chat:
        return self._loaded(endpoint.model) if endpoint.in_process else self._client(endpoint)

    def _client(self, endpoint: Endpoint) -> Client:
        if endpoint not in self._clients:
            if endpoint.in_process:
                raise AtlasError("A model that is loaded here is simulated with “local”, not over HTTP.")
            if self._cache is None:
                self._workspace.check_writable()
                self._cache = ResponseCache(self._workspace.path / FILE)
            self._clients[endpoint] = Client(endpoint, self._cache, self.budget)
        return self._clients[endpoint]

    def _loaded(self, name: str) -> Any:
        if name not in self._local:
            from core.autointerp.local import LocalModel

            self._local[name] = LocalModel.load(self._workspace, name)
        return self._local[name]
