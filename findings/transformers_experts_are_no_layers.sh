#!/usr/bin/env bash
# Experts that no walk over layers finds: in transformers 5.24.0 the experts of Mixtral are two stacked 3-D parameters
# of one module; in 4.57.1 each was three nn.Linear. Whatever looks for nn.Linear (pruning, quantization, low-rank
# adapters, counts of parameters) sees attention and routers only, and says nothing: torch's own
# global_unstructured over all nn.Linear leaves every expert dense.
# Seen: nn.Linear holds 100 % of the parameters of a small Mixtral's layers (norms aside) in 4.57.1, and 4 % in 5.24.0,
# where after pruning 90 % of "all linear layers" the network has 3.6 % zeros (90 % in 4.57.1).
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.15.0 numpy transformers==5.24.0
cat > "$work/count.py" <<'PYTHON'
import sys

import transformers
from torch import nn
from torch.nn.utils import prune
from transformers import MixtralConfig, MixtralModel

size = dict(hidden_size=64, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4)
net = MixtralModel(MixtralConfig(vocab_size=100, num_local_experts=8, **size)).layers
linear = [layer for layer in net.modules() if isinstance(layer, nn.Linear)]
matrices = [weight for weight in net.parameters() if weight.dim() > 1]
total = sum(weight.numel() for weight in matrices)
share = sum(layer.weight.numel() for layer in linear) / total
print(transformers.__version__, f"{share:.1%} of the weights are in nn.Linear;",
      [tuple(weight.shape) for weight in matrices if weight.dim() > 2][:2])
prune.global_unstructured([(layer, "weight") for layer in linear], prune.L1Unstructured, amount=0.9)
for layer in linear:
    prune.remove(layer, "weight")
zeros = sum(int((weight == 0).sum()) for weight in net.parameters() if weight.dim() > 1) / total
print(f"after pruning 90 % of all linear layers, {zeros:.1%} of the weights are zero")
low, high = map(float, sys.argv[1:])
assert low < share <= high, share
PYTHON
"$work/env/bin/python" "$work/count.py" 0 0.07
"$work/env/bin/pip" install -q transformers==4.57.1
"$work/env/bin/python" "$work/count.py" 0.99 1
echo "as described"
