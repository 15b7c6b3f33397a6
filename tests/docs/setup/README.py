# A packed file to read, as a run of the embedded sequence leaves it.
from packnet_pl import TaskClassifier, save_packed
from packnet_pl.models import vgg_small

_model = TaskClassifier(vgg_small())
_model.add_task("latin", num_classes=2, class_names=["A", "B"], input_shape=(1, 24, 24), mean=(0.5,), std=(0.25,))
_model.packnet.begin_task("latin")
_model.packnet.finish_task()
save_packed(_model, "packed.safetensors")
