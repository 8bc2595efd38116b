"""A cache entry that was damaged between two trials is made again, bit for bit."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.faults


def weights(case):
    (found,) = (case.folder / "cache" / "tiny").glob("*/model.safetensors")
    return found


@pytest.mark.parametrize("how", ["truncated", "corrupted", "removed"])
def test_a_damaged_cache_entry(case, judge, how: str):
    file = weights(case)
    content = bytearray(file.read_bytes())
    if how == "truncated":
        file.write_bytes(content[: len(content) // 2])
    elif how == "corrupted":
        content[-100] ^= 0xFF
        file.write_bytes(content)
    else:
        file.unlink()
    case.start().end()
    judge(case, f"cache entry {how}", f"the shared model's weights {how} before the sweep", {}, set())
    assert len(weights(case).read_bytes()) == len(content)
