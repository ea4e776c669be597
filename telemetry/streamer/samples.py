"""Where the shipped sample is: in a checkout, or in an installed package."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from telemetry.runtime.errors import StartupError

SAMPLE_NAME: Final = "dcgm_sample.csv.gz"

SAMPLE_ROWS_PER_SECOND: Final = 320.0
"""A pace to watch: 32 GPUs with 10 metrics, so that one instant of the sample (2 s there) goes out each second."""


def sample_path() -> Path:
    """The sample: 32 GPUs on 4 hosts in DCGM's long form.

    Raises:
        StartupError: if it is not there.
    """
    package = Path(__file__).resolve().parents[1]
    places = (package / "examples" / SAMPLE_NAME, package.parent / "examples" / SAMPLE_NAME)
    for path in places:
        if path.is_file():
            return path
    raise StartupError(f"the sample is missing: {places[0]}")
