"""Parameters that name what is in the queue."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path
from starlette.convertors import StringConvertor, register_url_convertor


class _Name(StringConvertor):
    """A name ends where a verb begins, as in `telemetry:purge`."""

    regex = "[^/:]+"


register_url_convertor("name", _Name())

TopicPath = Annotated[str, Path(max_length=200, description="The topic's name.")]
GroupPath = Annotated[str, Path(max_length=200, description="The group's name.")]
