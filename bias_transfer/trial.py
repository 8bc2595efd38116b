"""`python -m bias_transfer.trial`: one trial in this process."""

from bias_transfer.commands.trial import main
from bias_transfer.console import application

if __name__ == "__main__":
    application(main)()
