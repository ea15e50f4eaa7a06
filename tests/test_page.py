"""The chat page in a real browser, against a real server."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browsing
import models
import pytest

from rag_chat import Assistant, Index
from rag_chat.types import Document

pytest.importorskip("fastapi", reason="needs rag-chat[serve]")
from rag_chat.serving.app import create_app
from rag_chat.serving.settings import ServingSettings

CORPUS = [
    Document(
        "travel/tromsø.md",
        "🧭 Tromsø lies in Norway. 🌌 Northern lights are seen from September to March.\n\nIt has a harbour.",
        "Tromsø",
        {"topic": "travel"},
    ),
    Document("food/eggs.md", "Boil an egg for six minutes. A soft yolk sets at 65 degrees.", "Eggs"),
]
SAID = {
    "When are the northern lights seen?": "Northern lights are seen from September to March.",
    "And where?": "Tromsø lies in Norway.",
    "How long do I boil an egg?": "Boil an egg for six minutes.",
    "Who are you?": "unanswerable",
    "How is an egg boiled?": "Boil an egg for six minutes. Vikings invented the spoon.",
}
LIGHTS, WHERE, EGG, WHO, SPOON = SAID
ACCESSIBILITY = (Path(__file__).parent / "accessibility.js").read_text("utf-8")
KEY = "k" * 32
LONG = "0" * 32


class Slow(models.Scripted):
    """Says what it was told to, and is slow when asked to be."""

    def stream(self, turn: Any) -> Iterator[str]:
        if turn.question == "Slowly?":
            for n in range(300):
                yield f"{n} "
                time.sleep(0.05)
        else:
            yield from super().stream(turn)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def assistant(folder: Path) -> Iterator[Assistant]:
    with Index.build(CORPUS, folder / "index", embedder=models.WordEmbedder()) as index:
        yield Assistant(index, Slow(SAID), sessions=folder / "sessions.sqlite")


@pytest.fixture(scope="module")
def base(assistant: Assistant, folder: Path) -> Iterator[str]:
    with browsing.serving(create_app(assistant, ServingSettings(feedback=folder / "feedback"))) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with browsing.chromium() as one:
        yield one


@pytest.fixture
def page(browser: Any, base: str) -> Iterator[Any]:
    """A visitor who has just come; nothing may be asked of another server."""
    with browsing.new_page(browser) as one:
        others: list[str] = []
        one.on("request", lambda request: request.url.startswith(base) or others.append(request.url))
        one.goto(base)
        yield one
        assert others == []


def ask(page: Any, question: str) -> Any:
    """Ask, wait for the answer, and return its turn."""
    before = page.locator("li.turn").count()
    page.fill("#question", question)
    page.keyboard.press("Enter")
    turn = page.locator("li.turn").nth(before)
    turn.locator(".foot").wait_for()
    return turn


def problems(page: Any) -> list[str]:
    found: list[str] = page.evaluate(f"({ACCESSIBILITY})(document)")
    return found


# --- A conversation --------------------------------------------------------------------------------


def test_ask_and_follow_up(page: Any) -> None:
    first = ask(page, LIGHTS)
    assert first.locator(".asked .text").inner_text() == LIGHTS
    assert first.locator(".said > .text").inner_text() == SAID[LIGHTS]
    assert page.locator("[role=status]").inner_text() == f"Answer: {SAID[LIGHTS]}"
    second = ask(page, WHERE)
    assert second.locator(".said > .text").inner_text() == SAID[WHERE]
    assert page.evaluate("document.activeElement.id") == "question"
    second.locator("summary").click()
    why = second.locator(".why dl").inner_text()
    assert LIGHTS in why  # the follow-up was searched for together with the turn before it
    assert "travel/tromsø.md" in why
    assert "scripted" in why


def test_a_citation_opens_its_passage_with_the_span_marked(page: Any) -> None:
    citation = ask(page, LIGHTS).locator(".citation")
    citation.click()
    dialog = page.locator("dialog.sheet")
    dialog.locator("mark").wait_for()
    assert dialog.locator("h2").inner_text() == "Tromsø"
    assert dialog.locator("mark").inner_text() == f"🌌 {SAID[LIGHTS]}"  # another such sign before it
    assert dialog.locator(".passage").inner_text() == CORPUS[0].text
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    assert citation.evaluate("node => node === document.activeElement")


def test_every_passage_that_was_read_can_be_opened(page: Any) -> None:
    turn = ask(page, WHO)
    turn.locator("summary").click()
    turn.locator(".passages button", has_text="Eggs").click()
    dialog = page.locator("dialog.sheet")
    dialog.locator("h2", has_text="Eggs").wait_for()
    assert dialog.locator(".passage").inner_text() == CORPUS[1].text
    assert dialog.locator("mark").count() == 0


def test_an_abstention_is_shown_as_such(page: Any) -> None:
    turn = ask(page, WHO)
    assert turn.locator(".abstained .label").inner_text() == "No answer in the documents"
    assert "do not answer the question" in turn.locator(".reason").inner_text()
    assert turn.locator(".citation").count() == 0
    assert page.locator("[role=status]").inner_text().startswith("No answer: ")


def test_a_sentence_without_support_is_marked(page: Any) -> None:
    turn = ask(page, SPOON)
    for _ in ("as it came", "as it is kept"):
        turn.locator(".unsupported").wait_for()
        assert turn.locator(".said > .text").inner_text() == SAID[SPOON]
        assert turn.locator(".unsupported").inner_text() == "Vikings invented the spoon."
        assert "no support" in turn.locator(".reason").inner_text()
        page.reload()


def test_reload_and_continue(page: Any, base: str) -> None:
    ask(page, LIGHTS)
    page.reload()
    page.locator("li.turn .citation").wait_for()
    assert page.locator("li.turn .said > .text").inner_text() == SAID[LIGHTS]
    page.locator("#heading", has_text=LIGHTS).wait_for()
    turn = ask(page, WHERE)
    turn.locator("summary").click()
    assert LIGHTS in turn.locator(".why dl").inner_text()
    page.click("#new")
    assert page.locator("li.turn").count() == 0
    ask(page, EGG)
    page.locator("#sessions a").nth(1).wait_for()
    assert page.locator("#sessions a").count() == 2
    page.go_back()
    page.go_back()
    page.locator("li.turn").nth(1).wait_for()
    page.locator("#sessions a", has_text=EGG).click()
    page.locator(".said", has_text=SAID[EGG]).wait_for()
    assert page.locator("#sessions a[aria-current]").inner_text().startswith(EGG)
    page.goto(f"{base}/#no-such-conversation")
    page.locator(".hint h2").wait_for()


def test_a_list_that_comes_late_does_not_hide_what_was_asked_meanwhile(browser: Any, base: str) -> None:
    with browsing.new_page(browser) as page:
        late: list[Any] = []
        page.route("**/api/sessions", lambda route: late.append(route), times=1)
        page.goto(base)
        ask(page, LIGHTS)
        page.locator("#sessions a").wait_for()
        with page.expect_response("**/api/sessions"):
            late[0].fulfill(json={"sessions": []})
        page.wait_for_timeout(200)
        assert page.locator("#sessions a").count() == 1


def test_another_visitor_sees_nothing_of_it(page: Any, browser: Any) -> None:
    ask(page, LIGHTS)
    with browsing.new_page(browser) as other:
        other.goto(page.url)
        other.locator(".hint h2").wait_for()
        assert other.locator("li.turn").count() == 0
        assert other.locator("#sessions a").count() == 0


def test_delete_a_conversation(page: Any) -> None:
    ask(page, LIGHTS)
    page.locator("#sessions a").wait_for()
    for choice, left in (("Keep it", 1), ("Delete", 0)):
        page.hover("#sessions li")
        page.click("#sessions .remove")
        page.locator("#confirm").get_by_role("button", name=choice).click()
        browsing.until(page, f"document.querySelectorAll('#sessions li').length === {left}")
    assert page.locator("li.turn").count() == 0


def test_a_rating_is_a_case_for_an_evaluation(page: Any, folder: Path) -> None:
    ask(page, WHO)
    down = ask(page, EGG).get_by_role("button", name="Bad answer")
    down.click()
    browsing.until(page, "document.querySelector('[role=status]').textContent.startsWith('Thank you')")
    assert down.get_attribute("aria-pressed") == "true"
    (line,) = (folder / "feedback" / "down.jsonl").read_text("utf-8").splitlines()
    assert [message["content"] for message in json.loads(line)["messages"]][-2:] == [EGG, SAID[EGG]]


def test_stop_and_ask_again(page: Any) -> None:
    page.fill("#question", "Slowly?")
    page.keyboard.press("Enter")
    page.locator(".said", has_text="2 3").wait_for()  # it streams
    page.get_by_role("button", name="Stop answering").click()
    page.locator(".failed", has_text="not kept").wait_for()
    page.wait_for_timeout(200)
    assert ask(page, EGG).locator(".said > .text").inner_text() == SAID[EGG]
    page.reload()
    page.locator("li.turn").wait_for()
    assert page.locator("li.turn").count() == 1


def test_a_busy_server(page: Any) -> None:
    busy = {"error": {"message": "Too many are waiting.", "type": "rate_limit_error"}}
    page.route(
        "**/api/ask",
        lambda route: route.fulfill(status=429, headers={"retry-after": "7"}, json=busy),
        times=1,
    )
    page.fill("#question", EGG)
    page.keyboard.press("Enter")
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert "Too many are waiting. Try again in about 7 s." in alert.inner_text()
    alert.get_by_role("button", name="Ask again").click()
    page.locator(".foot").wait_for()
    assert page.locator("li.turn").count() == 1


def test_a_passage_that_is_gone(page: Any) -> None:
    turn = ask(page, EGG)
    page.route("**/api/passages/**", lambda route: route.abort())
    turn.locator(".citation").click()
    assert "cannot be reached" in page.get_by_role("alert").inner_text()
    ask(page, LIGHTS)
    assert page.get_by_role("alert").count() == 0


def test_a_server_that_asks_for_a_key(browser: Any, assistant: Assistant) -> None:
    with (
        browsing.serving(create_app(assistant, ServingSettings(api_keys=(KEY,)))) as address,
        browsing.new_page(browser) as page,
    ):
        page.goto(address)
        for key in ("wrong", KEY):
            page.locator("#key").wait_for()
            page.fill("#key-input", key)
            page.keyboard.press("Enter")
            if key != KEY:
                browsing.until(page, "document.querySelector('#key-input').value === ''")
        page.locator("#key").wait_for(state="hidden")
        assert ask(page, EGG).locator(".said > .text").inner_text() == SAID[EGG]


# --- Everybody can use it --------------------------------------------------------------------------


def test_keyboard_only(page: Any) -> None:
    browsing.until(page, "document.activeElement.id === 'question'")
    page.keyboard.type(LIGHTS)
    page.keyboard.press("Shift+Enter")
    page.keyboard.press("Backspace")
    page.keyboard.press("Enter")
    page.locator(".foot").wait_for()
    page.locator("#sessions a[aria-current]").wait_for()

    def back_to(what: str) -> None:
        for _ in range(12):
            page.keyboard.press("Shift+Tab")
            if page.evaluate(f"document.activeElement.matches({what!r})"):
                return
        raise AssertionError(f"{what} is not reached")

    back_to("summary")
    page.keyboard.press("Enter")
    assert page.locator(".why dl").is_visible()
    back_to("[aria-label='Good answer']")
    page.keyboard.press("Space")
    page.locator("[aria-label='Good answer'][aria-pressed=true]").wait_for()
    back_to(".citation")
    page.keyboard.press("Enter")
    page.locator("dialog.sheet mark").wait_for()
    assert page.evaluate("document.activeElement.closest('dialog') !== null")
    page.keyboard.press("Escape")
    back_to("#sessions .remove")
    back_to("#sessions a")
    back_to("#new")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "question"
    back_to(".skip")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "question"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_names_contrast_and_order(page: Any, theme: str) -> None:
    page.emulate_media(color_scheme=theme)
    assert problems(page) == []
    ask(page, LIGHTS).locator("summary").click()
    ask(page, WHO).locator("summary").click()
    page.route("**/api/ask", lambda route: route.abort())
    page.fill("#question", EGG)
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for()
    page.locator("[aria-label='Good answer']").first.click()
    page.locator("[aria-pressed=true]").wait_for()
    page.locator("#sessions a[aria-current]").wait_for()
    assert problems(page) == []
    page.locator(".citation").first.click()
    page.locator("dialog.sheet mark").wait_for()
    browsing.until(page, "document.getAnimations().every(one => one.playState === 'finished')")  # faded in
    assert problems(page) == []


def test_the_checks_find_what_is_wrong(page: Any) -> None:
    page.evaluate(
        """() => {
          const bad = document.createElement("div");
          bad.id = "question";
          bad.append(document.createElement("button"), document.createElement("p"));
          bad.lastChild.textContent = "pale";
          bad.lastChild.style.color = "#aaa";
          document.querySelector("main").append(bad);
        }"""
    )
    found = " ".join(problems(page))
    for wrong in ("has no name", "id question is there twice", "has a contrast of"):
        assert wrong in found


def test_the_theme_is_chosen_and_kept(page: Any) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.click("#theme")
    page.click("#theme")
    dark = page.evaluate(paper)
    assert dark != light
    page.reload()
    assert page.evaluate(paper) == dark
    assert page.locator("#theme").inner_text() == "Theme: dark"


def test_a_phone(browser: Any, base: str) -> None:
    with browsing.new_page(browser, viewport={"width": 360, "height": 640}, has_touch=True) as page:
        page.goto(base)
        turn = ask(page, LIGHTS)
        turn.locator("summary").click()
        assert not page.locator("#sidebar").is_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.evaluate("document.querySelector('.scroll').scrollWidth") <= 360
        turn.locator(".citation").tap()
        page.locator("dialog.sheet mark").wait_for()
        page.get_by_role("button", name="Close").tap()
        page.locator("#menu").tap()
        page.locator("#sidebar").wait_for()
        assert problems(page) == []
        page.locator("#sessions a").tap()
        page.locator("#sidebar").wait_for(state="hidden")


# --- Long conversations ----------------------------------------------------------------------------


def long_turn(n: int) -> dict[str, Any]:
    citation = {"passage_id": "a#p0", "source": "a.md", "title": "A", "quote": "Quote. " * 9}
    hits = [{"passage_id": f"a#p{i}", "source": "a.md", "title": f"Passage {i}"} for i in range(5)]
    facts = {
        "abstained": False,
        "reason": "",
        "query": "q",
        "model": "reader",
        "timings_ms": {"generate": 9.0},
    }
    said = f"Answer {n}. " + "It goes on for a while. " * 12
    return {
        "turn": n,
        "question": f"Question {n}?",
        "answer": said,
        "citations": [citation],
        "hits": hits,
        **facts,
    }


@pytest.mark.parametrize("scrolled_back", [1000, pytest.param(5000, marks=pytest.mark.slow)])
def test_ten_thousand_messages(page: Any, base: str, scrolled_back: int) -> None:
    def fulfil(route: Any) -> None:
        before = re.search(r"before=(\d+)", route.request.url)
        last = int(before[1]) - 1 if before else 5000
        first = max(1, last - 99)
        turns = [long_turn(n) for n in range(first, last + 1)]
        route.fulfill(json={"id": LONG, "turns": turns, "more": first > 1})

    page.route(f"**/api/sessions/{LONG}*", fulfil)
    page.goto(f"{base}/#{LONG}")
    page.locator(".asked", has_text="Question 5000?").wait_for()
    assert page.locator("li.turn").count() == 100
    assert page.locator("li.turn").last.evaluate("node => node.getBoundingClientRect().bottom < innerHeight")
    first = page.locator(".asked", has_text="Question 4901?")
    page.evaluate("document.querySelector('.scroll').scrollTop = 0")
    page.locator(".asked", has_text="Question 4801?").wait_for(state="attached")
    page.wait_for_timeout(200)
    assert 0 <= first.bounding_box()["y"] < 400  # what was read stays where it was
    page.evaluate(
        """async (turns) => {
          const earlier = document.querySelector(".earlier");
          while (document.querySelectorAll("li.turn").length < turns) {
            earlier.click();
            await new Promise((done) => setTimeout(done, 1));
          }
        }""",
        scrolled_back,
    )
    assert page.locator("li.turn").count() == scrolled_back
    frames = page.evaluate(
        """async () => {
          const scroll = document.querySelector(".scroll");
          const frame = () => new Promise(requestAnimationFrame);
          const times = [];
          for (let n = 0; n < 40; n++) {
            scroll.scrollTop = (scroll.scrollHeight * ((n * 17) % 40)) / 40;
            const before = await frame();
            times.push((await frame()) - before);
          }
          return times.sort((a, b) => a - b);
        }"""
    )
    assert frames[20] < 500, frames  # milliseconds, on a machine that is busy with other things, too
    turn = ask(page, EGG)
    assert turn.locator(".said > .text").inner_text() == SAID[EGG]
