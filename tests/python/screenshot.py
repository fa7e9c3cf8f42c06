"""A picture of the page of a server in use. Usage: screenshot.py DSMQ PICTURE [light|dark|phone]"""

import random
import sys
import threading
import urllib.request

from playwright.sync_api import sync_playwright

from page import Browser
from server import Server

LOOKS = {
    "light": {"viewport": {"width": 1280, "height": 860}},
    "dark": {"viewport": {"width": 1280, "height": 860}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 360, "height": 1800}, "is_mobile": True},
}
SECONDS = 60
TOPICS = ["readings.kitchen", "readings.hall", "readings.garden"]
GREETINGS = ["Hello!", "Good morning", "Grüß Gott", "こんにちは", "Bonjour", "Hei hei"]


class Traffic:
    """Programs that put, take and subscribe until they are told to stop."""

    def __init__(self, server):
        self.server = server
        self.over = threading.Event()
        work = [self.sensors, self.shop, self.workers, self.people]
        self.threads = [threading.Thread(target=self.run, args=(each,)) for each in work]
        for thread in self.threads:
            thread.start()

    def run(self, work):
        random_numbers = random.Random(work.__name__)
        with self.server.connect() as raw:
            number = 0
            while not self.over.wait(0.1):
                work(raw, random_numbers, number)
                number += 1

    def sensors(self, raw, some, number):
        for topic in TOPICS:
            degrees = round(20 + some.gauss(0, 1.5), 2)
            raw.put(topic, *[{"n": number, "celsius": degrees}] * some.randint(5, 15))

    def shop(self, raw, some, number):
        tide = 1 + abs((number % 300) - 150) / 75
        orders = [{"order": number * 100 + i, "items": some.randint(1, 9)} for i in range(int(12 * tide))]
        raw.put("orders", *orders)
        raw.put("mail.outgoing", *orders[::4])

    def workers(self, raw, some, number):
        if number == 0:
            raw.ask(action="subscribe", topic="readings*")
            raw.ask(action="policy", topic="orders", policy="roundrobin")
            raw.put("invoices", {"invoice": 1}, {"invoice": 2})
            raw.ask(action="stop", topic="invoices")
        for _ in range(some.randint(10, 30)):
            raw.send(action="take", topic="orders")
        raw.send(action="ping")
        while raw.receive() != {"ok": True}:
            pass

    def people(self, raw, some, number):
        if number % 12 == 0:
            raw.put("greetings", some.choice(GREETINGS))

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join()


def main(command, picture, look="light"):
    with Server(command) as server, sync_playwright() as playwright:
        browser = Browser(playwright)
        # From the first time that anybody asks, the server remembers what the chart shows.
        urllib.request.urlopen(f"{server.url}/api").close()
        traffic = Traffic(server)
        try:
            with browser.page(server, "/#topic=greetings", **LOOKS[look]) as page:
                enough = f"() => Number(document.querySelector('#chart').dataset.points) >= {SECONDS}"
                page.wait_for_function(enough, timeout=4 * SECONDS * 1000)
                page.screenshot(path=picture)
        finally:
            traffic.stop()
            browser.chromium.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
