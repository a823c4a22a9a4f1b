"""Drives the pages in a real browser, as a learner and as an operator would.

Usage: page.py URL OUTPUT_DIR AXE_SCRIPT
"""

import json
import pathlib
import re
import sys
from urllib.parse import urlsplit

from playwright.sync_api import expect, sync_playwright

from cutter import Cutter

URL, OUTPUT, AXE = sys.argv[1].rstrip("/"), pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]
SLOW = 30_000
FIRST = "Plants use sunlight to make food. The chlorophyll somehow turns light into energy, so the plant always grows."
SECOND = "Chlorophyll is a green pigment. It absorbs light because its electrons take up the energy of the photons."
TURNS = "#log .turn"
ANSWERS = "#log .turn.assistant"


class Visitor:
    """A page in a browser of its own, and what went wrong in it."""

    def __init__(self, browser, url=URL, path="/", **context):
        context = {"viewport": {"width": 1100, "height": 900}, "locale": "en", **context}
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.problems = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", lambda said: self.problems.append(said.text) if said.type == "error" else None)
        self.page.goto(url + path)

    def __enter__(self):
        return self.page

    def __exit__(self, kind, *_):
        if kind is None:
            assert not self.problems, self.problems
            self.context.close()


def teach(page, text, topic=None):
    if topic:
        page.locator("#topic").fill(topic)
    page.locator("#explanation").fill(text)
    page.get_by_role("button", name="Teach", exact=True).click()


def taught(page, answers):
    """Waits for so many whole answers."""
    expect(page.locator(ANSWERS)).to_have_count(answers, timeout=SLOW)
    expect(page.locator("#send")).to_be_enabled(timeout=SLOW)
    expect(page.locator(ANSWERS).last).to_contain_text("?")


def accessible(page, what):
    # By the driver, which the page's policy does not stop.
    page.evaluate(AXE.read_text())
    rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = page.evaluate("tags => axe.run(document, { runOnly: { type: 'tag', values: tags } })", rules)
    assert found["passes"], f"{what}: axe looked at nothing"
    told = [f"{it['id']}: {node['html'][:160]}: {node['failureSummary']}" for it in found["violations"] for node in it["nodes"]]
    assert not told, f"{what}:\n" + "\n".join(told)


def fits(page, what):
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{what} scrolls sideways by {wide} px"


def tab(page, name):
    page.get_by_role("tab", name=name, exact=True).click()


def lesson(browser):
    with Visitor(browser) as page:
        accessible(page, "the empty page")
        page.locator("#tone").select_option("curious_child")
        with page.expect_request("**/chat/stream") as asked:
            teach(page, FIRST, "Photosynthesis")
        assert asked.value.post_data_json["tone"] == "curious_child"
        taught(page, 1)
        expect(page.locator("#provider")).to_contain_text("offline")
        open_gaps = page.locator("#gaps li")
        expect(page.locator("#progress")).to_contain_text("0 of 6")
        expect(open_gaps).to_have_count(6)
        page.screenshot(path=OUTPUT / "page.png")
        answer = page.locator(ANSWERS).first.inner_text()
        page.reload()
        expect(page.locator(TURNS)).to_have_count(2)
        assert page.locator(ANSWERS).first.inner_text() == answer, "a reload loses nothing"
        assert page.locator("#topic").input_value() == "Photosynthesis"
        assert page.locator("#tone").input_value() == "curious_child"
        teach(page, SECOND)
        taught(page, 2)
        expect(page.locator("#progress")).to_contain_text("2 of")
        accessible(page, "a lesson")
        gap = open_gaps.filter(has=page.locator("q", has_text=re.compile("^photons$")))
        gap.get_by_role("button", name="Dismiss").click()
        expect(gap).to_have_count(0)
        knowledge(page)
        study(page)
        notes(page)


def knowledge(page):
    tab(page, "Map")
    expect(page.locator("#map [data-node].concept")).to_have_count(4)
    expect(page.locator("#map .gap.answered")).to_have_count(2)
    shown = page.locator("#map [data-node]").count()
    in_words = len(set(page.locator("#map-list [data-node]").evaluate_all("all => all.map((it) => it.dataset.node)")))
    assert shown == in_words + 4, f"the list tells of {in_words} things, the drawing of {shown} with 4 concepts"
    dashes = "all => all.map((it) => getComputedStyle(it).strokeDasharray)"
    assert set(page.locator("#map .gap.asked circle").evaluate_all(dashes)) == {"4px, 3px"}
    page.locator("#map .claim").first.click()
    expect(page.locator("#map-caption")).to_contain_text("Claim: Plants use sunlight")
    expect(page.locator("#map svg")).to_have_attribute("aria-label", re.compile("4 concepts, 4 claims"))
    accessible(page, "the map")
    page.screenshot(path=OUTPUT / "map.png")


def study(page):
    tab(page, "Teach-back")
    page.get_by_role("button", name="Let the student explain").click()
    expect(page.locator("#back-text")).to_contain_text("Chlorophyll is a green pigment")
    expect(page.locator("#back-text")).to_contain_text("What it could not explain")
    accessible(page, "teach-back")
    page.locator("#back-text .ref").first.click()
    expect(page.get_by_role("tab", name="Map", exact=True)).to_have_attribute("aria-selected", "true")
    expect(page.locator("#map .chosen")).to_have_count(1)
    tab(page, "Exam")
    for question in ["What is chlorophyll?", "Who discovered penicillin?"]:
        page.get_by_label("Exam question").fill(question)
        page.keyboard.press("Enter")
        expect(page.locator("#answers li.card").first).to_contain_text(question)
    verdicts = page.locator("#answers .verdict").all_inner_texts()
    assert verdicts == ["Not taught", "Answered"], verdicts
    accessible(page, "the exam")
    tab(page, "Review")
    expect(page.locator("#reviews li").first).to_contain_text("explained")
    accessible(page, "the review")
    page.get_by_role("button", name="Explain again: chlorophyll").click()
    expect(page.locator("#explanation")).to_be_focused()


def notes(page):
    tab(page, "Notes")
    expect(page.locator("#notes-text")).to_contain_text("# Notes: Photosynthesis")
    accessible(page, "the notes")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download the notes").click()
    assert saved.value.suggested_filename == "notes-Photosynthesis.md"
    text = pathlib.Path(saved.value.path()).read_text()
    assert "Chlorophyll is a green pigment" in text, text


def conversations(browser):
    with Visitor(browser) as page:
        page.on("dialog", lambda dialog: dialog.accept())
        teach(page, "Gravity is a force that pulls everything down.", "Falling stones")
        taught(page, 1)
        answer = page.locator(ANSWERS).first.inner_text()
        page.get_by_role("button", name="New conversation").click()
        expect(page.locator(TURNS)).to_have_count(0)
        page.get_by_role("button", name="Conversations", exact=True).click()
        accessible(page, "the list of conversations")
        page.get_by_role("button", name="Open: Falling stones").click()
        expect(page.locator(TURNS)).to_have_count(2)
        assert page.locator(ANSWERS).first.inner_text() == answer, "it is as it was"
        expect(page.locator("#topic")).to_have_value("Falling stones")
        expect(page.locator("#gaps li button").first).to_be_visible()
        teach(page, "The force is proportional to the mass, because each part of it is pulled.")
        taught(page, 2)
        page.get_by_role("button", name="Conversations", exact=True).click()
        mine = page.locator("#session-list li").filter(has_text="Falling stones")
        expect(mine).to_contain_text("4 messages")
        mine.get_by_role("button", name="Mark as complete").click()
        expect(mine).to_contain_text("completed")
        mine.get_by_role("button", name="Delete").click()
        expect(mine).to_have_count(0)
        page.keyboard.press("Escape")
        expect(page.locator(TURNS)).to_have_count(0)


def cut_in_the_middle(browser, cutter):
    """The text is the same as without the cut, and the work is not done twice."""
    with Visitor(browser) as page:
        teach(page, FIRST, "Photosynthesis")
        taught(page, 1)
        whole = page.locator(ANSWERS).first.inner_text()
    visitor = Visitor(browser, cutter.url)
    page = visitor.page
    statuses = "window.statuses = []; new MutationObserver(() => statuses.push(status_.textContent)).observe(status_, { childList: true })"
    page.evaluate("{const status_ = document.getElementById('status'); " + statuses + "}")
    cutter.asked.clear()
    cutter.cut("id: 6\n", times=2)
    teach(page, FIRST, "Photosynthesis")
    taught(page, 1)
    assert page.locator(ANSWERS).first.inner_text() == whole, "every piece once"
    assert not cutter.marks, "the connection was cut"
    assert any("Going on" in told for told in page.evaluate("statuses"))
    asked = "".join(cutter.asked)
    assert asked.count("POST /chat/stream") == 1, "asked once"
    assert re.search(r"GET /streams/[0-9a-f-]+ HTTP", asked) and re.search(r"(?i)last-event-id: [1-9]", asked), asked
    # The page itself is left in mid-answer, and comes back.
    cutter.cut("id: 3\n", times=100)
    teach(page, SECOND)
    expect(page.locator("#status")).to_contain_text("Going on", timeout=SLOW)
    cutter.marks = []
    page.reload()
    taught(page, 2)
    expect(page.locator(TURNS)).to_have_count(4)
    expect(page.locator("#explanation")).to_have_value("")
    others = [it for it in visitor.problems if "net::ERR_" not in it]
    assert not others, others
    visitor.context.close()


def forgotten_stream(browser, cutter):
    """Who comes back too late for the stream finds the answer in the conversation."""
    visitor = Visitor(browser, cutter.url)
    page = visitor.page
    teach(page, FIRST, "Photosynthesis")
    taught(page, 1)
    page.route("**/streams/*", lambda route: route.fulfill(status=404, json={"detail": "there is no such stream"}))
    cutter.cut("id: 3\n")
    teach(page, SECOND)
    taught(page, 2)
    expect(page.locator(TURNS)).to_have_count(4)
    expect(page.locator("#error")).to_be_hidden()
    visitor.context.close()


def waits_in_line(browser):
    visitor = Visitor(browser)
    page = visitor.page
    busy = {"detail": "too many streams are open", "queue_token": "0a0a0a0a-0000-4000-8000-000000000001", "position": 3, "estimated_wait_seconds": 1.0}
    page.route("**/chat/stream", lambda route: route.fulfill(status=503, headers={"retry-after": "1"}, json=busy), times=1)
    teach(page, FIRST, "Photosynthesis")
    expect(page.locator("#status")).to_contain_text("number 3 in line")
    with page.expect_request("**/chat/stream") as asked:
        pass
    assert asked.value.headers["x-queue-token"] == busy["queue_token"]
    taught(page, 1)
    visitor.context.close()


def error_and_retry(browser):
    visitor = Visitor(browser)
    page = visitor.page
    page.route("**/chat/stream", lambda route: route.abort(), times=1)
    teach(page, FIRST, "Photosynthesis")
    expect(page.locator("#error")).to_be_visible()
    assert page.locator("#explanation").input_value() == FIRST, "the words of a failed turn stay"
    accessible(page, "an error")
    page.get_by_role("button", name="Try again").click()
    taught(page, 1)
    expect(page.locator("#error")).to_be_hidden()
    visitor.context.close()


def tools(browser):
    """What a tool found is shown with where it is from, as text and never as markup."""
    events = [
        ("tool", {"tool": "wikipedia", "arguments": '{"query":"chlorophyll"}', "result": "<b>Chlorophyll</b> https://en.wikipedia.org/wiki/Chlorophyll", "ok": True}),
        (None, "Why?"),
        ("result", {"questions": ["Why?"], "session_id": "t-1", "provider": "scripted", "gaps": [], "degraded": [], "tools": []}),
        (None, "[END_OF_STREAM]"),
    ]
    lines = [f"id: {at}\n" + (f"event: {name}\n" if name else "") + f"data: {json.dumps(data)}\n\n" for at, (name, data) in enumerate(events, 1)]
    visitor = Visitor(browser)
    page = visitor.page
    page.route("**/chat/stream", lambda route: route.fulfill(content_type="text/event-stream", body="".join(lines)))
    teach(page, FIRST, "Photosynthesis")
    taught(page, 1)
    page.get_by_text("Looked up with wikipedia: chlorophyll").click()
    expect(page.get_by_role("link", name="https://en.wikipedia.org/wiki/Chlorophyll")).to_have_attribute("rel", "noopener noreferrer")
    expect(page.get_by_text("<b>Chlorophyll</b>")).to_be_visible()
    visitor.context.close()


def panel(browser):
    with Visitor(browser) as page:
        tab(page, "Panel")
        page.locator("#panel-topic").fill("tides")
        page.get_by_label("The position to be discussed").fill("The moon pulls on the sea. That is why there are always two tides a day.")
        page.get_by_role("button", name="Discuss").click()
        expect(page.locator("#report")).to_contain_text("Objections left", timeout=SLOW)
        for agent in ["Planner", "Critic", "Host", "Reporter"]:
            column = page.get_by_role("region", name=agent, exact=True)
            expect(column).to_contain_text("Round 1")
            assert column.locator(".said").first.inner_text().strip(), agent
        accessible(page, "the panel")
        page.screenshot(path=OUTPUT / "panel.png", full_page=True)


def chinese(browser):
    with Visitor(browser, locale="zh-CN") as page:
        assert page.locator("html").get_attribute("lang") == "zh-CN", "the browser's language"
        page.on("dialog", lambda dialog: dialog.accept())
        page.get_by_role("button", name="复利").click()
        page.get_by_role("button", name="讲给我听").click()
        expect(page.locator(ANSWERS).first).to_contain_text("？", timeout=SLOW)
        expect(page.locator("#send")).to_be_enabled()
        accessible(page, "the page in Chinese")
        for name in ["知识图", "复述", "考试", "复习", "笔记", "讨论组"]:
            tab(page, name)
            shown = page.locator("main").inner_text()
            assert not re.search(r"\b(undefined|null|NaN)\b", shown), shown
        page.get_by_role("button", name="English").click()
        assert page.locator("html").get_attribute("lang") == "en"
        expect(page.get_by_role("tab", name="Notes", exact=True)).to_be_visible()


def by_keyboard(browser):
    """No pointer is used; what has the focus is always seen to have it."""
    with Visitor(browser) as page:
        def press(key, times=1):
            for _ in range(times):
                page.keyboard.press(key)

        def until(selector):
            for _ in range(40):
                press("Tab")
                if page.evaluate("wanted => document.activeElement.matches(wanted)", selector):
                    return
                outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert outline != "none", page.evaluate("document.activeElement.outerHTML")
            raise AssertionError(f"Tab does not lead to {selector}")

        press("Tab")
        expect(page.locator(".skip")).to_be_focused()
        press("Enter")
        until("#tab-teach")
        until("#topic")
        page.keyboard.type("Photosynthesis")
        until("#explanation")
        page.keyboard.type(FIRST)
        press("Control+Enter")
        taught(page, 1)
        expect(page.locator("#explanation")).to_be_focused()
        page.locator("#tab-teach").focus()
        press("ArrowRight")
        expect(page.locator("#tab-map")).to_be_focused()
        expect(page.locator("#panel-map")).to_be_visible()
        press("End")
        expect(page.locator("#panel-panel")).to_be_visible()
        press("ArrowRight")
        expect(page.locator("#panel-teach")).to_be_visible()
        press("ArrowRight")
        until("#map-list .ref")
        press("Enter")
        expect(page.locator("#map .chosen")).to_have_count(1)
        before = page.locator("#map .gap").count()
        until("#map-list .small")
        press("Enter")
        expect(page.locator("#map .gap")).to_have_count(before - 1)
        expect(page.locator("#panel-map")).to_be_focused()


def phone(browser):
    small = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
    with Visitor(browser, **small) as page:
        teach(page, "Things fall because of gravity, which is the force that makes things fall.", "Gravity")
        taught(page, 1)
        fits(page, "the lesson on a phone")
        page.screenshot(path=OUTPUT / "phone.png")
        for name in ["Map", "Teach-back", "Exam", "Review", "Notes", "Panel"]:
            tab(page, name)
            fits(page, f"{name} on a phone")
        accessible(page, "a phone")
    with Visitor(browser, path="/operator", **small) as page:
        expect(page.locator("#figures")).to_be_visible()
        fits(page, "the operator's page on a phone")


def dark_and_still(browser):
    with Visitor(browser, color_scheme="dark", reduced_motion="reduce") as page:
        teach(page, FIRST, "Photosynthesis")
        taught(page, 1)
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert dark == "rgb(23, 26, 24)", dark
        accessible(page, "the dark page")
        tab(page, "Map")
        expect(page.locator("#map .gap").first).to_be_visible()
        moving = page.evaluate("[...document.querySelectorAll('*')].filter((it) => getComputedStyle(it).transitionDuration !== '0s').length")
        assert moving == 0, "nothing moves for those who want no motion"
        accessible(page, "the dark map")
    with Visitor(browser, path="/operator", color_scheme="dark") as page:
        expect(page.locator("#figures")).to_be_visible()
        accessible(page, "the dark operator's page")


def operator(browser):
    with Visitor(browser, path="/operator") as page:
        expect(page.locator("#tiles")).to_contain_text("Up for")
        for title in ["Queues", "Breakers", "Recent errors"]:
            expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()
        accessible(page, "the operator's page")
        with page.expect_response("**/api/operator"):
            pass  # it asks again by itself
        page.get_by_role("button", name="中文").click()
        expect(page.get_by_role("heading", name="队列", exact=True)).to_be_visible()
        page.get_by_role("button", name="English").click()
        page.screenshot(path=OUTPUT / "operator.png", full_page=True)
        switch = page.get_by_role("button", name="Maintenance")
        page.once("dialog", lambda dialog: dialog.dismiss())
        switch.click()
        expect(switch).to_have_attribute("aria-pressed", "false")
        page.on("dialog", lambda dialog: dialog.accept())
        switch.click()
        expect(page.locator("#closed")).to_be_visible()
        expect(switch).to_have_attribute("aria-pressed", "true")
        refused = page.request.post(f"{URL}/chat", data={"topic": "t", "explanation": "x"})
        assert refused.status == 503 and refused.headers["retry-after"], refused.status
        switch.click()
        expect(page.locator("#closed")).to_be_hidden()
        assert page.request.post(f"{URL}/chat", data={"topic": "t", "explanation": "x"}).ok


def figures_in_full(browser):
    """Everything the figures may hold, and a key that is asked for."""
    told = {
        "service_id": "lyceum-1", "version": "1.0.0", "uptime_seconds": 93_784, "maintenance": False, "load_average": 1.5,
        "streams": {"open": 64, "limit": 64, "waiting": 7},
        "requests": {"active": 3, "per_second": 12.5, "average_ms": 210.4, "p95_ms": 812.0, "error_rate": 0.0123},
        "queues": [{"name": "deepseek", "waiting": 60, "running": 8, "concurrency": 8, "share": 0.5, "paused_ms": 2000, "shared": False,
                    "quotas": [{"kind": "requests", "limit": 60, "used": 57}],
                    "bands": [{"priority": "high", "waiting": 59, "oldest_ms": 1234}, {"priority": "normal", "waiting": 1, "oldest_ms": None},
                              {"priority": "low", "waiting": 0, "oldest_ms": None}]}],
        "breakers": [{"name": "<i>deepseek</i>", "state": "open"}], "costs": {"today_usd": 1.25, "held_usd": 0.0625},
        "caches": [{"name": "answers", "hits": 3, "misses": 1}],
        "errors": [{"at_ms": 1_767_323_045_000, "endpoint": "/chat", "status": 502, "request_id": "r-1"}],
        "degraded": ["vectors"],
    }

    def answer(route):
        if route.request.headers.get("authorization") == "Bearer right":
            route.fulfill(json=told)
        else:
            route.fulfill(status=401, json={"detail": "the key is missing or not known"})

    visitor = Visitor(browser)
    page = visitor.page
    page.route("**/api/operator", answer)
    page.goto(URL + "/operator")
    for key in ["wrong", "right"]:
        page.get_by_label("API key", exact=True).fill(key)
        if key == "wrong":
            accessible(page, "the question for a key")
        page.get_by_role("button", name="Use this key").click()
    for words in ["1 d 2 h", "64 / 64", "1.23 %", "$1.25", "$0.0625", "<i>deepseek</i>", "8 / 8", "1.2 s", "57 / 60", "50 %", "paused by the provider for 2 s", "this process keeps the quota alone", "open: not asked", "75 %", "r-1", "vectors"]:
        expect(page.locator("main")).to_contain_text(words)
    accessible(page, "the full figures")
    page.reload()
    expect(page.locator("#figures")).to_be_visible()
    visitor.context.close()


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
    address = urlsplit(URL)
    cutter = Cutter(address.hostname, address.port)
    only = sys.argv[4:]
    on_a_bad_line = [cut_in_the_middle, forgotten_stream]
    steps = [lesson, conversations, *on_a_bad_line, waits_in_line, error_and_retry, tools, panel, chinese,
             by_keyboard, phone, dark_and_still, operator, figures_in_full]
    for step in steps:
        if not only or step.__name__ in only:
            step(browser, *([cutter] if step in on_a_bad_line else []))
    browser.close()
print("page: ok")
