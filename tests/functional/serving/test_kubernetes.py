"""The manifests: kubectl builds them, the schemas take them, and they say what compose says."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import shutil
import subprocess
import threading
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from google.protobuf import text_format
from tests.conftest import NAME, ROOT, SHIPPED, free_port
from tests.forked import servable
from tests.functional.serving.kubernetes_schemas import SCHEMAS
from tests.functional.serving.test_sync import companion, stop, until

from servable_client._wire.model_config import config_of
from servable_serving.repository.remote import Remote
from servable_serving.server.proto import config_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import RunningServer

FOLDER = ROOT / "serving" / "kubernetes"
SERVING = ["overlays/dev", "overlays/production", "overlays/gateway", "overlays/gpu"]
BUILDS = [*SERVING, "overlays/kserve", "tuning"]
# Those that a site's settings are for.
OF_SITES = BUILDS[1:]
# The oldest that has what they use (a container's own CPU in an autoscaler), and the newest known.
VERSIONS = ["1.30", kubernetes_validate.latest_version()]


def why_not() -> str:
    """Why nothing can be built here; nothing where it can."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        return "there is no kubectl here, whose kustomize builds the manifests"
    said = subprocess.run(
        [kubectl, "version", "--client"], capture_output=True, text=True, check=False
    ).stdout
    found = re.search(r"Kustomize Version: v(\d+)", said)
    return "" if found and int(found[1]) >= 5 else "this kubectl's kustomize is older than 5"


pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


def built_text(folder: Path) -> str:
    done = subprocess.run(
        ["kubectl", "kustomize", folder], capture_output=True, text=True, check=False
    )
    # What kustomize finds old-fashioned is a warning on standard error.
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@cache
def built(build: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(built_text(FOLDER / build)))


def one(build: str, kind: str, name: str = "servable") -> dict[str, Any]:
    (found,) = (d for d in built(build) if (d["kind"], d["metadata"]["name"]) == (kind, name))
    return found


def pods(build: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod's description, with whose it is."""
    for document in built(build):
        template = document.get("spec", {}).get("template")
        if template is not None:
            yield document["metadata"]["name"], template["spec"]


def container(build: str, name: str = "serving") -> dict[str, Any]:
    pod = one(build, "Deployment")["spec"]["template"]["spec"]
    (found,) = (c for c in pod["initContainers"] + pod["containers"] if c["name"] == name)
    return dict(found)


@cache
def compose() -> dict[str, Any]:
    """docker-compose.yml's server, with the defaults of its settings."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (ROOT / "docker-compose.yml").read_text())
    service = yaml.safe_load(text)["services"]["serving"]
    extended = service.pop("extends", None)
    if extended is not None:
        servers = yaml.safe_load((ROOT / extended["file"]).read_text())["services"]
        service = {**servers[extended["service"]], **service}
        service["gpu"] = servers["gpu"]["image"]
    return dict(service)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("build", BUILDS)
def test_a_build_passes_strict_validation(build: str, version: str) -> None:
    documents = built(build)
    assert documents
    for document in documents:
        schema = SCHEMAS.get(document["kind"])
        if schema is not None:
            jsonschema.Draft202012Validator(schema).validate(document)
        else:
            kubernetes_validate.validate(document, version, strict=True)


def test_the_validation_finds_what_is_misspelt() -> None:
    deployment = {**one("overlays/dev", "Deployment"), "spek": {}}
    with pytest.raises(kubernetes_validate.ValidationError, match="spek"):
        kubernetes_validate.validate(deployment, VERSIONS[-1], strict=True)
    service = one("overlays/kserve", "InferenceService", "fashion-mnist")
    wrong = {**service, "spec": {"predictor": {**service["spec"]["predictor"], "canary": 10}}}
    with pytest.raises(jsonschema.ValidationError, match="canary"):
        jsonschema.validate(wrong, SCHEMAS["InferenceService"])


def test_kserves_container_is_one() -> None:
    """What InferenceService takes over from pods is held against the pods' schema."""
    predictor = one("overlays/kserve", "InferenceService", "fashion-mnist")["spec"]["predictor"]
    own = {"modelFormat", "protocolVersion", "runtimeVersion", "storageUri"}
    model = {k: v for k, v in predictor["model"].items() if k not in own}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "kserve"},
        "spec": {
            "containers": [{"name": "kserve-container", "image": "any", **model}],
            "volumes": predictor["volumes"],
        },
    }
    kubernetes_validate.validate(pod, VERSIONS[-1], strict=True)
    assert 0 < predictor["canaryTrafficPercent"] < 100
    assert predictor["model"]["runtimeVersion"] == compose()["image"].partition(":")[2]
    # The ConfigMap whose name has its content's hash: a new version is a new revision.
    (config,) = (d for d in built("overlays/kserve") if "models.config" in d.get("data", {}))
    assert predictor["volumes"][0]["configMap"]["name"] == config["metadata"]["name"]
    (listed,) = config_of(config["data"]["models.config"]).model_config_list.config
    assert (listed.name, listed.base_path) == (NAME, "/mnt/models")


@pytest.mark.parametrize("build", SERVING)
def test_the_server_is_that_of_compose(build: str) -> None:
    serving, other = container(build), compose()
    image = other.get("gpu") if build.endswith("gpu") else other["image"]
    assert serving["image"].removeprefix("docker.io/") == image
    assert serving["command"] == other["entrypoint"]
    flags = other["command"]
    expected = shlex.split(flags) if isinstance(flags, str) else flags
    batching = [flag for flag in serving["args"] if "batching" in flag]
    assert [flag for flag in serving["args"] if flag not in batching] == expected
    assert bool(batching) == build.endswith("gpu")
    ports = {port["name"]: port["containerPort"] for port in serving["ports"]}
    assert f"--port={ports['grpc']}" in expected
    assert f"--rest_api_port={ports['rest']}" in expected
    user = one(build, "Deployment")["spec"]["template"]["spec"]["securityContext"]["runAsUser"]
    assert str(user) == str(other["user"]).partition(":")[0]


@pytest.mark.parametrize("build", SERVING)
def test_the_files_that_flags_name_are_there(build: str) -> None:
    serving, pod = container(build), one(build, "Deployment")["spec"]["template"]["spec"]
    mounts = {mount["mountPath"]: mount["name"] for mount in serving["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    maps = {d["metadata"]["name"]: d["data"] for d in built(build) if d["kind"] == "ConfigMap"}
    named = [flag.partition("=")[2] for flag in serving["args"] if "_file=/" in flag]
    assert len(named) >= 2
    for path in named:
        folder, _, name = path.rpartition("/")
        volume = volumes[mounts[folder]]
        if name != "models.config":
            assert name in maps[volume["configMap"]["name"]], path
    config = maps[volumes["serving"]["configMap"]["name"]]
    monitoring = text_format.Parse(config["monitoring.config"], config_pb2.MonitoringConfig())
    assert monitoring.prometheus_config.enable
    same = (ROOT / "serving" / "config" / "monitoring.config").read_text()
    assert monitoring == text_format.Parse(same, config_pb2.MonitoringConfig())


def test_the_monitor_asks_where_the_metrics_are() -> None:
    build = "overlays/production"
    monitor, service = one(build, "ServiceMonitor")["spec"], one(build, "Service")
    wanted = monitor["selector"]["matchLabels"].items()
    services = [d for d in built(build) if d["kind"] == "Service"]
    # One service alone, or each pod would be asked twice.
    assert [s for s in services if wanted <= s["metadata"]["labels"].items()] == [service]
    ports = {port["name"] for port in service["spec"]["ports"]}
    paths = {endpoint["port"]: endpoint["path"] for endpoint in monitor["endpoints"]}
    assert set(paths) <= ports
    (config,) = (d["data"] for d in built(build) if "monitoring.config" in d.get("data", {}))
    parsed = text_format.Parse(config["monitoring.config"], config_pb2.MonitoringConfig())
    assert paths["rest"] == parsed.prometheus_config.path


@pytest.mark.parametrize("build", [build for build in BUILDS if "kserve" not in build])
def test_every_container_is_contained(build: str) -> None:
    found = list(pods(build))
    assert found
    for name, pod in found:
        shared = pod["securityContext"]
        assert shared["runAsNonRoot"] is True, name
        assert shared["runAsUser"] > 0
        assert shared["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for one_of in pod.get("initContainers", []) + pod["containers"]:
            own = one_of["securityContext"]
            assert own["allowPrivilegeEscalation"] is False
            assert own["readOnlyRootFilesystem"] is True
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert one_of["resources"]["limits"]["memory"]
            assert one_of["resources"]["requests"]["cpu"]
            assert ":" in one_of["image"]
            assert not one_of["image"].endswith(":latest")


@pytest.mark.parametrize("build", BUILDS)
def test_selectors_select(build: str) -> None:
    """What policies, services, budgets and autoscalers mean is there; nothing else is meant."""
    templates = [
        d["spec"]["template"]["metadata"]["labels"]
        for d in built(build)
        if "template" in d.get("spec", {})
    ]
    for document in built(build):
        spec = document.get("spec", {})
        selector = {
            "Service": lambda s: s["selector"],
            "NetworkPolicy": lambda s: s["podSelector"].get("matchLabels", {}),
            "PodDisruptionBudget": lambda s: s["selector"]["matchLabels"],
            "Deployment": lambda s: s["selector"]["matchLabels"],
        }.get(document["kind"])
        if selector is not None:
            wanted = selector(spec).items()
            assert any(wanted <= labels.items() for labels in templates), document["kind"]
        if document["kind"] == "HorizontalPodAutoscaler":
            target = one(build, spec["scaleTargetRef"]["kind"], spec["scaleTargetRef"]["name"])
            names = {c["name"] for c in target["spec"]["template"]["spec"]["containers"]}
            assert spec["metrics"][0]["containerResource"]["container"] in names
            # Else each `apply` would put the number back.
            assert "replicas" not in target["spec"]


def test_a_client_of_any_kind_may_be_named_one() -> None:
    (rule,) = one("overlays/production", "NetworkPolicy")["spec"]["ingress"]
    assert rule["from"] == [{"podSelector": {"matchLabels": {"servable/client": "true"}}}]
    ports = {port["port"] for port in rule["ports"]}
    assert ports == {port["containerPort"] for port in container("overlays/production")["ports"]}


METHODS = {
    "/tensorflow.serving.PredictionService/Predict",
    "/tensorflow.serving.PredictionService/Classify",
    "/tensorflow.serving.PredictionService/GetModelMetadata",
    "/tensorflow.serving.ModelService/GetModelStatus",
}


def routes(build: str) -> dict[str, set[tuple[str, str]]]:
    """By the port of the server, what is forwarded to it: kinds of matches, and paths."""
    found: dict[str, set[tuple[str, str]]] = {"grpc": set(), "rest": set()}
    for document in built(build):
        if document["kind"] == "Ingress":
            notes = document["metadata"]["annotations"]
            assert notes["nginx.ingress.kubernetes.io/auth-tls-verify-client"] == "on"
            for rule in document["spec"]["rules"]:
                for path in rule["http"]["paths"]:
                    port = path["backend"]["service"]["port"]["name"]
                    kind = {"ImplementationSpecific": "RegularExpression"}
                    found[port].add((kind.get(path["pathType"], path["pathType"]), path["path"]))
        if document["kind"] == "HTTPRoute":
            for rule in document["spec"]["rules"]:
                (backend,) = rule["backendRefs"]
                port = {8500: "grpc", 8501: "rest"}[backend["port"]]
                paths = (match["path"] for match in rule["matches"])
                found[port] |= {(path["type"], path["value"]) for path in paths}
    return found


@pytest.mark.parametrize("build", ["overlays/production", "overlays/gateway"])
def test_what_is_forwarded_from_outside_is_what_the_gateway_forwards(build: str) -> None:
    found = routes(build)
    assert found["grpc"] == {("Exact", method) for method in METHODS}
    ((kind, pattern),) = found["rest"]
    assert kind == "RegularExpression"
    for path in (
        "/v1/models/m", "/v1/models/m/metadata", "/v1/models/m:predict", "/v1/models/m:classify",
        "/v1/models/m/versions/2:predict", "/v1/models/m/labels/stable/metadata",
    ):  # fmt: skip
        assert re.match(pattern, path), path
    for path in (
        "/v1/models/m:regress", "/v1/models/m/versions/2:regress", "/v1/models/m:predictx",
        "/v1/config", "/monitoring/prometheus/metrics", "/x/v1/models/m", "/v1/models/",
    ):  # fmt: skip
        assert not re.match(pattern, path), path


def test_a_gateway_asks_for_a_certificate_of_clients() -> None:
    gateway = one("overlays/gateway", "Gateway")["spec"]
    validation = gateway["tls"]["frontend"]["default"]["validation"]
    assert validation["mode"] == "AllowValidOnly"
    assert validation["caCertificateRefs"]


SITE = {
    "namespace: servable": "namespace: shop",
    "registry.example.com": "registry.shop.test:5000",
    "docker.io/": "mirror.shop.test/",
    "s3://example-models/servable": "gs://shop-models/live",
    "AWS_REGION=eu-central-1": "GOOGLE_CLOUD_PROJECT=shop",
    "servable.example.com": "models.shop.test",
    "GATEWAY_CLASS=eg": "GATEWAY_CLASS=istio",
    "=ingress-nginx": "=edge",
    "=monitoring": "=metrics",
    "123456789012": "999999999999",
}


def filled_in(folder: Path) -> Path:
    """The manifests with another site's settings, in one file."""
    shutil.copytree(FOLDER, folder / "kubernetes")
    path = folder / "kubernetes" / "site" / "kustomization.yaml"
    text = path.read_text()
    for example, own in SITE.items():
        assert example in text
        text = text.replace(example, own)
    path.write_text(text)
    return folder / "kubernetes"


@pytest.mark.parametrize("build", OF_SITES)
def test_one_file_holds_all_settings_of_a_site(build: str, tmp_path: Path) -> None:
    text = built_text(filled_in(tmp_path) / build)
    for example in (
        "example", "123456789012", "docker.io/", "eu-central-1", ": ingress-nginx\n",
        ": monitoring\n", "gatewayClassName: eg",
    ):  # fmt: skip
        assert example not in text
    documents = list(yaml.safe_load_all(text))
    for document in documents:
        schema = SCHEMAS.get(document["kind"])
        if schema is not None:
            jsonschema.Draft202012Validator(schema).validate(document)
        else:
            kubernetes_validate.validate(document, VERSIONS[-1], strict=True)
    namespace = "servable-tuning" if build == "tuning" else "shop"
    spaces = {d["metadata"].get("namespace", d["metadata"]["name"]) for d in documents}
    assert spaces == {namespace}
    assert "gs://shop-models/live" in text
    for document in documents:
        if document["kind"] == "Ingress":
            secret = document["metadata"]["annotations"][
                "nginx.ingress.kubernetes.io/auth-tls-secret"
            ]
            assert secret == "shop/servable-clients"
            assert document["spec"]["rules"][0]["host"] == "models.shop.test"
            assert document["spec"]["tls"][0]["hosts"] == ["models.shop.test"]
        if document["kind"] == "Gateway":
            assert document["spec"]["gatewayClassName"] == "istio"
            assert document["spec"]["listeners"][0]["hostname"] == "models.shop.test"
        if document["kind"] == "HTTPRoute":
            assert document["spec"]["hostnames"] == ["models.shop.test"]
        if document["kind"] == "InferenceService":
            uri = document["spec"]["predictor"]["model"]["storageUri"]
            assert uri == "gs://shop-models/live/fashion_mnist"
    images = set(re.findall(r"image: (\S+)", text))
    assert all(
        image.startswith(("registry.shop.test:5000/", "mirror.shop.test/")) for image in images
    )


@pytest.mark.parametrize("build", BUILDS)
def test_every_build_makes_its_namespace(build: str) -> None:
    (namespace,) = (d for d in built(build) if d["kind"] == "Namespace")
    names = {d["metadata"]["namespace"] for d in built(build) if d["kind"] != "Namespace"}
    assert names == {namespace["metadata"]["name"]}
    assert "pod-security.kubernetes.io/enforce" in namespace["metadata"]["labels"]


@pytest.mark.parametrize("name", ["pull", "sync"])
def test_the_companions_command_is_one(name: str, tmp_path: Path) -> None:
    """The arguments as they stand, with a folder for the bucket and for /models."""
    url, models = f"file://{tmp_path}/remote", tmp_path / "models"
    remote = Remote(url)
    remote.label(NAME, remote.push(SHIPPED), "stable")
    replaced = {
        "$(SERVABLE_REPOSITORY)": url,
        "/models": str(models),
        "--metrics-port=9146": f"--metrics-port={free_port()}",
        "--metrics-host=0.0.0.0": "--metrics-host=127.0.0.1",
    }
    found = container("overlays/production", name)["args"]
    assert set(replaced) & set(found) == set(list(replaced)[: 2 if name == "pull" else 4])
    arguments = [replaced.get(argument, argument) for argument in found]
    if name == "pull":
        assert servable(*arguments).returncode == 0
    else:
        log = tmp_path / "log"
        with companion(arguments, log) as process:
            until((models / "models.config").exists, process, log)
            assert stop(process) == 0
        assert '"event": "pulled"' in log.read_text()
    assert (models / NAME / "1").is_dir()


def test_the_pages_numbers_of_pods_follow_from_what_was_measured() -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    (aim,) = one("overlays/production", "HorizontalPodAutoscaler")["spec"]["metrics"]
    busy = aim["containerResource"]["target"]["averageUtilization"] / 100
    cores = int(container("overlays/production")["resources"]["requests"]["cpu"])
    rows = re.findall(
        r"^\| [^|]+\| [\d,]+/s \| ([\d.]+) \| ([\d.]+) \| (\d+) \| (\d+) \|$", page, re.MULTILINE
    )
    assert len(rows) == 4
    for cpu, at_once, pods_of_ten_thousand, pods_of_a_million in rows:
        assert float(at_once) == pytest.approx(float(cpu) * 10, abs=0.05)
        for rate, pods in ((1e4, pods_of_ten_thousand), (1e6, pods_of_a_million)):
            # The page computes with more digits than it shows.
            low, high = ((float(cpu) + d) * rate / 1000 / cores / busy for d in (-0.005, 0.005))
            assert math.ceil(low) <= int(pods) <= math.ceil(high)


def probe(name: str, rest_port: int, model: str) -> int:
    """The exit status of a probe's command, asked of another port."""
    probe = container("overlays/production")[name]
    command = [part.replace("127.0.0.1/8501", f"127.0.0.1/{rest_port}")
               for part in probe["exec"]["command"]]  # fmt: skip
    return subprocess.run(
        command,
        env={**os.environ, "SERVABLE_MODEL": model},
        capture_output=True,
        check=False,
        timeout=120,
    ).returncode


def test_the_probes_answer_as_they_should(server: RunningServer) -> None:
    for name in ("startupProbe", "readinessProbe"):
        assert probe(name, server.rest_port, NAME) == 0
        assert probe(name, server.rest_port, "nosuch") != 0
        assert probe(name, free_port(), NAME) != 0
    # Alive is who answers, whatever: a model that is away is no reason to end the server.
    assert probe("livenessProbe", server.rest_port, NAME) == 0
    assert probe("livenessProbe", server.rest_port, "nosuch") == 0
    assert probe("livenessProbe", free_port(), NAME) != 0


@contextmanager
def answering(body: bytes) -> Iterator[int]:
    """A port where every GET gets this body."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as stub:
        thread = threading.Thread(target=stub.serve_forever)
        thread.start()
        try:
            yield stub.server_port
        finally:
            stub.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("transcript", "step", "ready"),
    [
        # Beside one that is AVAILABLE a broken one does no harm.
        ("versions-broken", "2 failed", True),
        ("versions-broken", "the failed one alone", False),
        ("versions-latest", "all ended", False),
    ],
)
def test_readiness_follows_the_states_that_tensorflow_serving_tells(
    transcript: str, step: str, ready: bool
) -> None:
    path = Path(__file__).parent / "conformance" / "transcripts" / f"{transcript}.json"
    (found,) = (s for s in json.loads(path.read_text())["steps"] if s.get("id") == step)
    with answering(json.dumps(found["expect"]["body"], indent=1).encode()) as port:
        assert (probe("readinessProbe", port, NAME) == 0) == ready
        assert probe("livenessProbe", port, NAME) == 0
