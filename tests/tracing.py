"""A program that has set up OpenTelemetry, for the length of a test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

if TYPE_CHECKING:
    import pytest


class Spans(InMemorySpanExporter):
    """The spans that ended."""

    @property
    def only(self) -> ReadableSpan:
        (span,) = self.get_finished_spans()
        return span


def export_spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    """Configure a tracer provider; `trace.set_tracer_provider` would do so for the whole process,
    whose other tests would then be traced too.
    """
    exporter = Spans()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    return exporter
