"""`hamdist`, and `python -m hamdist`: it listens to signals before it loads anything that takes time."""

from hamdist.leaving import leave_on_signals


def main() -> None:
    """The `hamdist` command."""
    leave_on_signals()
    from hamdist.cli import app

    app()


if __name__ == "__main__":
    main()
