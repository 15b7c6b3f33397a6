#!/usr/bin/env bash
# A state dict that is not only a dict: torchvision 0.29.2's MNASNet finds its version in `_metadata`, an attribute of the
# OrderedDict that state_dict() returns. safetensors 0.8.0 keeps names and tensors alone, as do `dict(state)`,
# a comprehension that renames keys and torch.load of such a dict; the same names and values are then refused.
# Seen: ValueError "version should be set to 1 or 2 instead of None" on loading what the same network saved; the
# networks of other families load theirs (three small ones are tried here).
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.15.0 torchvision==0.29.2 numpy safetensors==0.8.0
cd "$work"
"$work/env/bin/python" - <<'PYTHON'
import torchvision
from safetensors.torch import load_file, save_file
from torchvision import models

print(torchvision.__version__)
for name in ("squeezenet1_1", "shufflenet_v2_x0_5", "mobilenet_v3_small", "mnasnet0_5"):
    net = models.get_model(name)
    save_file({key: value.contiguous() for key, value in net.state_dict().items()}, "net.safetensors")
    try:
        net.load_state_dict(load_file("net.safetensors"))
        outcome = "loaded"
    except ValueError as error:
        outcome = str(error)
    print(name, "->", outcome)
    assert (outcome == "loaded") == (not name.startswith("mnasnet")), outcome
assert "version should be set to 1 or 2 instead of None" in outcome
net.load_state_dict(net.state_dict())
PYTHON
echo "as described"
