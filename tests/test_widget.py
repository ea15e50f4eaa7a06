"""The widget on a page of another origin, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browsing
import models
import pytest

from rag_chat import Assistant, Index
from rag_chat.types import Document

pytest.importorskip("fastapi", reason="needs rag-chat[serve]")
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from rag_chat.serving.app import create_app
from rag_chat.serving.settings import ServingSettings

ROOT = Path(__file__).parent.parent
ASKED, SAID = "How long do I boil an egg?", "Boil an egg for six minutes."
ACCESSIBILITY = (ROOT / "tests" / "accessibility.js").read_text("utf-8")
# A site whose rules reach for everything, and whose script looks for anything new in the page.
SITE = """<!doctype html><html lang="en"><head><title>A site</title>
<style>
  html { font-size: 7px; }
  * { color: rgb(255, 0, 0) !important; letter-spacing: 5px !important; }
  * { text-transform: uppercase !important; }
  button, dialog, textarea { display: none !important; }
  .chat, .turn, .icon, .hidden { border: 9px solid lime !important; }
</style></head>
<body><h1 class="chat">Welcome</h1><p class="hidden">Our own text</p><button class="round">Ours</button>WIDGET
</body></html>
"""
LOOK = """() => [...document.querySelectorAll("h1, p, button, body")].map(node => {
  const style = getComputedStyle(node);
  const { x, y, width, height } = node.getBoundingClientRect();
  return [x, y, width, height, ...[...style].map(name => `${name}: ${style.getPropertyValue(name)}`)];
})"""


def snippet(server: str) -> str:
    """The line that docs/widget.md tells people to paste, with the address of this server."""
    written = (ROOT / "docs" / "widget.md").read_text("utf-8")
    (line,) = re.findall(r"```html\n(.*?)\n```", written, re.DOTALL)
    return line.replace("https://chat.example.com", server)


class Site(Starlette):
    """A site that learns the widget's line once the server, which must know the site's origin, runs."""

    script = ""

    def __init__(self) -> None:
        super().__init__(routes=[Route("/with", self.page), Route("/without", self.page)])

    def page(self, request: Request) -> HTMLResponse:
        return HTMLResponse(SITE.replace("WIDGET", self.script if request.url.path == "/with" else ""))


@pytest.fixture(scope="module")
def assistant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Assistant]:
    folder = tmp_path_factory.mktemp("widget")
    documents = [Document("food/eggs.md", f"{SAID} A soft yolk sets at 65 degrees.", "Eggs")]
    with Index.build(documents, folder / "index", embedder=models.WordEmbedder()) as index:
        says = models.Scripted({ASKED: SAID, "And a yolk?": "A soft yolk sets at 65 degrees."})
        yield Assistant(index, says, sessions=folder / "sessions.sqlite")


@pytest.fixture(scope="module")
def sites(assistant: Assistant) -> Iterator[tuple[str, str]]:
    """Two sites with the widget, by their origins; the server allows the first only."""
    allowed, stranger = Site(), Site()
    with (
        browsing.serving(allowed) as one,
        browsing.serving(stranger) as other,
        browsing.serving(create_app(assistant, ServingSettings(origins=(one,)))) as server,
    ):
        allowed.script = stranger.script = snippet(server)
        yield one, other


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with browsing.chromium() as one:
        yield one


@pytest.fixture
def page(browser: Any, sites: tuple[str, str]) -> Iterator[Any]:
    with browsing.new_page(browser) as one:
        one.goto(f"{sites[0]}/with")
        one.locator(".launcher").wait_for()
        yield one


def ask(page: Any, question: str) -> Any:
    before = page.locator("li.turn").count()
    page.get_by_label("Your question").fill(question)
    page.keyboard.press("Enter")
    turn = page.locator("li.turn").nth(before)
    turn.locator(".foot").wait_for()
    return turn


def test_ask_on_another_origin(page: Any) -> None:
    page.get_by_role("button", name="Chat with Travel desk").click()
    turn = ask(page, ASKED)
    assert turn.locator(".said > .text").inner_text() == SAID
    turn.locator(".citation").click()
    mark = page.locator("dialog.sheet mark")
    mark.wait_for()
    assert mark.inner_text() == SAID
    page.keyboard.press("Escape")
    mark.wait_for(state="hidden")
    assert page.locator(".panel").is_visible()  # Escape closed the passage alone
    page.keyboard.press("Escape")
    assert not page.locator(".panel").is_visible()
    turn_again = page.get_by_role("button", name="Chat with Travel desk")
    assert turn_again.evaluate("node => node.getRootNode().activeElement === node")


def test_the_conversation_goes_on_after_a_reload(page: Any) -> None:
    page.locator(".launcher").click()
    ask(page, ASKED).get_by_role("button", name="Bad answer").click()
    page.locator("[aria-pressed=true]").wait_for()
    page.reload()
    page.locator(".launcher").click()
    page.locator("li.turn .foot").wait_for()
    assert ask(page, "And a yolk?").locator(".said > .text").inner_text().endswith("65 degrees.")
    page.get_by_role("button", name="Good answer").last.click()
    page.locator("[aria-pressed=true]").wait_for()
    page.get_by_role("button", name="New conversation").click()
    assert page.locator("li.turn").count() == 0


def test_visitors_do_not_see_each_other(page: Any, browser: Any) -> None:
    page.locator(".launcher").click()
    ask(page, ASKED)
    session = page.evaluate("sessionStorage.getItem('rag_chat_session')")
    with browsing.new_page(browser) as other:
        other.goto(page.url)
        other.evaluate(f"sessionStorage.setItem('rag_chat_session', {session!r})")
        other.reload()
        other.locator(".launcher").click()
        other.locator(".hint").wait_for()
        assert other.locator("li.turn").count() == 0


def test_site_and_widget_leave_each_others_looks_alone(page: Any, sites: tuple[str, str]) -> None:
    page.locator(".launcher").click()
    turn = ask(page, ASKED)
    text = turn.locator(".said > .text")
    style = "(node, name) => getComputedStyle(node)[name]"
    assert text.evaluate(style, "letterSpacing") == "normal"
    assert text.evaluate(style, "textTransform") == "none"
    assert text.evaluate(style, "color") != "rgb(255, 0, 0)"
    assert float(text.evaluate(style, "fontSize")[:-2]) >= 15
    assert turn.evaluate(style, "borderTopStyle") == "none"
    assert page.locator(".launcher").bounding_box()["width"] == 56
    with_widget = page.evaluate(LOOK)
    page.goto(f"{sites[0]}/without")
    assert page.evaluate(LOOK) == with_widget
    assert len(with_widget) == 4


def test_names_contrast_and_order(page: Any) -> None:
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        if not page.locator(".panel").is_visible():
            page.locator(".launcher").click()
            ask(page, ASKED).locator("summary").click()
        root = "document.querySelector('rag-chat-widget').shadowRoot"
        assert page.evaluate(f"({ACCESSIBILITY})({root})") == []


def test_a_phone(browser: Any, sites: tuple[str, str]) -> None:
    with browsing.new_page(browser, viewport={"width": 360, "height": 640}, has_touch=True) as page:
        page.goto(f"{sites[0]}/with")
        page.locator(".launcher").tap()
        ask(page, ASKED)
        box = page.locator(".panel").bounding_box()
        assert (box["x"], box["y"], box["width"], box["height"]) == (0, 0, 360, 640)
        page.get_by_role("button", name="Close").tap()
        page.locator(".panel").wait_for(state="hidden")


def test_a_site_that_is_not_listed_gets_no_chat(browser: Any, sites: tuple[str, str]) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        with page.expect_console_message(
            lambda message: "--allow-origin" in message.text, timeout=browsing.PATIENCE_MS
        ):
            page.goto(f"{sites[1]}/with")
        assert page.locator(".launcher").count() == 0
