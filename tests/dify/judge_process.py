"""The judge: Dify's SDK in a Python of its own, and what it is told of the appliance."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-dify" / "bin" / "python"
needs_sdk = pytest.mark.skipif(not PYTHON.exists(), reason="Dify's SDK is not here; `make dify` installs it")
ANSWER_SECONDS_MAX = 100.0

# What the form holds of a model that can do everything; `credentials` adds where it is.
LLM: Final = {
    "mode": "chat",
    "context_size": "8192",
    "max_tokens_to_sample": "4096",
    "function_calling_type": "tool_call",
    "stream_function_calling": "supported",
    "structured_output_support": "supported",
    "agent_thought_support": "supported",
    "compatibility_mode": "extended",
    "stream_mode_delimiter": "\\n\\n",
}


@dataclass
class Judge:
    """base_url, key: what is typed into the form. `ask` has one call made and returns what came of it."""

    base_url: str
    key: str = field(repr=False)
    process: subprocess.Popen[str] = field(repr=False)

    def credentials(self, **fields: str) -> dict[str, str]:
        return {"endpoint_url": self.base_url, "api_key": self.key, **fields}

    def ask(self, do: str, **call: Any) -> dict[str, Any]:
        """Ends the judge where no answer comes in time."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": do, **call}) + "\n")
        self.process.stdin.flush()
        patience = threading.Timer(ANSWER_SECONDS_MAX, self.process.kill)
        patience.start()
        try:
            line = self.process.stdout.readline()
        finally:
            patience.cancel()
        assert line, f"the judge ended with {self.process.wait()}"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def call(self, do: str, model: str, form: Mapping[str, str] = LLM, **fields: Any) -> dict[str, Any]:
        """One call, to be asked alone (`told`) or among others (`together`)."""
        return {"do": do, "model": model, "credentials": self.credentials(**form), **fields}

    def told(self, do: str, model: str, form: Mapping[str, str] = LLM, **fields: Any) -> dict[str, Any]:
        """The answer of a call that must not fail."""
        answer = self.ask(**self.call(do, model, form, **fields))
        assert "error" not in answer, answer
        return answer

    def refused(self, do: str, model: str, form: Mapping[str, str] = LLM, **fields: Any) -> str:
        """What Dify shows of a call that must fail."""
        answer = self.ask(**self.call(do, model, form, **fields))
        assert "error" in answer, answer
        shown: str = answer["error"]
        return shown

    def together(self, *calls: dict[str, Any]) -> list[dict[str, Any]]:
        answers: list[dict[str, Any]] = self.ask("together", of=calls)["of"]
        return answers

    def chat(self, model: str, text: str, form: Mapping[str, str] = LLM, **fields: Any) -> dict[str, Any]:
        return self.told("chat", model, form, messages=[{"role": "user", "content": text}], **fields)


@contextmanager
def running_judge(folder: Path, base_url: str, key: str, environment: Mapping[str, str]) -> Iterator[Judge]:
    """environment: of Dify's plugin daemon; nothing of this machine's own certificates and proxies goes with it."""
    own = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    with (folder / "judge.stderr").open("wb") as errors:
        process = subprocess.Popen(
            [PYTHON, "-m", "tests.dify.judge"],
            cwd=ROOT,
            env={**own, "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8", **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        yield Judge(base_url, key, process)
    finally:
        process.communicate()
