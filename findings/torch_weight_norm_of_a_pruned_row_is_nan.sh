#!/usr/bin/env bash
# Pruning what weight norm divides by: torch 2.15.0 computes weight = g * v / |v| row by row, with nothing added below,
# so a row of v whose entries were all pruned makes 0 / 0. Two tools of the same torch.nn.utils meet here: magnitude
# pruning of v is ordinary (EnCodec, wav2vec 2 and most vocoders are weight-normed), a row of small entries goes as a
# whole, the layer's outputs become NaN, and so do the gradients of that row: nothing raises.
# Seen: pruning half of 'original1' leaves 4 of 8 outputs NaN; the same weights without weight norm give numbers.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.15.0 numpy
"$work/env/bin/python" - <<'PYTHON'
import torch
from torch import nn
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import weight_norm

torch.manual_seed(0)
print(torch.__version__)
plain = nn.Linear(16, 8)
with torch.no_grad():
    plain.weight[:4] *= 0.01  # four rows of small weights, as weight decay leaves them
normed = weight_norm(nn.Linear(16, 8))
normed.parametrizations.weight.original1.data.copy_(plain.weight.data)
x = torch.randn(3, 16)
prune.l1_unstructured(plain, "weight", amount=0.5)
v = normed.parametrizations.weight.original1
with torch.no_grad():
    v *= (v.abs() > v.abs().flatten().kthvalue(v.numel() // 2).values).float()
out = normed(x)
print("without weight norm:", bool(torch.isfinite(plain(x)).all()), " NaN outputs with it:", int(out.isnan().any(0).sum()))
out.nan_to_num().sum().backward()
print("rows with NaN gradients:", int(v.grad.isnan().any(1).sum()))
assert torch.isfinite(plain(x)).all()
assert out.isnan().all(0).tolist() == [True] * 4 + [False] * 4
PYTHON
echo "as described"
