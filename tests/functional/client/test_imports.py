"""What the SDK imports, and its public names."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

# A call to a server that is down, over a protocol.
ASK = """
from servable_client import *
try: Client('{}://localhost:1', model='m', retry=Retry(attempts=1)).status()
except ConnectionFailed: pass
"""


def modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_the_sdk_does_not_import_tensorflow() -> None:
    modules = modules_after(ASK.format("grpc") + ASK.format("http"))
    assert {"pycurl", "numpy"} <= modules
    assert not modules & {"tensorflow", "keras", "servable_serving", "servable_trainer"}


def test_importing_it_is_light() -> None:
    code = "import servable_client; print(open('/proc/self/status').read())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # Not ru_maxrss, which a child inherits from its parent.
    status = done.stdout.splitlines()
    (peak,) = (line.split()[1] for line in status if line.startswith("VmHWM:"))
    assert int(peak) / 1024 <= 60


def test_a_protocol_that_is_not_used_is_not_imported() -> None:
    assert not modules_after(ASK.format("grpc")) & {"httpcore", "grpc"}
    assert not modules_after(ASK.format("http")) & {"httpcore", "grpc"}


def test_help_imports_nothing_heavy() -> None:
    modules = modules_after("from servable_client.cli.app import build; build()")
    assert "servable_trainer" in modules  # its commands are registered
    assert not modules & {
        "tensorflow",
        "keras",
        "numpy",
        "PIL",
        "grpc",
        "httpcore",
        "pycurl",
        "sklearn",
    }


def test_the_sdk_works_beside_tensorflow_in_either_order() -> None:
    ask = ASK.format("grpc")
    tensorflow = "from tensorflow_serving.apis import predict_pb2"
    # What carries the calls is another than the one that was meant: TensorFlow's own libcurl, were
    # it taken for pycurl's, speaks no HTTP/2.
    for order, carrier in (((ask, tensorflow), "pycurl"), ((tensorflow, ask), "grpc")):
        assert {"tensorflow", carrier} <= modules_after("\n".join(order))


IN_THREADS = """
import sys, threading
import tensorflow
from servable_client import Client, ConnectionFailed, Retry

def ask(start, failed):
    start.wait()
    try:
        Client("grpc://127.0.0.1:1", model="m", retry=Retry(attempts=1)).status(timeout=20)
    except ConnectionFailed:
        pass
    except Exception as error:
        failed.append(error)

failed = []
for _ in range(40):
    start = threading.Barrier(4)
    threads = [threading.Thread(target=ask, args=(start, failed)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
print(failed)
"""


def test_concurrent_threads_without_libcurl() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_THREADS], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


PUBLIC = {
    "servable_client": """
        TLS AccessDenied AsyncClient ClassScores Classification Client ConnectionFailed
        DeadlineExceeded Example InvalidInput ModelNotFound NotReady Picture Prediction
        RequestEvent ResponseEvent Retry Score ServableError ServerBusy ServerFailed Signature
        Split TensorSpec VersionStatus serialize_example
    """,
    "servable_serving": """
        CandidateError ExportError Finding FolderError GateError Holdout HoldoutError ModelError
        Release Repository SavedModel Server ServerError ServerOptions Serving Tolerances
        UserCodeError Versions check_candidate export find_holdout history inspect promote push
        rollback serve versions
    """,
    "servable_trainer": """
        ClassScore CompareError Comparison Contender Dataset DatasetError Evaluation Examination
        ImageClassifier NetworkError OwnData OwnNetwork Pictures ReportError Rule Run RunError
        Trial TuneError as_own_data best_of compare evaluate examine export_run find own_data train
        train_own tune write_report
    """,
}


@pytest.mark.parametrize("package", PUBLIC)
def test_the_public_names(package: str) -> None:
    module = import_module(package)
    assert sorted(module.__all__) == sorted(PUBLIC[package].split())
    assert dir(module) == sorted(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="nosuch"):
        _ = module.nosuch
