"""`python -m hamdist`."""

from hamdist.cli import main

if __name__ == "__main__":
    main()
