"""LangChain chat models as generators: what they are sent, and what comes of what they say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import models
import pytest
from langchain_core.language_models import BaseChatModel, FakeListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from rag_chat.errors import ModelError
from rag_chat.generation import load_generator
from rag_chat.generation.chat_model import ChatModelGenerator
from rag_chat.types import Message, Turn

TURN = Turn(
    "And where is it?",
    (Message("user", "Tell me of {cities}."), Message("assistant", "Tromsø is one.")),
    (models.PLACE, models.EGGS),
)


class Listener(BaseChatModel):
    """Repeats the last message, and remembers all it was sent."""

    heard: list[list[BaseMessage]] = []  # noqa: RUF012  # a field of a pydantic model
    failing: bool = False

    @property
    def _llm_type(self) -> str:
        return "listener"

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        if self.failing:
            raise ConnectionError("the line is dead")
        self.heard.append(messages)
        return ChatResult(generations=[ChatGeneration(message=AIMessage(messages[-1].content))])


def test_passages_go_into_the_system_message_and_nowhere_else() -> None:
    listener = Listener()
    generator = ChatModelGenerator(listener)
    generator.generate([TURN])
    ((system, *said),) = listener.heard
    assert system.type == "system"
    assert "[1] Tromsø\nThe city of Tromsø lies in Norway." in system.content
    assert "[2] Eggs\nBoil an egg for six minutes." in system.content
    assert [(m.type, m.content) for m in said] == [
        ("human", "Tell me of {cities}."),
        ("ai", "Tromsø is one."),
        ("human", "And where is it?"),
    ]
    assert generator.prompt(TURN).text == system.content


def test_a_long_history_is_cut_oldest_first_and_the_prompt_says_so() -> None:
    listener = Listener()
    said = tuple(Message("user", f"{n} " + "word " * 599) for n in range(4))
    turn = Turn("And now?", said)
    generator = ChatModelGenerator(listener)
    (answer,) = generator.generate([turn])
    assert answer.text == "And now?"
    assert [str(message.content).split()[0] for message in listener.heard[0][1:]] == ["2", "3", "And"]
    assert generator.prompt(turn).dropped == ("history: its oldest 2 messages",)
    assert generator.prompt(TURN).dropped == ()


def test_answers_each_turn_in_order_and_without_space_around() -> None:
    turns = [Turn(f" {n}\n") for n in range(9)]
    assert models.texts(ChatModelGenerator(Listener()), turns) == [str(n) for n in range(9)]


def test_the_stream_joined_is_the_answer() -> None:
    reply = " \n In Norway,  at 69.6 degrees.\n"
    answers: Iterator[AIMessage] = iter([AIMessage(reply)])
    pieces = list(ChatModelGenerator(GenericFakeChatModel(messages=answers)).stream(TURN))
    assert "".join(pieces) == reply.strip()
    assert len(pieces) > 3
    letters = FakeListChatModel(responses=[reply])
    assert "".join(ChatModelGenerator(letters).stream(TURN)) == reply.strip()


def test_a_provider_that_fails() -> None:
    generator = ChatModelGenerator(Listener(failing=True))
    with pytest.raises(ModelError, match="the line is dead"):
        generator.generate([TURN])
    with pytest.raises(ModelError, match="the line is dead"):
        list(generator.stream(TURN))


@pytest.mark.parametrize("name", ["nobody:model", "ollama:qwen3"])
def test_a_provider_that_cannot_be_had(name: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_generator(name, embedder=models.WordEmbedder())
    assert name in caught.value.problem
    assert caught.value.fix
