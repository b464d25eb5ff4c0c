"""What `appliance serve` prints when it is ready: lines a new user can copy as they stand."""

from __future__ import annotations

import shlex

from appliance.daemon import Ready

_PYTHON = """\
import ssl
from pathlib import Path
from openai import DefaultHttpxClient, OpenAI   # pip install openai

client = Path({client!r})
tls = ssl.create_default_context(cafile=client / "ca.crt")
tls.load_cert_chain(client / "client.crt", client / "client.key")
api = OpenAI(base_url="{url}/v1", api_key=(client / "api.key").read_text().strip(),
             http_client=DefaultHttpxClient(verify=tls))
for chunk in api.chat.completions.create(model="{model}", temperature=0, stream=True,
                                         messages=[{{"role": "user", "content": "What is mutual TLS?"}}]):
    print(chunk.choices[0].delta.content or "" if chunk.choices else "", end="", flush=True)
print()
"""


def banner(ready: Ready) -> str:
    """The text."""
    url = ready.url
    client = ready.clients.resolve() / "demo"
    model = ready.models[0] if ready.models else "demo"
    question = '[{"role": "user", "content": "What is mutual TLS?"}]'
    body = f'{{"model": "{model}", "stream": true, "temperature": 0, "messages": {question}}}'
    curl = " \\\n  ".join(
        [
            f"curl --no-buffer {url}/v1/chat/completions",
            f"--cacert {shlex.quote(str(client / 'ca.crt'))}",
            f"--cert {shlex.quote(str(client / 'client.crt'))} --key {shlex.quote(str(client / 'client.key'))}",
            f'-H "Authorization: Bearer $(cat {shlex.quote(str(client / "api.key"))})"',
            "-H 'Content-Type: application/json'",
            f"-d {shlex.quote(body)}",
        ]
    )
    python = _PYTHON.format(client=str(client), url=url, model=model)
    return (
        f"\nThe appliance serves {', '.join(ready.models)} at {url}/v1 over mutual TLS.\n\n"
        f"curl:\n\n{curl}\n\nPython:\n\n{python}\nCtrl-C stops it.\n"
    )
