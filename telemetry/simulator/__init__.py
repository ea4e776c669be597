"""A fleet that does not exist: realistic records at any size, with incidents of which the truth is known."""

from telemetry.simulator.fleet import Fleet
from telemetry.simulator.incidents import Incident, Kind

__all__ = ["Fleet", "Incident", "Kind"]
