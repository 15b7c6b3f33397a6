"""Cases of a test: which of them `make test` runs, and which are breadth that `make test-rest` adds."""

from collections.abc import Iterable

import pytest


def breadth(cases: Iterable[object], *main: object) -> list[object]:
    """Returns the cases for ``parametrize``; all but the ``main`` ones are marked ``exhaustive``.

    Raises:
        ValueError: If a main case is none of them.
    """
    cases = list(cases)
    if unknown := [case for case in main if case not in cases]:
        raise ValueError(f"{unknown} are none of the cases: {cases}")
    return [case if case in main else pytest.param(case, marks=pytest.mark.exhaustive) for case in cases]
