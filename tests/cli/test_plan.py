import re

import pytest
from command_line import run, train

pytestmark = pytest.mark.slow


def test_the_plan_shows_what_a_run_will_own_and_starts_nothing(tmp_path):
    done = run("packnet-plan", "prune.ratio=[0.5,0.75,0.75,0.3]", "prune.last=false", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = {
        line.split()[0]: line
        for line in done.stdout.splitlines()
        if re.match(r" ?(latin|greek|cyrillic|digits) ", line)
    }
    assert list(rows) == ["latin", "greek", "cyrillic", "digits"]
    assert re.search(r"37 +5,920 / 740 / 1,850 +0\.5 +71,496 +71,496 +10 \+ 4 +1,288", rows["latin"])
    assert re.search(r" - +40,216 +0 +30 +180", rows["digits"])
    assert "143,536 parameters, 142,992 of them prunable" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_plan_counts_epochs_and_pictures_of_a_trial(tmp_path):
    done = run("packnet-plan", "debug=tiny", "sequence.order=[digits]", cwd=tmp_path)
    assert re.search(r"digits +10 +40 / 20 / 120 +0\.5 +71,496 +71,496 +1 \+ 1 +2", done.stdout)


def test_the_plan_of_fine_tuning_has_no_owners(tmp_path):
    done = run("packnet-plan", "method=finetune", "sequence.order=[digits]", cwd=tmp_path)
    assert re.search(r"digits +10 +400 / 200 / 1,197 +- +- +- +30 +180", done.stdout)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prune.ratio=0"], "prune.ratio is 0: no weight is free for task 'greek'"),
        (["prune.ratio=75"], "prune.ratio is 75"),
        (["prune.ratoi=0.5"], "did you mean prune.ratio"),
        (["arch.image_size=32"], "arch does not take the pictures of task 'latin' (1 x 24 x 24)"),
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
    assert len(re.findall(r"^   \*\w+", done.stdout, flags=re.MULTILINE)) == 8
    assert done.stdout.count("\n    packnet-train ") >= 5
    assert max(map(len, done.stdout.splitlines())) <= 140
    assert run("packnet-plan", "--help", cwd=tmp_path).stdout.startswith("packnet-plan [GROUP=CHOICE ...]")
