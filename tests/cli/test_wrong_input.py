import pytest

from tests.support.cases import breadth
from tests.support.commands import run_installed, train

WRONG = {
    "unknown option": (["--foo"], "unrecognized arguments: --foo"),
    "options that exclude each other": (
        ["-m", "seed=0,1", "--cfg", "job"],
        "--multirun and --cfg were given; give one",
    ),
    "misspelt key": (["prune.ratoi=0.5"], "there is no option prune.ratoi; did you mean prune.ratio"),
    "misspelt key with plus": (["+prune.ratoi=0.5"], "there is no option prune.ratoi; did you mean prune.ratio"),
    "unknown top-level key with plus": (["+foo=1"], "there is no option foo"),
    "misspelt argument of a target": (
        ["+arch.hiden=3"],
        "arch.hiden: packnet_pl.models.vgg_small has no such argument",
    ),
    "misspelt phase key": (
        ["sequence.tasks.latin.train.epoch=3"],
        "there is no option sequence.tasks.latin.train.epoch; did you mean sequence.tasks.latin.train.epochs",
    ),
    "ratio no number": (["prune.ratio=abc"], "prune.ratio is abc; allowed is a fraction in [0, 1)"),
    "ratio 1": (["prune.ratio=1"], "prune.ratio is 1; allowed"),
    "ratio in percent": (["prune.ratio=75"], "prune.ratio is 75; allowed is a fraction in [0, 1), a list of them, or "),
    "ratio negative": (["prune.ratio=-0.1"], "prune.ratio is -0.1"),
    "ratio nan": (["prune.ratio=nan"], "prune.ratio is nan"),
    "ratio true": (["prune.ratio=true"], "prune.ratio is True"),
    "one ratio of a list out of range": (["prune.ratio=[0.5,0.5,2,0.5]"], "prune.ratio is [0.5, 0.5, 2, 0.5]"),
    "too few ratios": (["prune.ratio=[0.5,0.75]"], "2 numbers for 4 tasks"),
    "too many ratios": (["prune.ratio=[0.5,0.5,0.5,0.5,0.5]"], "5 numbers for 4 tasks"),
    "seed no number": (["seed=x"], "seed: Value 'x' of type 'str' could not be converted to Integer"),
    "epochs no number": (["sequence.tasks.latin.train.epochs=x"], "sequence.tasks.latin.train.epochs: Value 'x'"),
    "unknown epoch": (["method.fit.select=foo"], "method.fit.select is 'foo'; allowed are 'last' and 'best'"),
    "less than no epochs": (["sequence.tasks.latin.train.epochs=-1"], "sequence.tasks.latin.train.epochs is -1"),
    "no retraining": (["sequence.tasks.latin.retrain.epochs=0"], "retrain.epochs is 0; allowed is 1 or more"),
    "rate zero": (["sequence.tasks.latin.train.lr=0"], "sequence.tasks.latin.train.lr is 0"),
    "batch size zero": (["optim.batch_size=0"], "optim.batch_size is 0; allowed is 1 or more"),
    "unknown choice": (["arch=zzz"], "there is no arch=zzz; there are alexnet, convnext_base, "),
    "unknown task": (["sequence.order=[latn]"], "sequence.order names 'latn'; did you mean latin?"),
    "task twice": (["sequence.order=[latin,latin]"], "each task can stand in it once"),
    "no task": (["sequence.order=[]"], "sequence.order is empty"),
    "unknown scope": (["prune.scope=row"], "prune.scope is 'row'; allowed are 'layer' and 'global'"),
    "target no class": (["optim.optimizer._target_=torch.optim"], "'torch.optim', which is neither a class nor"),
    "no rule": (["prune.rule._target_=builtins.dict"], "prune.rule is a dict; it takes a packnet_pl.core.PruneRule"),
    "unknown granularity": (["prune.granularity=row"], "prune.granularity is 'row'; allowed are 'weight' and 'filter'"),
    "value that its target refuses": (["arch.hidden=0"], "arch: vgg_small with"),
    "rate of masks that their class refuses": (["mask=learned", "mask.lr=-1"], "packnet-train: mask lr is -1; allowed"),
    "mask of another kind": (["mask=learned", "mask._target_=builtins.dict"], "mask is a dict; it takes a packnet_pl."),
    "classifier's weight": (["method=lwf", "method.classifier.weight=-1"], "packnet-train: method=lwf: weight is -1;"),
    "unknown alphabet": (["sequence.tasks.latin.data.alphabet=klingon"], "alphabet is 'klingon'; there are"),
    "devices no number": (["trainer.devices=x"], "packnet-train: trainer.devices=x: `devices` selected with"),
    "unknown precision": (["trainer.precision=7"], "packnet-train: trainer.precision=7: Precision 7 is invalid"),
    "target that does not exist": (["arch._target_=torch.nn.Nothing"], "arch._target_ is 'torch.nn.Nothing', which"),
    "no equals sign": (["seed"], "'seed' is not of the form KEY=VALUE"),
    "mandatory value left out": (["sequence.order=???"], "sequence.order has no value"),
    "section deleted": (["~prune"], "prune"),
}


# One of each way to be refused: while words are read, composed, checked, and while things are built.
MAIN = ["unknown option", "misspelt key", "misspelt key with plus", "misspelt argument of a target", "ratio in percent"]
MAIN += ["too few ratios", "seed no number", "unknown choice", "unknown task", "no rule", "devices no number"]
MAIN += ["value that its target refuses", "mandatory value left out", "rate of masks that their class refuses"]


@pytest.mark.slow
@pytest.mark.parametrize("case", breadth(WRONG, *MAIN))
def test_wrong_input_gets_one_line_code_2_and_leaves_nothing(case, tmp_path):
    arguments, message = WRONG[case]
    done = train(*arguments, cwd=tmp_path, timeout=120)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("packnet-train: ")
    assert message in lines[0]
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "word", ["prune.ratoi=0.5", "+prune.ratoi=0.5", "--foo", "prune.ratio=75", "seed=x", "arch=zzz"]
)
def test_a_bad_option_fails_before_torch_is_imported(word, tmp_path):
    code = (
        f"import sys; sys.argv = ['packnet-train', {word!r}]; from packnet_pl.cli.train import main\n"
        "try: main()\nexcept SystemExit as end: print(end.code, 'torch' in sys.modules)"
    )
    assert run_installed("python", "-c", code, cwd=tmp_path).stdout == "2 False\n"


def test_a_directory_that_holds_a_run_is_not_written_over(tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "results.json").write_text("{}")
    done = train("debug=tiny", "hydra.run.dir=r", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "packnet-train: r holds a run already; choose another hydra.run.dir\n"
    assert [path.name for path in (tmp_path / "r").iterdir()] == ["results.json"]


@pytest.mark.slow
def test_a_real_bug_keeps_its_traceback(tmp_path):
    (tmp_path / "broken.py").write_text("def backbone():\n    raise KeyError('a bug')\n")
    config = tmp_path / "conf" / "arch"
    config.mkdir(parents=True)
    (config / "broken.yaml").write_text("_target_: broken.backbone\n")
    done = run_installed(
        "python",
        "-c",
        "import sys; sys.path.insert(0, '.'); from packnet_pl.cli.train import main; "
        "sys.argv = ['packnet-train', '--config-dir', 'conf', 'arch=broken', 'debug=tiny']; main()",
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "KeyError: 'a bug'" in done.stderr


def test_options_may_stand_behind_overrides(tmp_path):
    done = train("seed=3", "--cfg", "job", cwd=tmp_path)
    assert done.returncode == 0
    assert "seed: 3" in done.stdout
