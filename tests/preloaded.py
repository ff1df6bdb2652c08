"""What takes most of a server's start: imported once, before servers are forked."""

from __future__ import annotations

import gc
from importlib import import_module

from servable_serving.core.lazy_tensorflow import import_tensorflow_runtime

import_tensorflow_runtime()
for name in (
    "servable_client.cli.app",
    "servable_serving.cli.serve",
    "servable_serving.server.server",
):
    import_module(name)
# The forked processes would copy each page that a collection touches.
gc.collect()
gc.freeze()
