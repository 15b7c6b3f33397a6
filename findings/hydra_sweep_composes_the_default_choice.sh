#!/usr/bin/env bash
# hydra-core 1.3.8: a value of a choice that a sweep runs over. "app db=b db.y=2" works, as b has y. The same in a sweep over b and
# c, which both have y, "app -m db=b,c db.y=2", fails before any job: Hydra composes once for the sweep itself, with all that is
# no list of values, so db.y=2 meets the *default* choice a, which has no y. "++db.y=2" works in both.
# Seen: 2; "Key 'y' is not in struct"; 2 2.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q hydra-core==1.3.8 omegaconf==2.3.1
cd "$work"
mkdir -p conf/db
printf 'defaults: [db: a, _self_]\n' > conf/config.yaml
printf 'x: 1\n' > conf/db/a.yaml
printf 'x: 1\ny: 1\n' | tee conf/db/b.yaml > conf/db/c.yaml
cat > app.py <<'PYTHON'
import hydra


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def app(config):
    print("y is", config.db.y)


app()
PYTHON
run() { "$work/env/bin/python" app.py "$@" hydra.run.dir=one hydra.sweep.dir=many 2>&1 || true; }
run db=b db.y=2 | tee one.txt; grep -qx 'y is 2' one.txt
run -m db=b,c db.y=2 | tee two.txt; grep -q "Key 'y' is not in struct" two.txt; ! grep -q '^y is' two.txt
run -m db=b,c ++db.y=2 | tee three.txt; [ "$(grep -cx 'y is 2' three.txt)" = 2 ]
echo "as described"
