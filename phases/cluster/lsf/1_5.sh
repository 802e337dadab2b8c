#!/bin/bash
# Phase 1.5 · Final training, as imginav submit has written it.
# Submit this file by: bsub < FILE
#BSUB -J "phase1_5_AE_final"
#BSUB -q gpul40s
#BSUB -n 8
#BSUB -R "span[hosts=1]"
#BSUB -R "rusage[mem=4096]"
#BSUB -gpu "num=1:mode=exclusive_process"
#BSUB -W 24:00
#BSUB -wt 5
#BSUB -wa USR2
#BSUB -Q "85"
#BSUB -r
#BSUB -o outputs/phase1_5_final_training/jobs/%J.lsf.log

# LSF itself brings the output when a job has ended, and drops that of one which is queued again.
mkdir -p outputs/phase1_5_final_training/jobs && exec >> "outputs/phase1_5_final_training/jobs/$LSB_JOBID.log" 2>&1

source .venv/bin/activate

imginav run phases/1_5.toml --require-winners &
run=$! heard=yes cancelled=
trap 'heard=yes; kill -USR1 $run' USR2
trap 'heard=yes; cancelled=yes; kill -USR1 $run' INT TERM
while [ "$heard" ]; do heard=; wait $run; status=$?; done

# A run that has left (status 85) is queued again, as -Q says; one that bkill ended is not.
[ -z "$cancelled" ] || status=143
exit $status
