"""Settings of the gateway: defaults, valid and invalid values, exposure without keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from servable_serving.core.addresses import is_loopback
from servable_serving.gateway.settings import (
    DEFAULTS,
    Rate,
    Settings,
    SettingsError,
    in_container,
    in_url,
)


def settings(**variables: str) -> Settings:
    return settings_of(variables)


def settings_of(variables: dict[str, str], *, contained: bool = False, cores: int = 2) -> Settings:
    named = {f"SERVABLE_{name}": value for name, value in variables.items()}
    assert named.keys() <= DEFAULTS.keys()
    return Settings.from_environment(named, contained=contained, cores=cores)


def test_defaults() -> None:
    found = settings()
    assert found.upstream == ("serving",)
    assert (found.tls_port, found.grpc_port, found.rest_port) == (8443, 8500, 8501)
    assert (found.rate, found.burst, found.timeout) == (Rate(1000), 1000, 60)
    assert found.certificate == Path("/certs/tls.crt")
    assert found.certificate_key == Path("/certs/tls.key")
    assert found.api_keys_file is None
    assert found.metrics_syslog is None


def test_an_empty_variable_counts_as_unset() -> None:
    assert settings(**dict.fromkeys((name.removeprefix("SERVABLE_") for name in DEFAULTS), "")) == (
        settings()
    )


def test_the_default_page_is_the_one_that_is_installed() -> None:
    assert (settings().web / "index.html").is_file()


def test_relative_paths_are_of_the_working_folder() -> None:
    assert settings(CERTS="certs").certificate == Path.cwd() / "certs" / "tls.crt"


@pytest.mark.parametrize(
    ("variable", "value", "attribute", "expected"),
    [
        ("BIND", "0.0.0.0", "bind", "0.0.0.0"),
        ("LISTEN", "[::1]", "listen", "::1"),
        ("UPSTREAM", "a,b.example", "upstream", ("a", "b.example")),
        ("UPSTREAM", "::1", "upstream", ("::1",)),
        ("UPSTREAM_GRPC_PORT", "1", "upstream_grpc_port", 1),
        ("UPSTREAM_REST_PORT", "65535", "upstream_rest_port", 65535),
        ("API_KEYS_FILE", "/keys/api", "api_keys_file", Path("/keys/api")),
        ("ADMIN_KEYS_FILE", "/keys/admin", "admin_keys_file", Path("/keys/admin")),
        ("MAX_BODY", "4M", "max_body", "4M"),
        ("COMPRESSED_BODIES", "pass", "compressed_bodies", "pass"),
        ("RATE", "5", "rate", Rate(5)),
        ("RATE", "10r/m", "rate", Rate(10, "m")),
        ("RATE", "0", "rate", Rate(0)),
        ("BURST", "0", "burst", 0),
        ("TIMEOUT", "1", "timeout", 1),
        ("CORS_ORIGINS", "*", "cors_origins", ("*",)),
        ("CORS_ORIGINS", "https://a.b, http://c:1", "cors_origins", ("https://a.b", "http://c:1")),
        ("METRICS_SYSLOG", "metrics:5145", "metrics_syslog", ("metrics", 5145)),
        ("MODELS_ROOT", "/m", "models_root", Path("/m")),
        ("MODELS", "a, b", "models", ("a", "b")),
        ("CERTIFICATE", "/x.crt", "certificate", Path("/x.crt")),
        ("CERTIFICATE_KEY", "/x.key", "certificate_key", Path("/x.key")),
        ("TLS_NAMES", "*.example,::1", "tls_names", ("*.example", "::1")),
        ("WEB", "/web", "web", Path("/web")),
        ("RUN", "/run/g", "run", Path("/run/g")),
        ("ACCESS_LOG", "syslog:server=log:514", "access_log", "syslog:server=log:514"),
        ("LOG_LEVEL", "debug", "log_level", "debug"),
        ("WORKERS", "7", "workers", 7),
        ("TLS_PORT", "443", "tls_port", 443),
        ("GRPC_PORT", "1500", "grpc_port", 1500),
        ("REST_PORT", "1501", "rest_port", 1501),
    ],
)
def test_a_valid_value(variable: str, value: str, attribute: str, expected: object) -> None:
    assert getattr(settings(**{variable: value}), attribute) == expected


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("BIND", "a b"),
        ("LISTEN", "0.0.0.0;"),
        ("UPSTREAM", "a b; c"),
        ("UPSTREAM", ","),
        ("UPSTREAM_GRPC_PORT", "http"),
        ("UPSTREAM_REST_PORT", "0"),
        ("MAX_BODY", "lots"),
        ("MAX_BODY", "1t"),
        ("COMPRESSED_BODIES", "yes"),
        ("RATE", "fast"),
        ("RATE", "10r/h"),
        ("BURST", "-1"),
        ("TIMEOUT", "0"),
        ("TIMEOUT", "1.5"),
        ("CORS_ORIGINS", "example.org"),
        ("CORS_ORIGINS", 'https://a";'),
        ("METRICS_SYSLOG", "there"),
        ("METRICS_SYSLOG", "there:65536"),
        ("MODELS", "a;b"),
        ("TLS_NAMES", "a b$"),
        ("TLS_NAMES", ","),
        ("LOG_LEVEL", "loud"),
        ("WORKERS", "0"),
        ("WORKERS", "²"),
        ("TLS_PORT", "65536"),
        ("GRPC_PORT", "-1"),
        ("REST_PORT", "x"),
    ],
)
def test_an_invalid_value_is_a_usage_error(variable: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings(**{variable: value})
    assert caught.value.variable == f"SERVABLE_{variable}"
    assert caught.value.exit_status == 2
    assert f"SERVABLE_{variable}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_burst_is_the_rate_unless_set() -> None:
    assert settings(RATE="30r/m").burst == 30


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (4, 4), (64, 4)])
def test_workers_follow_the_cores(cores: int, workers: int) -> None:
    assert settings_of({}, cores=cores).workers == workers


def test_it_listens_where_it_binds() -> None:
    assert settings(BIND="192.0.2.7").listen == "192.0.2.7"


def test_in_a_container_it_listens_everywhere() -> None:
    assert settings_of({}, contained=True).listen == "0.0.0.0"


@pytest.mark.parametrize(
    ("origins", "varies"),
    [("", False), ("*", False), ("https://a.b", True), ("https://a.b,*", True)],
)
def test_answers_vary_by_origin_only_where_origins_are_named(origins: str, varies: bool) -> None:
    assert settings(CORS_ORIGINS=origins).cors_varies is varies


@pytest.mark.parametrize(
    ("contained", "bind", "listen"),
    [
        (False, "127.0.0.1", ""),
        (False, "localhost", "::1"),
        # Where the container's engine publishes on this machine alone.
        (True, "127.0.0.1", "0.0.0.0"),
    ],
)
def test_without_keys_loopback_is_served(contained: bool, bind: str, listen: str) -> None:
    settings_of({"BIND": bind, "LISTEN": listen}, contained=contained).check_exposure(
        with_keys=False
    )


@pytest.mark.parametrize(
    ("contained", "bind", "listen", "named"),
    [
        (False, "0.0.0.0", "", "0.0.0.0"),
        (False, "127.0.0.1", "192.0.2.7", "192.0.2.7"),
        (True, "0.0.0.0", "127.0.0.1", "0.0.0.0"),
        (True, "example.org", "", "example.org"),
    ],
)
def test_without_keys_no_other_address_is_served(
    contained: bool, bind: str, listen: str, named: str
) -> None:
    found = settings_of({"BIND": bind, "LISTEN": listen}, contained=contained)
    with pytest.raises(SettingsError) as caught:
        found.check_exposure(with_keys=False)
    assert named in str(caught.value)
    found.check_exposure(with_keys=True)


@pytest.mark.parametrize(
    ("address", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("[::1]", True), ("::", False), ("127.evil", False)],
)
def test_loopback(address: str, loopback: bool) -> None:
    assert is_loopback(address) is loopback


def test_kubernetes_is_a_container() -> None:
    assert in_container({"KUBERNETES_SERVICE_HOST": "10.0.0.1"})


def test_ipv6_is_bracketed_before_a_port() -> None:
    assert (in_url("::1"), in_url("10.0.0.1")) == ("[::1]", "10.0.0.1")
