#!/bin/bash
# Phase 1.3 · Variational or not, 2 experiments, as imginav submit has written it.
# Submit this file by: bsub < FILE
#BSUB -J "phase1_3_vae_test[1-2]%4"
#BSUB -q gpuv100
#BSUB -n 4
#BSUB -R "span[hosts=1]"
#BSUB -R "rusage[mem=8192]"
#BSUB -gpu "num=1:mode=exclusive_process"
#BSUB -W 24:00
#BSUB -wt 5
#BSUB -wa USR2
#BSUB -Q "85"
#BSUB -r
#BSUB -o outputs/phase1_3_vae_test/jobs/%J_%I.lsf.log

# LSF itself brings the output when a job has ended, and drops that of one which is queued again.
mkdir -p outputs/phase1_3_vae_test/jobs && exec >> "outputs/phase1_3_vae_test/jobs/${LSB_JOBID}_$LSB_JOBINDEX.log" 2>&1

source .venv/bin/activate

imginav run phases/1_3.toml --require-winners --index auto &
run=$! heard=yes cancelled=
trap 'heard=yes; kill -USR1 $run' USR2
trap 'heard=yes; cancelled=yes; kill -USR1 $run' INT TERM
while [ "$heard" ]; do heard=; wait $run; status=$?; done

# A run that has left (status 85) is queued again, as -Q says; one that bkill ended is not.
[ -z "$cancelled" ] || status=143
exit $status
