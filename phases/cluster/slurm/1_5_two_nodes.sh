#!/bin/bash
# Phase 1.5 · Final training, as imginav submit has written it.
# Submit this file by: mkdir -p outputs/phase1_5_final_training/jobs && sbatch FILE
#SBATCH --job-name=phase1_5_AE_final
#SBATCH --partition=gpu
#SBATCH --account=my_account
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32768M
#SBATCH --gres=gpu:l40s:4
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=outputs/phase1_5_final_training/jobs/%j.log

source .venv/bin/activate

# srun starts the command on each machine, and hands on signals; they meet on the first one.
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
train=(imginav run phases/1_5.toml --require-winners --gpus 4 --nodes 2 --rendezvous "$first:$((20000 + SLURM_JOB_ID % 10000))")
srun --kill-on-bad-exit=0 --cpus-per-task="$SLURM_CPUS_PER_TASK" "${train[@]}" &
run=$! heard=yes cancelled=
trap 'heard=yes; kill -USR1 $run' USR1
trap 'heard=yes; cancelled=yes; kill -USR1 $run' INT TERM
while [ "$heard" ]; do heard=; wait $run; status=$?; done

# A run that has left (status 85) is queued again; one that scancel has ended is not.
if [ $status -eq 85 ] && [ -z "$cancelled" ]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit $status
