"""What llama.cpp was compiled to use of the processor, as a program: on a wrong one it ends by a signal."""

from __future__ import annotations

import json
import sys

import llama_cpp

from appliance.engine.runner.backends import load_backends
from appliance.engine.runner.build import engine_build


def features(system_info: str) -> list[str]:
    """The names that are `= 1` in what llama_print_system_info says. Pure."""
    pairs = (part.rpartition(":")[2].partition("=") for part in system_info.split("|"))
    return [name.strip() for name, _, value in pairs if value.strip() == "1"]


if __name__ == "__main__":
    load_backends()
    said = llama_cpp.llama_print_system_info().decode(errors="replace")
    sys.stdout.write(json.dumps({"build": engine_build(), "features": features(said)}))
