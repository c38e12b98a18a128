"""Ways to start a run from the shell, beyond `hamdist run`; each takes the same YAML and overrides.

local.py        over Ray actors on this machine
cluster.py      on a Ray cluster: joined by this machine, or told through its dashboard
submission.py   a run as a Ray job: sent, followed, stopped, its run directory brought back
job.py          what such a run does on the cluster
parcel.py       a run directory within a job's log
slurm.sbatch    a Ray cluster and a run on it, as a Slurm job
"""
