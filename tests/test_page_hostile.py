"""What documents, models and visitors write is text on the page, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import browsing
import models
import pytest

from rag_chat import Assistant, Index
from rag_chat.types import Document, Prompt, Turn

pytest.importorskip("fastapi", reason="needs rag-chat[serve]")
from rag_chat.serving.app import STATIC, create_app

HIT = "top.hit=(top.hit||0)+1"  # `top`: a frame that counts in its own window would set the page back to 1
TAGS = [
    "<script>{}</script>",
    "<img src=x onerror='{}'>",
    "<svg onload='{}'></svg>",
    "<svg><script>{}</script></svg>",
    "<iframe srcdoc='<script>{}</script>'></iframe>",
    "<iframe src='javascript:{}'></iframe>",
    "<a href='javascript:{}' autofocus onfocus='{}'>x</a>",
    "<input autofocus onfocus='{}'>",
    "<details open ontoggle='{}'>x</details>",
    "<video><source onerror='{}'></video>",
    "<audio src=x onerror='{}'></audio>",
    "<object data='javascript:{}'></object>",
    "<math><mtext><img src=x onerror='{}'></mtext></math>",
    "<form><button formaction='javascript:{}'>x</button></form>",
    "<style onload='{}'></style>",
    "<link rel=stylesheet href=x onerror='{}'>",
    "<body onpageshow='{}'>",
    "<marquee onstart='{}'>x</marquee>",
    "<div style='animation:breathe 1s' onanimationstart='{}'>x</div>",
    "<base href='javascript:{}//'>",
]
WRAPS = ["{}", '"><b>{}', "</p></li></ol></main>{}", "</textarea></script>{}", "--><!-- x -->{}]]>"]
PAYLOADS = [wrap.format(tag.replace("{}", HIT)) for tag in TAGS for wrap in WRAPS]


class Parrot:
    """Repeats the passage that is asked for by its number."""

    name = "<img src=x onerror='window.hit=1'>"

    def prompt(self, turn: Turn) -> Prompt:
        return Prompt(turn.question)

    def generate(self, turns: Sequence[Turn]) -> list[str]:
        return ["".join(self.stream(turn)) for turn in turns]

    def stream(self, turn: Turn) -> Iterator[str]:
        topic = turn.question.split()[0] + " "
        (asked,) = [one.text for one in turn.passages if one.title.startswith(topic)]
        yield from re.split(r"(?<=[<>'\"])", asked)


def hostile_documents() -> list[Document]:
    """A document for each payload: in its name, its title, its text and its metadata."""
    return [
        Document(
            f"{n}<b>{payload}", f"Topic{n} says {payload} here.", f"Topic{n} {payload}", {"tag": payload}
        )
        for n, payload in enumerate(PAYLOADS)
    ]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("hostile")
    with Index.build(hostile_documents(), folder / "index", embedder=models.WordEmbedder()) as index:
        bot = Assistant(index, Parrot(), sessions=folder / "sessions.sqlite")
        with browsing.serving(create_app(bot)) as address:
            yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with browsing.chromium() as one:
        yield one


def _careless(route: Any) -> None:
    """An empty page without a policy; what else is asked for is not there."""
    found = route.request.url.endswith("/careless")
    route.fulfill(status=200 if found else 404, content_type="text/html", body="<body></body>")


def test_the_payloads_are_live(browser: Any) -> None:
    """Where a page is careless they do run: without this the tests below would show nothing."""
    assert len(PAYLOADS) == len(set(PAYLOADS)) == 100
    with browsing.new_page(browser) as page:
        page.route("**/*", _careless)
        page.goto("http://127.0.0.1/careless")
        page.evaluate(
            """payloads => {
              for (const payload of payloads) {
                const place = document.createElement("div");
                document.body.append(place);
                place.innerHTML = payload;
              }
            }""",
            PAYLOADS,
        )
        browsing.until(page, "window.hit > 40")


def test_a_hundred_payloads_run_no_script(browser: Any, base: str) -> None:
    with browsing.new_page(browser) as page:
        page.goto(base)
        for n, payload in enumerate(PAYLOADS[:5]):  # as it streams
            page.fill("#question", f"Topic{n} {payload}")
            page.keyboard.press("Enter")
            page.locator("li.turn").nth(n).locator(".foot").wait_for()
        session = page.url.split("#")[1]
        for n, payload in enumerate(PAYLOADS[5:], 5):
            body = {"question": f"Topic{n} {payload}", "session": session}
            assert page.request.post(f"{base}/api/ask", data=body).ok
        page.reload()
        page.locator(".asked", has_text="Topic99").wait_for()
        assert page.locator("li.turn").count() == 100
        shown = page.evaluate("[...document.querySelectorAll('.said > .text')].map(one => one.textContent)")
        assert shown == [one.text for one in hostile_documents()]
        page.evaluate("document.querySelectorAll('details.why').forEach(one => one.open = true)")
        citations = page.locator(".citation")
        assert citations.count() >= 100
        for n in range(0, citations.count(), 10):
            citations.nth(n).evaluate("node => node.click()")
            page.locator("dialog.sheet mark").wait_for()
            assert page.evaluate("document.querySelector('dialog.sheet h2').textContent").startswith("Topic")
            page.keyboard.press("Escape")
            page.locator("dialog.sheet").wait_for(state="hidden")
        made = "#conversation :is(img, script, iframe, object, b, video, style, link, base, form form)"
        assert page.locator(made).count() == 0
        page.wait_for_timeout(300)
        assert page.evaluate("window.hit") is None


def test_a_hostile_address_is_no_script(browser: Any, base: str) -> None:
    with browsing.new_page(browser) as page:
        for fragment in ("<img src=x onerror=alert(1)>", "javascript:alert(1)", "%", "..%2f..%2fhealthz"):
            page.goto(f"{base}/#{fragment}")
            page.reload()
            page.locator(".hint h2").wait_for()


def test_the_policy_allows_nothing_from_elsewhere(browser: Any, base: str) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        reply = page.goto(base)
        policy = reply.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        page.evaluate(
            """() => {
              const script = document.createElement("script");
              script.textContent = "window.hit = 1";
              document.body.append(script);
            }"""
        )
        assert page.evaluate("window.hit") is None


@pytest.mark.parametrize("path", sorted(STATIC.iterdir()), ids=lambda path: path.name)
def test_no_file_parses_text_as_markup_or_names_another_server(path: Path) -> None:
    text = path.read_text("utf-8")
    parsing = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|srcdoc"
    risky = rf"{parsing}|setHTML|\beval\b|new Function"
    assert not re.search(risky, text)
    if path.suffix == ".html":
        assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", text)
    addresses = re.findall(r"(?:https?:)?//[\w.-]+\.\w+", re.sub(r"^\s*//.*", "", text, flags=re.M))
    assert set(addresses) <= {"http://www.w3.org"}  # the name of SVG
