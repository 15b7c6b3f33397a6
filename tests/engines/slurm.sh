#!/usr/bin/env bash
# A SLURM of one machine on loopback, for tests: munged, slurmctld and slurmd, in a folder of their own.
#
#   slurm.sh start FOLDER    starts them as the current user, and waits until jobs can run
#   slurm.sh stop FOLDER     stops them, and whatever they still run
#
# It installs nothing: Debian's packages are slurm-wlm and munge. Use it with SLURM_CONF=FOLDER/slurm.conf.
set -euo pipefail

folder=$(realpath "$2")
export SLURM_CONF="$folder/slurm.conf"

start() {
    mkdir -p "$folder/munge" "$folder/state" "$folder/spool"
    chmod 700 "$folder/munge"
    head -c 1024 /dev/urandom > "$folder/munge/munge.key"
    chmod 600 "$folder/munge/munge.key"
    # --force: the folder may lie below one that others may write to, as temporary folders do.
    munged --force --key-file="$folder/munge/munge.key" --socket="$folder/munge/socket" \
        --pid-file="$folder/munge/pid" --log-file="$folder/munge/log" --seed-file="$folder/munge/seed"

    read -r ctld_port slurmd_port <<< "$(python3 -c '
import socket
found = [socket.socket() for _ in range(2)]
for each in found: each.bind(("127.0.0.1", 0))
print(*(each.getsockname()[1] for each in found))')"
    cat > "$SLURM_CONF" <<CONF
ClusterName=loopback
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket,cred_expire=5
CredType=cred/munge
SlurmctldPort=$ctld_port
SlurmdPort=$slurmd_port
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,bf_interval=2
ReturnToService=2
JobRequeue=1
KillWait=30
MinJobAge=3600
NodeName=localhost NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=loopback Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
    slurmctld -c -i
    slurmd -c
    for _ in $(seq 100); do
        [ "$(sinfo --noheader --format %T 2> /dev/null)" = idle ] && return
        sleep 0.2
    done
    echo "SLURM did not come up; the end of its logs:" >&2
    tail -n 5 "$folder/slurmctld.log" "$folder/slurmd.log" >&2
    return 1
}

stop() {
    scancel --state=RUNNING --quiet 2> /dev/null || true
    scancel --state=PENDING --quiet 2> /dev/null || true
    for _ in $(seq 50); do
        [ -z "$(squeue --noheader 2> /dev/null)" ] && break
        sleep 0.2
    done
    for pid in "$folder/slurmd.pid" "$folder/slurmctld.pid" "$folder/munge/pid"; do
        [ -s "$pid" ] && kill "$(cat "$pid")" 2> /dev/null || true
    done
}

"$1"
