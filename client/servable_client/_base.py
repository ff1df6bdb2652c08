"""What the two clients have in common: how they are made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from servable_client.engine.classify import Classifier
from servable_client.engine.core import DEFAULT_TIMEOUT, Engine
from servable_client.types.operations import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from servable_client.engine.retry import Retry
    from servable_client.engine.split import Split
    from servable_client.engine.telemetry import RequestEvent, ResponseEvent
    from servable_client.net.security import TLS, Secret


class BaseClient(ABC):
    """Asks TensorFlow Serving, over gRPC or REST, without TensorFlow.

    One client serves a whole program: it may be shared between threads, keeps its connections,
    and is safe after a fork. Each call has a deadline, and what may pass is tried again, so a
    question should do no harm when it is asked twice; all of TensorFlow Serving's are such.

    Args:
        server: The address; `grpc`, `grpcs`, `http` or `https` picks the transport, and the
            port is 8500 or 8501 unless given. Several, in a list or with commas, take turns; a
            dead one is left out, and tried again after a while.
        model: The model's name.
        version: The version to ask; the highest available one unless given.
        label: The label of the version to ask, `stable` for example; not with `version`.
        split: Labels and the share of the calls that each gets, `{"canary": 0.1}` for example, or
            a `Split`; the rest goes to `label`, which is `stable` then unless given. A call
            that names a version or label keeps to it; where the label that was drawn stands for
            no version, the call goes to `label` all the same. It is drawn for each question to
            the model, in `classify_many` for each chunk; an answer's `version` tells what came
            of it.
        timeout: Seconds that a call may take, retries included, unless it says otherwise.
        retry: How often and when a call is tried again.
        tls: Whom `grpcs` and `https` trust, and the client's own certificate; the well-known
            authorities unless given.
        api_key: Sent as `x-api-key`; text, or a function that gives it, called anew for each
            attempt.
        token: Sent as `authorization: Bearer ...`; likewise.
        plaintext_credentials: Send them to another machine without TLS all the same.
        proxy: The HTTP proxy through which all servers are asked that are not on this machine,
            as `http://user:password@host:port`.
        trust_env: Heed the proxies that the environment names, unless `proxy` is given:
            `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` for REST, and for gRPC what
            grpcio heeds.
        on_request: Called with a `RequestEvent` before each attempt, in the thread that makes
            it; keep it short.
        on_response: Called with a `ResponseEvent` after each.

    Raises:
        InvalidInput: An address or name is malformed, both `version` and `label` are given, a
            split makes no sense, or credentials would go over the network for all to read.

    Over REST the server does not say which version answered. So the client reads from the
    metadata, at most once a second, which version a model or label stands for, and asks that one
    by its number: an answer's `version` is the one that gave it, and a label that moves is
    followed within a second.

    Example:
        >>> with Client(server, model="fashion_mnist") as client:
        ...     boot = client.classify("boot.png")
        >>> print(boot, boot.version)
        Ankle boot (99.6%) 1
    """

    def __init__(
        self,
        server: str | Sequence[str] = "grpc://localhost:8500",
        *,
        model: str,
        version: int | None = None,
        label: str | None = None,
        split: Mapping[str, float] | Split | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        retry: Retry | None = None,
        tls: TLS | None = None,
        api_key: Secret | None = None,
        token: Secret | None = None,
        plaintext_credentials: bool = False,
        proxy: str | None = None,
        trust_env: bool = True,
        on_request: Callable[[RequestEvent], object] | None = None,
        on_response: Callable[[ResponseEvent], object] | None = None,
    ) -> None:
        self._engine = Engine(
            server,
            target=Target(model=model, version=version, label=label),
            split=split,
            timeout=timeout,
            retry=retry,
            tls=tls,
            api_key=api_key,
            token=token,
            plaintext_credentials=plaintext_credentials,
            proxy=proxy,
            trust_env=trust_env,
            on_request=on_request,
            on_response=on_response,
        )
        self._classifier = Classifier(self._engine)
        self._open()

    @abstractmethod
    def _open(self) -> None:
        """Make what runs the flows."""

    @property
    def endpoint(self) -> str:
        """The server's address; the first, where there are several.

        Example:
            >>> Client("http://localhost", model="fashion_mnist").endpoint
            'http://localhost:8501'
        """
        return self._engine.endpoints[0].url

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The servers' addresses.

        Example:
            >>> Client("grpc://one,grpc://two", model="fashion_mnist").endpoints
            ('grpc://one:8500', 'grpc://two:8500')
        """
        return tuple(endpoint.url for endpoint in self._engine.endpoints)

    def __repr__(self) -> str:
        target = self._engine.target
        pinned = "".join(
            f", {name}={value!r}"
            for name, value in (
                ("version", target.version),
                ("label", target.label),
                ("split", self._engine.split and self._engine.split.shares),
            )
            if value is not None
        )
        servers = ",".join(self.endpoints)
        return f"{type(self).__name__}({servers!r}, model={target.model!r}{pinned})"
