import re
from importlib.metadata import version

import pytest

from packnet_pl.configuration import timing
from packnet_pl.configuration.timing import Machine, duration
from tests.support import warm
from tests.support.commands import run, train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """What came of a plan, and the folder where it was made. It draws images that are not drawn yet, and says so."""
    folder = tmp_path_factory.mktemp("plan")
    done = run("packnet-plan", "prune.ratio=[0.5,0.75,0.75,0.3]", "prune.last=false", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_the_plan_shows_what_a_run_will_own_and_starts_nothing(planned):
    folder, done = planned
    rows = {
        line.split()[0]: line
        for line in done.stdout.splitlines()
        if re.match(r" ?(latin|greek|cyrillic|digits) ", line)
    }
    assert list(rows) == ["latin", "greek", "cyrillic", "digits"]
    assert re.search(r"37 +5,920 / 740 / 1,850 +0\.5 +71,496 +71,496 +10 \+ 4 +1,288", rows["latin"])
    assert re.search(r" - +40,216 +0 +30 +180", rows["digits"])
    latin = "92 steps of 64 an epoch, grey images of 24 x 24, 32 of 5,920 images left out by the last batch"
    assert f"training latin: {latin}; about " in done.stdout
    assert "training cyrillic: 20 steps of 64 an epoch, grey images of 24 x 24; about " in done.stdout
    assert re.search(
        r"^time: about [\d.]+ (s|min|h) on cpu, from batches that were timed; with val", done.stdout, re.MULTILINE
    )
    assert "143,536 parameters, 142,992 of them prunable" in done.stdout
    assert "further settings" not in done.stdout
    assert list(folder.iterdir()) == []


def test_the_plan_names_what_the_paper_does_not_have(tmp_path):
    words = ["debug=tiny", "sequence.order=[digits]", "mask=learned", "callbacks=recalibrate", "optim.distillation=0.5"]
    done = warm.run("packnet-plan", *words, cwd=tmp_path)
    said = "mask learned, mask_lr 0.3, mask_init 1.0, distillation 0.5, temperature 2.0, callbacks recalibrate"
    assert f"further settings: {said}\nrecalibrated norms: the first task's alone" in done.stdout


def test_the_plan_counts_epochs_and_images_of_a_trial(tmp_path):
    done = run("packnet-plan", "debug=tiny", "sequence.order=[digits]", cwd=tmp_path)
    assert re.search(r"digits +10 +40 / 20 / 120 +0\.5 +71,496 +71,496 +1 \+ 1 +2", done.stdout)
    assert "training digits: 1 step of 64 an epoch, grey images of 24 x 24; about " in done.stdout
    assert "as 1 separate network\n" in done.stdout


def test_the_plan_of_fine_tuning_has_no_owners(tmp_path):
    done = run("packnet-plan", "method=finetune", "sequence.order=[digits]", cwd=tmp_path)
    assert re.search(r"digits +10 +400 / 200 / 1,197 +- +- +- +30 +180", done.stdout)


@pytest.mark.usefixtures("planned")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prune.ratio=0"], "prune.ratio is 0: no weight is free for task 'greek'"),
        (["prune.ratio=75"], "prune.ratio is 75"),
        (["prune.ratoi=0.5"], "did you mean prune.ratio"),
        (["arch.image_size=32"], "arch does not take the images of task 'latin' (1 x 24 x 24)"),
    ],
)
def test_what_cannot_be_trained_is_refused_as_packnet_train_does(tmp_path, arguments, message):
    done = run("packnet-plan", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    also = train(*arguments, cwd=tmp_path)
    assert also.stderr == done.stderr.replace("packnet-plan", "packnet-train")


def test_help_has_a_line_for_every_choice_and_five_examples(tmp_path):
    done = train("--help", cwd=tmp_path)
    assert done.returncode == 0
    for group, choice in [("sequence", "folders"), ("arch", "vgg_small"), ("method", "finetune"), ("debug", "tiny")]:
        assert f"  {group}=\n" in done.stdout
        assert re.search(rf"^   [ *]{choice} +\S.{{10,}}$", done.stdout, flags=re.MULTILINE)
    assert len(re.findall(r"^   \*\w+", done.stdout, flags=re.MULTILINE)) == 10
    assert done.stdout.count("\n    packnet-train ") >= 5
    assert max(map(len, done.stdout.splitlines())) <= 140
    assert run("packnet-plan", "--help", cwd=tmp_path).stdout.startswith("packnet-plan [GROUP=CHOICE ...]")


def test_the_version_is_that_of_the_package(tmp_path):
    said = f"packnet_pl {version('packnet-pl')}\n"
    for program in ("train", "plan", "resume", "eval", "report", "export", "predict", "inspect"):
        assert warm.run(f"packnet-{program}", "--version", cwd=tmp_path)[:2] == (0, said), program


@pytest.mark.parametrize("program", ["train", "plan", "resume", "eval", "predict"])
def test_help_takes_no_other_words(tmp_path, program):
    done = warm.run(f"packnet-{program}", "--help", "me", cwd=tmp_path)
    assert done == (2, "", f"packnet-{program}: --help was given with me; give it alone\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["eval", ".", "you"], "unrecognized arguments: you; packnet-eval --help shows what is taken"),
        (["inspect"], "the following arguments are required: FILE; packnet-inspect --help shows what is taken"),
        (["plan", "--seed=3"], "unrecognized arguments: --seed=3; seed=3 is written without dashes"),
        (
            ["plan", "arch.image_size=32x32"],
            "arch.image_size is '32x32'; allowed is a whole number; for squares of that size give arch.image_size=32",
        ),
        (["plan", "optim.optimizer.momentum=much"], "optim.optimizer.momentum is 'much'; allowed is a number"),
        (["plan", "sequence.order=latin"], "sequence.order is 'latin'; give a list of tasks: 'sequence.order=[latin]'"),
        (["plan", "-m", "seed=1,2"], "--multirun is for packnet-train; packnet-plan shows what one run would do"),
        (["plan", "--info"], "--info is for packnet-train; packnet-plan shows what one run would do"),
        (["plan", "--config-dir", "none", "seed=1"], "--config-dir is none: there is no such folder"),
        (
            ["plan", "hydra.job.env_set={A: b}"],
            "hydra.job.env_set: Hydra's own part does not have it yet; to add it, type '+hydra.job.env_set={A: b}'",
        ),
        (["plan", "sequence.order=null"], "sequence.order is null; give a list of tasks: 'sequence.order=[latin]'"),
    ],
)
def test_every_command_answers_in_one_line(tmp_path, words, said):
    done = warm.run(f"packnet-{words[0]}", *words[1:], cwd=tmp_path)
    assert done == (2, "", f"packnet-{words[0]}: {said}\n")


def test_values_may_come_from_hydras_own_part(tmp_path):
    words = ["hydra.run.dir=${hydra:runtime.cwd}/${hydra:job.name}", "sequence=folders"]
    done = warm.run("packnet-plan", *words, "sequence.folders={a: ${hydra:runtime.output_dir}/b}", cwd=tmp_path)
    assert f"there is no folder {tmp_path}/packnet-train/b; expected are " in done.stderr


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "about 1 s"), (59, "about 59 s"), (100, "about 1.7 min"), (3000, "about 50 min"), (7200, "about 2 h")],
)
def test_times_are_said_as_people_say_them(seconds, said):
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("machine", "seconds"),
    [
        (Machine("cpu"), 5.0),  # reads, then computes
        (Machine("cpu", processes=2), 2.5),
        (Machine("cpu", workers=4), 4.0),  # behind the computing
        (Machine("cpu", processes=4, workers=2), 1.25),  # more than there are cores for
        (Machine("cuda:0"), 5.0),
        (Machine("cuda:0", workers=2), 4.0),
        (Machine("cuda:0", processes=8, workers=1), 0.5),
    ],
)
def test_time_is_divided_among_processes_and_workers(monkeypatch, machine, seconds):
    monkeypatch.setattr(timing, "_cores", lambda: 4)
    monkeypatch.setattr(timing.torch, "get_num_threads", lambda: 1)
    assert machine.per_image(computing=4.0, reading=1.0) == pytest.approx(seconds)
