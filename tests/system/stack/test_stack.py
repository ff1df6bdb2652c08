"""`docker compose up`, as a user meets it: healthy, contained, and reached through its gateway."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
import requests
from tests.conftest import NAME
from tests.system.stack.stacks import ADMIN, HASTY, KEY, Stack, readme_curls, run

from servable_client import AccessDenied, Retry

if TYPE_CHECKING:
    from typing import Any

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]

# Services that run once, and their capabilities.
ONCE = {"certificates": {"CHOWN"}, "models-config": {"CHOWN", "DAC_OVERRIDE", "FOWNER"}}
BLANK = np.zeros((1, 28, 28), np.uint8)


def post(stack: Stack, key: str | None, body: Any, **kwargs: Any) -> requests.Response:
    return requests.post(
        f"{stack.https}/v1/models/{NAME}:predict",
        data=body if isinstance(body, bytes) else json.dumps(body),
        headers={"x-api-key": key} if key else {},
        verify=str(stack.ca),
        timeout=60,
        **kwargs,
    )


def test_it_comes_up_healthy(stack: Stack) -> None:
    for service in ("serving", "gateway"):
        (container,) = stack.containers(service)
        assert container["State"]["Health"]["Status"] == "healthy"


def test_each_container_is_contained(stack: Stack) -> None:
    containers = stack.containers(ended=True)
    assert {c["Config"]["Labels"]["com.docker.compose.service"] for c in containers} == {
        "serving", "gateway", "certificates", "models-config"
    }  # fmt: skip
    for container in containers:
        name, config, host = container["Name"], container["Config"], container["HostConfig"]
        assert host["ReadonlyRootfs"], name
        assert host["CapDrop"] == ["ALL"], name
        assert host["SecurityOpt"] == ["no-new-privileges:true"], name
        assert host["Init"], name
        assert 0 < host["Memory"] <= 2 << 30, name
        assert 0 < host["PidsLimit"] <= 512, name
        assert not host["Privileged"], name
        assert host["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "3"}, name
        service = config["Labels"]["com.docker.compose.service"]
        if service in ONCE:  # root, for the time of a few calls
            assert (set(host["CapAdd"]), host["NetworkMode"]) == (ONCE[service], "none")
            assert container["State"]["ExitCode"] == 0
        else:
            assert int(config["User"].partition(":")[0]) > 0, name
            assert not host["CapAdd"], name
            assert host["RestartPolicy"]["Name"] == "unless-stopped", name
        for mount in container["Mounts"]:
            written = {"/models"} if service == "models-config" else {"/certs"}
            assert not mount["RW"] or mount["Destination"] in written, (name, mount)


def test_models_config_is_made_of_its_template_and_belongs_to_the_folders_owner(
    stack: Stack,
) -> None:
    live, template = stack.models / "models.config", stack.models / "models.config.template"
    assert stack.made == template.read_text()
    assert (live.stat().st_uid, live.stat().st_mode & 0o777) == (stack.models.stat().st_uid, 0o644)


def test_what_the_kernel_says_of_the_processes(stack: Stack) -> None:
    for service in ("serving", "gateway"):
        status = stack("exec", "-T", service, "cat", "/proc/self/status")
        assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
        assert re.search(r"^CapBnd:\s+0+$", status, re.MULTILINE)
        assert not re.search(r"^Uid:\s+0\b", status, re.MULTILINE)
        assert "Read-only" in stack("exec", "-T", service, "bash", "-c", "touch /etc/x 2>&1; true")


def test_only_the_gateway_has_ports_and_only_on_this_machine(stack: Stack) -> None:
    (serving,), (gateway,) = stack.containers("serving"), stack.containers("gateway")
    assert not any(serving["NetworkSettings"]["Ports"].values())
    published = {
        port: {binding["HostIp"] for binding in bindings}
        for port, bindings in gateway["NetworkSettings"]["Ports"].items()
        if bindings
    }
    assert published == {f"{port}/tcp": {"127.0.0.1"} for port in (8443, 8500, 8501)}


def test_a_server_has_no_way_out(stack: Stack) -> None:
    (serving,) = stack.containers("serving")
    (network,) = serving["NetworkSettings"]["Networks"]
    (about,) = json.loads(run("docker", "network", "inspect", network).stdout)
    assert about["Internal"]


@pytest.mark.parametrize("scheme", ["grpcs", "https"])
def test_the_sdk_asks_through_the_gateway(stack: Stack, scheme: str) -> None:
    with stack.client(scheme) as client:
        answer = client.classify(BLANK[0])
        assert answer.version == 1
        assert 0 < answer.probability <= 1
    with stack.client(scheme, label="stable") as client:
        assert client.classify(BLANK[0]).version == 1


@pytest.mark.parametrize("scheme", ["grpcs", "https"])
@pytest.mark.parametrize("key", [None, "wrong-key-0000-0000"])
def test_without_a_key_that_is_known_nothing_is_answered(
    stack: Stack, scheme: str, key: str | None
) -> None:
    with stack.client(scheme, api_key=key) as client, pytest.raises(AccessDenied):
        client.classify(BLANK[0])
    assert post(stack, key, {"instances": BLANK.tolist()}).status_code == 401


def test_curl_as_the_readme_prints_it(stack: Stack) -> None:
    commands = [command for command in readme_curls() if "$KEY" in command]
    assert commands
    (stack.folder / "ca.pem").unlink(missing_ok=True)
    assert stack.ca.exists()  # docker compose cp
    for command in commands:
        done = run(
            "bash", "-ec", command.replace(":8443", f":{stack.ports['TLS']}"),
            cwd=stack.folder, env={**stack.environment, "KEY": KEY},
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stderr)
        assert "AVAILABLE" in done.stdout, (command, done.stdout)


def test_a_request_that_is_too_large(stack: Stack) -> None:
    answer = post(stack, KEY, b" " * (3 << 20))
    assert answer.status_code == 413
    assert list(answer.json()) == ["error"]


def test_requests_that_come_too_fast(stack: Stack) -> None:
    with requests.Session() as session:

        def ask(_: int) -> int:
            return session.get(
                f"{stack.https}/v1/models/{NAME}",
                headers={"x-api-key": HASTY},
                verify=str(stack.ca),
                timeout=60,
            ).status_code

        with ThreadPoolExecutor(8) as pool:
            codes = list(pool.map(ask, range(600)))
    assert set(codes) == {200, 429}
    # Another key has lost nothing by it.
    assert post(stack, KEY, {"instances": BLANK.tolist()}).status_code == 200


def test_only_an_administrator_may_reload(stack: Stack) -> None:
    config = (stack.models / "models.config").read_text()
    with stack.client(retry=Retry(attempts=1)) as client, pytest.raises(AccessDenied):
        client.reload_config(config)
    with stack.client(api_key=ADMIN) as client:
        client.reload_config(config)
        assert client.classify(BLANK[0]).version == 1
