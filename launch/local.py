"""`python launch/local.py …` is `hamdist launch local …`."""

from hamdist.command import start
from hamdist.launch.local import app

if __name__ == "__main__":
    start(app)
