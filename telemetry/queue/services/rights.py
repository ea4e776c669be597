"""What the caller of an RPC may do with topics. Without tokens, everybody may everything."""

from __future__ import annotations

from telemetry.runtime.grpc_tokens import refuse
from telemetry.runtime.tokens import CALLER, Right, Role


def require(right: Right, *topics: str) -> None:
    """See that the caller has a right on topics, or on all that patterns stand for.

    Raises:
        PermissionDeniedError: if not.
    """
    caller = CALLER.get()
    if caller is None:
        return
    for topic in topics:
        if not caller.may(right, topic):
            refuse("topic", f"the token {caller.name} may not {_VERBS[right]} {topic}")


def is_guarded() -> bool:
    """Whether there are tokens."""
    return CALLER.get() is not None


def may(topic: str, *rights: Right) -> bool:
    """Whether the caller has one of some rights on a topic."""
    caller = CALLER.get()
    return caller is None or any(caller.may(right, topic) for right in rights)


def may_see(topic: str) -> bool:
    """Whether the caller may know of a topic: by any right on it, or by a role."""
    caller = CALLER.get()
    return caller is None or caller.role >= Role.VIEW or may(topic, *Right)


def require_sight(topic: str) -> None:
    """See that the caller may know of a topic.

    Raises:
        PermissionDeniedError: if not.
    """
    if not may_see(topic):
        require(Right.SUBSCRIBE, topic)


def require_role(role: Role) -> None:
    """See that the caller has a role, where what he asks for is of no one topic.

    Raises:
        PermissionDeniedError: if not.
    """
    caller = CALLER.get()
    if caller is not None and caller.role < role:
        refuse("role", f"this needs the role {role.label}; the token {caller.name} has {caller.role.label}")


_VERBS = {Right.PUBLISH: "publish to", Right.SUBSCRIBE: "subscribe to", Right.ADMIN: "administer"}
