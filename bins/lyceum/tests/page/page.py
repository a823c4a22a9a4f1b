"""Drives the page in a real browser: teach, reload, lose the connection, both languages, a phone.

Usage: page.py URL OUTPUT_DIR
"""

import pathlib
import sys

from playwright.sync_api import expect, sync_playwright

URL, OUTPUT = sys.argv[1], pathlib.Path(sys.argv[2])
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]
FIRST = "Plants use sunlight to make food. The chlorophyll somehow turns light into energy, so the plant always grows."
SECOND = "Chlorophyll is a green pigment. It absorbs light because its electrons take up the energy of the photons."


def teach(page, text):
    page.get_by_label("Your").fill(text)
    page.get_by_role("button", name="Teach").click()


def main_flow(page):
    page.goto(URL)
    page.get_by_label("Topic").fill("Photosynthesis")
    teach(page, FIRST)
    answer = page.locator("#log li.assistant").first
    expect(answer).to_contain_text("?", timeout=30_000)
    expect(page.locator("#provider")).to_contain_text("offline")
    expect(page.locator("#gaps li").first).to_be_visible()
    expect(page.get_by_role("button", name="Teach")).to_be_enabled()
    page.screenshot(path=OUTPUT / "page.png")
    return answer.inner_text()


def kept_across_reload(page, answer):
    page.reload()
    expect(page.locator("#log li")).to_have_count(2)
    assert page.locator("#log li.assistant").first.inner_text() == answer
    assert page.get_by_label("Topic").input_value() == "Photosynthesis"


def error_and_retry(page):
    page.route("**/chat/stream", lambda route: route.abort())
    teach(page, SECOND)
    expect(page.locator("#error")).to_be_visible()
    assert page.get_by_label("Your").input_value() == SECOND, "the words of a failed turn stay"
    page.unroute("**/chat/stream")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#log li")).to_have_count(4, timeout=30_000)
    expect(page.locator("#error")).to_be_hidden()


def chinese(page):
    page.get_by_role("button", name="中文").click()
    expect(page.get_by_role("button", name="讲给我听")).to_be_visible()
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="新的对话").click()
    page.get_by_role("button", name="复利").click()
    page.get_by_role("button", name="讲给我听").click()
    expect(page.locator("#log li.assistant").first).to_contain_text("？", timeout=30_000)


def phone(browser):
    page = browser.new_context(viewport={"width": 360, "height": 740}, locale="en").new_page()
    page.goto(URL)
    page.get_by_label("Topic").fill("Gravity")
    teach(page, "Things fall because of gravity, which is the force that makes things fall.")
    expect(page.locator("#log li.assistant").first).to_contain_text("?", timeout=30_000)
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"the page scrolls sideways by {wide} px on a phone"
    page.screenshot(path=OUTPUT / "phone.png")


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
    page = browser.new_context(viewport={"width": 1100, "height": 900}, locale="en").new_page()
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    answer = main_flow(page)
    kept_across_reload(page, answer)
    assert not problems, problems
    error_and_retry(page)
    problems.clear()  # the aborted request is one
    chinese(page)
    assert not problems, problems
    phone(browser)
    browser.close()
print("page: ok")
