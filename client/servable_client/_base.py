"""What both clients share: their construction and settings."""

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
    """A client of TensorFlow Serving, over gRPC or REST, without TensorFlow.

    One client serves a whole program: it is thread-safe, reuses its connections, and is safe
    after a fork. Each call has a deadline and is retried when the failure is transient. So
    requests must be idempotent; all requests of TensorFlow Serving are.

    Args:
        server: The address. `grpc`, `grpcs`, `http` or `https` selects the transport (default
            port: 8500 or 8501). Several addresses, in a list or separated by commas, are used
            in turn; one that is unavailable is skipped, and retried after a while.
        model: The model name.
        version: The version to use (default: the highest available one).
        label: The label of the version to use, `stable` for example; not with `version`.
        split: Labels and their shares of the calls, `{"canary": 0.1}` for example, or a `Split`;
            the rest goes to `label` (default: `stable`). A call that names a version or label is
            not split. If the selected label has no available version, the call goes to `label`.
            The label is selected for each request, in `classify_many` for each chunk; the
            `version` of an answer is the one that was used.
        timeout: Default timeout of a call in seconds, retries included.
        retry: The retry policy.
        tls: The CA bundle for `grpcs` and `https`, and the client certificate (default: the
            well-known authorities, no certificate).
        api_key: Sent as `x-api-key`; text, or a function that returns it, called for each
            attempt.
        token: Sent as `authorization: Bearer ...`; likewise.
        plaintext_credentials: Allow credentials to be sent to another machine without TLS.
        proxy: The HTTP proxy for all servers that are not on this machine, as
            `http://user:password@host:port`.
        trust_env: Use the proxies of the environment, unless `proxy` is given: `HTTPS_PROXY`,
            `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` for REST, and the variables of grpcio for
            gRPC.
        on_request: Called with a `RequestEvent` before each attempt, in the thread of the
            attempt; must return quickly.
        on_response: Called with a `ResponseEvent` after each attempt.

    Raises:
        InvalidInput: An address or name is malformed, both `version` and `label` are given, the
            split is invalid, or credentials would be sent in plaintext.

    REST responses do not contain the version. So the client reads from the metadata, at most
    once a second, which version a model or label points to, and addresses that version by
    number: the `version` of an answer is exact, and a label that moves is followed within a
    second.

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
        """Create the driver that runs the flows."""

    @property
    def endpoint(self) -> str:
        """The server address; the first one if there are several.

        Example:
            >>> Client("http://localhost", model="fashion_mnist").endpoint
            'http://localhost:8501'
        """
        return self._engine.endpoints[0].url

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The server addresses.

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
