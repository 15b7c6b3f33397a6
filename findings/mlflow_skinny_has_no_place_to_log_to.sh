#!/usr/bin/env bash
# mlflow-skinny 3.17.2, alone in an environment: the folder that it used to log to is refused ("in maintenance mode"), and the
# database in a file that the message names instead is refused too, as "Model registry functionality is unavailable": the
# libraries for it are no dependencies, and the message does not name them. With sqlalchemy and alembic it works.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q mlflow-skinny==3.17.2
cat > "$work/log.py" <<'PYTHON'
import sys

from mlflow import MlflowClient

try:
    client = MlflowClient(sys.argv[1])
    client.log_metric(client.create_run(client.create_experiment("e")).info.run_id, "loss", 1.0)
except Exception as error:
    print(type(error).__name__, "maintenance" if "maintenance mode" in str(error) else "registry")
else:
    print("logged")
PYTHON
cd "$work"
says() { "$work/env/bin/python" log.py "$1" 2> /dev/null | tail -1; }
before="$(says "file:$work/runs"); $(says "sqlite:///$work/a.db")"
"$work/env/bin/pip" install -q sqlalchemy==1.4.54 alembic==1.19.2
after=$(says "sqlite:///$work/b.db")
echo "$before; $after"
[ "$before; $after" = "MlflowException maintenance; UnsupportedModelRegistryStoreURIException registry; logged" ]
echo "as described"
