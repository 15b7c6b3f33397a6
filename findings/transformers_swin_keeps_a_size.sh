#!/usr/bin/env bash
# A Swin transformer that was shown an image it cannot take: with transformers 5.24.0 its layers write the window size of that
# image into themselves before they fail, and the sizes that went before fail from then on too, in eval mode and without
# gradients. Whoever tries which sizes a network takes needs a fresh copy of it for each try.
# Seen: 224 pixels work, 64 do not, 224 do not any more.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.15.0 torchvision==0.29.2 transformers==5.24.0 numpy
cat > "$work/show.py" <<'PYTHON'
import torch
from transformers import SwinConfig, SwinModel

module = SwinModel(SwinConfig(embed_dim=12, depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8])).eval()


def takes(side):
    try:
        with torch.no_grad():
            module(pixel_values=torch.zeros(1, 3, side, side))
    except RuntimeError as error:
        print(side, error)
        return False
    return True


seen = [takes(side) for side in (224, 64, 224)]
print(seen)
assert seen == [True, False, False]
PYTHON
"$work/env/bin/python" "$work/show.py"
echo "as described"
