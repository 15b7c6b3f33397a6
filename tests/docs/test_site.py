"""The site builds strictly, loads nothing from elsewhere, and is whole on a large screen and on a small one."""

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from html.parser import HTMLParser

import pytest
from mkdocs.config import load_config

from tests.support import ROOT

CHROMIUM = shutil.which("chromium")
LOADED = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("object", "data")}
LOADING_LINKS = {"stylesheet", "preload", "preconnect", "dns-prefetch", "icon", "manifest", "modulepreload"}


class Loads(HTMLParser):
    """Collects what a page loads: scripts, styles, images, fonts."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.found += [given[key] for kind, key in LOADED if tag == kind and given.get(key)]
        if tag == "link" and LOADING_LINKS & set((given.get("rel") or "").split()):
            self.found.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return folder


@pytest.fixture(scope="module")
def address(site):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_every_page_of_the_folder_is_in_the_navigation():
    named = set(re.findall(r"[\w/.-]+\.md", (ROOT / "mkdocs.yml").read_text("utf-8")))
    for path in (ROOT / "docs").glob("*.md"):
        assert path.name in named, f"{path.name} is not in the nav of mkdocs.yml"


def test_what_would_ask_elsewhere_is_off():
    config = load_config(str(ROOT / "mkdocs.yml"))
    assert config.theme["font"] is False
    # The theme's plugin "offline" loads a script from unpkg.com; "social" fetches fonts.
    plugins = {name.removeprefix("material/") for name in config.plugins if not name.endswith(".py")}
    assert plugins == {"search", "mkdocstrings"}


@pytest.mark.slow
@pytest.mark.exhaustive
def test_no_page_loads_anything_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        loads = Loads()
        loads.feed(page.read_text("utf-8"))
        assert loads.found
        assert not [target for target in loads.found if re.match(r"(\w+:)?//", target)], page
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import )[\"']?(?:https?:)?//", style.read_text("utf-8")), style


@pytest.mark.slow
@pytest.mark.exhaustive
def test_pages_are_whole_in_a_browser(site, address):
    if CHROMIUM is None:
        (pytest.fail if os.environ.get("PACKNET_NEED_CHROMIUM") else pytest.skip)("there is no chromium")
    from playwright.sync_api import sync_playwright

    asked, wrong = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for width in (1280, 390):
            page = browser.new_page(viewport={"width": width, "height": 900})
            page.on("request", lambda request: asked.append(request.url))
            page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: wrong.append(str(error)))
            for name in ("index", "python", "configuration", "implementations", "api/packnet_pl"):
                page.goto(f"{address}/{name}.html")
                page.wait_for_load_state("networkidle")
                wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
                assert wide <= 0, f"{name} is {wide} pixels wider than {width}"
        page.goto(f"{address}/index.html?q=prune")
        page.wait_for_selector(".md-search-result__item")
        browser.close()
    assert not wrong
    assert not [url for url in asked if not url.startswith((address, "data:", "blob:"))]
