# A packed file of two tasks, one of them as ONNX, and an image.
import torch
from PIL import Image

from packnet_pl import TaskClassifier, load_packed, save_packed
from packnet_pl.models import Preparation, vgg_small
from packnet_pl.packed.export import export_task

_model = TaskClassifier(vgg_small())
for _task in ("latin", "digits"):
    _model.add_task(
        _task,
        num_classes=2,
        class_names=["A", "B"],
        input_shape=(1, 24, 24),
        mean=(0.5,),
        std=(0.25,),
        preparation=Preparation("L", (24, 24), shorter_side=27),
    )
    _model.packnet.begin_task(_task)
    _model.packnet.prune(0.5)
    _model.packnet.finish_task()
save_packed(_model, "packed.safetensors")
Image.effect_noise((40, 30), 64).save("photo.png")
export_task(load_packed("packed.safetensors"), "latin", "latin.onnx", "onnx")
torch.manual_seed(0)
