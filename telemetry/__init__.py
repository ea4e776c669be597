"""GPU telemetry from logs and exporters through a durable queue into a store, an API and a dashboard."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("gpu-telemetry-pipeline")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0+unknown"
