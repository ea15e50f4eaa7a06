"""Laws of chunking: exact offsets, budgets kept, nothing lost; and the shape of passages."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rag_chat.corpus import chunk_dialogue, chunk_document, dialogue_document
from rag_chat.corpus.markdown import lines_of
from rag_chat.types import Dialogue, Document, Message, Passage, Role


def words(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(r"\w+|[^\w\s]", text)]


def pieces(text: str) -> list[tuple[int, int]]:
    """Tokens inside of words, cut from the word's beginning: they shift when a word is cut."""
    return [match.span() for match in re.finditer(r"\w{1,3}|[^\w\s]", text)]


def moody(text: str) -> list[tuple[int, int]]:
    """Tokens that depend on what stands around them: each first character is one of its own."""
    head = len(text) - len(text.lstrip())
    first = [(head, head + 1)] * (head < len(text))
    return [*first, *((a + head + 1, b + head + 1) for a, b in pieces(text[head + 1 :]))]


TOKENIZERS = [words, pieces, moody]

ALPHABET = st.sampled_from("aab. \n\n#-`!é漢。\t\u3000\x1c")
LINES = st.sampled_from(
    [
        *("# Title", "## Sub", "### Deep #", "```", "~~~", "# in code?", "- item one", "", "", "   "),
        *("A short sentence. And another one! Is it? Yes.", "no stop here", "word " * 30, "x" * 90),
    ]
)
TEXTS = st.one_of(st.text(ALPHABET, max_size=300), st.lists(LINES, max_size=25).map("\n".join))


def chunks(text: str, chunk_tokens: int = 16, overlap: int = 0, title: str = "T") -> list[Passage]:
    document = Document("d", text, title, {"topic": "x"})
    return chunk_document(document, words, chunk_tokens=chunk_tokens, overlap=overlap)


@settings(max_examples=300, deadline=None)
@given(
    text=TEXTS,
    chunk_tokens=st.integers(8, 40),
    share=st.integers(0, 2),
    tokenizer=st.sampled_from(TOKENIZERS),
)
@example(text="a" * 100, chunk_tokens=8, share=2, tokenizer=pieces)
@example(text="same. same. " * 40, chunk_tokens=9, share=2, tokenizer=words)
def test_laws(text: str, chunk_tokens: int, share: int, tokenizer: object) -> None:
    assert callable(tokenizer)
    passages = chunk_document(
        Document("d", text, "T", {"topic": "x"}),
        tokenizer,
        chunk_tokens=chunk_tokens,
        overlap=chunk_tokens * share // 4,
    )
    covered = {i for passage in passages for i in range(passage.start, passage.end)}
    for line in lines_of(text):
        if not line.level:
            needed = {i for i in range(line.start, line.end) if not text[i].isspace()}
            assert needed <= covered
        else:
            assert not covered & set(range(line.start, line.end))
    for passage in passages:
        assert text[passage.start : passage.end] == passage.text == passage.text.strip() != ""
        assert len(tokenizer(passage.text)) <= chunk_tokens
    assert [passage.id for passage in passages] == [f"d#p{n}" for n in range(len(passages))]
    assert sorted(passages, key=lambda one: (one.start, one.end)) == passages
    assert len({(passage.start, passage.end) for passage in passages}) == len(passages)


def test_a_passage_has_its_document_and_its_headings() -> None:
    text = "# Eggs\nIntro.\n\n## Heat\n### Soft #\nSix.\n## Foam\nWhisk.\n# Rest\nEnd."
    passages = chunks(text, title="Eggs")
    assert [(passage.context, passage.text) for passage in passages] == [
        ("Eggs", "Intro."),
        ("Eggs > Heat > Soft", "Six."),
        ("Eggs > Foam", "Whisk."),
        ("Eggs > Rest", "End."),
    ]
    assert passages[0] == Passage(
        *("d#p0", "d", "Eggs", "Intro.", 7, 13), context="Eggs", metadata={"topic": "x"}
    )


def test_a_title_of_its_own_stands_before_the_headings() -> None:
    assert chunks("# Eggs\nx", title="Food")[0].context == "Food > Eggs"
    assert chunks("# Eggs\nx", title="")[0].context == "Eggs"


def test_headings_in_code_are_code_and_headings_alone_no_passage() -> None:
    [passage] = chunks("````\n# no\n```\n# no\n````\n")
    assert passage.context == "T"
    assert passage.text.count("# no") == 2
    assert chunks("# One\n\n## Two\n") == []
    assert chunks("") == chunks(" \n ") == []


def test_a_passage_ends_with_a_paragraph_rather_than_within_one() -> None:
    text = "One two three four five. Six seven.\n\nA b c d e. F g h i j. K l m n o."
    assert [p.text for p in chunks(text)] == [
        "One two three four five. Six seven.",
        "A b c d e. F g h i j.",
        "K l m n o.",
    ]
    short = "One two.\n\nA b c d e. F g h i j. K l m n o."
    assert chunks(short)[0].text == "One two.\n\nA b c d e. F g h i j."


def test_a_passage_ends_with_a_sentence_or_else_a_word() -> None:
    assert [p.text for p in chunks("Dr. No met J. Bond twice. He, e.g. now, left.", 10)] == [
        "Dr. No met J. Bond twice.",
        "He, e.g. now, left.",
    ]
    assert [p.text for p in chunks("one two three four five six seven eight nine ten", 8)] == [
        "one two three four five six seven eight",
        "nine ten",
    ]
    assert [p.text for p in chunks("今日は晴れ。明日は雨。", 8)] == ["今日は晴れ。明日は雨。"]


def test_a_word_beyond_the_budget_is_cut() -> None:
    document = Document("d", "x" * 60, "T")
    found = chunk_document(document, pieces, chunk_tokens=8, overlap=0)
    assert [len(passage.text) for passage in found] == [24, 24, 12]


def test_overlap_is_whole_sentences_that_fit() -> None:
    text = "One two three. Four five. Six seven eight. Nine ten. A b c d e f g h i j."
    plain, lapped = chunks(text, 14), chunks(text, 14, 4)
    assert [p.text for p in plain] == [text[:52], "A b c d e f g h i j."]
    assert [p.text for p in lapped] == [text[:52], "Nine ten. A b c d e f g h i j."]
    assert chunks("A b c d. E f. G h i j k l.", 8, 4)[1].text == "G h i j k l."
    assert chunks("A b c d. E f. G h i j.", 8, 4)[1].text == "E f. G h i j."


def test_overlap_gives_way_where_it_would_cost_a_tiny_passage() -> None:
    text = "A b c d. E f g. H i j k l. M n."  # the last two sentences fit, with "E f g." they do not
    assert [p.text for p in chunks(text, 9, 4)] == ["A b c d. E f g.", "H i j k l. M n."]


def talk(*turns: str, topic: str = "") -> Dialogue:
    roles: list[Role] = ["user", "assistant"]
    return Dialogue("c", tuple(Message(roles[i % 2], t) for i, t in enumerate(turns)), topic)


def situations(dialogue: Dialogue, chunk_tokens: int = 64) -> list[str]:
    return [p.situation for p in chunk_dialogue(dialogue, words, chunk_tokens=chunk_tokens)]


LONG_TALK = talk(
    "Where can I see volcanoes?",
    "Iceland has many of them.",
    "Why?",
    "It lies on a plate boundary.",
    topic="travel",
)


def test_a_dialogue_as_a_document() -> None:
    assert dialogue_document(LONG_TALK) == Document(
        "c",
        "User: Where can I see volcanoes?\nAssistant: Iceland has many of them.\n"
        "User: Why?\nAssistant: It lies on a plate boundary.\n",
        "travel",
        {"topic": "travel"},
    )
    own = Dialogue("c", LONG_TALK.messages, metadata={"topic": "folder", "n": 1})
    assert dialogue_document(own).title == "Conversation"
    assert dialogue_document(own).metadata == {"topic": "folder", "n": 1}


def test_one_passage_an_exchange() -> None:
    first, second = chunk_dialogue(LONG_TALK, words, chunk_tokens=64)
    exchange = "User: Where can I see volcanoes?\nAssistant: Iceland has many of them."
    assert first == Passage(
        *("c#p0", "c", "travel", exchange, 0, len(exchange)),
        kind="dialogue",
        situation="Where can I see volcanoes?",
        metadata={"topic": "travel"},
    )
    assert second.text == "User: Why?\nAssistant: It lies on a plate boundary."
    assert second.context == exchange
    assert second.situation == "Where can I see volcanoes?\nIceland has many of them.\nWhy?"


def test_a_situation_keeps_the_end_that_fits() -> None:
    assert situations(LONG_TALK, 6)[1] == "many of them.\nWhy?"
    assert situations(talk("one two three four five", "reply with a few words"), 3) == ["three four five"]


def test_tiny_exchanges_join_the_next_or_else_the_last() -> None:
    [passage] = chunk_dialogue(
        talk("Hi", "Hello!", "ok", "ok", *[m.content for m in LONG_TALK.messages[:2]]),
        words,
        chunk_tokens=64,
    )
    assert passage.text.startswith("User: Hi\nAssistant: Hello!\nUser: ok")
    assert passage.text.endswith("many of them.")
    assert passage.situation == "Hi\nHello!\nok\nok\nWhere can I see volcanoes?"
    [passage] = chunk_dialogue(
        talk(*[m.content for m in LONG_TALK.messages[:2]], "Thanks", "Sure"),
        words,
        chunk_tokens=64,
    )
    assert passage.text.endswith("User: Thanks\nAssistant: Sure")


def test_small_talk_alone_is_no_passage_but_a_short_answer_is() -> None:
    assert situations(talk("Hi", "Hello!", "ok", "ok")) == []
    assert situations(talk("What is AI?", "Artificial intelligence.")) == ["What is AI?"]


def test_messages_that_are_no_exchange() -> None:
    assert situations(talk("Where is Rome, please?")) == []
    messages = (
        Message("system", "Be brief."),
        Message("assistant", "Welcome to the travel desk."),
        Message("user", "I am in Rome."),
        Message("user", "What shall I see here?"),
        Message("assistant", "The Forum."),
        Message("assistant", "And the Pantheon."),
        Message("user", "Who lives on Mars then?"),
        Message("assistant", "I do not know that.", abstained=True),
        Message("user", "What about the Vatican?"),
        Message("assistant", "See the museums there."),
        Message("user", "How do I get there?"),
    )
    first, second = chunk_dialogue(Dialogue("c", messages), words, chunk_tokens=14)
    assert first.context == "System: Be brief.\nAssistant: Welcome to the travel desk."
    assert first.text == (
        "User: I am in Rome.\nUser: What shall I see here?\n"
        "Assistant: The Forum.\nAssistant: And the Pantheon."
    )
    assert first.situation == "travel desk.\nI am in Rome.\nWhat shall I see here?"
    assert second.text == "User: What about the Vatican?\nAssistant: See the museums there."
    assert second.context.startswith("User: Who lives on Mars")
    assert (first.id, second.id) == ("c#p0", "c#p1")


MESSAGES = st.builds(
    Message,
    role=st.sampled_from(["user", "user", "assistant", "assistant", "system"]),
    content=st.one_of(
        st.sampled_from(["ok", "Hi", "What is the height of this?", "word " * 20, "x" * 50]),
        st.text(ALPHABET, min_size=1, max_size=40).filter(lambda text: bool(text.strip())),
    ),
    abstained=st.sampled_from([False, False, False, True]),
)


@settings(max_examples=200, deadline=None)
@given(
    messages=st.lists(MESSAGES, max_size=12),
    chunk_tokens=st.integers(8, 30),
    tokenizer=st.sampled_from(TOKENIZERS),
)
def test_dialogue_laws(messages: list[Message], chunk_tokens: int, tokenizer: object) -> None:
    assert callable(tokenizer)
    dialogue = Dialogue("c", tuple(messages))
    document = dialogue_document(dialogue)
    passages = chunk_dialogue(dialogue, tokenizer, chunk_tokens=chunk_tokens)
    reached = 0
    for passage in passages:
        assert document.text[passage.start : passage.end] == passage.text
        assert reached <= passage.start < passage.end
        reached = passage.end
        assert passage.situation
        assert len(tokenizer(passage.situation)) <= chunk_tokens
        assert passage.text.startswith("User: ")
    assert [passage.id for passage in passages] == [f"c#p{n}" for n in range(len(passages))]


@pytest.mark.parametrize("size", [200_000])
def test_long_texts_without_structure_take_no_quadratic_time(size: int) -> None:
    for text in ("x" * size, " " * size + "x", "a " * (size // 2), "# " + "x" * size, "." * size):
        for passage in chunks(text, 128, 16):
            assert len(words(passage.text)) <= 128
