import json
from dataclasses import astuple
from pathlib import Path

import pytest

from tests.support.promise import matrix

_outcomes: dict[str, matrix.Row] = {}


def pytest_addoption(parser):
    parser.addoption("--write-matrix", action="store_true", help="write docs/promise.md from the outcomes of this run")
    parser.addoption("--list-matrix", metavar="FILE", help="write the rows of all collected cases to FILE as JSON")


def pytest_configure(config):
    config.addinivalue_line(
        "markers",
        "promise(group, status='holds', label=None): the test is a row of docs/promise.md, in the table of that group; "
        "status is 'holds', 'refused' or 'noticed'",
    )
    if config.getoption("--write-matrix", default=False):
        here = Path(__file__).parent
        parts = [given for given in config.args if Path(given).resolve() not in (here, here.parent, here.parents[1])]
        if parts or config.option.keyword or config.option.markexpr:
            raise pytest.UsageError("--write-matrix writes the whole matrix: give it with all of tests/promise")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session, items):
    """Before any of them is deselected."""
    files = set(Path(__file__).parent.glob("test_*.py"))
    whole = files <= {item.path for item in items} and not any("::" in given for given in session.config.args)
    session.config.stash[matrix.ROWS] = [matrix.row_of(item, 0) for item in items] if whole else None


def pytest_collection_finish(session):
    rows = [matrix.row_of(item, place) for place, item in enumerate(session.items)]
    matrix.refuse_twins(row for row in rows if row is not None)
    for item, row in zip(session.items, rows, strict=True):
        if row is not None:
            # Travels with the report, also from the workers of pytest-xdist.
            item.user_properties.append(("promise", astuple(row)))
    if file := session.config.getoption("--list-matrix", default=None):
        Path(file).write_text(json.dumps([astuple(row) for row in rows if row is not None]))


def pytest_runtest_logreport(report):
    row = next((matrix.Row(*value) for name, value in report.user_properties if name == "promise"), None)
    if row is None or (report.when != "call" and report.passed):
        return
    status = row.status
    if report.failed:
        status = "FAILS"
    elif report.skipped:
        status = f"skipped: {report.longrepr[2].removeprefix('Skipped: ')}"
    if report.nodeid not in _outcomes or report.failed:
        _outcomes[report.nodeid] = matrix.Row(row.place, row.group, row.label, status)


def pytest_sessionfinish(session, exitstatus):
    # The workers of pytest-xdist report to the one process that writes.
    writes = session.config.getoption("--write-matrix", default=False) and not hasattr(session.config, "workerinput")
    if writes and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        matrix.MATRIX.write_text(matrix.render(_outcomes.values()), encoding="utf-8")
