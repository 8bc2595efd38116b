"""The board on which workers post what they do."""

from types import SimpleNamespace

import pytest

from bias_transfer.console import Doing
from bias_transfer.sweep import live


class Local:
    """A board whose methods are called in this process, as Ray would from a worker."""

    def __init__(self):
        self.state = live.Board()

    def __getattr__(self, name):
        return SimpleNamespace(remote=getattr(self.state, name))


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    return now


def test_stages_are_posted_at_most_once_per_second_and_always_at_their_ends(clock):
    board = Local()
    report, warn = live.posting(board, "id")
    seen = []
    for step in range(101):
        report("fine-tune", step, 100)
        seen.append(board.state.doing["id"].done)
        clock[0] += 0.125
    assert sorted(set(seen)) == [*range(0, 100, 8), 100]
    warn("the loss is high")
    assert board.state.read() == ({"id": Doing("fine-tune", 100, 100)}, "the loss is high")


def test_a_board_that_is_gone_harms_no_trial():
    class Gone:
        def __getattr__(self, name):
            raise RuntimeError("its node died")

    report, warn = live.posting(Gone(), "id")
    report("fine-tune", 0, 1)
    warn("text")
    assert live.look(Gone(), {"id": "name"}).trials == {"name": None}


def test_without_a_terminal_there_is_no_board():
    with live.board() as board:
        assert board is None
    report, warn = live.posting(None, "id")
    report("fine-tune", 0, 1)
    warn("text")
    assert live.look(None, {"id": "name"}).trials == {"name": None}
