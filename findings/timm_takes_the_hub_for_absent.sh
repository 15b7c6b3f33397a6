#!/usr/bin/env bash
# A hub that is installed and called absent: timm 1.0.19 with huggingface_hub 2.4.0, which its requirements allow.
# create_model("resnet18", pretrained=True) raises "Hugging Face hub model specified but package not installed", although
# `import huggingface_hub` works; timm 1.0.22 uses it. The error sends people to install what they have.
# Seen: that RuntimeError with 1.0.19; with 1.0.22 has_hf_hub() is True. Neither touches the network.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.15.0 torchvision==0.29.2 numpy timm==1.0.19 huggingface_hub==2.4.0
"$work/env/bin/python" - <<'PYTHON'
import huggingface_hub
import timm

print(timm.__version__, huggingface_hub.__version__)
try:
    timm.create_model("resnet18", pretrained=True)
except RuntimeError as error:
    print(error)
    assert "not installed" in str(error), error
else:
    raise AssertionError("the hub was found")
PYTHON
"$work/env/bin/pip" install -q --no-deps timm==1.0.22
"$work/env/bin/python" - <<'PYTHON'
import timm
from timm.models import _hub

print(timm.__version__, _hub.has_hf_hub())
assert _hub.has_hf_hub()
PYTHON
echo "as described"
