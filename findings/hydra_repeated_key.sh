#!/usr/bin/env bash
# A key that is given twice: hydra-core 1.3.8 (omegaconf 2.3.1) refuses it in a yaml file ("found duplicate key"), but in an
# override on the command line, {a: 1, a: 2}, the last value wins without a word, where +x.a=1 +x.a=2 is refused again.
# So a dictionary typed on the command line can lose an entry that the same text in a file could not.
# Seen: {'a': 2}, then ConfigCompositionException, then ConstructorError.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q hydra-core==1.3.8 omegaconf==2.3.1
mkdir "$work/conf"
printf 'x: {}\n' > "$work/conf/plain.yaml"
printf 'x:\n  a: 1\n  a: 2\n' > "$work/conf/twice.yaml"
"$work/env/bin/python" - "$work/conf" <<'PYTHON'
import sys

from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException
from yaml.constructor import ConstructorError


def refused(kind, *words):
    try:
        compose(*words[:1], list(words[1:]))
    except kind as error:
        print(type(error).__name__)
        return True
    return False


with initialize_config_dir(sys.argv[1], version_base="1.3"):
    taken = compose("plain", ["+x={a: 1, a: 2}"]).x
    print(taken)
    assert taken == {"a": 2}, taken
    assert refused(ConfigCompositionException, "plain", "+x.a=1", "+x.a=2")
    assert refused(ConstructorError, "twice")
PYTHON
echo "as described"
