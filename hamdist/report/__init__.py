"""What a person sees of a run: progress while it goes, tables and pictures of what is planned or done.

metrics.py    prequential means, added up on the device
progress.py   a moving line on a terminal, plain lines elsewhere
tables.py     the plan and the summary as tables
profile.py    where an actor's time went; trace.py tells it to Perfetto
latency.py    how long live samples wait for their predictions
json_text.py  anything as JSON
wording.py    names in a sentence
layout.py     where boxes and arrows of a network go; picture.py draws them
"""
