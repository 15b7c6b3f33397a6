#!/usr/bin/env bash
# wandb 0.31.0: an offline run whose process is killed outright holds nothing of what was logged, however long before the kill,
# until 32 KiB are gathered: its file is 7 bytes long, and the service that writes it ends without writing more. The folder is
# there, and `wandb sync` takes it, so the loss shows only when somebody looks for the curves.
# Seen: 7 bytes, 10 seconds after five rows and the kill; after finish() in the place of the kill more than 1,000.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q wandb==0.31.0
cat > "$work/log.py" <<'PYTHON'
import os
import signal
import sys
import time

import wandb

run = wandb.init(project="p", dir=sys.argv[1], mode="offline")
for step in range(5):
    run.log({"loss": float(step)}, step=step, commit=True)
time.sleep(5)
if sys.argv[2] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
run.finish()
PYTHON
for end in killed finished; do
    mkdir "$work/$end"
    "$work/env/bin/python" "$work/log.py" "$work/$end" "$end" > /dev/null 2>&1 || true
done
sleep 5
size() { stat -c %s "$work/$1"/wandb/offline-run-*/run-*.wandb; }
echo "killed: $(size killed) bytes, finished: $(size finished) bytes"
[ "$(size killed)" -eq 7 ] && [ "$(size finished)" -gt 1000 ]
echo "as described"
