"""Themes of figures: contrast, colours per task, and what is written."""

import base64
import itertools
from xml.etree import ElementTree

import pytest
from matplotlib import rcParams
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from packnet_pl.report.style import DARK, LIGHT, shortened, themed_images, write_figure

THEMES = pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)


def luminance(colour):
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def drawn(theme):
    figure = Figure(figsize=(4, 3), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([1, 2, 3], color=theme.foreground)
    axes.set(xlabel="epoch", title="a figure")
    theme.clean(axes)
    return figure


@THEMES
def test_texts_can_be_read_on_the_page(theme):
    assert contrast(theme.foreground, theme.page) >= 7
    assert contrast(theme.muted, theme.page) >= 4.5


@THEMES
@pytest.mark.parametrize("count", [0, 1, 2, 8, 9, 50])
def test_each_task_has_a_colour_of_its_own_with_readable_ink(theme, count):
    colours = theme.task_colours(count)
    assert len(set(colours)) == count
    for colour in [*colours, theme.free]:
        assert contrast(theme.ink_on(colour), colour) >= 4.5


@THEMES
def test_neighbours_differ_in_grey_print(theme):
    for one, other in itertools.pairwise(theme.task_colours(8)):
        assert contrast(one, other) >= 1.15


def test_a_figure_is_written_twice_with_the_same_bytes_each_time(tmp_path):
    first = write_figure(drawn, tmp_path / "report" / "one.name")
    assert [path.name for path in first] == ["one.name.png", "one.name.svg"]
    second = write_figure(drawn, tmp_path / "again")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == ["one.name.png", "one.name.svg"]


def test_images_of_a_page_are_drawn_in_both_themes_and_settings_stay():
    before = dict(rcParams)
    images = themed_images(drawn)
    assert dict(rcParams) == before
    assert (images.width, images.height) == (384, 288)
    for address, theme in ((images.light, LIGHT), (images.dark, DARK)):
        kind, encoded = address.split(",", 1)
        assert kind == "data:image/svg+xml;base64"
        text = base64.b64decode(encoded).decode()
        ElementTree.fromstring(text)
        assert theme.foreground in text
        assert theme.grid in text
        assert "DejaVu" not in text.split("<defs>")[0]


def test_letters_that_the_font_lacks_are_no_warnings(tmp_path, recwarn):
    def draw(theme):
        figure = Figure()
        figure.text(0.5, 0.5, "\u65e5\u672c")
        return figure

    write_figure(draw, tmp_path / "figure")
    themed_images(draw)
    assert not recwarn.list


def test_a_long_name_keeps_its_beginning_and_its_end():
    assert shortened("digits") == "digits"
    assert shortened("features.denseblock1.denselayer3.conv2", 24) == "features.densebl…3.conv2"
    assert len(shortened("x" * 1000, 24)) == 24
