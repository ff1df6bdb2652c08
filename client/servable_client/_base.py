"""What both clients share: their construction and settings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from servable_client._errors import InvalidInput
from servable_client.engine.classify import Classifier
from servable_client.engine.copies import Arguments, check_importable, without_secrets
from servable_client.engine.core import DEFAULT_TIMEOUT, Engine
from servable_client.types.operations import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Self

    from servable_client.engine.retry import Retry
    from servable_client.engine.split import Split
    from servable_client.engine.telemetry import RequestEvent, ResponseEvent
    from servable_client.net.security import TLS, Secret


# The arguments that may be functions, and the attributes that are made from the arguments.
_FUNCTIONS = ("api_key", "token", "on_request", "on_response")
_REBUILT = frozenset({"_arguments", "_left_out", "_engine", "_classifier", "_driver"})


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
            not split. If the selected label has no available version, the call goes to `label`;
            if that was not given and no version is labelled `stable`, to the highest version.
            The label is selected for each request, in `classify_many` for each chunk; the
            `version` of an answer is the one that was used.
        timeout: Default timeout of a call in seconds, retries included.
        retry: The retry policy.
        tls: The CA bundle for `grpcs` and `https`, and the client certificate (default: the
            well-known authorities, no certificate).
        api_key: Sent as `x-api-key`; text, or a function that returns it, called for each
            attempt.
        token: Sent as `authorization: Bearer ...`; likewise.
        headers: Sent with each request, as gRPC metadata or HTTP headers, for what stands in
            between: `{"x-tenant": "blue"}` for example. Not for secrets: they are pickled.
        plaintext_credentials: Allow credentials to be sent to another machine without TLS.
        proxy: The HTTP proxy for all servers that are not on this machine, as
            `http://user:password@host:port`.
        trust_env: Use the proxies of the environment, unless `proxy` is given: `HTTPS_PROXY`,
            `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` for REST, and the variables of grpcio for
            gRPC.
        on_request: Called with a `RequestEvent` before each attempt, in the thread of the
            attempt; must return quickly.
        on_response: Called with a `ResponseEvent` after each attempt.
        pickle_secrets: Pickle an `api_key`, a `token` and the password of the `proxy` too, if
            they are given as text. Otherwise calls of a client that was pickled with one of
            them raise `InvalidInput`.

    A client can be copied and pickled. The copy has the same arguments, is open, and opens its own
    connections.

    Raises:
        InvalidInput: An address or name is malformed, both `version` and `label` are given, the
            split or a header is invalid, or credentials would be sent in plaintext.

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
        headers: Mapping[str, str] | None = None,
        plaintext_credentials: bool = False,
        proxy: str | None = None,
        trust_env: bool = True,
        on_request: Callable[[RequestEvent], object] | None = None,
        on_response: Callable[[ResponseEvent], object] | None = None,
        pickle_secrets: bool = False,
    ) -> None:
        arguments = Arguments({name: value for name, value in locals().items() if name != "self"})
        self._engine = Engine(
            server,
            target=Target(model=model, version=version, label=label),
            split=split,
            timeout=timeout,
            retry=retry,
            tls=tls,
            api_key=api_key,
            token=token,
            headers=headers,
            plaintext_credentials=plaintext_credentials,
            proxy=proxy,
            trust_env=trust_env,
            on_request=on_request,
            on_response=on_response,
        )
        # What was changed since then, a list of servers for example, must not change a copy.
        arguments |= {
            "server": self.endpoints,
            "split": self._engine.split,
            "headers": None if headers is None else dict(headers),
        }
        self._arguments = arguments
        self._left_out: tuple[str, ...] = ()
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

    def __getstate__(self) -> dict[str, Any]:
        arguments, left_out = self._arguments, self._left_out
        if not left_out and not arguments["pickle_secrets"]:
            arguments, left_out = without_secrets(arguments)
        for name in _FUNCTIONS:
            check_importable(name, arguments[name])
        return self._state() | {"arguments": dict(arguments), "left_out": left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Not the `__init__` of a subclass, whose arguments are not known.
        BaseClient.__init__(self, **state["arguments"])
        if state["left_out"]:
            self._left_out = state["left_out"]
            self._engine.refuse_calls(self._left_out)
        for name, value in state["attributes"].items():
            setattr(self, name, value)

    def __copy__(self) -> Self:
        made = type(self).__new__(type(self))
        BaseClient.__setstate__(made, self._state())
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        made = memo[id(self)] = type(self).__new__(type(self))
        state = self._state()
        copied = {}
        for name, value in state["arguments"].items():
            try:
                copied[name] = deepcopy(value, memo)
            except TypeError as error:
                raise InvalidInput(
                    f"`{name}` cannot be copied: {error}", hint="use `copy.copy`, which shares it"
                ) from error
        attributes = deepcopy(state["attributes"], memo)
        BaseClient.__setstate__(made, state | {"arguments": copied, "attributes": attributes})
        return made

    def _state(self) -> dict[str, Any]:
        """What a copy is made of: the arguments, and the attributes that a subclass added."""
        held: Any = super().__getstate__()
        fields, slots = held if isinstance(held, tuple) else (held, {})
        attributes = {
            name: value for name, value in (fields | slots).items() if name not in _REBUILT
        }
        return {
            "arguments": self._arguments,
            "left_out": self._left_out,
            "attributes": attributes,
        }

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
