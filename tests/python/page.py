"""The page in a real browser, headless: what it shows, what it does, and what it never does.

Usage: page.py DSMQ, the server's command. Debian's chromium is driven over its DevTools protocol.
Every check prints a line when it has passed; a check that fails ends this with its error.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

from server import PATIENCE, Server

HOSTILE = "<img src=x onerror=alert(1)>"
SCRIPT = "<script>alert(2)</script><img src=x onerror=alert(3)>"
LONG = "a-name-without-any-space-" * 10


class Browser:
    """Pages that say nothing, go nowhere else, and open no dialog of the browser's."""

    def __init__(self, playwright):
        path = os.environ.get("DSMQ_TEST_CHROMIUM") or shutil.which("chromium")
        self.chromium = playwright.chromium.launch(executable_path=path)

    @contextmanager
    def page(self, server, path="/", silent=True, **options):
        context = self.chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        page = context.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        said = []
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(server.url + path)
        yield page
        context.close()
        elsewhere = [url for url in asked if not url.startswith(server.url + "/")]
        assert not elsewhere, elsewhere
        assert not (silent and said), said


class Redis:
    """A redis-server that ends and starts when it is told to."""

    def __init__(self, command):
        self.command = command
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)
        # It logs until it listens, and little after that.
        assert any("ready to accept connections" in line.lower() for line in self.process.stdout)

    def end(self):
        self.process.kill()
        self.process.wait(PATIENCE)
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


def cell(page, topic, column):
    """A cell of a topic's row."""
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name=topic, exact=True))
    return row.locator(f"td[data-title='{column}']")


def list_item(page, number=0):
    return page.locator("#messages-list li").nth(number)


def it_shows_how_the_server_is(browser, server):
    with server.connect() as raw, browser.page(server) as page:
        raw.put("sums", 1, 2, 3)
        raw.ask(action="take", topic="sums")
        raw.ask(action="policy", topic="sums", policy="roundrobin")
        raw.ask(action="subscribe", topic="sums")
        expect(page.locator("#line")).to_have_text("live")
        expect(page.locator("#health")).to_contain_text(re.compile("good|degraded|overloaded"))
        expect(page.locator("#room")).to_have_text("in memory, of 1.0 GiB")
        expect(page.locator("#store")).to_have_text(re.compile(r"^[\d.]+ (KiB|MiB)$"))
        expect(page.locator("#protocols")).to_have_text(re.compile("1 JSON.*1 SSE"))
        expect(page.locator("#uptime")).to_have_text(re.compile(r"^00:\d\d:\d\d$"))
        for column, text in [
            ("Length", "2"),
            ("In/s", "0.3"),
            ("Taken/s", "0.1"),
            ("Consumers", "1"),
            ("Policy", "roundrobin"),
            ("State", "started"),
        ]:
            expect(cell(page, "sums", column)).to_have_text(text)
        page.get_by_text("Definitions").click()
        for word in ["good", "degraded", "overloaded", "overflowed"]:
            expect(page.get_by_role("term").filter(has_text=re.compile(f"^{word}$"))).to_be_visible()


def the_chart_moves(browser, server):
    with server.connect() as raw, browser.page(server) as page:
        chart = page.locator("#chart canvas")
        picture = "canvas => canvas.toDataURL()"
        before = chart.evaluate(picture)
        raw.put("moves", *range(2000))
        raw.ask(action="get", topic="moves")
        expect(page.locator("#in")).not_to_have_text("0/s")
        page.wait_for_function("before => document.querySelector('#chart canvas').toDataURL() !== before", arg=before)
        points = "() => Number(document.querySelector('#chart').dataset.points)"
        page.wait_for_function(f"was => ({points})() > was", arg=page.evaluate(points))
        # Whoever looks later sees what was.
        with browser.page(server) as late:
            late.wait_for_function(f"was => ({points})() >= was", arg=min(60, page.evaluate(points)))


def what_is_published_arrives(browser, server):
    with server.connect() as raw, browser.page(server) as page:
        page.get_by_label("Topic", exact=True).fill("from/the page?&#%")
        for kind, text, message in [
            ("text", 'Hello <b>"world"</b> é\n', 'Hello <b>"world"</b> é\n'),
            ("JSON", '{"a": 1.50}', {"a": 1.5}),
        ]:
            page.get_by_label("Message", exact=True).fill(text)
            page.get_by_label("Kind of message").select_option(label=kind)
            page.get_by_role("button", name="Publish").click()
            expect(page.locator("#published")).to_have_text(re.compile(r"^Published, id \d{16}\.$"))
            got = raw.ask(action="get", topic="from/the page?&#%", wait=PATIENCE)
            assert got == {"message": message}, got
        expect(cell(page, "from/the page?&#%", "Length")).to_have_text("2")
    # What is refused is said. A browser logs each answer that is an error.
    with browser.page(server, silent=False) as page:
        page.get_by_label("Topic", exact=True).fill("t")
        page.get_by_label("Message", exact=True).fill("{")
        page.get_by_label("Kind of message").select_option(label="JSON")
        page.get_by_role("button", name="Publish").click()
        expect(page.locator("#published")).to_have_text(re.compile("^Failed: the message is "))


def what_is_put_appears(browser, server):
    with server.connect() as raw, browser.page(server) as page:
        raw.put("rows", *range(60))
        # By the keyboard.
        page.get_by_role("link", name="rows", exact=True).focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="rows")).to_be_focused()
        expect(page.locator("#messages-list li")).to_have_count(50)
        expect(list_item(page).locator("pre")).to_have_text("59")
        expect(list_item(page, 49).locator("pre")).to_have_text("10")
        expect(page.locator("#follows")).to_have_text("following")
        raw.socket.sendall(b'{"action":"put","topic":"rows","message":{"b": 1.50, "a":[ ]}}')
        expect(list_item(page).locator("pre")).to_have_text('{"b": 1.50, "a":[ ]}')
        expect(page.locator("#messages-list li")).to_have_count(50)
        raw.put("rows", "x" * 5000)
        expect(list_item(page)).to_contain_text("the whole message")
        # The address says which topic is open.
        page.reload()
        expect(page.get_by_role("heading", name="rows")).to_be_visible()
        expect(list_item(page)).to_contain_text("the whole message")
        page.get_by_role("link", name="Close this topic").click()
        expect(page.locator("#topic")).to_be_hidden()
        page.go_back()
        expect(page.locator("#topic")).to_be_visible()


def a_flood_is_looked_at_now_and_then(browser, server):
    with server.connect() as raw, browser.page(server, "/#topic=flood") as page:
        expect(page.locator("#follows")).to_have_text("following")
        raw.put("flood", *range(20_000))
        expect(page.locator("#follows")).to_have_text("refreshed every second")
        expect(list_item(page).locator("pre")).to_have_text("19999")
        # And followed again when it is over.
        expect(page.locator("#follows")).to_have_text("following")
        raw.put("flood", "the end")
        expect(list_item(page).locator("pre")).to_have_text('"the end"')


def purge_and_stop_ask_first(browser, server):
    with server.connect() as raw, browser.page(server, "/#topic=asked") as page:
        raw.put("asked", 1, 2)
        length = cell(page, "asked", "Length")
        expect(length).to_have_text("2")
        dialog = page.get_by_role("dialog")

        def click(action, answer):
            page.locator("#topic").get_by_role("button", name=action).click()
            expect(dialog).to_contain_text(f"{action} “asked”?")
            if answer == "Escape":
                page.keyboard.press("Escape")
            else:
                dialog.get_by_role("button", name=answer).click()
            expect(dialog).to_be_hidden()

        for answer in ["Cancel", "Escape"]:
            click("Purge", answer)
            click("Stop", answer)
        topic = next(t for t in raw.ask(action="topics")["topics"] if t["topic"] == "asked")
        assert (topic["length"], topic["state"]) == (2, "started"), topic
        click("Stop", "Stop")
        expect(page.locator("#done")).to_have_text("Stopped.")
        expect(cell(page, "asked", "State")).to_have_text("stopped")
        click("Start", "Start")
        expect(page.locator("#done")).to_have_text("Started.")
        expect(cell(page, "asked", "State")).to_have_text("started")
        click("Purge", "Purge")
        expect(page.locator("#done")).to_have_text("2 messages removed.")
        expect(length).to_have_text("0")
        expect(page.locator("#messages-list li")).to_have_count(0)
        assert raw.ask(action="history", topic="asked") == {"messages": []}


def what_strangers_say_stays_text(browser, server):
    with server.connect() as raw, browser.page(server) as page:
        raw.put(HOSTILE, SCRIPT)
        raw.put("javascript:alert(4)", SCRIPT)
        page.get_by_role("link", name=HOSTILE, exact=True).click()
        expect(page.get_by_role("heading", name=HOSTILE)).to_be_visible()
        expect(list_item(page).locator("pre")).to_have_text(f'"{SCRIPT}"')
        raw.put(HOSTILE, SCRIPT + "live")
        expect(list_item(page).locator("pre")).to_have_text(f'"{SCRIPT}live"')
        page.locator("#topic").get_by_role("button", name="Purge").click()
        expect(page.get_by_role("dialog")).to_contain_text(HOSTILE)
        page.get_by_role("button", name="Cancel").click()
        # The page's own, and no other.
        assert page.locator("img").count() == 1 and page.locator("body script").count() == 0
        page.goto(server.url + "/dump")
        expect(page.get_by_role("cell", name=HOSTILE, exact=True).first).to_be_visible()
        expect(page.get_by_role("cell", name=f'"{SCRIPT}"', exact=True).first).to_be_visible()
        assert page.locator("img, script").count() == 0
    # Should a text ever become HTML after all, nothing in it runs.
    with browser.page(server, silent=False) as page:
        refused = "text => { try { document.body.innerHTML = text; return false; } catch { return true; } }"
        assert page.evaluate(refused, SCRIPT)


def it_is_as_wide_as_a_phone(browser, server):
    phone = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
    with server.connect() as raw:
        raw.put(LONG, "y" * 3000, {"n": 1})
    with browser.page(server, f"/#topic={LONG}", **phone) as page:
        expect(page.locator("#messages-list li")).to_have_count(2)
        expect(cell(page, LONG, "Length")).to_have_text("2")
        for path in ["", "/dump"]:
            if path:
                page.goto(server.url + path)
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= 360, f"{path or '/'} is {width} wide"


def luminance(color):
    def linear(part):
        part = int(part) / 255
        return part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4

    red, green, blue = [linear(part) for part in re.findall(r"\d+", color)[:3]]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def both_themes_can_be_read(browser, server):
    with server.connect() as raw:
        raw.put("themes", 1, 2)
        raw.ask(action="stop", topic="themes")
    for scheme, dark in [("light", False), ("dark", True)]:
        options = {"color_scheme": scheme, "bypass_csp": True, "reduced_motion": "reduce"}
        with browser.page(server, "/#topic=themes", **options) as page:
            color = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (luminance(color) < 0.05) == dark and (luminance(color) > 0.8) != dark, color
            expect(page.locator("#messages-list li")).to_have_count(2)
            page.get_by_text("Definitions").click()
            page.locator("#topic").get_by_role("button", name="Purge").hover()
            # Labels, names, order of headings, contrast: WCAG 2.2 AA, as far as a machine sees it.
            found = Axe().run(page)
            assert found.violations_count == 0, found.generate_report()


def it_comes_back_by_itself(browser, command):
    with Server(command) as server:
        with server.connect() as raw, browser.page(server, "/#topic=t", silent=False) as page:
            raw.put("t", "before")
            expect(list_item(page).locator("pre")).to_have_text('"before"')
            server.stop()
            expect(page.get_by_role("alert")).to_contain_text("The server is unreachable.")
            expect(page.locator("#line")).to_have_text("offline")
            with Server(command, server.port) as again:
                expect(page.locator("#line")).to_have_text("live")
                expect(page.locator("#away")).to_be_hidden()
                # It kept its messages in memory.
                expect(page.locator("#messages-list li")).to_have_count(0)
                with again.connect() as raw:
                    raw.put("t", "after")
                    expect(list_item(page).locator("pre")).to_have_text('"after"')


def it_shows_the_nodes_of_a_store(browser, command):
    with tempfile.TemporaryDirectory() as folder:
        listens = f"{folder}/redis"
        redis = ["redis-server", "--port", "0", "--unixsocket", listens, "--save", "", "--dir", folder]
        phone = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
        with Redis(redis) as store, Server(command, flags=["--store", f"redis+unix://{listens}"]) as server:
            with browser.page(server, **phone) as page:
                nodes = page.locator("#nodes li")
                expect(nodes).to_have_count(1)
                expect(nodes).to_have_text(re.compile(rf"^{re.escape(listens)}: answers in (under 1|\d+) ms$"))
                expect(page.locator("#room")).to_contain_text("in redis")
                store.end()
                expect(nodes).to_have_text(re.compile(r": unreachable for 00:\d\d:\d\d \(.+\)$"))
                expect(page.locator("#health-word")).to_have_text("overflowed")
                expect(page.locator("#why")).to_contain_text(f"{listens} has been away for")
                assert page.evaluate("document.documentElement.scrollWidth") <= 360
                store.start()
                expect(nodes).to_have_text(re.compile("answers in"))
            for scheme in ["light", "dark"]:
                options = {"color_scheme": scheme, "bypass_csp": True, "reduced_motion": "reduce"}
                store.end()
                with browser.page(server, **options) as page:
                    expect(page.locator("#nodes li.bad")).to_have_count(1)
                    found = Axe().run(page)
                    assert found.violations_count == 0, found.generate_report()
                store.start()


CHECKS = [
    it_shows_how_the_server_is,
    the_chart_moves,
    what_is_published_arrives,
    what_is_put_appears,
    a_flood_is_looked_at_now_and_then,
    purge_and_stop_ask_first,
    what_strangers_say_stays_text,
    it_is_as_wide_as_a_phone,
    both_themes_can_be_read,
]


def main(command):
    with sync_playwright() as playwright:
        expect.set_options(timeout=PATIENCE * 1000)
        browser = Browser(playwright)
        for check in CHECKS:
            # Each with a server of its own: what one puts, no other sees.
            with Server(command) as server:
                check(browser, server)
            print(check.__name__, flush=True)
        for check in [it_comes_back_by_itself, it_shows_the_nodes_of_a_store]:
            check(browser, command)
            print(check.__name__, flush=True)
        browser.chromium.close()


if __name__ == "__main__":
    main(sys.argv[1])
