"""The methods of the clients, without I/O.

Each method of a client is a flow here: a generator that yields effects (`Send`, `Sleep`,
`Invoke`, `Offload`), receives their results, and returns the result of the method. `Client` and
`AsyncClient` run the same flows, and differ only in how they wait.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from servable_client._errors import (
    InvalidInput,
    ModelNotFound,
    NotReady,
    ServableError,
    ServerFailed,
)
from servable_client._wire.status import INIT_SIGNATURE
from servable_client._wire.tensors import as_array
from servable_client.codec.as_dtype import as_declared
from servable_client.engine.effects import _T, Flow, Invoke, Send, Sleep
from servable_client.engine.errors import error_of, late_error
from servable_client.engine.inputs import explain
from servable_client.engine.retry import Budget, Retry
from servable_client.engine.split import STABLE, Split, is_label_unavailable
from servable_client.engine.telemetry import Telemetry, log
from servable_client.net.endpoints import Balancer, Endpoint, parse_servers
from servable_client.net.proxies import proxy_for
from servable_client.net.security import TLS, Credentials, LeftOut, Secret, checked_secret
from servable_client.types.answers import Signatures, VersionStatuses
from servable_client.types.arguments import (
    as_seconds,
    check_function,
    check_names,
    check_text,
    check_type,
    refuse,
)
from servable_client.types.operations import (
    ClassifyOperation,
    Description,
    Failure,
    MetadataOperation,
    Operation,
    PredictOperation,
    StatusOperation,
    Target,
    UnexpectedResponse,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    from numpy.typing import ArrayLike, NDArray

    from servable_client.codec.grpc import Headers
    from servable_client.engine.telemetry import RequestEvent, ResponseEvent
    from servable_client.types.answers import ClassScores, Prediction, Signature, VersionStatus
    from servable_client.types.examples import Example

DEFAULT_TIMEOUT = 5.0
_MAX_TIMEOUT = 86400.0
# How long REST keeps using the version that it resolved, see `Engine.attempt`; and how long a label
# is not asked for that no version has.
_RESOLVED_SECONDS = 1.0
# The pauses before REST resolves a version, and again while it is not found, in seconds.
_LOOK_AGAIN = (0.0, 0.0, 0.01, 0.02, 0.05, 0.05, 0.1, 0.1, 0.1, 0.1)
# How many versions are cached.
_MAX_VERSIONS = 100


class Engine:
    """Makes calls: chooses endpoints, adds credentials, retries, keeps deadlines, maps errors."""

    def __init__(
        self,
        servers: str | Sequence[str],
        *,
        target: Target,
        split: Mapping[str, float] | Split | None,
        timeout: float,
        retry: Retry | None,
        tls: TLS | None,
        api_key: Secret | None,
        token: Secret | None,
        headers: Mapping[str, str] | None,
        plaintext_credentials: bool,
        proxy: str | None,
        trust_env: bool,
        on_request: Callable[[RequestEvent], object] | None,
        on_response: Callable[[ResponseEvent], object] | None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.now = now
        target = target.checked()
        check_type("retry", retry, Retry | None, "a Retry, Retry(attempts=3) for example")
        check_type("tls", tls, TLS | None, 'a TLS, TLS(ca="ca.pem") for example')
        check_type("proxy", proxy, str | None, "an address, as http://host:3128")
        # Not by their truth: "no" would allow it.
        check_type("plaintext_credentials", plaintext_credentials, bool, "True or False")
        check_type("trust_env", trust_env, bool, "True or False")
        check_function("on_request", on_request)
        check_function("on_response", on_response)
        self.split = None if split is None else _checked_split(split, target)
        # What the label `stable` stands for where the caller did not name it and no version has it.
        self._highest: Target | None = None
        self._unlabelled_until = -math.inf
        self._warned = False
        if self.split is not None and target.label is None:
            self._highest = target
            target = target._replace(label=STABLE)
        self.target = target
        self.timeout = checked_timeout(timeout)
        self.retry = Retry() if retry is None else retry
        self.endpoints = parse_servers(servers)
        self._credentials = Credentials(api_key=api_key, token=token, headers=headers)
        self._credentials.check_endpoints(self.endpoints, plaintext=plaintext_credentials)
        self.tls = tls or TLS()
        if tls is not None:
            for endpoint in self.endpoints:
                if not endpoint.secure:
                    raise InvalidInput(
                        f"`tls` was given, but {endpoint.url} does not use TLS",
                        hint="write the address as grpcs://... or https://...",
                    )
            tls.check()
        self.trust_env = trust_env
        self.proxies = {
            endpoint: proxy_for(endpoint, proxy, trust_env=trust_env) for endpoint in self.endpoints
        }
        if self.tls.server_name is not None:
            for endpoint, between in self.proxies.items():
                if between is not None and not endpoint.grpc:
                    raise InvalidInput(
                        f"TLS(server_name=...) is not supported through a proxy: {endpoint.url}",
                        hint="use an address that matches the certificate, or bypass the proxy: "
                        "trust_env=False, or the variable NO_PROXY",
                    )
        self._telemetry = Telemetry(on_request, on_response)
        self._codecs = {endpoint: _codec(endpoint) for endpoint in self.endpoints}
        # A version never changes, so its description can be cached.
        self._described: dict[tuple[str, int], Description] = {}
        self._latest: dict[Target, Description] = {}
        # Endpoints that have answered, in the protocol of their address.
        self._spoke: set[Endpoint] = set()
        self._resolved: dict[tuple[Endpoint, Target], tuple[Description, float]] = {}
        self.reset()

    def reset(self) -> None:
        """Recreate the locks, after a fork: a thread that no longer exists may hold one."""
        self.balancer = Balancer(self.endpoints, now=self.now)
        self._budget = Budget(self.retry.budget)

    def refuse_calls(self, left_out: Sequence[str]) -> None:
        """Refuse each call: the client was pickled without these of its arguments."""
        self._credentials = LeftOut(left_out)

    def target_of(self, version: int | None, label: str | None) -> Target:
        """The target of a call: the version or label that it names, or the client's."""
        if version is None and label is None:
            return self.target
        return Target(model=self.target.model, version=version, label=label).checked()

    def targets_of(self, target: Target) -> tuple[Target, Target | None]:
        """The target that the split selects, and the fallback if that label is unavailable."""
        # By identity: a call that names the client's own label is pinned to it.
        drawn = self.split.pick() if self.split is not None and target is self.target else None
        return (target, None) if drawn is None else (target._replace(label=drawn), target)

    def in_use(self, target: Target) -> Target:
        """The target; the highest version for a label `stable` that no version has."""
        if (
            self._highest is not None
            and target is self.target
            and self.now() < self._unlabelled_until
        ):
            return self._highest
        return target

    def instead(self, target: Target, error: ServableError) -> Target | None:
        """The target to use after an error, which is noted: see `in_use`; None if there is none."""
        if self._highest is None or target is not self.target or not error.unknown_label:
            return None
        self._unlabelled_until = self.now() + _RESOLVED_SECONDS
        if not self._warned:
            self._warned = True
            log.warning(
                "no version of %s has the label %s: the calls that it would get go to the highest "
                "version",
                target.model,
                target.label,
            )
        return self._highest

    def deadline(self, timeout: float | None) -> float:
        """The deadline of a call that begins now."""
        return self.now() + (self.timeout if timeout is None else checked_timeout(timeout))

    # -- flows ---------------------------------------------------------------------------------

    def call(self, operation: Operation, deadline: float) -> Flow[Any]:
        """Send until there is an answer, a failure that is not transient, or no time left."""
        began = self.now()
        tried: list[Endpoint] = []
        untrusted: set[Endpoint] = set()
        refused: tuple[Failure, Endpoint] | None = None
        attempt, left = 0, deadline - began
        while True:
            attempt += 1
            endpoint = self.balancer.pick(tried)
            # What `attempt` adds is for REST, and for metadata.
            plain = endpoint.grpc and isinstance(operation, PredictOperation)
            send = self._exchange if plain else self.attempt
            try:
                answer = yield from send(endpoint, operation, deadline, attempt)
            except Failure as failure:
                if failure.untrusted:
                    untrusted.add(endpoint)
                # A certificate does not become valid within a call.
                lost = len(untrusted) == len(self.endpoints)
                delay = None if lost else self._delay(failure, endpoint, tried, attempt, deadline)
                if delay is None:
                    if refused is not None and failure.timed_out:
                        error = late_error(
                            refused, endpoint, operation, left, mostly=left > (deadline - began) / 2
                        )
                    else:
                        error = error_of(failure, endpoint, operation)
                    if isinstance(error, ModelNotFound) and error.code == "NOT_FOUND":
                        error = yield from self._not_ready_if_loading(
                            error, endpoint, operation, deadline
                        )
                    error.attempts = attempt
                    error.request_id = error.request_id or failure.request_id
                    raise error from failure.__cause__
                log.debug("%s, attempt %d: %s", endpoint.url, attempt, failure.message)
                if not failure.timed_out:
                    refused = failure, endpoint
                if delay:
                    yield Sleep(delay)
                left = deadline - self.now()
            else:
                self._budget.refund()
                return answer

    def attempt(
        self, endpoint: Endpoint, operation: Operation, deadline: float, attempt: int = 1
    ) -> Flow[Any]:
        """Send an operation to one endpoint, once.

        REST responses contain neither the version nor the dtypes. So the version that a model
        or label points to is read from the metadata, then addressed by number. That is cached
        for a second, and dropped earlier if the version is gone. Servers behind one address may
        have different versions during a release: if what one names is not found at another, again
        and again, the request is sent without a number, and the answer's version is unknown.
        """
        if endpoint.grpc or not isinstance(operation, PredictOperation | ClassifyOperation):
            answer = yield from self._exchange(endpoint, operation, deadline, attempt)
            if isinstance(answer, Description):
                self._remember(operation.target, answer)
            return answer
        target = operation.target
        if target.version is not None:
            if isinstance(operation, PredictOperation):
                description = yield from self._resolve(endpoint, target, deadline)
                operation = _known(operation, description)
            return (yield from self._exchange(endpoint, operation, deadline, attempt))
        for pause in _LOOK_AGAIN:
            if pause:
                yield Sleep(min(pause, max(deadline - self.now(), 0)))
            description = yield from self._resolve(endpoint, target, deadline)
            known = _known(operation, description)
            try:
                return (
                    yield from self._exchange(
                        endpoint, _pinned(known, description), deadline, attempt
                    )
                )
            except Failure as failure:
                if failure.code != "NOT_FOUND" or description.version is None:
                    raise
                log.debug("version %s of %s is gone", description.version, target.model)
                # It was unloaded in the meantime, or another server behind the address has it.
                self._resolved.pop((endpoint, target), None)
        return (yield from self._exchange(endpoint, known, deadline, attempt))

    def call_split(self, make: Callable[[Target], Flow[_T]], target: Target) -> Flow[_T]:
        """Run the flow that `make` returns for the target that the split selects."""
        first, fallback = self.targets_of(target)
        if fallback is None:
            flow = self._call_own(make, first)
            return (yield from (flow if first is not self.target else self._counted(flow, first)))
        try:
            return (yield from self._counted(make(first), first))
        except ServableError as error:
            if not is_label_unavailable(error):
                raise
            log.debug("the label %s is unavailable: %s", first.label, error)
        return (yield from self._counted(self._call_own(make, fallback), fallback))

    def _counted(self, flow: Flow[_T], target: Target) -> Flow[_T]:
        """Run a flow, and count it as a call that the split sent to a label."""
        began = self.now()
        try:
            result = yield from flow
        except ServableError as error:
            self.count(target, began, [error])
            raise
        self.count(target, began, [result])
        return result

    def count(self, target: Target, began: float, results: Iterable[object]) -> None:
        """Count calls that the split sent to a label, with their answers or errors."""
        if self.split is not None:
            for result in results:
                self.split.record(target.label, self.now() - began, result)

    def _call_own(self, make: Callable[[Target], Flow[_T]], target: Target) -> Flow[_T]:
        """Run the flow that `make` returns for a target, or for what is in use in its place."""
        target = self.in_use(target)
        try:
            return (yield from make(target))
        except ServableError as error:
            other = self.instead(target, error)
            if other is None:
                raise
        return (yield from make(other))

    def _call_as_split(
        self, operation: PredictOperation | ClassifyOperation, deadline: float
    ) -> Flow[Any]:
        """Send an operation to the label that the split picks."""
        if self.split is None:
            return self.call(operation, deadline)
        return self.call_split(
            lambda chosen: self.call(replace(operation, target=chosen), deadline), operation.target
        )

    def describe(
        self, target: Target, deadline: float, *, fresh: bool = False
    ) -> Flow[Description]:
        """Read the signatures of the model, once per version."""
        known = None if fresh else self.known(target)
        if known is None:
            known = yield from self._call_own(
                lambda chosen: self.call(MetadataOperation(target=chosen), deadline), target
            )
        return known

    def known(self, target: Target) -> Description | None:
        """The cached description of a model, if any."""
        target = self.in_use(target)
        known = self._latest.get(target)
        if known is None and target.version is not None:
            known = self._described.get((target.model, target.version))
        return known

    def predict(
        self,
        inputs: Mapping[str, ArrayLike],
        *,
        signature: str,
        outputs: Sequence[str] | None,
        target: Target,
        deadline: float,
    ) -> Flow[Prediction]:
        """Run a signature.

        Its description is read where values are of NumPy's default dtypes, which are often not
        what was meant, and where the server refuses the inputs.
        """
        if not isinstance(inputs, (dict, Mapping)):  # the check of dict is the fast one
            refuse("inputs", 'a dict of name to array, {"image": images} for example', inputs)
        check_text("signature", signature)
        if outputs is not None:
            check_names("output_filter", outputs)
        arrays = {
            str(name): value if type(value) is np.ndarray else _as_array(name, value)
            for name, value in inputs.items()
        }
        described = self.known(target)
        if described is None and any(map(_is_default, inputs.values())):
            described = yield from self._described_or_none(target, deadline)
        try:
            fitted = as_declared(arrays, _signature(described, signature))
        except InvalidInput:
            # Another version may take them.
            described = yield from self._described_or_none(target, deadline)
            fitted = as_declared(arrays, _signature(described, signature))
        operation = PredictOperation(
            target=target, signature=signature, inputs=fitted, outputs=tuple(outputs or ())
        )
        answer: Prediction
        try:
            answer = yield from self._call_as_split(operation, deadline)
        except InvalidInput as error:
            if error.code != "INVALID_ARGUMENT":
                raise
            declared = _signature((yield from self._described_or_none(target, deadline)), signature)
            try:
                fitted = as_declared(arrays, declared)
            except InvalidInput:
                fitted = operation.inputs
            if all(fitted[name] is array for name, array in operation.inputs.items()):
                explain(error, fitted, declared)
                raise
            operation = replace(operation, inputs=fitted)
            try:
                answer = yield from self._call_as_split(operation, deadline)
            except InvalidInput as again:
                explain(again, fitted, declared)
                raise
        return answer

    def _described_or_none(self, target: Target, deadline: float) -> Flow[Description | None]:
        """The description of the version that is served now; None if it cannot be read."""
        try:
            return (yield from self.describe(target, deadline, fresh=True))
        except ServableError as error:
            log.debug("the signatures cannot be read: %s", error)
            return None

    def classify_examples(
        self,
        examples: Sequence[Example],
        *,
        context: Example | None,
        signature: str,
        target: Target,
        deadline: float,
    ) -> Flow[ClassScores]:
        """Run a signature of the Classify API."""
        if isinstance(examples, Mapping | str | bytes) or not isinstance(examples, Iterable):
            refuse("examples", "a list of dicts, [{name: value}] for example", examples)
        check_text("signature", signature)
        operation = ClassifyOperation(
            target=target, signature=signature, examples=list(examples), context=context
        )
        answer: ClassScores = yield from self._call_as_split(operation, deadline)
        return answer

    def status(self, target: Target, deadline: float) -> Flow[list[VersionStatus]]:
        """List the versions that the server knows, highest first."""
        answer: list[VersionStatus] = yield from self.call(StatusOperation(target=target), deadline)
        return VersionStatuses(answer)

    def forget(self) -> None:
        """Drop what is cached of labels: the server may serve other versions from now on."""
        self._latest.clear()
        self._resolved.clear()
        self._unlabelled_until = -math.inf

    def seen(self, target: Target, version: int | None) -> Description | None:
        """Note that a version answered for `target`; return its description, if cached."""
        latest = self._latest.get(target)
        if latest is not None and latest.version == version:
            return latest
        known = None if version is None else self._described.get((target.model, version))
        if known is not None:
            self._latest[target] = known
        elif latest is not None:
            self._latest.pop(target, None)
        return known

    # -- parts of flows -------------------------------------------------------------------------

    def _exchange(
        self, endpoint: Endpoint, operation: Operation, deadline: float, attempt: int
    ) -> Flow[Any]:
        """Send one request and decode its reply."""
        headers = self._credentials.fixed
        if headers is None:
            headers = yield from self._headers()
        timeout = deadline - self.now()
        if timeout <= 0:
            raise Failure("DEADLINE_EXCEEDED", "deadline exceeded", expired=True)
        codec = self._codecs[endpoint]
        watched = self._telemetry.begin(endpoint, operation, attempt, timeout)
        code, failed, size = "CANCELLED", None, 0
        try:
            if watched is not None:
                headers += self._telemetry.headers(watched)
            request = codec.encode(endpoint, operation, headers)
            size = len(request.body or b"")
            if watched is not None:
                watched.sent(request)
            reply = yield Send(request, timeout)
            if watched is not None:
                watched.received(reply)
            answer = codec.decode(operation, reply)
            self.balancer.answered(endpoint)
            self._spoke.add(endpoint)
            code = "OK"
        except Failure as failure:
            code, failed = failure.code, failure
            failure.request_size = size
            # A server that stops may look like one that does not speak the protocol.
            failure.other_protocol &= endpoint not in self._spoke
            if not failure.unreachable and code != "UNAVAILABLE":
                self.balancer.answered(endpoint)
            elif self.balancer.failed(endpoint):
                log.info(
                    "%s is unavailable, and skipped for a while: %s", endpoint.url, failure.message
                )
            raise
        except InvalidInput as error:
            code = error.code or "INVALID_ARGUMENT"
            raise
        except UnexpectedResponse as error:
            code = "UNKNOWN"
            unexpected = ServerFailed(
                f"unexpected response from {endpoint.url}",
                hint="not a TensorFlow Serving endpoint? Check host and port",
                endpoint=endpoint.url,
                model=operation.target.model,
            )
            unexpected.attempts = attempt
            raise unexpected from error.__cause__
        finally:
            if watched is not None:
                self._telemetry.end(watched, code, failed)
        return answer

    def _headers(self) -> Flow[Headers]:
        """The credentials, some of which a function returns, and the other headers."""
        headers = []
        for name, prefix, what, secret in self._credentials.secrets:
            value = secret if isinstance(secret, str) else (yield Invoke(secret))
            headers.append((name, prefix + checked_secret(value, what)))
        return (*headers, *self._credentials.others)

    def _resolve(self, endpoint: Endpoint, target: Target, deadline: float) -> Flow[Description]:
        """The version that a target points to at an endpoint, cached for a moment."""
        if target.version is not None:
            known = self._described.get((target.model, target.version))
            if known is not None:
                return known
        found = self._resolved.get((endpoint, target))
        if found is not None and self.now() < found[1]:
            return found[0]
        answer: Description = yield from self._exchange(
            endpoint, MetadataOperation(target=target), deadline, 1
        )
        self._remember(target, answer)
        self._resolved[endpoint, target] = (answer, self.now() + _RESOLVED_SECONDS)
        return answer

    def _remember(self, target: Target, description: Description) -> None:
        if len(self._described) > _MAX_VERSIONS:
            self._described.clear()
        if len(self._latest) > _MAX_VERSIONS:
            self.forget()
        if description.version is not None:
            self._described[target.model, description.version] = description
        self._latest[target] = description

    def _delay(
        self,
        failure: Failure,
        endpoint: Endpoint,
        tried: list[Endpoint],
        attempt: int,
        deadline: float,
    ) -> float | None:
        """How long to wait before the next attempt; None for no further attempt."""
        limit = self.retry.attempts
        if not failure.is_transient or (limit is not None and attempt >= limit):
            return None
        tried.append(endpoint)
        # A busy server refuses calls before it begins with them, which costs it little. Many were
        # refused at the same time, and must not come again at the same time.
        busy = failure.code == "RESOURCE_EXHAUSTED"
        if failure.retry_after is not None:
            delay = failure.retry_after
            if busy:
                spread = delay + self.retry.wait(attempt)
                delay = spread if self.now() + spread < deadline else delay
        elif self.balancer.has_untried(tried):
            delay = 0.0
        else:
            tried.clear()
            delay = self.retry.wait(attempt)
        if self.now() + delay >= deadline or not (busy or self._budget.take()):
            return None
        return delay

    def _not_ready_if_loading(
        self, error: ServableError, endpoint: Endpoint, operation: Operation, deadline: float
    ) -> Flow[ServableError]:
        """Return NotReady for a model that is loading, which TensorFlow Serving calls NOT_FOUND."""
        if isinstance(operation, StatusOperation):
            return error
        target = operation.target._replace(label=None)
        try:
            versions = yield from self._exchange(
                endpoint, StatusOperation(target=target), deadline, 1
            )
        except (Failure, ServableError):
            return error
        states = {version.state for version in versions}
        if "AVAILABLE" in states or not states & {"START", "LOADING"}:
            return error
        which = "" if target.version is None else f" version {target.version}"
        return NotReady(
            f"{target.model}{which} is loading",
            hint="use `wait_until_available` to wait for it",
            endpoint=endpoint.url,
            model=target.model,
            code=error.code,
        )


def callable_signatures(description: Description) -> Signatures:
    """The signatures of a model, without the internal one that cannot be called."""
    return Signatures(
        {n: value for n, value in description.signatures.items() if n != INIT_SIGNATURE}
    )


def signature_in(signatures: Mapping[str, Signature], name: str) -> Signature:
    """One of the signatures of a model.

    Raises:
        InvalidInput: It is not among them.
    """
    if name not in signatures:
        raise InvalidInput(
            f"the model has no signature {name!r}",
            hint=f"its signatures are {', '.join(sorted(signatures)) or 'none'}",
        )
    return signatures[name]


def _as_array(name: object, value: ArrayLike) -> NDArray[Any]:
    try:
        return as_array(value)
    except ValueError as reason:
        error = InvalidInput(f"the input {name} is not an array: {reason}")
        error.input = str(name)
        raise error from reason


def _is_default(value: ArrayLike) -> bool:
    """Whether a value is not an array, or has a dtype that NumPy chooses by default."""
    return not isinstance(value, np.ndarray) or value.dtype in (np.float64, np.int64)


def _signature(described: Description | None, name: str) -> Signature | None:
    return None if described is None else described.signatures.get(name)


def _checked_split(split: Mapping[str, float] | Split, target: Target) -> Split:
    """A split that fits the target of the client.

    Raises:
        InvalidInput: It is invalid, or does not fit.
    """
    if target.version is not None:
        raise InvalidInput("version and split are mutually exclusive")
    split = split if isinstance(split, Split) else Split(split)
    own = target.label or STABLE
    if own in split.shares:
        raise InvalidInput(
            f"the split contains {own}, the label that receives the remaining calls",
            hint="remove it, or pass another `label`",
        )
    return split


def checked_timeout(timeout: float) -> float:
    """A valid timeout.

    Raises:
        InvalidInput: It is not a number, not positive, or too long.
    """
    return as_seconds("timeout", timeout, longest=_MAX_TIMEOUT)


def _known(operation: Any, description: Description) -> Any:
    """The operation, with the signature of that description that it runs."""
    if isinstance(operation, PredictOperation):
        return replace(operation, known=description.signatures.get(operation.signature))
    return operation


def _pinned(operation: Any, description: Description) -> Any:
    """The operation, pinned to the version that a description belongs to."""
    if description.version is None:
        return operation
    pinned = Target(model=operation.target.model, version=description.version)
    return replace(operation, target=pinned)


def _codec(endpoint: Endpoint) -> ModuleType:
    # A program may use one transport only: the library of the other is not imported.
    if endpoint.grpc:
        from servable_client.codec import grpc as grpc_codec

        return grpc_codec
    from servable_client.codec import http as http_codec

    return http_codec
