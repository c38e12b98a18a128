"""Ray: it places, starts, watches and stops the actors; nothing of a tick goes through it.

session.py      a local Ray, or a cluster that is joined; what its nodes have
shipping.py     what travels to workers on other machines
bundles.py      what every actor asks of its node, checked against what the nodes have
layer_actor.py  the shell around a worker, or around the stream
troupe.py       the actors of one run: started, called, stopped
watch.py        a run under way: progress, the end, and what went wrong first
"""
