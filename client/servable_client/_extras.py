"""The extras of the distribution, and the modules that each installs."""

from __future__ import annotations

from importlib.util import find_spec

# The smallest extra that installs a module, by the module's name.
MODULES = {
    "pycurl": "fast",
    "ml_dtypes": "dtypes",
    "fsspec": "remote",
    "prometheus_client": "remote",
    "pythonjsonlogger": "remote",
    "s3fs": "remote",
    "cryptography": "gateway",
    "jinja2": "gateway",
    "markupsafe": "gateway",
    "grpc_health": "serving",
    "grpc_reflection": "serving",
    "h5py": "serving",
    "httptools": "serving",
    "keras": "serving",
    "requests": "serving",
    "starlette": "serving",
    "tensorflow": "serving",
    "tensorflow_serving": "serving",
    "uvicorn": "serving",
    "uvloop": "serving",
    "keras_tuner": "trainer",
    "matplotlib": "trainer",
    "platformdirs": "trainer",
    "scipy": "trainer",
    "sklearn": "trainer",
    "threadpoolctl": "trainer",
}
# Code all of which needs one extra, so that nobody installs several in turn.
_CODE = {"servable_trainer": "trainer", "servable_serving.cli.serve": "serving"}


def extra_of(module: str, importers: list[str]) -> str | None:
    """The extra that installs a missing module; None if the module is not one of ours.

    Args:
        module: The top-level module that was not found.
        importers: The modules whose code was running.
    """
    found = MODULES.get(module)
    if found is None:
        return None
    for code, extra in _CODE.items():
        if any(name == code or name.startswith(f"{code}.") for name in importers):
            return extra
    return found


def how_to_install(extra: str) -> str:
    """The hint of an error: how to install an extra."""
    return f"in the clone of Servable, run: pip install '.[{extra}]'"


def require(module: str) -> None:
    """Check that a module is installed, without importing it.

    Raises:
        ModuleNotFoundError: It is not.
    """
    if find_spec(module) is None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)
