"""The live page, in a browser: a cluster under load, a prompt, every look it has, and its troubles.

Screenshots lie in pytest's temporary folder (--basetemp)."""

import re
import signal
import threading
from pathlib import Path

import pytest
from browser import NARROW, browser, require_browser, wait_until
from cluster import Cluster, settled

MODEL = Path(__file__).parents[2] / "models" / "pregate-tiny"
KEY = "visitors-only"
# To catch an answer before it ends, which may be after a few tokens.
TRIES = 20
PROMPTS = ("And the LORD said", "static int", "def main(", "The program reads")


@pytest.fixture(scope="module", autouse=True)
def installed():
    require_browser()


@pytest.fixture(scope="module")
def shots(tmp_path_factory):
    return tmp_path_factory.mktemp("screenshots")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        # A coordinator that is killed leaves its private directory behind.
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("private")))
        with Cluster(MODEL, options=["--workers", "2"]) as started:
            yield started


@pytest.fixture
def page(cluster, tmp_path):
    with browser(cluster.url, tmp_path / "profile") as opened:
        opened.resize(1200)
        opened.set_scheme("light")
        opened.open()
        opened.wait_shown("state", "ready")
        yield opened
        assert opened.complaints() == []
        requested = list(opened.requested())
        assert cluster.url + "/live" in requested
        assert all(url.startswith(cluster.url + "/") for url in requested), requested


class Asking:
    """Completions one after another, until the end of the block."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.ask, args=(p,)) for p in PROMPTS]
        self.statuses = []

    def ask(self, prompt):
        body = {"prompt": prompt, "max_tokens": 100, "ignore_eos": True}
        while not self.over.is_set():
            self.statuses.append(self.cluster.post("/v1/completions", body)[0])

    def __enter__(self):
        for thread in self.threads:
            thread.start()

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()
        assert set(self.statuses) == {200}


def workers(page):
    rows = page.run("return [...document.getElementById('workers').rows].map(r => r.innerText)")
    return {row.split("\t")[0]: row.split("\t")[1] for row in rows}


def test_a_cluster_at_work(cluster, page, shots):
    assert page.text("name") == "pregate-tiny"
    assert "6 layers" in page.text("shape") and "32 experts" in page.text("shape")
    all_ready = {"worker-1": "ready", "worker-2": "ready"}
    assert settled(lambda: workers(page), all_ready) == all_ready
    assert page.text("workers-about") == "192 experts, all held"
    idle = page.picture("heat")
    with Asking(cluster):
        wait_until(lambda: page.number("running") == len(PROMPTS))
        for name in ("speed", "first-token", "inter-token", "kv"):
            wait_until(lambda name=name: page.number(name))
        early = page.picture("heat")
        wait_until(lambda: page.picture("heat") not in (idle, early))
        page.screenshot(shots / "light.png")
    wait_until(lambda: page.number("running") == 0 and page.number("speed") == 0)


def ask(page, mode, prompt, max_tokens):
    assert page.element("mode").get_attribute("value") == "chat"  # where there is a template
    page.run("document.getElementById('mode').value = arguments[0]", mode)
    page.element("max-tokens").clear()
    page.element("max-tokens").send_keys(str(max_tokens))
    page.element("prompt").send_keys(prompt)
    page.element("send").click()


# What is seen at one moment.
ANSWERING = """
const of = (id) => document.getElementById(id);
return {answer: of("answer").textContent, stop: !of("stop").disabled, send: !of("send").disabled};
"""


def test_a_prompt_is_answered_piece_by_piece(page, shots):
    ask(page, "text", "And the LORD said", 900)
    for _ in range(TRIES):
        wait_until(lambda: "tokens/s" in page.text("answer-note"))
        midway = page.run(ANSWERING)
        if not midway["send"]:
            break
        page.element("send").click()  # the model was faster
    assert midway["stop"] and not midway["send"]
    wait_until(lambda: page.element("send").is_enabled())
    whole = page.run(ANSWERING)["answer"]
    assert whole.startswith(midway["answer"]) and len(whole) > len(midway["answer"]) > 0
    note = page.text("answer-note")
    assert re.match(r"[1-9]\d* tokens · ", note)
    # A model may end before.
    assert note.startswith("900 tokens") == note.endswith(" · reached the limit")
    page.screenshot(shots / "answer.png")


def test_a_chat_message_is_answered(page):
    ask(page, "chat", "Tell me a story", 30)
    wait_until(lambda: page.element("send").is_enabled())
    assert page.text("answer") != ""
    assert "first after" in page.text("answer-note")


def test_an_answer_can_be_stopped(page):
    ask(page, "text", "And the LORD said", 1900)
    for _ in range(TRIES):
        wait_until(lambda: "first after" in page.text("answer-note"))
        page.element("stop").click()
        wait_until(lambda: page.element("send").is_enabled())
        if page.text("answer-note").endswith(" · stopped"):
            break
        page.element("send").click()  # the model was faster
    assert page.text("answer-note").endswith(" · stopped")
    wait_until(lambda: page.number("running") == 0)


def test_an_error_is_shown(page):
    ask(page, "text", "Too much is asked for", 2048)
    page.wait_shown("prompt-error", "max_tokens")
    wait_until(lambda: any("400" in complaint for complaint in page.complaints()))


def test_experts_can_be_looked_at_by_keyboard(cluster, page):
    page.run("document.getElementById('heat').focus()")
    heat = page.element("heat")
    for key in ("\ue015", "\ue015", "\ue014"):  # down, down, right
        heat.send_keys(key)
    wait_until(lambda: page.text("heat-cell").startswith("layer 1, expert 1: "))
    page.element("layers-box").find_element("tag name", "summary").click()
    # The page fills the table when it hears of that, which is after the click.
    wait_until(lambda: page.run("return document.getElementById('layers').rows.length") == 6)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [NARROW, 1200])
def test_it_fits_in_light_and_dark(cluster, page, shots, width, scheme):
    page.resize(width)
    page.set_scheme(scheme)
    with Asking(cluster):
        wait_until(lambda: page.number("speed") and page.number("kv"))
        page.screenshot(shots / f"{scheme}-{width}.png")
    widths = page.run("return [document.documentElement.scrollWidth, innerWidth]")
    assert widths[0] <= widths[1] == width
    back = page.run("return getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(part) for part in back[4:-1].split(",")) / 3
    assert brightness > 200 if scheme == "light" else brightness < 60


def test_a_server_that_needs_a_key_and_goes_away(tmp_path, shots):
    with Cluster(MODEL, options=["--api-key", KEY]) as alone:
        with browser(alone.url, tmp_path / "profile") as page:
            page.resize(1200)
            page.open()
            page.wait_shown("key-form")
            assert page.text("state") == "locked" and not page.element("live").is_displayed()
            page.element("key").send_keys("guess\n")
            page.wait_shown("key-error", "does not take this key")
            page.element("key").send_keys(KEY + "\n")
            page.wait_shown("live")
            assert page.text("workers-about") == "None: the experts are in this process."
            assert KEY not in page.driver.current_url
            page.open()  # the tab still knows it
            page.wait_shown("live")
            assert not any(KEY in url for url in page.requested())
            assert all("401" in complaint for complaint in page.complaints())
            alone.process.send_signal(signal.SIGSTOP)
            page.wait_shown("trouble", "does not answer")
            assert page.text("state") == "no answer"
            page.screenshot(shots / "away.png")
            alone.process.send_signal(signal.SIGCONT)
            wait_until(lambda: page.text("state") == "ready")
            assert not page.element("trouble").is_displayed()
