"""What collectors publish for those who watch."""

from __future__ import annotations

import orjson
import pytest

from telemetry.collector.live_view import GPUS_MAX, LiveView
from telemetry.live import LiveUpdate, decode_live_update
from telemetry.storage.store import Change, Gpu
from telemetry.storage.values import Latest, Ranges


def change(gpu: str, newest_us: int, values: dict[str, tuple[float, float, float]], **more: object) -> Change:
    labels = more.get("labels")
    assert labels is None or isinstance(labels, dict)
    return Change(gpu, newest_us, bool(more.get("advanced", True)), labels, Ranges.of(values))


def test_commits_of_an_interval_become_one_entry_a_gpu() -> None:
    view = LiveView()
    view.add([change("a", 1, {"x": (5.0, 1.0, 9.0)}), change("b", 1, {"y": (1.0, 1.0, 1.0)}, labels={"host": "n"})])
    view.add([change("a", 2, {"x": (4.0, 2.0, 10.0)})])
    (update,) = view.take()
    assert decode_live_update(update.encode()) == update
    assert (update.gpus, update.timestamps_us) == (["a", "b"], [2, 1])
    assert (update.columns["x"].last, update.columns["x"].min, update.columns["x"].max) == (
        [4.0, None],
        [1.0, None],
        [10.0, None],
    )
    assert update.columns["y"].last == [None, 1.0]
    assert update.labels == {"b": {"host": "n"}}
    assert list(view.take()) == []


def test_late_records_are_no_news() -> None:
    view = LiveView()
    view.add([change("a", 5, {"x": (1.0, 1.0, 1.0)}, advanced=False)])
    assert list(view.take()) == []


def test_a_large_fleet_takes_several_messages_and_labels_go_along() -> None:
    view = LiveView()
    view.add(
        [change(f"g{number}", 1, {"x": (1.0, 1.0, 1.0)}, labels={"n": str(number)}) for number in range(GPUS_MAX + 1)]
    )
    first, second = view.take()
    assert (len(first.gpus), len(second.gpus)) == (GPUS_MAX, 1)
    assert (len(first.labels), second.labels) == (GPUS_MAX, {f"g{GPUS_MAX}": {"n": str(GPUS_MAX)}})


def test_all_labels_can_be_said_again_without_news() -> None:
    view = LiveView()
    view.add_labels([Gpu("a", {"host": "n"}, 0, 0, 1, Latest())])
    (update,) = view.take()
    assert (update.gpus, update.labels) == ([], {"a": {"host": "n"}})


@pytest.mark.parametrize(
    "wrong",
    [
        {"gpus": 1},
        {"gpus": ["a"], "timestamps_us": ["now"]},
        {"gpus": [["a"]], "timestamps_us": [1]},
        {"gpus": ["a"], "timestamps_us": [1], "columns": {"x": {"last": 5, "min": [1], "max": [1]}}},
        {"gpus": ["a"], "timestamps_us": [1], "columns": {"x": {"last": [5], "min": [], "max": [1]}}},
        {"labels": ["a"]},
        {"labels": {"a": "x"}},
        {"labels": {"a": {"host": 7}}},
    ],
)
def test_what_has_another_form_is_no_live_update(wrong: dict[str, object]) -> None:
    whole: dict[str, object] = {"gpus": [], "timestamps_us": [], "columns": {}, "labels": {}}
    assert decode_live_update(orjson.dumps(whole)) == LiveUpdate([], [], {}, {})
    with pytest.raises(ValueError, match="not a live update"):
        decode_live_update(orjson.dumps(whole | wrong))
