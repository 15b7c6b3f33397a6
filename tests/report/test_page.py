"""Pages in headless Chromium: nothing is cut, nothing comes from outside, everything can be read in light and dark."""

import os
import shutil
from collections import Counter
from html.parser import HTMLParser

import pytest
import yaml

from packnet_pl.cli.report import report
from tests.support.results import write_other, write_run

CHROMIUM = shutil.which("chromium")
EVIL = "<script>alert(1)</script>"
LONG = "a_very_long_name_of_a_task_that_" * 4

# What an element may be wider than is a box of its own that scrolls.
CUT = """() => {
  const scrolls = element => {
    const box = element.parentElement.closest('.scroll, pre');
    return box && getComputedStyle(box).overflowX === 'auto' && box.getBoundingClientRect().right <= innerWidth + 1;
  };
  return [...document.querySelectorAll('body *')]
    .filter(e => !e.closest('.skip') && e.getBoundingClientRect().right > innerWidth + 1 && !scrolls(e))
    .map(e => e.outerHTML.slice(0, 200));
}"""
HIDDEN_BY_BOX = """() => [...document.querySelectorAll('body *')]
  .filter(e => getComputedStyle(e).overflowX === 'hidden' && e.scrollWidth > e.clientWidth + 1)
  .map(e => e.outerHTML.slice(0, 200))"""
UNREADABLE = """() => {
  const parts = colour => colour.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b]
    .map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const background = element => {
    for (let e = element; e; e = e.parentElement) {
      const found = parts(getComputedStyle(e).backgroundColor);
      if (found.length < 4 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll('body *')]
    .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()))
    .map(e => {
      const both = [luminance(parts(getComputedStyle(e).color)), luminance(background(e))];
      return [(Math.max(...both) + 0.05) / (Math.min(...both) + 0.05), e.outerHTML.slice(0, 120)];
    })
    .filter(([ratio]) => ratio < 4.5);
}"""
IMAGES = """async () => {
  const images = [...document.images];
  await Promise.all(images.map(image => image.decode()));
  return images.map(image => [image.naturalWidth, image.alt, image.src.slice(0, 5)]);
}"""


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        if os.environ.get("PACKNET_NEED_CHROMIUM"):
            pytest.fail("there is no chromium, and PACKNET_NEED_CHROMIUM is set")
        pytest.skip("there is no chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run whose names are hostile, beside two of individual networks and a sweep of ratios."""
    folder = tmp_path_factory.mktemp("runs")
    names = [EVIL, LONG, "greek & <b>co</b>"]
    for seed in range(2):
        write_other(folder / f"individual/{seed}", "individual", (0.1, 0.1, 0.2 + seed / 10), seed, names=names)
        for ratio in (0.5, 0.75, 0.9):
            errors = (0.1 + ratio / 10, 0.2, 0.2 + seed / 20)
            write_run(folder / f"sweep/{ratio}-{seed}", (ratio,) * 3, errors, seed, names=names)
    run = write_run(folder / "run <i>", (0.5,) * 3, (0.1, 0.2, 0.3), names=names, settings={"scope": EVIL})
    saved = {
        "overrides": [f"hydra.run.dir={run}", f"sequence.order=[{EVIL}]"],
        "config_dir": None,
        "config_name": "train",
        "cwd": str(folder),
        "config": {"sequence": {"order": names}, "prunable": "weights"},
    }
    (run / "run.yaml").write_text(yaml.safe_dump(saved))
    report([run, folder / "individual"], None)
    report([folder / "sweep"], None)
    return folder


PAGES = pytest.mark.parametrize("name", ["run <i>", "sweep"])


def opened(browser, path, **settings):
    """Returns the page in a browser, and what it complained of and asked for, which goes on being filled."""
    page = browser.new_page(**settings)
    faults = []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda dialog: faults.append(dialog.message))
    page.on(
        "request", lambda asked: faults.append(asked.url[:80]) if not asked.url.startswith(("file:", "data:")) else None
    )
    page.goto(path.as_uri())
    return page, faults


@PAGES
def test_the_page_shows_everything_on_wide_and_narrow_screens_in_light_and_dark(browser, folder, name):
    page, faults = opened(browser, folder / name / "report" / "index.html")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate(UNREADABLE) == []
        images = page.evaluate(IMAGES)
        assert images
        assert all(width > 0 and alt and source == "data:" for width, alt, source in images)
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert page.evaluate(CUT) == []
            assert page.evaluate(HIDDEN_BY_BOX) == []
    assert faults == []
    page.close()


def test_a_dark_screen_has_dark_figures_and_paper_has_light_ones(browser, folder):
    page, _ = opened(browser, folder / "run <i>" / "report" / "index.html")
    light, dark = page.evaluate("[...document.images].slice(0, 2).map(image => image.src)")
    assert light != dark
    for scheme, media, figure, background in (
        ("light", "screen", light, "rgb(255, 255, 255)"),
        ("dark", "screen", dark, "rgb(22, 24, 28)"),
        ("dark", "print", light, "rgb(255, 255, 255)"),
    ):
        page.emulate_media(color_scheme=scheme, media=media)
        assert page.evaluate("[...document.images].find(image => image.offsetWidth).src") == figure
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == background
    page.close()


@PAGES
def test_the_page_can_be_read_without_seeing_it(browser, folder, name):
    page, _ = opened(browser, folder / name / "report" / "index.html")
    for landmark in ("header", "nav", "main", "footer"):
        assert page.locator(landmark).count() == 1
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert max(Counter(ids).values()) == 1
    targets = page.evaluate("[...document.querySelectorAll('nav a')].map(a => a.getAttribute('href').slice(1))")
    assert targets
    assert set(targets) <= set(ids)
    assert page.locator("table:not([aria-label])").count() == 0
    assert page.locator("th:not([scope])").count() == 0
    assert page.evaluate("[...document.querySelectorAll('tr')].every(r => r.querySelector('th'))")
    # Boxes that scroll can be reached by keyboard, and have a name.
    boxes = "[...document.querySelectorAll('.scroll, pre')].every(e => e.tabIndex === 0)"
    assert page.evaluate(boxes)
    page.close()


@PAGES
def test_names_are_text_and_never_html(browser, folder, name):
    page, faults = opened(browser, folder / name / "report" / "index.html")
    assert page.locator("script, main b, main i").count() == 0
    assert page.get_by_text(EVIL).count() > 0
    assert faults == []
    page.close()


class Balanced(HTMLParser):
    """Fails where tags do not close in their order."""

    VOID = ("meta", "link", "img", "source", "br", "hr")

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, self.getpos()


@PAGES
def test_the_html_is_well_formed_and_small(folder, name):
    path = folder / name / "report" / "index.html"
    text = path.read_text(encoding="utf-8")
    assert text.lstrip().startswith("<!DOCTYPE html>")
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    assert len(text) < 5e6


@pytest.mark.slow
def test_the_page_of_a_whole_run_has_all_sections_and_shows_everything(browser, tiny_run, tmp_path):
    run = shutil.copytree(tiny_run[0], tmp_path / "run")
    report([run], None)
    page, faults = opened(browser, run / "report" / "index.html", viewport={"width": 390, "height": 800})
    sections = page.evaluate("[...document.querySelectorAll('section')].map(s => s.id)")
    expected = ["results", "accuracy", "owners", "filter", "curves", "confusions", "storage", "settings"]
    assert sections == expected
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(CUT) == []
    names = {path.stem for path in (run / "report").glob("*.svg")} - {"ratios"}
    assert {"accuracy", "ownership", "capacity", "filter", "curves", "confusion-1", "storage"} <= names
    assert len(page.evaluate(IMAGES)) == 2 * len(names)  # a light and a dark one
    assert (run / "report" / "index.html").stat().st_size < 5e6
    assert faults == []
    page.close()


def test_what_an_old_run_did_not_record_is_named(browser, folder):
    page, _ = opened(browser, folder / "run <i>" / "report" / "index.html")
    told = page.locator("#missing").inner_text()
    assert "There are no learning curves" in told
    assert page.locator("#filter, #curves, #confusions").count() == 0
    page.close()


def test_figures_lie_beside_the_page(folder):
    names = {path.name for path in (folder / "sweep" / "report").iterdir()}
    assert names == {"index.html", "ratios.csv", "ratios.png", "ratios.svg"}
    assert {"methods.md", "methods.csv", "methods.png", "methods.svg", "index.html"} <= {
        path.name for path in (folder / "run <i>" / "report").iterdir()
    }
