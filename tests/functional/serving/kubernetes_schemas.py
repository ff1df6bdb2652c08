"""Schemas of the custom resources that the manifests use: as much of them as the manifests need.

Kept by hand after the types that the three projects write their own schemas from:
prometheus-operator/prometheus-operator, Documentation/api-reference/api.md: ServiceMonitor;
kserve/kserve, pkg/apis/serving/v1beta1: component.go, predictor.go and predictor_model.go;
kubernetes-sigs/gateway-api, apis/v1: gateway_types.go and httproute_types.go.
A field that is none of these is refused: a name that was misspelt, say.
"""

from __future__ import annotations

from typing import Any

_NAMES = {"type": "object", "additionalProperties": {"type": "string"}}
_METADATA = {
    "type": "object",
    "required": ["name"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$"},
        "namespace": {"type": "string"},
        "labels": _NAMES,
        "annotations": _NAMES,
    },
}
_DURATION = {"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"}


def _resource(group: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": False,
        "properties": {
            "apiVersion": {"const": group},
            "kind": {"const": kind},
            "metadata": _METADATA,
            "spec": spec,
        },
    }


_TEXT = {"type": "string"}
_PORT = {"type": "integer", "minimum": 1, "maximum": 65535}


def _closed(required: list[str], **properties: dict[str, Any]) -> dict[str, Any]:
    """An object with no other fields."""
    return {
        "type": "object",
        "required": required,
        "additionalProperties": False,
        "properties": properties,
    }


def _several(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "items": item}


SCHEMAS: dict[str, dict[str, Any]] = {
    "ServiceMonitor": _resource(
        "monitoring.coreos.com/v1",
        "ServiceMonitor",
        {
            "type": "object",
            "required": ["selector", "endpoints"],
            "additionalProperties": False,
            "properties": {
                "selector": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {"matchLabels": _NAMES},
                },
                "endpoints": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["port"],
                        "additionalProperties": False,
                        "properties": {
                            "port": {"type": "string"},
                            "path": {"type": "string", "pattern": "^/"},
                            "interval": _DURATION,
                            "scheme": {"enum": ["http", "https"]},
                        },
                    },
                },
            },
        },
    ),
    "InferenceService": _resource(
        "serving.kserve.io/v1beta1",
        "InferenceService",
        {
            "type": "object",
            "required": ["predictor"],
            "additionalProperties": False,
            "properties": {
                "predictor": {
                    "type": "object",
                    "required": ["model"],
                    "additionalProperties": False,
                    "properties": {
                        "canaryTrafficPercent": {"type": "integer", "minimum": 0, "maximum": 100},
                        "minReplicas": {"type": "integer", "minimum": 0},
                        "maxReplicas": {"type": "integer", "minimum": 1},
                        # The pod's own, and the container's: checked as such in the test.
                        "volumes": {"type": "array"},
                        "model": {
                            "type": "object",
                            "required": ["modelFormat", "storageUri"],
                            "additionalProperties": False,
                            "properties": {
                                "modelFormat": {
                                    "type": "object",
                                    "required": ["name"],
                                    "additionalProperties": False,
                                    "properties": {
                                        "name": {"type": "string"},
                                        "version": {"type": "string"},
                                    },
                                },
                                "protocolVersion": {"enum": ["v1", "v2", "grpc-v1", "grpc-v2"]},
                                "runtime": {"type": "string"},
                                "runtimeVersion": {"type": "string"},
                                "storageUri": {"type": "string", "pattern": "^[a-z0-9]+://"},
                                "args": {"type": "array", "items": {"type": "string"}},
                                "env": {"type": "array"},
                                "resources": {"type": "object"},
                                "volumeMounts": {"type": "array"},
                            },
                        },
                    },
                }
            },
        },
    ),
    "Gateway": _resource(
        "gateway.networking.k8s.io/v1",
        "Gateway",
        _closed(
            ["gatewayClassName", "listeners"],
            gatewayClassName={"type": "string", "minLength": 1, "maxLength": 253},
            tls=_closed(
                ["frontend"],
                frontend=_closed(
                    ["default"],
                    default=_closed(
                        [],
                        validation=_closed(
                            ["caCertificateRefs"],
                            mode={"enum": ["AllowValidOnly", "AllowInsecureFallback"]},
                            caCertificateRefs=_several(
                                _closed(
                                    ["group", "kind", "name"], group=_TEXT, kind=_TEXT, name=_TEXT
                                )
                            ),
                        ),
                    ),
                ),
            ),
            listeners=_several(
                _closed(
                    ["name", "port", "protocol"],
                    name=_TEXT,
                    port=_PORT,
                    protocol={"enum": ["HTTP", "HTTPS", "TLS", "TCP", "UDP"]},
                    hostname=_TEXT,
                    tls=_closed(
                        [],
                        mode={"enum": ["Terminate", "Passthrough"]},
                        certificateRefs=_several(_closed(["name"], kind=_TEXT, name=_TEXT)),
                    ),
                    allowedRoutes=_closed(
                        [],
                        namespaces=_closed([], **{"from": {"enum": ["All", "Selector", "Same"]}}),
                    ),
                )
            ),
        ),
    ),
    "HTTPRoute": _resource(
        "gateway.networking.k8s.io/v1",
        "HTTPRoute",
        _closed(
            [],
            parentRefs=_several(_closed(["name"], name=_TEXT, sectionName=_TEXT)),
            hostnames=_several(_TEXT),
            rules=_several(
                _closed(
                    [],
                    matches=_several(
                        _closed(
                            [],
                            path=_closed(
                                [],
                                type={"enum": ["Exact", "PathPrefix", "RegularExpression"]},
                                value={"type": "string", "maxLength": 1024},
                            ),
                        )
                    ),
                    backendRefs=_several(_closed(["name"], name=_TEXT, port=_PORT)),
                )
            ),
        ),
    ),
}
