"""A headless Chromium with the page of a server open in it."""

import base64
import contextlib
import json
import os
import shutil

import cluster
import pytest

CHROMIUM = shutil.which("chromium")
DRIVER = shutil.which("chromedriver")
NARROW = 360
FLAGS = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu")


def wait_until(condition):
    """With much time: a page looks once a second, and a browser needs much of a small machine."""
    cluster.wait_until(condition, seconds=90)


def require_browser():
    missing = [
        name for name, path in (("chromium", CHROMIUM), ("chromium-driver", DRIVER)) if not path
    ]
    if missing and os.environ.get("CI") != "true":
        pytest.skip(f"not installed: {', '.join(missing)}")
    assert not missing, f"not installed: {', '.join(missing)}"


class Page:
    """Elements by their ids, and what the browser noticed of the page."""

    def __init__(self, driver, url):
        self.driver = driver
        self.url = url

    def open(self):
        self.driver.get(self.url)

    def resize(self, width, height=900):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def set_scheme(self, scheme):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def element(self, name):
        return self.driver.find_element("id", name)

    def text(self, name):
        return self.element(name).text

    def number(self, name):
        """Of a tile; None while it shows none."""
        text = self.text(name).split(" ")[0].replace(",", "")
        return float(text) if text not in ("", "–") else None

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def picture(self, name):
        """What a canvas shows."""
        return self.run("return document.getElementById(arguments[0]).toDataURL()", name)

    def wait_shown(self, name, words=""):
        wait_until(lambda: words in self.text(name) and self.element(name).is_displayed())

    def screenshot(self, file):
        """All of the page, however long."""
        width = self.run("return innerWidth")
        self.resize(width, self.run("return document.documentElement.scrollHeight"))
        shown = self.driver.execute_cdp_cmd("Page.captureScreenshot", {})
        file.write_bytes(base64.b64decode(shown["data"]))
        self.resize(width)

    def complaints(self):
        """What the console says, since the last time it was asked."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requested(self):
        """The addresses that were asked for, since the last time."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                yield message["params"]["request"]["url"]


@contextlib.contextmanager
def browser(url, profile):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=DRIVER)
    driver = webdriver.Chrome(options=options, service=service)
    try:
        driver.get("about:blank")
        driver.get_log("performance")  # of the browser's own first page
        yield Page(driver, url)
    finally:
        driver.quit()
