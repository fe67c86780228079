"""Workers under faults, in short; `make chaos` runs the same at length."""

import pytest
from history import MUST_BE_ZERO


def sound(figures):
    return not any(figures.get(name) for name in MUST_BE_ZERO)


def test_workers_killed_at_random_lose_double_and_change_nothing(figures):
    code, found = figures("kills", "--kills", 100)
    assert (code, sound(found)) == (0, True), found
    assert found["kills"] == 100
    # Each kill costs at most the steps since the last checkpoint, here every fourth.
    assert found["steps"] <= found["steps_needed"] + 4 * found["kills"], found


def test_workers_that_wake_up_after_their_lease_change_nothing(figures):
    code, found = figures("stops", "--stops", 20)
    assert (code, sound(found)) == (0, True), found
    assert found["stops"] == 20


def test_a_wall_clock_that_is_wrong_and_jumps_moves_no_lease(figures):
    code, found = figures("clocks")
    assert (code, sound(found)) == (0, True), found


def test_of_eight_processes_exactly_one_wins_each_claim(figures):
    code, found = figures("claims", "--rounds", 4)
    assert (code, found["claims"], found["won_by_one"]) == (0, 200, 200), found
    assert found["tries"] == 1600


def test_after_a_fault_at_any_file_call_the_same_command_gives_the_one_result(figures):
    code, found = figures("crashes", "--per-call", 1)
    assert (code, found["failures"]) == (0, [])
    # Each kind of call was met, or the shim has lost sight of what the store does.
    assert {"link", "rename", "replace", "unlink", "mkdir", "fsync", "open", "write", "close", "read"} == {
        *found["calls"]
    }
    assert found["points"] == sum(found["calls"].values())


@pytest.mark.parametrize(
    ("mechanism", "stage", "options", "sign"),
    [
        ("link", "claims", ["--rounds", 1], "duplicated"),
        pytest.param("clock", "clocks", [], "overlaps", marks=pytest.mark.slow),
        pytest.param("heartbeat", "clocks", [], "overlaps", marks=pytest.mark.slow),
    ],
)
def test_a_mechanism_broken_on_purpose_is_found(figures, mechanism, stage, options, sign):
    code, found = figures(stage, *options, "--broken", mechanism)
    assert code == 1
    assert found[sign] > 0
