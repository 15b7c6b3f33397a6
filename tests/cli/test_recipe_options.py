"""Loss, mixing and balance as options of a run: for all tasks or one phase, checked, resumed and packed."""

from argparse import Namespace

import pytest
import torch
from omegaconf import OmegaConf
from torch.nn.functional import cross_entropy

from packnet_pl.configuration.arguments import parse_arguments
from packnet_pl.configuration.class_losses import loss_of, training_splits
from packnet_pl.configuration.compose import compose
from packnet_pl.configuration.given_values import check_given
from packnet_pl.configuration.packed_recipe import recipe_of
from packnet_pl.configuration.recorded_settings import recorded_settings
from packnet_pl.configuration.resume_rules import refuse_mixing
from packnet_pl.configuration.run_config import checked
from packnet_pl.data import TaskData
from packnet_pl.errors import UsageError
from packnet_pl.training import ClassificationLoss
from tests.support.commands import run
from tests.support.image_folders import tree

AUGMENT = "sequence.tasks.{}.data.augment={}"


@pytest.fixture
def configured(monkeypatch, tmp_path):
    def find(*words):
        monkeypatch.setattr("sys.argv", ["packnet-train", *words])
        overrides = parse_arguments().overrides
        check_given(overrides)
        composed = compose(Namespace(config_dir=None, config_name="train"), overrides)
        OmegaConf.set_struct(composed, False)
        del composed["hydra"]
        return checked(composed, tmp_path / "run", overrides)

    return find


def of_tasks(tasks, option):
    return {task.name: [getattr(phase, option) for phase in task.phases.values()] for task in tasks}


def test_a_phase_may_have_its_own_and_has_what_optim_says_otherwise(configured):
    _, tasks = configured(
        "optim.label_smoothing=0.1",
        "sequence.tasks.greek.train.label_smoothing=0",
        "sequence.tasks.greek.retrain.mixup=0.2",
        "sequence.tasks.digits.train.balance=sampler",
        "sequence.tasks.digits.retrain.schedule=false",
    )
    assert of_tasks(tasks, "label_smoothing") == {
        **{name: [0.1, 0.1] for name in ("latin", "cyrillic", "digits")},
        "greek": [0, 0.1],
    }
    assert of_tasks(tasks, "mixup")["greek"] == [0, 0.2]
    assert of_tasks(tasks, "balance")["digits"] == ["sampler", "none"]
    assert of_tasks(tasks, "schedule")["digits"] == [True, False]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["optim.label_smoothing=1"], r"optim\.label_smoothing is 1\.0; allowed is a fraction in \[0, 1\)"),
        (["optim.mixup=-0.2"], r"optim\.mixup is -0\.2; allowed is alpha, a finite number above 0, or 0 for none"),
        (["optim.mixup=1e-300"], r"optim\.mixup is 1e-300; allowed"),
        (["optim.cutmix=inf"], r"optim\.cutmix is inf; allowed"),
        (["optim.balance=yes"], r"optim\.balance is 'yes'; allowed are 'none', 'weights' and 'sampler'"),
        (["sequence.tasks.latin.train.mixup=nan"], r"sequence\.tasks\.latin\.train\.mixup is nan; allowed"),
        (["sequence.tasks.latin.retrain.balance=x"], r"sequence\.tasks\.latin\.retrain\.balance is 'x'; allowed are"),
        (["sequence.tasks.latni.train.mixup=1"], r"no task for sequence\.tasks\.latni; did you mean latin\?"),
        (["method=joint", "optim.mixup=1"], r"mixup is 1\.0, but method=joint has images of several tasks in a batch"),
        (["method=joint", "sequence.tasks.digits.train.mixup=1"], r"digits\.train\.mixup is 1\.0, but method=joint"),
        (["optim.distillation=1.1"], r"optim\.distillation is 1\.1; allowed is a share of the loss in \[0, 1\]"),
        (["optim.epochs.retrain=0"], r"optim\.epochs\.retrain is 0\.0; allowed is a number above 0"),
        (["optim.lr.train=inf"], r"optim\.lr\.train is inf; allowed is a finite number above 0"),
        (["optim.temperature=0"], r"optim\.temperature is 0\.0; allowed is a finite number above 0"),
        (["method=finetune", "optim.distillation=0.5"], r"method=finetune packs nothing and so has no phase retrain"),
        (["method=finetune", "optim.epochs.retrain=2"], r"epochs\.retrain is 2, but method=finetune has no phase re"),
        (["method=joint", "optim.lr.retrain=0.5"], r"lr\.retrain is 0\.5, but method=joint has no phase retrain; "),
        (["method=individual", "optim.lr.retrain=2"], r"leave it out, or give method\.classifier\.retrain=true$"),
        (["method=lwf", "callbacks=ema", "callbacks.ema.phase=retrain"], r"callbacks\.ema\.phase is retrain, but meth"),
        (["method=lwf", "prune.score=taylor"], r"prune\.score=taylor was given, but method=lwf packs nothing"),
        (["method=joint", "prune.schedule=gradual"], r"prune\.schedule=gradual was given, but method=joint packs no"),
        (["method=joint", "optim.label_smoothing=0.1"], r"label_smoothing is 0\.1, but method=joint has images of"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(configured, words, message):
    with pytest.raises(UsageError, match=message):
        configured(*words)


def test_a_run_does_not_resume_with_another_loss_for_what_is_finished(configured):
    saved = OmegaConf.to_container(configured()[0])
    begun = ["latin", "greek"]

    def anew(*words):
        now = OmegaConf.to_container(configured(*words)[0])
        now["sequence"]["finished"] = ["latin"]
        return refuse_mixing(saved, now, begun)

    with pytest.raises(UsageError, match=r"optim\.mixup was 0\.0 and would be 0\.2: what is trained already"):
        anew("optim.mixup=0.2")
    with pytest.raises(UsageError, match=r"sequence\.tasks\.latin\.train\.mixup was None and would be 0\.2"):
        anew("sequence.tasks.latin.train.mixup=0.2")
    assert anew("sequence.tasks.greek.retrain.mixup=0.2") == ("retrain",)
    assert anew("sequence.tasks.greek.train.balance=weights") == ("retrain", "train")
    assert anew("sequence.tasks.digits.train.balance=weights") == ()


def test_a_packed_file_brings_them_along(configured):
    config, _ = configured("optim.mixup=0.2", "optim.balance=weights", "sequence.tasks.latin.train.cutmix=1")
    recipe = recipe_of(config, "vgg_small", None)
    assert (recipe["optim"]["mixup"], recipe["optim"]["balance"], recipe["optim"]["label_smoothing"]) == (
        0.2,
        "weights",
        0,
    )
    assert recipe["sequence"]["tasks"]["latin"]["train"]["cutmix"] == 1


def test_factors_go_for_a_phase_of_all_tasks(configured):
    _, tasks = configured("optim.epochs.retrain=1.6", "optim.lr.train=0.5", "sequence.tasks.greek.train.epochs=0")
    assert of_tasks(tasks, "epochs") == {"latin": [10, 6], "greek": [0, 10], "cyrillic": [16, 10], "digits": [30, 16]}
    assert of_tasks(tasks, "lr") == {
        "latin": [0.025, 0.02],
        **{name: [0.02, 0.02] for name in ("greek", "cyrillic", "digits")},
    }
    _, tasks = configured("optim.epochs={train: 0.01, retrain: 0.01}", "debug.max_epochs=3")
    assert of_tasks(tasks, "epochs")["digits"] == [1, 1]


def test_individual_networks_may_have_a_second_phase(configured):
    words = ["method=individual", "method.classifier.retrain=true", "optim.distillation=0.5", "callbacks=ema"]
    words += ["optim.lr.retrain=2", "callbacks.ema.phase=retrain"]
    assert of_tasks(configured(*words)[1], "epochs")["latin"] == [10, 4]
    assert of_tasks(configured("method=individual")[1], "epochs")["latin"] == [10]
    with pytest.raises(UsageError, match="method=individual packs nothing and so has no phase retrain"):
        configured("method=individual", "optim.distillation=0.5")


def test_retraining_distils_and_training_does_not(configured):
    config, _ = configured("optim.distillation=0.3", "optim.temperature=4")
    assert recipe_of(config, "vgg_small", None)["optim"]["distillation"] == 0.3
    saved = OmegaConf.to_container(configured()[0])
    with pytest.raises(UsageError, match=r"optim\.distillation was 0\.0 and would be 0\.3: what is trained already"):
        refuse_mixing(
            {**saved, "sequence": {**saved["sequence"], "finished": ["latin"]}},
            {**OmegaConf.to_container(config), "sequence": {**saved["sequence"], "finished": ["latin"]}},
            ["latin", "greek"],
        )


def test_the_loss_is_torchs_own_unless_another_one_is_asked_for(configured):
    split = torch.utils.data.TensorDataset(torch.zeros(4, 1), torch.tensor([0, 0, 0, 1]))
    data = TaskData(split, split, split, ("x", "y"), (1, 1, 1), (0.0,), (1.0,))
    tasks = configured("sequence.order=[latin]", "optim.balance=weights", "sequence.tasks.latin.retrain.balance=none")[
        1
    ]
    (found,) = training_splits(tasks, {"latin": data}, together=False).values()
    assert found == (split, 2)
    assert loss_of(tasks[0].phases["train"], *found) == ClassificationLoss(0.0, (4 / 6, 2.0))
    assert loss_of(tasks[0].phases["retrain"], *found) is cross_entropy


def test_what_augments_embedded_tasks_is_recorded_and_packed_where_it_is_on(configured):
    plain, _ = configured("sequence=far")
    given, _ = configured("sequence=far", AUGMENT.format("digits", "affine"), AUGMENT.format("spectro", "specaugment"))
    assert "augment" not in recorded_settings(plain)
    assert recorded_settings(given) == {**recorded_settings(plain), "augment": "digits affine, spectro specaugment"}
    recipes = [recipe_of(config, "vgg_small", None)["sequence"]["tasks"] for config in (plain, given)]
    assert [recipe["latin"]["data"].get("augment") for recipe in recipes] == [None, None]
    assert [recipe["spectro"]["data"].get("augment") for recipe in recipes] == [None, "specaugment"]


def test_finished_tasks_keep_the_augmentation_that_they_had(configured):
    was, now = (OmegaConf.to_container(configured(*words)[0]) for words in ((), (AUGMENT.format("greek", "affine"),)))
    for config in (was, now):
        config["sequence"]["finished"] = ["latin"]
    assert refuse_mixing(was, now, ["latin"]) == ()
    assert refuse_mixing(was, now, ["latin", "greek"]) == ("retrain", "train")
    now["sequence"]["finished"] = ["latin", "greek"]
    with pytest.raises(UsageError, match=r"greek\.data\.augment was none and would be affine: what is trained already"):
        refuse_mixing(was, now, ["latin", "greek"])


@pytest.mark.slow
def test_an_unbalanced_folder_is_trained_with_everything(tmp_path):
    """Through the command line, class by class; the steps are those of the plain run."""
    tree(tmp_path / "pets", train=10, test=2, val=2)
    for path in sorted((tmp_path / "pets" / "train" / "dog").iterdir())[3:]:
        path.unlink()
    words = ["sequence=folders", "sequence.folders={pets: pets}", "debug.max_epochs=1", "logger=none"]
    words += [
        "sequence.tasks.pets.data.image_size=24",
        "sequence.tasks.pets.data.augment=crop+augmix",
        "arch.in_channels=3",
    ]
    words += ["optim.label_smoothing=0.1", "optim.mixup=0.2", "optim.cutmix=1", "optim.batch_size=4"]
    words += ["sequence.tasks.pets.train.balance=sampler", "sequence.tasks.pets.retrain.balance=weights"]
    done = run("packnet-train", *words, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "pets" in done.stdout
