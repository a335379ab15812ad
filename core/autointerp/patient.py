"""A chat with models that may think before they answer: it gives them room when thoughts were all that came."""

from typing import Any

from core.llm.answers import Chat, ChatAnswer
from core.llm.failures import Final, LlmError

THOUGHTS = 16_000
"""Tokens for thoughts. Not asked for at first: a budget reserves what is asked for, and models with a short context refuse it."""


class PatientChat:
    """A `Chat` that asks once more, with room for thoughts, when an answer held nothing else; and remembers that the model thinks."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self.thoughts = 0
        """Tokens that are allowed beside the answer."""
        self.dropped: set[str] = set()
        """The parameters that the model was found to reject; they were left out of what was asked."""

    async def chat(
        self,
        messages: list[dict[str, Any]],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        top_logprobs: int | None = None,
        schema: dict[str, Any] | None = None,
        n_sample: int = 0,
    ) -> ChatAnswer:
        """See `Chat`. max_tokens: of the answer alone."""

        async def ask() -> ChatAnswer:
            answer = await self._chat.chat(
                messages,
                max_tokens=max_tokens + self.thoughts,
                temperature=temperature,
                top_logprobs=top_logprobs,
                schema=schema,
                n_sample=n_sample,
            )
            self.dropped.update(answer.dropped)
            return answer

        if self.thoughts:
            return await ask()
        try:
            answer = await ask()
        except Final:
            raise
        except LlmError as error:
            if error.kind != "empty":
                raise
        else:
            if not _thoughts_only(answer):
                return answer
        self.thoughts = THOUGHTS
        try:
            return await ask()
        except LlmError:
            # Perhaps it does not think but fails, or cannot write so much: the next answer begins anew.
            self.thoughts = 0
            raise


def patiently(chat: Chat) -> PatientChat:
    """The chat itself if it is patient already, and has perhaps learned that its model thinks."""
    return chat if isinstance(chat, PatientChat) else PatientChat(chat)


def _thoughts_only(answer: ChatAnswer) -> bool:
    return answer.finish == "length" and answer.text.lstrip().startswith("<think>") and "</think>" not in answer.text
