#!/usr/bin/env bash
# torchvision 0.29.1 (torch 2.14.1): images of 8 bits become floats in [0, 1] in three ways. transforms.functional.to_tensor and
# convert_image_dtype divide by 255. v2's ToDtype(torch.float32, scale=True), which takes the place of both in new code,
# multiplies by 1 / 255: 126 of the 256 values come out one bit off. A network that is fed by the one in training and by the
# other (or by numpy's x / 255) in production sees other pixels, and comparisons of logits to the bit fail.
# Seen: "differ from x / 255: to_tensor 0, convert_image_dtype 0, v2 126; at most 5.960e-08".
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 pillow==12.3.0
"$work/env/bin/python" - <<'PYTHON'
import torch
from PIL import Image
from torchvision.transforms import functional as v1
from torchvision.transforms import v2

image = Image.frombytes("L", (16, 16), bytes(range(256)))
pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)
expected = pixels / 255
new = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])(image)
found = [int((way != expected).sum()) for way in (v1.to_tensor(image), v1.convert_image_dtype(pixels), new)]
most = float((new - expected).abs().max())
print(f"differ from x / 255: to_tensor {found[0]}, convert_image_dtype {found[1]}, v2 {found[2]}; at most {most:.3e}")
assert found == [0, 0, 126], found
assert most < 1e-7, most
PYTHON
echo "as described"
