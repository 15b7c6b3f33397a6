"""The logits of a probe, from the network as it is: of a sharded one, from its weights gathered on the CPU."""

import torch
from torch import Tensor, nn

from packnet_pl.core.conversion import take_types_
from packnet_pl.core.shards import reshard_, whole_of
from packnet_pl.distributed import rank_and_world_size
from packnet_pl.models import as_input, build_backbone
from packnet_pl.training import MultiHeadClassifier
from packnet_pl.training.sharding import is_sharded

__all__ = ["probe_logits"]


@torch.no_grad()
def probe_logits(model: MultiHeadClassifier, task: str, images: Tensor) -> Tensor | None:
    """Returns the logits of a task, in eval mode; every process must call it alike.

    Whoever compares them has the whole network, on a CPU: other devices round otherwise. So a sharded network is
    gathered for it, layer by layer, in the first process; in others None is returned.

    Args:
        model: With the task.
        task: Whose logits.
        images: N x C x H x W, on the CPU.
    """
    with model.predicting(task) as predict:
        if not is_sharded(model) or not hasattr(model.backbone, "builder"):
            return predict(images.to(model.device)).cpu()
        parts = [_gathered(part) for part in (model.backbone, model.heads[task])]
    if rank_and_world_size()[0] != 0:
        return None
    with torch.random.fork_rng(devices=[]):
        backbone = build_backbone(model.backbone.builder)  # type: ignore[arg-type]
    head = nn.Linear(parts[1]["weight"].shape[1], model.heads.infos[task].num_classes)
    for part, tensors in zip((backbone, head), parts, strict=True):
        take_types_(part, tensors)
        part.load_state_dict(tensors)
    network = nn.Sequential(backbone, head).eval()
    logits: Tensor = network(as_input(images, backbone))
    return logits


def _gathered(part: nn.Module) -> dict[str, Tensor]:
    """Returns all tensors of a module, whole and on the CPU, in the first process; others do not keep them."""
    reshard_(part)
    keeps, found = rank_and_world_size()[0] == 0, {}
    for name, tensor in part.state_dict().items():
        whole = whole_of(tensor)
        if keeps:
            found[name] = whole.to("cpu", copy=True)
    return found
