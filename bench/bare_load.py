"""A bare llama.cpp load: `python bench/bare_load.py FILE SETTINGS` prints the seconds that llama.cpp's calls took.

It imports llama_cpp alone, and computes one token with `warmup` set, as llama.cpp's own programs do before they serve.
SETTINGS: context parameters as JSON.
"""

import json
import sys
import time

import llama_cpp


def main() -> None:
    """Prints and leaves without freeing anything, as a process that serves would go on."""
    began = time.perf_counter()
    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(sys.argv[1].encode(), llama_cpp.llama_model_default_params())
    params = llama_cpp.llama_context_default_params()
    for name, value in json.loads(sys.argv[2]).items():
        setattr(params, name, value)
    context = llama_cpp.llama_init_from_model(model, params)
    llama_cpp.llama_set_warmup(context, True)
    tokens = (llama_cpp.llama_token * 1)(1)
    code = llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(tokens, 1))
    llama_cpp.llama_synchronize(context)
    assert code == 0, code
    print(time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    main()
