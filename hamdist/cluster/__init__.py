"""Workers and Ray: it places, starts, watches and stops the actors; nothing of a tick goes through it.

worker.py         the loop of one actor, a plain class without Ray; hosted_layers.py: what it hosts; outcome.py: what it
                  reports
breakable.py      a loop that is left in its midst, where what it does takes long
source_worker.py  what enters goes to those who read it; stream_worker.py: the loop of the stream's actor
feed.py           what a stream is to it; intake.py: what enters, again where need be; ahead.py: read ahead
journal.py        what a stream that cannot seek has given since the last whole cut
cutter.py         when a cut is announced, and for which tick; source_part.py: the source's part of one
layout.py         who hosts what, and which edges lead from one actor to another
setup.py          from actors that have made their layers to actors that can run
handle.py         how a worker is called: by methods with their types, wherever it lives
worker_group.py   the workers of one run, as threads of this process; ray_workers.py: as actors of Ray
actor.py          the shell that Ray runs around a worker, or around the stream
cut_keeper.py     what an actor keeps of its cuts
stand_ins.py      actors that take the place of lost ones
prediction_box.py  predictions on their way from an actor to the driver
supervisor.py     a run under way: progress, and its end; failure.py: what went wrong first
transports.py     which link carries which edge
resources.py      what every actor asks of its node, checked against what the nodes have
session.py        a local Ray, or a cluster that is joined; what travels to it; session_folders.py: what one leaves
ray_processes.py  the processes of a local Ray, out of reach of what our group hears
"""
