"""`python -m bias_transfer.trial`, which debuggers can start; the same as `bias-transfer trial`."""

from bias_transfer.commands.trial import main
from bias_transfer.console import application

if __name__ == "__main__":
    application(main)()
