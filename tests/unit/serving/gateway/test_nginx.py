"""nginx's configuration as the templates render it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from servable_serving.gateway.errors import GatewayError
from servable_serving.gateway.keys import Key, Keys
from servable_serving.gateway.nginx import ConfigurationRejected, Nginx, quoted, reason_of, render
from servable_serving.repository.traffic import Route

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.serving.gateway.conftest import MakeSettings

ALICE = Key("alice", "alices-key-0123456789")
ROOT = Key("admin/root", "roots-key-01234567890")


def lines(text: str) -> list[str]:
    """The directives, without their indentation."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def block(text: str, head: str) -> list[str]:
    """The lines within the first block that begins so."""
    found = lines(text)
    start = found.index(head) + 1
    return found[start : found.index("}", start)]


def rendered(make: MakeSettings, variables: dict[str, str] | None = None, **state: Any) -> str:
    state.setdefault("keys", Keys())
    return render(make(**(variables or {})), **state)


def servers(text: str, group: str) -> list[str]:
    return [line for line in block(text, f"upstream {group} {{") if line.startswith("server ")]


def test_one_server(make: MakeSettings) -> None:
    text = rendered(make, {"UPSTREAM_REST_PORT": "9501"}, addresses=["10.0.0.1"])
    assert servers(text, "servable_rest") == ["server 10.0.0.1:9501 max_fails=1 fail_timeout=2s;"]


def test_several_servers_at_both_ports(make: MakeSettings) -> None:
    text = rendered(make, addresses=["10.0.0.1", "10.0.0.2", "fd00::1"])
    for group, port in (("servable_rest", 8501), ("servable_grpc", 8500)):
        assert [line.split()[1] for line in servers(text, group)] == [
            f"10.0.0.1:{port}",
            f"10.0.0.2:{port}",
            f"[fd00::1]:{port}",
        ]


def test_a_name_that_does_not_resolve_yet(make: MakeSettings) -> None:
    (only,) = servers(rendered(make), "servable_grpc")
    assert only.startswith("server 127.0.0.1:9 down;")


def test_three_ports(make: MakeSettings) -> None:
    text = rendered(make, {"LISTEN": "::1", "TLS_PORT": "1", "GRPC_PORT": "2", "REST_PORT": "3"})
    assert [line for line in lines(text) if line.startswith("listen ")] == [
        "listen [::1]:1 ssl http2;",
        "listen [::1]:2 http2;",
        "listen [::1]:3;",
    ]


def test_tls_has_the_certificate(make: MakeSettings) -> None:
    text = rendered(make, {"CERTIFICATE": "/c/a b.crt", "CERTIFICATE_KEY": "/c/k.key"})
    assert 'ssl_certificate "/c/a b.crt";' in lines(text)
    assert 'ssl_certificate_key "/c/k.key";' in lines(text)
    assert "ssl_protocols TLSv1.2 TLSv1.3;" in lines(text)


def test_without_keys_none_is_asked_for(make: MakeSettings) -> None:
    assert '"" 0;' in block(rendered(make), "map $key_name $unknown {")


def test_with_keys_one_is_asked_for(make: MakeSettings) -> None:
    text = rendered(make, keys=Keys((ALICE,), (ROOT,)))
    assert '"" 1;' in block(text, "map $key_name $unknown {")


def test_keys_and_their_names(make: MakeSettings) -> None:
    text = rendered(make, keys=Keys((ALICE,), (ROOT,)))
    assert block(text, 'map "k:$given_key" $stored_key {') == [
        'default "";',
        f'"k:{ALICE.secret}" "{ALICE.secret}";',
        f'"k:{ROOT.secret}" "{ROOT.secret}";',
    ]
    assert block(text, 'map "k:$given_key" $stored_name {') == [
        'default "";',
        f'"k:{ALICE.secret}" "alice";',
        f'"k:{ROOT.secret}" "admin/root";',
    ]


def test_cors_origins(make: MakeSettings) -> None:
    text = rendered(make, {"CORS_ORIGINS": "https://a.example,*"})
    assert block(text, "map $http_origin $cors_origin {") == [
        'default "";',
        '"https://a.example" "https://a.example";',
        '"~." "*";',
    ]
    assert "map 1 $cors_vary {" in lines(text)


def test_no_cors_origins(make: MakeSettings) -> None:
    text = rendered(make)
    assert block(text, "map $http_origin $cors_origin {") == ['default "";']
    assert "map 0 $cors_vary {" in lines(text)


def test_a_rate_with_a_burst(make: MakeSettings) -> None:
    text = rendered(make, {"RATE": "10r/m", "BURST": "3"})
    assert "limit_req_zone $limited_by zone=requests:10m rate=10r/m;" in lines(text)
    limits = [line for line in lines(text) if line.startswith("limit_req zone=requests")]
    assert set(limits) == {"limit_req zone=requests burst=3 nodelay;"}


def test_a_rate_without_a_burst(make: MakeSettings) -> None:
    text = rendered(make, {"RATE": "10", "BURST": "0"})
    assert {line for line in lines(text) if line.startswith("limit_req zone=requests")} == {
        "limit_req zone=requests;"
    }


def test_no_rate(make: MakeSettings) -> None:
    text = rendered(make, {"RATE": "0", "UNKNOWN_KEY_RATE": "0"})
    assert not [line for line in lines(text) if line.startswith(("limit_req ", "limit_req_zone"))]


def test_every_split_path_is_limited(make: MakeSettings) -> None:
    """Each location that passes a request on limits it first."""
    text = rendered(make, {"RATE": "5"})
    passed = [line for line in lines(text) if line.startswith(("proxy_pass ", "grpc_pass "))]
    limits = [line for line in lines(text) if line.startswith("limit_req zone=requests")]
    assert len(limits) >= len(passed) > 0


def test_the_time_limit_holds_for_both_protocols(make: MakeSettings) -> None:
    found = lines(rendered(make, {"TIMEOUT": "7"}))
    assert "proxy_read_timeout 7s;" in found
    assert "grpc_read_timeout 7s;" in found
    assert "worker_shutdown_timeout 17s;" in found


def test_settings_of_nginx(make: MakeSettings) -> None:
    found = lines(rendered(make, {"MAX_BODY": "4m", "WORKERS": "3", "LOG_LEVEL": "warn"}))
    assert "client_max_body_size 4m;" in found
    assert "worker_processes 3;" in found
    assert "error_log stderr warn;" in found


@pytest.mark.parametrize(("as_root", "count"), [(True, 1), (False, 0)])
def test_a_user_is_named_only_where_root_starts_it(
    make: MakeSettings, as_root: bool, count: int
) -> None:
    assert lines(rendered(make, as_root=as_root)).count("user root;") == count


def test_requests_are_reported_where_somebody_counts(make: MakeSettings) -> None:
    text = rendered(make, {"METRICS_SYSLOG": "metrics:5145"}, metrics_address="fd00::2")
    assert (
        "access_log syslog:server=[fd00::2]:5145,tag=servable,nohostname metrics if=$logged;"
        in lines(text)
    )


def test_requests_are_not_reported_to_an_unknown_address(make: MakeSettings) -> None:
    assert "syslog:" not in rendered(make, {"METRICS_SYSLOG": "metrics:5145"})


def test_traffic_is_split(make: MakeSettings) -> None:
    routes = [
        Route(label="canary", version=2, percent=12.5),
        Route(label="stable", version=1, percent=87.5),
    ]
    text = rendered(make, traffic={"shoes": routes})
    assert block(text, "split_clients $request_id $split_0 {") == [
        '12.50% "canary";',
        '* "stable";',
    ]
    assert '"m:shoes" $split_0;' in block(text, 'map "m:$model" $split {')
    assert block(text, 'map "m:$model $label" $version_of_label {') == [
        'default "";',
        '"m:shoes canary" 2;',
        '"m:shoes stable" 1;',
    ]


def test_each_model_has_a_split_of_its_own(make: MakeSettings) -> None:
    whole = [Route(label="stable", version=1, percent=100.0)]
    text = rendered(make, traffic={"a": whole, "b": whole})
    assert block(text, 'map "m:$model" $split {')[1:] == ['"m:a" $split_0;', '"m:b" $split_1;']


def test_a_canary_that_ran_out_of_time_gets_nothing(make: MakeSettings) -> None:
    routes = [
        Route(label="canary", version=2, percent=40.0),
        Route(label="stable", version=1, percent=60.0),
    ]
    text = rendered(make, traffic={"a": routes}, ended={"a"})
    assert block(text, "split_clients $request_id $split_0 {") == ['* "stable";']


def test_readiness_is_a_file(make: MakeSettings) -> None:
    text = rendered(make, {"RUN": "/run/g"})
    assert lines(text).count('if (!-f "/run/g/ready") {') == 2


def test_nothing_is_left_unrendered(make: MakeSettings) -> None:
    text = rendered(make, addresses=["10.0.0.1"], keys=Keys((ALICE,)))
    assert "{{" not in text
    assert "{%" not in text


@pytest.mark.parametrize(
    ("value", "word"), [("/a b", '"/a b"'), ('/a"b', '"/a\\"b"'), ("/a\\b", '"/a\\\\b"')]
)
def test_a_value_is_one_word(value: str, word: str) -> None:
    assert quoted(value) == word


@pytest.mark.parametrize(
    ("stderr", "reason"),
    [
        ("nginx: [warn] a\nnginx: [emerg] b\nnginx: test failed\n", "nginx: [emerg] b"),
        ("something\nelse\n", "else"),
        ("", "no reason given"),
    ],
)
def test_why_nginx_rejected_a_configuration(stderr: str, reason: str) -> None:
    assert reason_of(stderr) == reason


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nginx:
    """An nginx that is never started."""
    program = tmp_path / "nginx"
    program.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return Nginx(tmp_path / "missing")


def test_a_configuration_that_cannot_be_written_is_rejected(installed: Nginx) -> None:
    with pytest.raises(ConfigurationRejected):
        installed.install("")


def test_before_its_start_there_is_nothing_to_end(installed: Nginx) -> None:
    installed.quit()
    assert installed.poll() is None
    assert installed.wait() == 0


def test_nginx_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GatewayError) as caught:
        Nginx(tmp_path)
    assert caught.value.exit_status == 1
