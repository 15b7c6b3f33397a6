import math
import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packnet_pl.choices import check_choice, check_ratio, check_task_name


def test_a_choice_is_returned_or_answered_with_all_there_are():
    assert check_choice("size", "small", ("small", "large")) == "small"
    with pytest.raises(ValueError, match=r"^size is \['small'\]; allowed are 'small', 'medium' \(usual\) and 'large'$"):
        check_choice("size", ["small"], ("small", "medium", "large"), {"medium": "usual"})


@pytest.mark.parametrize("ratio", [0, 0.0, 0.5, 0.75, 0.999, Fraction(1, 4)])
def test_fractions_below_one_are_ratios(ratio):
    assert check_ratio(ratio) == float(ratio)


@pytest.mark.parametrize("ratio", [1, 1.0, 75, -0.1, "0.5", True, False, None, math.nan, math.inf, -math.inf, [0.5]])
def test_other_ratios_are_refused_with_what_was_given(ratio):
    with pytest.raises(ValueError, match=re.escape(f"prune ratio is {ratio!r}; allowed is a fraction in [0, 1)")):
        check_ratio(ratio)


def test_percent_is_answered_with_the_fraction():
    with pytest.raises(ValueError, match=r"for 75 percent write 0\.75"):
        check_ratio(75)


@pytest.mark.parametrize("name", ["cubs", "Stanford Cars", "日本語", ".hidden", "...", "a\\b"])
def test_printable_names_are_allowed(name):
    assert check_task_name(name) == name


@given(st.text(max_size=5))
def test_a_name_is_either_returned_or_refused(name):
    allowed = bool(name.strip()) and name.isprintable() and "/" not in name and name not in {".", ".."}
    if allowed:
        assert check_task_name(name) == name
    else:
        with pytest.raises(ValueError, match="task name is "):
            check_task_name(name)
