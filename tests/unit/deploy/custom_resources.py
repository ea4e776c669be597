"""What the Prometheus operator and cert-manager take of us: the fields that the chart uses, and no others."""

from __future__ import annotations

from typing import Any, Final

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string", "minLength": 1}
_LABELS: Final[Schema] = {"type": "object", "additionalProperties": {"type": "string"}}
_TIME: Final[Schema] = {"type": "string", "pattern": "^([0-9]+(ms|s|m|h|d))+$"}


def _object(required: str, **properties: Schema) -> Schema:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "required": required.split(),
    }


def _list(items: Schema) -> Schema:
    return {"type": "array", "minItems": 1, "items": items}


_SECRET_KEY: Final = _object("name key", name=_TEXT, key=_TEXT)
_SECRET: Final = _object("secret", secret=_SECRET_KEY)
_ENDPOINT: Final = _object(
    "port path",
    port=_TEXT,
    path=_TEXT,
    interval=_TIME,
    honorLabels={"type": "boolean"},
    scheme={"enum": ["http", "https"]},
    tlsConfig=_object("ca serverName", ca=_SECRET, serverName=_TEXT, cert=_SECRET, keySecret=_SECRET_KEY),
    authorization=_object("credentials", credentials=_SECRET_KEY),
    relabelings=_list(
        _object(
            "",
            targetLabel=_TEXT,
            sourceLabels=_list(_TEXT),
            replacement=_TEXT,
            action={"enum": ["labeldrop", "replace"]},
            regex=_TEXT,
        )
    ),
)
_RULE: Final = _object(
    "expr",
    alert=_TEXT,
    record=_TEXT,
    expr=_TEXT,
    labels=_LABELS,
    annotations=_LABELS,
    **{"for": _TIME, "keep_firing_for": _TIME},
)
_METADATA: Final[Schema] = {"type": "object", "required": ["name", "labels"]}


def _kind(version: str, kind: str, spec: Schema) -> Schema:
    return _object(
        "apiVersion kind metadata spec",
        apiVersion={"const": version},
        kind={"const": kind},
        metadata=_METADATA,
        spec=spec,
    )


SCHEMAS: Final[dict[str, Schema]] = {
    "ServiceMonitor": _kind(
        "monitoring.coreos.com/v1",
        "ServiceMonitor",
        _object(
            "selector endpoints",
            jobLabel=_TEXT,
            selector=_object("matchLabels", matchLabels=_LABELS),
            endpoints=_list(_ENDPOINT),
        ),
    ),
    "PrometheusRule": _kind(
        "monitoring.coreos.com/v1",
        "PrometheusRule",
        _object(
            "groups",
            groups=_list(
                _object(
                    "name rules",
                    name=_TEXT,
                    interval=_TIME,
                    limit={"type": "integer"},
                    labels=_LABELS,
                    rules=_list(_RULE),
                )
            ),
        ),
    ),
    "Certificate": _kind(
        "cert-manager.io/v1",
        "Certificate",
        _object(
            "secretName issuerRef dnsNames",
            secretName=_TEXT,
            duration={"type": "string", "pattern": "^[0-9]+h$"},
            commonName={"type": "string", "maxLength": 64},
            dnsNames=_list(
                {"type": "string", "pattern": r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?\.)*[a-z0-9]([-a-z0-9]*[a-z0-9])?$"}
            ),
            usages=_list({"enum": ["digital signature", "key encipherment", "server auth", "client auth"]}),
            privateKey=_object(
                "algorithm",
                algorithm={"enum": ["RSA", "ECDSA", "Ed25519"]},
                rotationPolicy={"enum": ["Never", "Always"]},
            ),
            issuerRef=_object("name kind", name=_TEXT, kind={"enum": ["Issuer", "ClusterIssuer"]}),
        ),
    ),
}
