"""Runs: from a config to the end of its stream and a run directory.

run.py           a run, in this process or over Ray actors; also its plan
starting.py      where it starts: anew, or from a checkpoint; which_run.py: which config and which folder are meant;
                 fitting.py: whether a checkpoint is of this network
prepare.py       what is to be run, its stream opened, its layers built: where all of these begin
assembly.py      from sections of a config to streams, networks, localities
midpoint_chains.py which layers of a config are steps of the midpoint rule, and which begin and follow these
stream_feed.py   a config's stream, as what feeds a network
settings.py      the same sections as the arguments of a Learner
learner_core.py  a Learner beneath its methods
chosen.py        all that a Learner was given beside its layers
given.py         what a Learner is given, as tensors of one form; turn.py: threads that share one
learner_state.py all of a Learner at one moment; identity.py: whose it is; state_file.py: as one file
pickling.py      whether a Learner can be pickled
kept_things.py   what a user keeps beside a Learner
inline.py        a run in one process; inline_start.py: where it starts; inline_cuts.py: its checkpoints
launch.py        from a setup to actors that stand ready; relaunch.py: once more, after some were lost
ray.py           a run whose layers are Ray actors; ray_stream.py: its stream; ray_results.py: what came of it
generations.py   its actors after a failure, from the newest cut on; allowance.py: how often; restart.py: as it is told
rollbacks.py     how often β was lowered since numbers were not finite
cuts.py          the parts of its cuts, put together as they come
released.py      a Learner's network on actors, which go as far as they are told
interruption.py  Ctrl-C: once to end in order, twice to end
saved.py         which weights are in a run directory, in words
results.py       what came of a run, and its summary; recorder.py: writes it down, with metrics on the way
record.py        the run directory; alone.py: which one process has at a time
answers.py       where predictions go as they leave the network
checkpoints.py   all that moves, again and again; manifest.py: what makes one whole; checkpoint_part.py: a file of it;
                 folder.py: on a disk or elsewhere; resumable.py: what of a config may change before a run goes on
lines.py         a file that grows line by line
layer_file.py    a layer's weights in it; whole_file.py: a file that is there as a whole or not at all
completeness.py  whether a run directory is whole
check.py         every mistake of a config at once; representatives.py: of layers that are alike, one is looked at
trust.py         what the config of a stranger may name
generate.py      a finished run that goes on by itself
weights.py       a run's weights, and the plain model that has them
"""
