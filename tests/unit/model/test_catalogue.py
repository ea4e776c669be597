"""Names, units and cells mean what the sources mean by them."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from telemetry.model import CATALOGUE, METRICS, canonical_metric, gpu_identity
from telemetry.tabular import Role, column_of, read_number, read_time


def test_no_two_metrics_share_a_name() -> None:
    names = [name.lower() for m in METRICS for name in (m.name, *m.sources, *((m.dcgm,) if m.dcgm else ()))]
    assert len(names) == len(set(names))
    assert len(CATALOGUE) == len(METRICS)


@pytest.mark.parametrize(
    ("source", "name", "scale"),
    [
        ("DCGM_FI_DEV_GPU_TEMP", "temperature", 1.0),
        ("temperature.gpu", "temperature", 1.0),
        ("DCGM_FI_PROF_SM_ACTIVE", "sm_active", 100.0),
        ("sm_active", "sm_active", 1.0),
        ("clocks_throttle_reasons.hw_thermal_slowdown", "throttle_hw_thermal_slowdown", 1.0),
        ("clocks_event_reasons.hw_thermal_slowdown", "throttle_hw_thermal_slowdown", 1.0),
        ("my own metric", "my own metric", 1.0),
    ],
)
def test_sources_names_become_canonical(source: str, name: str, scale: float) -> None:
    assert canonical_metric(source) == (name, scale)


def test_a_gpu_is_its_uuid_then_host_and_index_then_whatever_it_is_called() -> None:
    assert gpu_identity("GPU-1", "node", "0", "7") == "GPU-1"
    assert gpu_identity("", "node", "0", "7") == "node/0"
    assert gpu_identity(None, None, "0", "7") == "7"
    assert gpu_identity(None, "node", None, None) is None


@pytest.mark.parametrize(
    ("header", "text", "value"),
    [
        ("utilization.gpu [%]", " 45 %", 45.0),
        ("utilization.gpu [%]", "101 %", None),
        ("power.draw [W]", "[Not Supported]", None),
        ("power_draw", "69850 mW", 69.85),
        ("memory.used [GiB]", "2 GiB", 2048.0),
        ("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "1500", 1.5),
        ("DCGM_FI_PROF_SM_ACTIVE", "0.55", 55.0),
        ("temperature", "9223372036854775794", None),
        ("temperature", "2147483632", None),
        ("temperature", "NaN", None),
        ("temperature", "[GPU requires reset]", None),
        ("clocks_event_reasons.active", "0x0000000000000044", 68.0),
        ("clocks_event_reasons.hw_slowdown", "Not Active", 0.0),
    ],
)
def test_cells_become_values_in_the_catalogues_unit_or_none(header: str, text: str, value: float | None) -> None:
    assert read_number(text, column_of(header)) == value


def test_a_cell_that_is_neither_value_nor_absence_is_an_error() -> None:
    with pytest.raises(ValueError, match="'warm' is not a number"):
        read_number("warm", column_of("temperature"))


def test_columns_have_roles() -> None:
    roles = {name: column_of(name).role for name in ("timestamp", "gpu_uuid", "Hostname", "index", "gpu_id", "pstate")}
    assert list(roles.values()) == [Role.TIME, Role.UUID, Role.HOST, Role.INDEX, Role.BARE, Role.LABEL]
    assert column_of("modelName").name == "model"
    assert column_of("whatever").role is Role.UNKNOWN
    assert column_of("whatever [ms]").role is Role.METRIC


EXPECTED = datetime(2026, 7, 14, 8, 12, 38, 696000, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2026-07-14T08:12:38.696Z",
        "2026-07-14 10:12:38.696+02:00",
        "2026/07/14 08:12:38.696",
        "1784016758.696",
        "1784016758696",
        "1784016758696000",
        "1784016758696000000",
        "2026-07-14T08:12:38.696000000Z",
    ],
)
def test_times_are_read_in_all_their_forms(text: str) -> None:
    assert read_time(text) == EXPECTED


def test_a_time_without_a_zone_is_taken_where_the_clock_stood() -> None:
    assert read_time("2026/07/14 10:12:38.696", ZoneInfo("Europe/Berlin")) == EXPECTED


@pytest.mark.parametrize("text", ["soon", "1066-10-14T09:00:00Z", "-5", "1e300", "2026-13-01T00:00:00Z"])
def test_what_is_not_a_time_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time"):
        read_time(text)
