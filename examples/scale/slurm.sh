#!/bin/bash
# 4 points of the sweep on 3 workers, on a file system that all nodes see. Run it in
# the folder that the paths of the sweep are relative to:
#
#   sbatch sweeps/sweep/slurm.sh
#
#SBATCH --job-name=sweep-sweep
#SBATCH --array=0-2
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --time=12:00:00
# #SBATCH --gpus=1
# A task that is preempted is put into the queue again, and goes on.
#SBATCH --requeue
#SBATCH --open-mode=append
# Asked to save two minutes before the time is up; the answer is below.
#SBATCH --signal=B:TERM@120
set -eu

firebrand sweep run sweeps/sweep --workers 3 --grace 100 &
worker=$!
trap 'kill -TERM "$worker"' TERM
code=0
wait "$worker" || code=$?
# A trap ends the wait before the worker has ended.
if kill -0 "$worker" 2>/dev/null; then
  code=0
  wait "$worker" || code=$?
fi
# 130 and 143: stopped and saved; the task goes back into the queue and goes on.
case "$code" in
  130|143) scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}" ;;
esac
exit "$code"
