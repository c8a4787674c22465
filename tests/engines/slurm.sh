#!/usr/bin/env bash
# samples/slurm.sh on a cluster of one host: munged, slurmctld and slurmd of Debian's slurm-wlm, with files, ports and keys
# of their own. One task is killed (SIGKILL) and requeued by hand, one gets the TERM that comes before its time is up.
#   LLBATCH=PATH tests/engines/slurm.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
PATH=$PATH:/usr/sbin
needs munged slurmctld slurmd sbatch scontrol jq curl python3
if ((EUID != 0)); then
    echo "skipped: slurmd runs jobs as root alone"
    exit 0
fi
ROWS=800
prepare
mkdir slurm slurm/state slurm/spool
chmod 755 "$TMP"
read -r ctld slurmd < <(python3 -c '
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(one.getsockname()[1] for one in held))')
(umask 077 && head -c 1024 /dev/urandom >slurm/munge.key)
munged --foreground --force --socket="$TMP/slurm/munge.socket" --key-file="$TMP/slurm/munge.key" \
    --pid-file="$TMP/slurm/munge.pid" --seed-file="$TMP/slurm/munge.seed" --log-file="$TMP/slurm/munge.log" 2>munge.log &
PIDS+=($!)
host=$(hostname -s)
cat >slurm/slurm.conf <<CONF
ClusterName=engines
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$ctld
SlurmdPort=$slurmd
SlurmUser=root
# A requeued job waits as long as its old credential lives.
AuthInfo=socket=$TMP/slurm/munge.socket,cred_expire=5
StateSaveLocation=$TMP/slurm/state
SlurmdSpoolDir=$TMP/slurm/spool
SlurmctldPidFile=$TMP/slurm/slurmctld.pid
SlurmdPidFile=$TMP/slurm/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=2
SlurmdParameters=config_overrides
KillWait=10
NodeName=$host NodeAddr=127.0.0.1 CPUs=8
PartitionName=all Nodes=$host Default=YES
CONF
export SLURM_CONF=$TMP/slurm/slurm.conf
for _ in $(seq 100); do [[ -S slurm/munge.socket ]] && break || sleep 0.1; done
slurmctld -D -i >slurmctld.log 2>&1 &
PIDS+=($!)
slurmd -D -N "$host" >slurmd.log 2>&1 &
PIDS+=($!)
for _ in $(seq 300); do sinfo -h -o %t 2>/dev/null | grep -q idle && break || sleep 0.1; done
sinfo -h -o %t | grep -q idle || die "the cluster does not start: $(tail -n 3 munge.log slurm/munge.log slurmctld.log slurmd.log)"
STATE=$TMP/node "$ROOT/samples/slurm.sh" in.jsonl "$TMP/out" --concurrency $IN_FLIGHT >submitted
merge=$(grep -o '[0-9]*$' submitted) array=$(squeue -h -o %F -n slurm.sh -r | sort -n | head -n 1)
strike KILL SLURM_ARRAY_TASK_ID=2 80
scontrol requeue "${array}_2"
until_paid 120
scancel --batch --signal=TERM "${array}_5"
for _ in $(seq 1800); do [[ $(squeue -h -o %T -j "$merge" 2>/dev/null) ]] || break; sleep 0.1; done
scontrol show job "$merge" >merge.log
grep -q 'JobState=COMPLETED' merge.log || die "the merge did not complete: $(cat merge.log slurm-*.out)"
for task in 2 5; do
    scontrol show job "${array}_$task" | grep -q 'Restarts=1' || die "task $task was not started again"
done
check out/results.jsonl 1
[[ $(jq '.parts | length' out/summary.json) == 8 ]] || die "the summary has other parts"
