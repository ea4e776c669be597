"""Pages of a sorted list, by AIP-158. A token names the last item before the page, so pages stay right while items come
and go, and a token of one collector is as good as one of all of them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from telemetry.runtime.status import InvalidArgumentError

PAGE_SIZE: Final = 100
PAGE_SIZE_MAX: Final = 10_000
PAGE_BYTES_MAX: Final = 8 << 20
"""A page ends early rather than being too large for one message."""

_Item = TypeVar("_Item")


def page(
    items: Sequence[_Item],
    key: Callable[[_Item], str],
    size: int,
    token: str,
    weigh: Callable[[_Item], int],
    size_max: int = PAGE_SIZE_MAX,
) -> tuple[list[_Item], str]:
    """A page of items that are sorted by ``key``, and the token of the next one.

    Args:
        items: all there are.
        key: what they are sorted by.
        size: the most to return; 0 means the default.
        token: the token of the page; empty means the first.
        weigh: about how many bytes an item takes in an answer.
        size_max: what a larger size becomes.

    Raises:
        InvalidArgumentError: if the size is negative or the token is none of ours.
    """
    size = page_size(size, size_max)
    if token:
        after = read_token(token)
        items = [item for item in items if key(item) > after]
    chosen: list[_Item] = []
    weight = 0
    for item in items[:size]:
        weight += weigh(item)
        if chosen and weight > PAGE_BYTES_MAX:
            break
        chosen.append(item)
    return chosen, page_token(key(chosen[-1])) if len(chosen) < len(items) else ""


def page_size(size: int, size_max: int = PAGE_SIZE_MAX) -> int:
    """How many items a page has that was asked for with this size.

    Raises:
        InvalidArgumentError: if it is negative.
    """
    if size < 0:
        raise InvalidArgumentError(f"page_size is {size}; it must not be negative", field="page_size")
    return min(size or PAGE_SIZE, size_max)


def page_token(last: str) -> str:
    """The token of the page after an item."""
    return base64.urlsafe_b64encode(b"1" + last.encode()).decode()


def read_token(token: str) -> str:
    """The last item before a page.

    Raises:
        InvalidArgumentError: if the token is none of ours.
    """
    try:
        content = base64.b64decode(token, altchars=b"-_", validate=True)
        if content[:1] != b"1":
            raise ValueError
        return content[1:].decode()
    except (binascii.Error, ValueError):
        raise InvalidArgumentError("the page token is not one that was given out", field="page_token") from None
