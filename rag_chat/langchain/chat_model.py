"""An assistant as a LangChain chat model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from rag_chat.assistant import Assistant
from rag_chat.errors import UsageError
from rag_chat.types import Answer, Message, Role, Scalar

ROLES: dict[str, Role] = {"human": "user", "ai": "assistant", "system": "system"}


class RagChatModel(BaseChatModel):
    """An assistant as a chat model: the last message is the question, those before it the history.

    Of the messages before it, what tools said is left out: retrieved text never enters the history. The
    reply's `response_metadata` holds `citations`, `query`, `abstained` and `reason` beside `model_name`.
    """

    assistant: Assistant
    filter: Mapping[str, Scalar] | None = None

    @property
    def model_name(self) -> str:
        """What the traces of LangChain call this model."""
        return self.assistant.model

    @property
    def _llm_type(self) -> str:
        return "rag-chat"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002  # LangChain's signature
        **kwargs: Any,  # noqa: ARG002  # LangChain's own, such as `ls_structured_output_format`
    ) -> ChatResult:
        question, history = _turn(messages)
        answer = self.assistant.ask(question, history, filter=self.filter)
        message = AIMessage(content=_until(answer.text, stop), response_metadata=_facts(answer))
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,  # noqa: ARG002  # as above
    ) -> Iterator[ChatGenerationChunk]:
        question, history = _turn(messages)
        for piece in self.assistant.stream(question, history, filter=self.filter):
            if isinstance(piece, Answer):
                rest = _until(piece.text, stop) if stop else ""
                chunk = AIMessageChunk(content=rest, response_metadata=_facts(piece), chunk_position="last")
            elif stop:  # what ends the text may lie across two pieces: it is sent when it is whole
                continue
            else:
                chunk = AIMessageChunk(content=piece)
            generated = ChatGenerationChunk(message=chunk)
            if run_manager:
                run_manager.on_llm_new_token(generated.text, chunk=generated)
            yield generated


def _turn(messages: Sequence[BaseMessage]) -> tuple[str, list[Message]]:
    if not messages or messages[-1].type != "human":
        raise UsageError("The last message is not the user's.", "End with a HumanMessage.")
    history = [
        Message(
            ROLES[one.type],
            str(one.text),
            abstained=bool(getattr(one, "response_metadata", {}).get("abstained")),
        )
        for one in messages[:-1]
        if one.type in ROLES
    ]
    return str(messages[-1].text), history


def _facts(answer: Answer) -> dict[str, Any]:
    facts = {name: getattr(answer, name) for name in ("query", "abstained", "reason")}
    citations = [asdict(citation) for citation in answer.citations]
    return {"model_name": answer.model, "citations": citations, **facts}


def _until(text: str, stop: Sequence[str] | None) -> str:
    """The text up to the first of the sequences that end it."""
    return text[: min((at for one in stop or () if (at := text.find(one)) >= 0), default=len(text))]
