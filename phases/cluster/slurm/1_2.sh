#!/bin/bash
# Phase 1.2 · Spatial resolution, 3 experiments, as imginav submit has written it.
# Submit this file by: mkdir -p outputs/phase1_2_spatial_resolution/jobs && sbatch FILE
#SBATCH --job-name=phase1_2_spatial_resolution
#SBATCH --array=1-3%4
#SBATCH --partition=gpu
#SBATCH --account=my_account
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32768M
#SBATCH --gres=gpu:1
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=outputs/phase1_2_spatial_resolution/jobs/%A_%a.log

source .venv/bin/activate

imginav run phases/1_2.toml --require-winners --index auto &
run=$! heard=yes cancelled=
trap 'heard=yes; kill -USR1 $run' USR1
trap 'heard=yes; cancelled=yes; kill -USR1 $run' INT TERM
while [ "$heard" ]; do heard=; wait $run; status=$?; done

# A run that has left (status 85) is queued again; one that scancel has ended is not.
if [ $status -eq 85 ] && [ -z "$cancelled" ]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit $status
