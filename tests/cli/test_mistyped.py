"""What is typed wrongly gets what to type, and that is taken as it stands."""

import re
import shlex

import pytest

from packnet_pl.configuration.arguments import parse_arguments
from packnet_pl.configuration.mistyped import check_overrides
from packnet_pl.configuration.overrides import added_tasks, mapping_of, merge_overrides, quoted
from packnet_pl.errors import UsageError

WRONG = {
    "colon": (["seed:3"], "seed=3"),
    "spaces in a word": (["seed = 3"], "seed=3"),
    "a space before": (["seed =3"], "seed=3"),
    "spaces between words": (["seed", "=", "3"], "seed=3"),
    "a space between words, behind": (["debug=tiny", "seed=", "3"], "seed=3"),
    "a space between words, before": (["seed", "=3"], "seed=3"),
    "equals twice": (["seed==3"], "seed=3"),
    "decimal comma": (["prune.ratio=0,5"], "prune.ratio=0.5"),
    "no brackets": (["sequence.order=latin,greek"], "sequence.order=[latin,greek]"),
    "a list that the shell cut": (["sequence.order=[latin,", "greek]"], "sequence.order=[latin, greek]"),
    "a mapping that the shell cut": (
        ["sequence.folders={cats:", "/data/cats,", "cars:", "/data/cars}", "seed=1"],
        "sequence.folders={cats: /data/cats, cars: /data/cars}",
    ),
    "a mapping that the shell took apart": (
        ["sequence.folders=cats:/a", "sequence.folders=cars:/b"],
        "sequence.folders={cats:/a, cars:/b}",
    ),
    "parentheses": (["sequence.order=(latin,greek)"], "sequence.order=[latin,greek]"),
    "a bracket left open": (["sequence.order=[latin,greek"], "sequence.order=[latin,greek]"),
    "semicolons": (["prune.ratio=[0.5; 0.75]"], "prune.ratio=[0.5, 0.75]"),
    "a comma behind": (["prune.ratio=0.5,"], "prune.ratio=0.5"),
    "equals in a mapping": (["sequence.folders={cats=/a}"], "sequence.folders={cats: /a}"),
    "equals in a path in a mapping": (["sequence.folders={cats: /a=b}"], 'sequence.folders="{cats: /a=b}"'),
    "curly quotes around the word": (["“prune.ratio=0.5”"], "prune.ratio=0.5"),
    "curly quotes around the value": (["sequence.order=[“latin”]"], 'sequence.order=["latin"]'),
    "full width": (["ｓeed＝３"], "seed=3"),
    "umlaut in a name": (["sequence.folders={vögel: /a}"], 'sequence.folders="{vögel: /a}"'),
    "umlaut in a quoted name": (['sequence.add={"vögel": /a}'], 'sequence.add="{\\"vögel\\": /a}"'),
    "umlaut in a path": (["hydra.run.dir=läufe/1"], 'hydra.run.dir="läufe/1"'),
    "umlaut in a list": (["sequence.order=[vögel, cats]"], 'sequence.order=["vögel", cats]'),
    "equals in a path": (["hydra.run.dir=a=b"], 'hydra.run.dir="a=b"'),
    "another dash": (["–m", "seed=1"], "-m"),
    "one dash of two": (["—multirun", "seed=1"], "--multirun"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_to_type_is_said_and_works(case):
    words, better = WRONG[case]
    with pytest.raises(UsageError) as refused:
        check_overrides(words, sweep=False)
    said = re.search(r"(?:type|such as) (?!seed=1,)('.*?'|\S+)(?: for a list.*)?$", str(refused.value))
    assert said is not None, refused.value
    typed = shlex.split(said.group(1))
    assert typed == [better]
    if not better.startswith("-"):
        check_overrides(typed, sweep=False)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["latin"], "'latin' is not of the form KEY=VALUE, such as seed=1, without spaces"),
        (["=3"], "'=3' is not of the form KEY=VALUE"),
        ([""], "'' is not of the form KEY=VALUE"),
        (["sequence.tasks.vögel.train.epochs=3"], "a key on the command line cannot hold 'ö'"),
        (["sequence.tasks.my cats.train.epochs=3"], "a key on the command line cannot hold ' '"),
        (["sequence.folders={a: /x, a: /y}"], "sequence.folders: 'a' stands in it twice; give each name once"),
        (["+x={a: {b: 1, c: 2, b: 3}}"], "x: 'b' stands in it twice"),
    ],
)
def test_what_cannot_be_guessed_is_refused_in_one_line(words, reason):
    with pytest.raises(UsageError, match=re.escape(reason)) as refused:
        check_overrides(words, sweep=False)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    "words",
    [
        ["seed=1", "seed=2", "arch=resnet20", "arch=vgg_small"],  # the last one counts, as everywhere in Hydra
        ["~prune", "+prune=magnitude"],
        ["hydra.run.dir=a", "hydra.run.dir=b", "resume=auto", "resume=true"],
        ["seed= 3", "prune.ratio=[0.5, 0.75]", "sequence.folders={a: '/x y', b: /z}", "prune.ratio=[0.5, 0.75]"],
        ['sequence.folders="{vögel: /data/vögel}"', "arch=timm/resnet18", "trainer.devices="],
    ],
)
def test_what_is_right_is_taken(words):
    check_overrides(words, sweep=False)


def test_a_sweep_may_have_commas():
    check_overrides(["prune.ratio=0.5,0.75", "seed=range(3)"], sweep=True)


def test_a_mapping_in_quotes_is_a_mapping():
    assert mapping_of("sequence.add", '{vögel: /a, "b c": "/d e"}') == {"vögel": "/a", "b c": "/d e"}
    assert mapping_of("sequence.add", ["a"]) == ["a"]
    with pytest.raises(UsageError, match=r"'a' stands in it twice"):
        mapping_of("sequence.add", "{a: /x, a: /y}")
    with pytest.raises(UsageError, match="it is no mapping"):
        mapping_of("sequence.add", "{a: [")


def test_names_of_any_letters_outlive_a_resume():
    words = merge_overrides(["sequence.add={b: /c}"], ["sequence.add=\"{vögel: '/data/vö gel'}\"", "seed=1"])
    check_overrides(words, sweep=False)
    assert added_tasks(words[-1]) == {"b": "/c", "vögel": "/data/vö gel"}


@pytest.mark.parametrize("path", ["/home/jörg/runs", "/home/me/läufe=1", "/数据/run"])
def test_paths_of_any_letters_are_passed_on(path):
    check_overrides([f"hydra.run.dir={quoted(path)}"], sweep=False)


@pytest.mark.parametrize("option", ["--info", "-i"])
def test_an_option_whose_value_may_be_left_out_takes_no_key_for_it(monkeypatch, option):
    for words in (["seed=1", option], [option, "all", "seed=1"]):
        monkeypatch.setattr("sys.argv", ["packnet-train", *words])
        arguments = parse_arguments()
        assert (arguments.options, arguments.overrides) == ([option, "all"], ["seed=1"])
