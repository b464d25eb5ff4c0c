"""Metrics for Prometheus: what requests, loads and administrators count, and the figures of the newest snapshot.

Names follow vLLM's, under a prefix of our own; units are base units. The names that can be a label are bounded: of
models by models.yaml and MODELS_MAX, of routes by the API's table, of keys by KEYS_MAX. A key's id is a label of
counters alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from appliance.telemetry.exposition import Counter, FamilyWriter
from appliance.telemetry.histogram import Histogram
from appliance.telemetry.request_record import RequestRecord
from appliance.telemetry.route_templates import OTHER, RouteTemplates
from appliance.telemetry.snapshot import ModelState, Snapshot
from appliance.telemetry.snapshot_metrics import MODELS_MAX, PREFIX, snapshot_metrics

KEYS_MAX: Final = 1000
CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4

# vLLM's, in seconds.
FIRST_TOKEN: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560),
)
INTER_TOKEN: Final = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)
LATENCY: Final = (*(0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680),)
TOKENS: Final = tuple(step * 10**power for power in range(6) for step in (1, 2, 5))
LOAD: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640, 1280)
_METHODS: Final = frozenset({"GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS"})
# What proxies say of a client that left before it was answered.
_CLIENT_GONE: Final = 499


class Metrics:
    """Belongs to the event loop, but for `text`. routes: paths of the API. newest: the latest snapshot."""

    def __init__(self, routes: Iterable[str], newest: Callable[[], Snapshot]) -> None:
        self._templates = RouteTemplates(routes)
        self._newest = newest
        self._models: set[str] = set()
        self._keys: set[str] = set()
        self._loads: dict[str, tuple[ModelState, float | None]] = {}
        self._histograms: list[Histogram] = []
        self._counters: list[Counter] = []
        self._families, self._writing = FamilyWriter(), threading.Lock()
        histogram, counter = self._histogram, self._counter
        self._first = histogram("time_to_first_token_seconds", "Arrival to the first text.", FIRST_TOKEN)
        self._gaps = histogram("inter_token_latency_seconds", "From one token to the next, as they left.", INTER_TOKEN)
        self._token = histogram(
            "request_time_per_output_token_seconds", "A token after the first, on average of a request.", INTER_TOKEN
        )
        self._total = histogram("e2e_request_latency_seconds", "Arrival to the end.", LATENCY)
        self._queue = histogram("request_queue_time_seconds", "Arrival at the worker until it began.", LATENCY)
        self._prefill = histogram("request_prefill_time_seconds", "Computing the prompt.", LATENCY)
        self._decode = histogram("request_decode_time_seconds", "Computing the answer.", LATENCY)
        self._prompt = histogram("request_prompt_tokens", "Tokens of a prompt.", TOKENS)
        self._generation = histogram("request_generation_tokens", "Tokens of an answer.", TOKENS)
        self._load = histogram("model_load_duration_seconds", "Loading a model.", LOAD)
        self._prompt_sum = counter("prompt_tokens", "Tokens of prompts.", "model_name")
        self._cached_sum = counter("prompt_tokens_cached", "Of them, found in the KV cache.", "model_name")
        self._generation_sum = counter("generation_tokens", "Tokens of answers.", "model_name")
        self._success = counter("request_success", "Requests that were answered.", "model_name", "finished_reason")
        self._errors = counter("request_errors", "Requests that failed by us.", "model_name", "error_type")
        self._http = counter("http_requests", "Requests to the API; 499: its client left.", "route", "method", "code")
        self._key_tokens = counter("key_tokens", "Tokens by API key.", "key_id", "token_type")
        self._auth = counter("auth_failures", "Requests refused for who sent them, or from where.", "reason")
        self._actions = counter(
            "admin_actions", "What administrators and the appliance itself did.", "action", "result"
        )

    def saw(self, record: RequestRecord) -> None:
        """A request has ended. A copy for a version on trial counts nowhere: nobody got it."""
        if record.mirrored:
            return
        method = record.method if record.method in _METHODS else OTHER
        code = record.status or _CLIENT_GONE
        self._http.add(self._templates.of(record.path), method, str(code))
        if record.access_refused and record.error_code is not None:
            self._auth.add(record.error_code)
        for failed in record.failed_models:
            self._errors.add(self._model(failed), "failed_over")
        if record.model is not None and record.outcome != "refused":
            self._answered(record, self._model(record.model))

    def sent(self, model: str, seconds: float, tokens: int) -> None:
        """So many tokens of an answer left together, so long after the one before them."""
        self._gaps.observe(self._model(model), seconds / tokens, tokens)

    def acted(self, action: str, result: str) -> None:
        """Somebody administered something; the names are those of the audit log."""
        self._actions.add(action, result)

    def look(self, seen: Snapshot) -> None:
        """Takes from each snapshot which loads have ended since the one before."""
        for model in seen.models:
            before = self._loads.get(model.id)
            now = (model.state, model.load_seconds)
            if now == before:
                continue
            self._loads[model.id] = now
            if model.load_seconds is not None and (before is None or model.load_seconds != before[1]):
                self._load.observe(self._model(model.id), model.load_seconds)

    def text(self) -> bytes:
        """Everything as Prometheus reads it; CONTENT_TYPE. Some milliseconds: for a thread. Wakes nobody."""
        with self._writing:
            # Two who scrape at once.
            texts = [self._families.text(snapshot_metrics(self._newest()))]
        texts += [counter.text() for counter in self._counters]
        texts += [histogram.text() for histogram in self._histograms]
        return "".join(texts).encode()

    def _answered(self, record: RequestRecord, model: str) -> None:
        if record.outcome == "ok":
            self._success.add(model, record.finish_reason or "none")
        elif record.outcome == "failed":
            self._errors.add(model, record.error_code or str(record.status))
        else:
            self._success.add(model, "abort")
        self._prompt_sum.add(model, amount=record.prompt_tokens)
        self._cached_sum.add(model, amount=record.cached_tokens)
        self._generation_sum.add(model, amount=record.completion_tokens)
        if record.key_id is not None and (record.prompt_tokens or record.completion_tokens):
            key = _bounded(record.key_id, self._keys, KEYS_MAX)
            self._key_tokens.add(key, "prompt", amount=record.prompt_tokens)
            self._key_tokens.add(key, "generation", amount=record.completion_tokens)
        if record.outcome != "ok":
            return
        self._total.observe(model, record.total_seconds)
        if record.prompt_tokens:
            self._prompt.observe(model, record.prompt_tokens)
        if record.completion_tokens:
            self._generation.observe(model, record.completion_tokens)
        times = (
            (self._first, record.ttft_seconds),
            (self._token, record.token_seconds),
            (self._queue, record.queue_seconds),
            (self._prefill, record.prefill_seconds),
            (self._decode, record.decode_seconds),
        )
        for histogram, seconds in times:
            if seconds is not None:
                histogram.observe(model, seconds)

    def _model(self, model: str) -> str:
        return _bounded(model, self._models, MODELS_MAX)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        found = Histogram(PREFIX + name, text, buckets)
        self._histograms.append(found)
        return found

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        found = Counter(PREFIX + name, text, labels)
        self._counters.append(found)
        return found


def _bounded(name: str, known: set[str], most: int) -> str:
    """The name, OTHER where there are too many already."""
    if name not in known:
        if len(known) >= most:
            return OTHER
        known.add(name)
    return name
