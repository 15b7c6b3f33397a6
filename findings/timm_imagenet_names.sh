#!/usr/bin/env bash
# What the 1,000 classes of ImageNet-1k are called: timm 1.0.31 has 999 descriptions for them (crane, the bird, n02012849, and
# crane, the machine, n03126707), and 998 first synonyms (maillot twice as well). torchvision 0.28.0 has 1,000 names for the same
# classes in the same order. Tables keyed by name lose a class with the one and not with the other.
# Seen: 999 ['crane'], 998 ['crane', 'maillot'], 1000 [].
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
# Without what they depend on: only their tables are read.
"$work/env/bin/pip" install -q --no-deps timm==1.0.31 torchvision==0.28.0
"$work/env/bin/python" - <<'PYTHON'
import ast
import re
import sysconfig
from collections import Counter
from pathlib import Path

site = Path(sysconfig.get_path("purelib"))
info = site / "timm/data/_info"
described = dict(line.split("\t") for line in (info / "imagenet_synset_to_lemma.txt").read_text().splitlines())
synsets = (info / "imagenet_synsets.txt").read_text().split()
of_timm = [described[synset] for synset in synsets]
source = (site / "torchvision/models/_meta.py").read_text()
of_torchvision = ast.literal_eval(re.search(r"_IMAGENET_CATEGORIES = (\[.*?\n\])", source, re.DOTALL).group(1))


def twice(names):
    return [name for name, number in Counter(names).items() if number > 1]


first = [name.split(",")[0] for name in of_timm]
for names in (of_timm, first, of_torchvision):
    assert len(names) == 1000, len(names)
    print(len(set(names)), twice(names))
assert twice(of_timm) == ["crane"]
assert twice(first) == ["crane", "maillot"]
assert twice(of_torchvision) == []
PYTHON
echo "as described"
