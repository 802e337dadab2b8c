#!/bin/bash
# Phase 1.2 · Spatial resolution, 3 experiments, as imginav submit has written it.
# Submit this file by: mkdir -p outputs/phase1_2_spatial_resolution/jobs && qsub FILE
#PBS -N phase1_2_spatial_resolution
#PBS -J 1-3%4
#PBS -q gpu
#PBS -A my_account
#PBS -l select=1:ncpus=8:ngpus=1:mem=32768mb
#PBS -l walltime=24:00:00
#PBS -r y
#PBS -j oe
#PBS -o outputs/phase1_2_spatial_resolution/jobs/

cd "$PBS_O_WORKDIR"
# PBS lets only its operators queue a job again. So one that has left is submitted again, as a job that goes on for it
# ($job). A job that comes after it looks, when it starts, for jobs that go on for those before it, and waits for them.
job=${IMGINAV_PBS_JOB:-$PBS_JOBID}
submit_again() { sed "/^#PBS -J/d" "$0" | qsub -v "IMGINAV_PBS_JOB=$job,IMGINAV_PBS_AFTER=$IMGINAV_PBS_AFTER" "$@"; }
active=$([ -z "$IMGINAV_PBS_AFTER" ] || qstat -f -F dsv $(qselect -u "$PBS_O_LOGNAME"))
before=$(for id in ${IMGINAV_PBS_AFTER//:/ }; do grep -F "IMGINAV_PBS_JOB=${id%]*}" <<< "$active"; done)
before=$(sed -n "s/^Job Id: *\([^|]*\).*/\1/p" <<< "$before" | paste -sd :)
if [ "$before" ]; then submit_again -W "depend=afterok:$before"; exit; fi
exec >> "outputs/phase1_2_spatial_resolution/jobs/$job.log" 2>&1

source .venv/bin/activate

# Nothing else signals a job before its wall time.
{ sleep 86100 & trap "kill $!" TERM; wait $! && kill -USR1 $$; } &
timer=$!
imginav run phases/1_2.toml --require-winners --index auto &
run=$! heard=yes cancelled=
trap 'heard=yes; kill -USR1 $run' USR1
trap 'heard=yes; cancelled=yes; kill -USR1 $run' INT TERM
while [ "$heard" ]; do heard=; wait $run; status=$?; done
kill $timer 2> /dev/null

# A run that has left (status 85) is submitted again; one that qdel has ended is not.
[ -z "$cancelled" ] || status=143
if [ $status -eq 85 ]; then submit_again && status=0; fi
exit $status
