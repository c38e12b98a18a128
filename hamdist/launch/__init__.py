"""`hamdist launch`: ways to start a run beyond `hamdist run`; each takes the same YAML and overrides.

local.py            over Ray actors on this machine
cluster.py          on a Ray cluster: joined by this machine, or reached through its dashboard
slurm.py            as a Slurm job, by launch/slurm.sbatch, which makes a Ray cluster and runs on it
submission.py       a run as a Ray job, from what is sent to the run directory that comes back
submitted_job.py    such a job: submitted, followed, stopped
job_environment.py  what is sent with it
job.py              what it does on the cluster
log_archive.py      a run directory within a job's log
"""
