"""Citations: exact spans, only where a passage says what the answer says."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_chat.corpus.chunking import chunk_dialogue, dialogue_document
from rag_chat.generation.citations import cite, quotable
from rag_chat.types import Dialogue, Message, Passage

DOCUMENT = (
    "Heading here.\n\nA soft egg boils for 6.5 minutes in Dr. Miller's kitchen.  Cool it in ice water. "
    "The yolk sets at 65 degrees.\n"
)
START = DOCUMENT.index("A soft")
EGG = Passage("egg#p0", "egg.md", "Eggs", DOCUMENT[START:], START, len(DOCUMENT), context="Eggs > Boiling")


def quotes(answer: str, *passages: Passage) -> list[str]:
    return [citation.quote for citation in cite(answer, passages or (EGG,))]


def test_a_supported_sentence_is_cited_with_its_span_in_the_document() -> None:
    (found,) = cite("Boil a soft egg for 6.5 minutes.", [EGG])
    assert found.quote == "A soft egg boils for 6.5 minutes in Dr. Miller's kitchen."
    assert DOCUMENT[found.start : found.end] == found.quote
    assert (found.passage_id, found.source, found.title) == ("egg#p0", "egg.md", "Eggs")
    assert 0.6 <= found.score <= 1.0


@pytest.mark.parametrize(
    "answer",
    [
        "Penguins live in the cold south.",
        "A soft egg boils for 7 minutes.",
        "A soft egg boils for 5.6 minutes.",
        "A soft egg boils for 6 minutes.",
        "Yes.",
        "",
        "...",
    ],
)
def test_without_support_nothing_is_cited(answer: str) -> None:
    assert cite(answer, [EGG]) == ()


def test_a_name_that_the_sentence_does_not_hold_is_not_cited() -> None:
    assert quotes("A soft egg boils for 6.5 minutes in Miller's kitchen.", EGG)
    assert not quotes("A soft egg boils for 6.5 minutes in Miles's kitchen.", EGG)


def test_numbers_are_the_same_however_they_are_grouped() -> None:
    hall = Passage("h", "h", "", "The hall seats 12,500 guests. It cost 3,5 million.", 0, 50)
    assert quotes("The hall seats 12500 guests.", hall) == ["The hall seats 12,500 guests."]
    assert quotes("The hall seats 12 guests.", hall) == []
    assert quotes("It cost 35 million.", hall) == []


def test_each_sentence_is_cited_by_itself() -> None:
    assert quotes("Cool it in ice water. Penguins live far away. The yolk sets at 65 degrees.") == [
        "Cool it in ice water.",
        "The yolk sets at 65 degrees.",
    ]


def test_two_sentences_with_one_support_are_cited_once() -> None:
    assert len(quotes("The yolk sets at 65 degrees. At 65 degrees the yolk sets hard.")) == 1


def test_a_sentence_may_rest_on_two_neighbours() -> None:
    (quote,) = quotes("Cool it in ice water since the yolk sets at 65 degrees.")
    assert quote == "Cool it in ice water. The yolk sets at 65 degrees."


def test_one_sentence_is_preferred_to_two_and_the_first_passage_to_the_second() -> None:
    twin = Passage("twin", "twin.md", "", EGG.text, 0, len(EGG.text))
    found = cite("The yolk sets at 65 degrees.", [EGG, twin])
    assert [(c.passage_id, c.quote) for c in found] == [("egg#p0", "The yolk sets at 65 degrees.")]


def test_of_a_dialogue_only_replies_are_cited() -> None:
    dialogue = Dialogue(
        "d",
        (
            Message("user", "Does the castle of Prague open at nine?"),
            Message("assistant", "No, it opens at six.\nGuided tours start later."),
            Message("user", "Thanks!"),
            Message("assistant", "Welcome!"),
        ),
    )
    (passage,) = chunk_dialogue(
        dialogue, lambda text: [(i, i + 1) for i in range(len(text))], chunk_tokens=99
    )
    assert quotes("The castle of Prague opens at nine.", passage) == []
    (found,) = cite("Guided tours start later.", [passage])
    assert found.quote == "Guided tours start later."
    assert dialogue_document(dialogue).text[found.start : found.end] == found.quote
    spoken = [passage.text[start:end] for spans in quotable(passage) for start, end in spans]
    assert not any("Prague" in text or "Thanks" in text for text in spoken)


def test_a_document_is_cited_before_a_conversation_that_says_the_same() -> None:
    talk = "User: A soft yolk?\nAssistant: A soft yolk sets at 65 degrees."
    exchange = Passage("talk#p0", "talk", "Talk", talk, 0, len(talk), kind="dialogue")
    (citation,) = cite("A soft yolk sets at 65 degrees.", [exchange, EGG])
    assert citation.passage_id == EGG.id


def test_abbreviations_and_decimals_do_not_end_a_sentence_of_the_answer() -> None:
    walk = Passage("w", "w", "", "Mt. Fuji is 3.776 km high. Dr. Sato says a St. Bernard can walk up.", 0, 68)
    assert quotes("Dr. Sato says a St. Bernard can walk up.", walk) == [
        "Dr. Sato says a St. Bernard can walk up."
    ]
    assert quotes("Fuji is 3.776 km high.", walk)[0].endswith("Fuji is 3.776 km high.")


said = st.one_of(
    st.text(max_size=60),
    st.lists(
        st.sampled_from("egg boils 65 6.5 soft water User: Assistant: yolk sets . ! \n".split(" ")),
        max_size=25,
    ).map(" ".join),
)


@settings(max_examples=120, deadline=None)
@given(st.lists(st.tuples(said, st.booleans(), st.integers(0, 99)), max_size=3), said)
def test_every_quote_lies_in_a_passage_given(given_texts: list[tuple[str, bool, int]], answer: str) -> None:
    passages = {
        f"p{n}": Passage(f"p{n}", "s", "", text, at, at + len(text), kind="dialogue" if talk else "topic")
        for n, (text, talk, at) in enumerate(given_texts)
    }
    found = cite(answer, list(passages.values()))
    assert len({(c.passage_id, c.start, c.end) for c in found}) == len(found)
    for citation in found:
        passage = passages[citation.passage_id]
        assert passage.start <= citation.start < citation.end <= passage.end
        assert passage.text[citation.start - passage.start : citation.end - passage.start] == citation.quote
        assert 0.6 <= citation.score <= 1.0
