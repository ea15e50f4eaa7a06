"""One turn from question to answer, over a real index; the generators are real or scripted."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from models import Scripted

from rag_chat.assistant import ABSTENTION, Assistant, Request
from rag_chat.config import Skill
from rag_chat.errors import UsageError
from rag_chat.generation.prompt import UNANSWERABLE
from rag_chat.generation.seq2seq import Seq2SeqGenerator
from rag_chat.retrieval.index import Index
from rag_chat.types import Answer, Message, Passage, Prompt, Turn

TEA = "How hot is the water for green tea?"
TEA_REPLY = "Green tea is steeped at 75 degrees."
FOLLOW_UP = "And for how long?"
NOBODY = "Who is the mayor of Atlantis?"


@pytest.fixture
def scripted() -> Scripted:
    return Scripted({TEA: TEA_REPLY, FOLLOW_UP: "For two minutes.", NOBODY: UNANSWERABLE})


@pytest.fixture
def assistant(tiny_index: Index, scripted: Scripted, tmp_path: Path) -> Assistant:
    return Assistant(tiny_index, scripted, k=10, sessions=tmp_path / "sessions.sqlite")


def test_an_answer_cites_the_passage_that_supports_it(assistant: Assistant, tiny_index: Index) -> None:
    answer = assistant.ask(TEA)
    assert answer.text == TEA_REPLY
    assert not answer.abstained
    assert answer.reason == ""
    (citation,) = answer.citations
    assert citation.source == "food/tea.md"
    assert tiny_index.document_text(citation.source)[citation.start : citation.end] == citation.quote
    assert {hit.passage.id for hit in answer.hits} >= {citation.passage_id}
    assert set(answer.timings_ms) == {"rewrite", "retrieve", "generate", "cite"}


def test_no_evidence_abstains_and_says_why(assistant: Assistant) -> None:
    answer = assistant.ask(NOBODY)
    assert answer.abstained
    assert answer.text == ABSTENTION
    assert "do not answer" in answer.reason
    assert answer.citations == ()


@pytest.mark.parametrize("nothing", ["", " \n", ".", "...", "?!", "Unanswerable."])
def test_an_answer_that_says_nothing_is_an_abstention(tiny_index: Index, nothing: str) -> None:
    assistant = Assistant(tiny_index, Scripted({TEA: nothing}))
    answer = assistant.ask(TEA)
    assert (answer.text, answer.abstained) == (ABSTENTION, True)
    *pieces, streamed = assistant.stream(TEA)
    assert isinstance(streamed, Answer)
    assert ("".join(map(str, pieces)), streamed.abstained) == (ABSTENTION, True)


def test_each_turn_is_packed_once(tiny_index: Index, trained_reader: Path) -> None:
    reader = Seq2SeqGenerator(trained_reader, device="cpu")
    packed: list[Turn] = []

    class Counting(Seq2SeqGenerator):
        def __init__(self) -> None:
            self.__dict__.update(reader.__dict__)

        def _readings(self, turn: Turn, skill: Skill = "answer") -> tuple[Prompt, ...]:
            packed.append(turn)
            return super()._readings(turn, skill)

    answers = Assistant(tiny_index, Counting()).answer([Request(TEA), Request(FOLLOW_UP)])
    assert [turn.question for turn in packed] == [TEA, FOLLOW_UP]
    assert [answer.prompt for answer in answers] == [reader.prompt(turn).text for turn in packed[:2]]


def test_an_answer_without_support_is_kept_and_marked(tiny_index: Index) -> None:
    answer = Assistant(tiny_index, Scripted({TEA: "Napoleon was born on Corsica."})).ask(TEA)
    assert answer.text == "Napoleon was born on Corsica."
    assert answer.citations == ()
    assert answer.unsupported == ("Napoleon was born on Corsica.",)
    assert "supports" in answer.reason


def test_what_no_document_can_know_is_not_answered(tiny_index: Index) -> None:
    weather, hello = "How is the weather today?", "Hello!"
    assistant = Assistant(tiny_index, Scripted({weather: "Volcano hikes are open.", hello: "Hello! Ask me."}))
    answer = assistant.ask(weather)
    assert (answer.text, answer.abstained) == (ABSTENTION, True)
    *pieces, streamed = assistant.stream(weather)
    assert "".join(map(str, pieces)) == ABSTENTION == getattr(streamed, "text", "")
    assert "today" in answer.reason
    assert assistant.ask(hello).text == "Hello! Ask me."


def test_a_filter_that_leaves_nothing_abstains(tiny_index: Index, scripted: Scripted) -> None:
    answer = Assistant(tiny_index, scripted).ask(TEA, filter={"topic": "music"})
    assert answer.abstained
    assert "Nothing in the index" in answer.reason
    assert scripted.turns == []


def test_many_at_once_equal_one_by_one(assistant: Assistant) -> None:
    asked = [Request(TEA), Request(NOBODY), Request(FOLLOW_UP, (Message("user", TEA),))]
    together = [answer.text for answer in assistant.answer(asked)]
    assert together == [assistant.answer([request])[0].text for request in asked]


def test_given_passages_take_the_place_of_retrieval(assistant: Assistant) -> None:
    passage = Passage("given#0", "given#0", "Tea", "Green tea is steeped at 75 degrees.", 0, 35)
    (answer,) = assistant.answer([Request(TEA, passages=(passage,))])
    assert [hit.passage for hit in answer.hits] == [passage]
    assert answer.citations[0].passage_id == "given#0"


def test_a_stream_joined_is_the_answer_and_abstains_like_it(assistant: Assistant) -> None:
    for question in (TEA, NOBODY):
        *pieces, answer = assistant.stream(question)
        assert isinstance(answer, Answer)
        assert "".join(str(piece) for piece in pieces) == answer.text == assistant.ask(question).text


def test_a_session_remembers_and_retrieved_text_never_enters_it(
    assistant: Assistant, scripted: Scripted
) -> None:
    with assistant.session("tea") as chat:
        chat.ask(TEA)
        answer = chat.ask(FOLLOW_UP)
        assert answer.query in {query.text for query in answer.queries}
        assert {FOLLOW_UP, f"{TEA} {TEA_REPLY} {FOLLOW_UP}"} <= {query.text for query in answer.queries}
        assert scripted.turns[-1].query == f"{TEA} {FOLLOW_UP}"
        assert answer.session == "tea"
        said = [message.content for message in chat.history]
    assert said == [TEA, TEA_REPLY, FOLLOW_UP, "For two minutes."]
    assert [message.content for message in scripted.turns[-1].history] == said[:2]
    with assistant.session("tea") as chat:
        assert [message.content for message in chat.history] == said


def test_a_session_belongs_to_its_owner(assistant: Assistant) -> None:
    assistant.session("tea", owner="anna").ask(TEA)
    assert assistant.session("tea", owner="ben").history == ()
    assert assistant.session("tea").trace is None
    trace = assistant.session("tea", owner="anna").trace
    assert trace is not None
    assert trace["question"] == TEA


def test_a_long_history_is_cut_and_the_trace_says_so(
    tiny_index: Index, trained_reader: Path, tmp_path: Path
) -> None:
    assistant = Assistant(tiny_index, trained_reader, device="cpu", sessions=tmp_path / "s.sqlite")
    answer = assistant.ask(TEA)
    for n in range(60):
        assistant.store().append_turn("long", f"{n} {TEA} " * 9, answer)
    assistant.session("long").ask(FOLLOW_UP)
    trace = assistant.session("long").trace
    assert trace is not None
    assert any(line.startswith("history: its oldest ") for line in trace["dropped"])
    assert len(assistant.session("long").history) == 122  # what is kept is whole


def test_a_streamed_turn_is_kept_and_a_retry_takes_its_place(
    assistant: Assistant, scripted: Scripted
) -> None:
    with assistant.session() as chat:
        assert "".join(chat.stream(TEA)) == TEA_REPLY
        assert [message.role for message in chat.history] == ["user", "assistant"]
        assert chat.last is not None
        scripted.say[TEA] = "Green tea is steeped for two minutes."
        assert "".join(chat.retry()) == scripted.say[TEA]
        assert [message.content for message in chat.history] == [TEA, scripted.say[TEA]]


def test_a_retry_leaves_a_turn_that_came_meanwhile(assistant: Assistant) -> None:
    with assistant.session("shared") as chat, assistant.session("shared") as other:
        chat.ask(TEA)
        again = chat.retry()
        next(again)
        other.ask(FOLLOW_UP)
        list(again)
        assert [message.content for message in chat.history if message.role == "user"] == [TEA, FOLLOW_UP]


def test_threads_that_begin_together_load_one_model(
    tiny_index: Index, scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[object] = []

    def slow(name: object, **_: object) -> Scripted:
        loaded.append(name)
        time.sleep(0.2)
        return scripted

    monkeypatch.setattr("rag_chat.assistant.load_generator", slow)
    assistant = Assistant(tiny_index, "some-model")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: assistant.generator, range(4)))
    assert (loaded, found) == (["some-model"], [scripted] * 4)


def test_retry_with_nothing_said_is_refused(assistant: Assistant) -> None:
    with assistant.session() as chat, pytest.raises(UsageError, match="nothing to ask again"):
        next(chat.retry())


@pytest.mark.parametrize("question", ["", "  \n"])
def test_an_empty_question_is_refused(assistant: Assistant, question: str) -> None:
    with pytest.raises(UsageError, match="empty"):
        assistant.ask(question)


def test_the_extractive_reader_needs_no_model(tiny_index: Index) -> None:
    answer = Assistant(tiny_index, "extractive").ask("Boil an egg for six minutes.")
    assert answer.model == "extractive"
    assert answer.citations
