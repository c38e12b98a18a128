"""Ways to start a run from the shell, beyond `hamdist run`."""
