"""An uncased model's words get the spelling, case and spacing of the evidence back."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_chat.generation.surface import _TOKEN, LOOKAHEAD, Surface

EVIDENCE = [
    "Tromsø lies at 69.6 degrees north. In January it is −3.5 °C there. Don't miss the Fjellheisen (a cable "
    'car): it costs $20, or 5% less online. It\'s well-known. The guide said "wear wool" to us.',
    "The café in São Paulo opens at 10:30, e.g. for breakfast. See example.com for more than 1,000 menus. "
    "My iPhone shows pH values. Dr. Who lives in the U.S. now.",
]
FOLD = str.maketrans({"ø": "o", "đ": "d", "ð": "d", "ł": "l", "ı": "i", "æ": "ae", "œ": "oe"})


def letters(text: str) -> str:
    decomposed = unicodedata.normalize("NFD", text.casefold())
    kept = "".join(c for c in decomposed if unicodedata.category(c) != "Mn" and not c.isspace())
    return kept.translate(FOLD)


def uncased(text: str) -> str:
    """As an uncased model with BERT's tokenizer says it."""
    return " ".join(letters(token) for token in _TOKEN.findall(unicodedata.normalize("NFC", text)))


@pytest.mark.parametrize(
    ("said", "restored"),
    [
        ("tromso lies at 69 . 6 degrees north .", "Tromsø lies at 69.6 degrees north."),
        ("don ' t miss it", "Don't miss it"),
        ("it costs $ 20 , or 5 % less online .", "It costs $20, or 5% less online."),
        ("the well - known fjellheisen ( a cable car )", "The well-known Fjellheisen (a cable car)"),
        ('the guide said " wear wool " to us .', 'The guide said "wear wool" to us.'),
        ("breakfast in sao paulo at 10 : 30", "Breakfast in São Paulo at 10:30"),
        ("e . g . for breakfast .", "E.g. for breakfast."),
        ("opens early , e . g . for breakfast .", "Opens early, e.g. for breakfast."),
        ("see example . com for more than 1 , 000 menus", "See example.com for more than 1,000 menus"),
        ("iphone shows ph values", "iPhone shows pH values"),
        ("dr . who lives in the u . s . now .", "Dr. Who lives in the U.S. now."),
    ],
)
def test_copies_the_evidence(said: str, restored: str) -> None:
    assert Surface(EVIDENCE).restore(said) == restored


@pytest.mark.parametrize(
    ("said", "restored"),
    [
        ("i am a rag _ chat assistant", "I am a rag_chat assistant"),
        ("yes , i think so . it ' s fine .", "Yes, I think so. It's fine."),
        ('she said " hello there " twice', 'She said "hello there" twice'),
        ("the dogs ' tails", "The dogs' tails"),
        ("at 3 . 5 or 1 , 000 or 10 : 30", "At 3.5 or 1,000 or 10:30"),
        ("in 1990 , 20 people came", "In 1990, 20 people came"),
        ("50 % of £ 5 ( or so )", "50% of £5 (or so)"),
        ("a follow - up ? yes !", "A follow-up? Yes!"),
        ("o ' clock", "O'clock"),
        ("", ""),
        ("   ", ""),
    ],
)
def test_writes_plain_english_where_there_is_no_evidence(said: str, restored: str) -> None:
    assert Surface([]).restore(said) == restored


def test_a_word_the_model_has_keeps_its_own_letters() -> None:
    assert Surface([]).restore("tromsø") == "Tromsø"


def test_evidence_with_accents_of_their_own() -> None:
    assert Surface([unicodedata.normalize("NFD", "A résumé of São Tomé.")]).restore("resume of sao tome") == (
        "Résumé of São Tomé"
    )


def test_a_capital_that_only_opens_a_sentence_is_not_copied() -> None:
    surface = Surface(["Eggs boil. Tromsø is cold."], is_common={"eggs"}.__contains__)
    assert surface.restore("boil eggs in tromso") == "Boil eggs in Tromsø"


names = [
    "Tromsø",
    "café",
    "iPhone",
    "McDonald",
    "USA",
    "naïve",
    "Łódź",
    "water",
    "lies",
    "north",
    "in",
    "the",
]
sentence = st.lists(st.sampled_from(names), min_size=1, max_size=9).map(lambda w: " ".join(w) + ".")


@settings(max_examples=80, deadline=None)
@given(st.lists(sentence, min_size=1, max_size=4), st.data())
def test_a_sentence_of_the_evidence_comes_back(evidence: list[str], data: st.DataObject) -> None:
    wanted = data.draw(st.sampled_from(evidence))
    restored = Surface([" ".join(evidence)]).restore(uncased(wanted))
    assert restored.casefold().split() == wanted.casefold().split()


said = st.one_of(
    st.text(max_size=40),
    st.lists(
        st.sampled_from([*map(letters, names), *".,!?'\"-%$(): 3 69 e g i s t".split(), "."]), max_size=20
    ).map(" ".join),
)
evidence = st.lists(st.one_of(st.text(max_size=40), sentence, st.sampled_from(EVIDENCE)), max_size=3)


@settings(max_examples=150, deadline=None)
@given(evidence, said)
def test_never_changes_the_letters(evidence: list[str], said: str) -> None:
    surface = Surface(evidence)
    assert letters(surface.restore(said)) == letters(said)
    assert len(surface.pieces(said)) == len(_TOKEN.findall(unicodedata.normalize("NFC", said)))


@settings(max_examples=150, deadline=None)
@given(evidence, said, st.integers(0, 20))
def test_a_piece_is_settled_so_many_tokens_later(evidence: list[str], said: str, cut: int) -> None:
    surface, tokens = Surface(evidence), uncased(said).split()
    early, late = surface.pieces(" ".join(tokens[:cut])), surface.pieces(" ".join(tokens))
    settled = max(0, min(cut, len(tokens)) - LOOKAHEAD)
    assert early[:settled] == late[:settled]


def test_takes_no_longer_for_evidence_that_repeats_itself() -> None:
    surface = Surface([" ".join(["the same word and"] * 1250)])
    started = time.process_time()
    surface.restore(" ".join(["same the and word"] * 250))
    assert time.process_time() - started < 1.0  # 0.01 s; it was 20 s when each place was tried
