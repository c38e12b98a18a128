"""`python launch/cluster.py …` is `hamdist launch cluster …`."""

from hamdist.command import start
from hamdist.launch.cluster import app

if __name__ == "__main__":
    start(app)
