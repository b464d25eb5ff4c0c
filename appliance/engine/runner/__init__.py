"""llama.cpp through llama-cpp-python's low-level API. Nothing else in the product imports `llama_cpp`."""

# First: it loads what llama_cpp's libraries need.
from appliance.engine.runner.backends import load_backends
from appliance.engine.runner.loading import load, load_any
from appliance.engine.runner.pooling_runner import PoolingRunner
from appliance.engine.runner.quantizing import quantize
from appliance.engine.runner.runner import Runner
from appliance.engine.runner.vocabulary import Vocabulary

__all__ = ["PoolingRunner", "Runner", "Vocabulary", "load", "load_any", "load_backends", "quantize"]
