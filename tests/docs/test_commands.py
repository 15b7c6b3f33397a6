"""Every command on the pages would be taken: composed and checked as the program itself does it, without training.

A block is run by a shell in which programs only note their arguments, so loops, quotes and lines that go on mean what
they mean to users. Then each is held against its own rules.
"""

import functools
import re
import subprocess
import sys
import tomllib
from unittest import mock

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher

from packnet_pl.cli import evaluate, export, inspect_file, predict, report
from packnet_pl.command_line import CommandParser
from packnet_pl.configuration.arguments import parse_arguments
from packnet_pl.configuration.compose import compose
from packnet_pl.configuration.run_config import configure
from packnet_pl.errors import UsageError
from tests.support import ROOT
from tests.support.pages import blocks, sources

SHELL = ROOT / "tests" / "docs" / "shell.sh"
HYDRA_APPS = {"packnet-train", "packnet-plan", "packnet-resume"}
COMMANDS = {
    "packnet-eval": evaluate.main,
    "packnet-export": export.main,
    "packnet-inspect": inspect_file.main,
    "packnet-predict": predict.main,
    "packnet-report": report.main,
}
# What starts other programs, and what is only known to be there.
STARTERS = {"srun", "torchrun", "sbatch"}
OTHERS = {"apt-get", "bash", "head", "scontrol", "open", "tensorboard", "wandb", "mlflow", "jupyter", "git"}
PIP = {"pip", ".venv/bin/pip", "/tmp/avalanche/bin/pip"}
PROGRAMS = {*HYDRA_APPS, *COMMANDS, *STARTERS, *OTHERS, *PIP, "make", "python"}
SHELLS = ("bash", "")
PAGES = {page: text for page, text in sources().items() if any(block.language in SHELLS for block in blocks(text))}


class Parsed(Exception):  # noqa: N818
    """A command's arguments are right; there is no more to be tried."""


def noted(script, folder):
    """Runs shell code and returns the words of each program that it would have called."""
    environment = {"PROGRAMS": " ".join(sorted(PROGRAMS)), "NOTES": "notes", "HOME": str(folder)}
    code = f"{SHELL.read_text()}\n{script}"
    done = subprocess.run(["bash"], input=code, cwd=folder, env=environment, capture_output=True, text=True)
    assert not done.stderr, done.stderr
    notes = folder / "notes"
    text = notes.read_text("utf-8") if notes.exists() else ""
    return [tuple(line.split("\037")[:-1]) for line in text.split("\036")[:-1]]


def first_job(words):
    """Returns the words of a sweep's first job: of several values the first."""
    for word in words:
        override = OverridesParser.create().parse_override(word) if "=" in word else None
        if override is not None and override.is_sweep_override():
            yield f"{override.get_key_element()}={next(iter(override.sweep_string_iterator()))}"
        elif word not in ("-m", "--multirun"):
            yield word


def there(word):
    """Whether a word can be tried here: launchers that are not installed cannot, nor files that a reader has."""
    launchers = {plugin.__name__.removesuffix("Launcher").lower() for plugin in Plugins.instance().discover(Launcher)}
    chosen = re.match(r"hydra/launcher=(\w+)", word)
    return not (chosen and chosen[1] not in launchers) and not re.match(r"packed=|resume=|\.\.\.$", word)


def check_hydra_app(program, words):
    if program == "packnet-resume":
        words = words[1:]  # the run directory
        words = [word.replace("tasks.NAME.", "tasks.latin.") for word in words]
    kept = [word for word in words if there(word)]
    if any(word.startswith("hydra/launcher=") for word in words) and len(kept) < len(words):
        kept = [word for word in kept if not word.lstrip("+").startswith("hydra.launcher.")]
    kept = list(first_job(kept))
    with mock.patch.object(sys, "argv", [program, *kept]):
        arguments = parse_arguments()
        if arguments.help:
            return
        composed = compose(arguments, arguments.overrides)
        if len(kept) == len(words) or not any(re.match("packed=", word) for word in words):
            configure(arguments, composed)


def check_command(program, words):
    def parse(parser):
        try:
            parse_as_it_is(parser)
        except UsageError as error:
            raise AssertionError(str(error)) from error
        raise Parsed

    parse_as_it_is = CommandParser.parse
    with (
        mock.patch.object(sys, "argv", [program, *(word for word in words if word != "...")]),
        mock.patch.object(CommandParser, "parse", parse),
        pytest.raises(Parsed),
    ):
        COMMANDS[program]()


def check_make(words):
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for word in words:
        pattern = rf"^{re.escape(word.split('=')[0])} \?=" if "=" in word else rf"^{re.escape(word)}:"
        if not word.startswith("VERSIONS"):
            assert re.search(pattern, makefile, flags=re.MULTILINE), f"the Makefile has no {word}"


def check_pip(words):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert words[0] in ("install", "freeze")
    for word in words:
        asked = re.match(r"(?:packnet-pl|\.)\[([\w,-]+)\]", word)
        assert asked is None or set(asked[1].split(",")) <= set(extras), word


def check_python(words, page_files):
    if words[0] == "-m":
        assert words[1] in ("venv", "http.server")
        return
    path = ROOT / words[0]
    assert path.is_file() or words[0] in page_files, f"there is no {words[0]}"
    text = path.read_text("utf-8") if path.is_file() else page_files[words[0]]
    for option in (word.split("=")[0] for word in words if word.startswith("--")):
        assert f'"{option}"' in text, f"{words[0]} knows no {option}"


@functools.cache
def check(words):
    """Holds one command line against what its program takes."""
    program, *rest = words
    if program in STARTERS and any(word in PROGRAMS for word in rest):
        start = next(number for number, word in enumerate(rest) if word in PROGRAMS)
        check(tuple(rest[start:]))
    elif program in HYDRA_APPS:
        check_hydra_app(program, rest)
    elif program in COMMANDS:
        check_command(program, rest)
    elif program == "make":
        check_make(rest)
    elif program in PIP:
        check_pip(rest)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_would_be_taken(page, tmp_path, monkeypatch):
    found = list(blocks(PAGES[page]))
    files = {block.mark[1]: block.text for block in found if block.mark and block.mark[0] == "file"}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    wrong = []
    for block in found:
        if block.language not in SHELLS:
            continue
        for words in noted(block.text, tmp_path):
            try:
                if words[0] == "python":
                    check_python(words[1:], files)
                else:
                    check(words)
            except Exception as error:
                wrong.append(
                    f"{page}, block at line {block.line}: {' '.join(words)}\n    {type(error).__name__}: {error}"
                )
        (tmp_path / "notes").unlink(missing_ok=True)
    assert not wrong, "\n".join(wrong)


def test_a_wrong_command_is_found(tmp_path):
    for line in (
        "packnet-train prune.ratoi=1",
        "packnet-report RUN --splt val",
        "make trian",
        "pip install 'packnet-pl[x]'",
    ):
        (words,) = noted(line, tmp_path)
        with pytest.raises((UsageError, AssertionError)):
            check(words)
        (tmp_path / "notes").unlink()
    with pytest.raises(AssertionError, match="no rule for cowsay"):
        noted("cowsay", tmp_path)
