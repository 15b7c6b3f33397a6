"""What stands beside the package - its citation, its workflow, its templates - agrees with it."""

import re
import tomllib

import yaml
from packaging.requirements import Requirement

from tests.support import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def loaded(path):
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def test_the_citation_is_of_this_version():
    citation = loaded("CITATION.cff")
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in PROJECT["authors"]]
    assert citation["keywords"] == PROJECT["keywords"]
    assert [reference["url"] for reference in citation["references"]] == [PROJECT["urls"]["Paper"]]


def test_the_workflow_runs_what_the_makefile_and_the_project_know():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, flags=re.MULTILINE))
    versions = set(re.findall(r"^INSTALL_(\w+) =", makefile, flags=re.MULTILINE))
    jobs = loaded(".github/workflows/checks.yml")["jobs"]
    lines = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    lines += (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    called = [target for line in lines for target in re.findall(r"^make ([\w-]+)", line)]
    assert called
    assert set(called) <= targets
    matrix = jobs["allowed"]["strategy"]["matrix"]["include"]
    assert {entry["versions"] for entry in matrix} == versions - {"exact"}
    lowest = PROJECT["requires-python"].removeprefix(">=")
    assert {entry["python"] for entry in matrix if entry["versions"] == "lowest"} == {lowest}
    listed = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", line)]
    assert [entry["python"] for entry in matrix if entry["versions"] == "newest"] == listed


def test_every_requirement_has_a_lowest_version():
    extras = PROJECT["optional-dependencies"].values()
    for line in [*PROJECT["dependencies"], *(line for extra in extras for line in extra)]:
        requirement = Requirement(line)
        if requirement.name != PROJECT["name"]:
            assert any(specifier.operator == ">=" for specifier in requirement.specifier), line


def test_issue_forms_have_what_github_asks_for():
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        form = loaded(path)
        if path.name != "config.yml":
            assert {"name", "description", "body"} <= form.keys()
            assert all(field["attributes"]["label"] for field in form["body"])
