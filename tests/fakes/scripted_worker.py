"""A worker without an engine: a real process on a real socket that does what the prompt says.

The last message of a chat (or the text of a completion) is a script of words:

    say:TEXT      one delta          sleep:SECONDS    wait, still answering others
    crash         end the process    fail:CODE        Failed with that error code
    started       a Started event    hang             never end, but keep sending heartbeats
    freeze        stop reading and sending altogether
    until:PATH    as `hang`, until that file exists (tests/fakes/gate.py)
    late          its time is over from here on
    read:T,R      a Started whose answer is to be read by the tool format T and the reasoning format R; `,thinking`: the
                  prompt has begun to think
    write:TEXT    one delta, percent-encoded      spell:TEXT    the same, a delta a character
    prompt        one delta: the prompt, as JSON
    scored        the prompt's tokens, a character each after `<s>`, with -0.25 and the likelier ones of `say`
    tell          one delta: the Add without its prompt, as JSON
    deaf          keep no deadline from here on
    stop:TEXT     end here, as with this stop string
    8?WORD        WORD, but only where the seed is 8: one choice of several

A request for vectors or scores is a script too: its first text, or its query. Input i gets the vector (i, 1, 0, 0), and
a document `score:0.25` that score; they come in reverse order. `some` is the last of them, before its turn.

Where the request asks for log probabilities, a `say` has -0.5 and as many likelier tokens `top0`, `top1`, … as it asks
for. Without `fail` or `hang` a script ends with Finished(stop). `--load fail|crash|killed|slow` decides how Load goes;
`--load until:PATH` ends it when that file exists; with `--load memory:compute:CPU:n_ubatch:128` it lacks memory to
compute on that device where n_ubatch is more.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import struct
import threading
import time
from pathlib import Path
from urllib.parse import unquote

import msgspec

from appliance.errors import MemoryLack
from appliance.types import (
    AnswerFormat,
    ChatPrompt,
    EmbeddingPrompt,
    FinishReason,
    HardwareReading,
    HostReading,
    ModelInfo,
    ModelSpec,
    RerankPrompt,
    TextPrompt,
    Timings,
    TokenLogprob,
    Usage,
)
from appliance.wire import (
    Abort,
    Add,
    Delta,
    Event,
    Failed,
    Finished,
    FromWorker,
    Hardware,
    Load,
    Loaded,
    LoadFailed,
    Pooled,
    Scored,
    Started,
    Step,
    WatchHardware,
    encode,
    worker_reader,
)
from appliance.worker.process_name import ENGINE, HARDWARE, SPARE, name_process

INFO = ModelInfo(
    architecture="scripted",
    description="scripted worker",
    parameters=1,
    size_bytes=1,
    n_vocab=1,
    n_ctx=1000,
    n_ctx_total=4000,
    n_ctx_train=1000,
    parallel=4,
    kv="unified",
    gpu_layers=0,
    chat_template=True,
    load_seconds=0.0,
    engine_build="scripted 1",
)

# Characters; more of them are `truncated`.
LONG = 100

ROOMY = HardwareReading(host=HostReading(total_bytes=2**40, available_bytes=2**40, cpu_busy=0.0))

WORKING = Step(running=1, steps=8, device_seconds=0.03, host_seconds=0.01, preemptions=2)


class ScriptedWorker:
    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.lock = threading.Lock()
        self.aborted: set[int] = set()
        self.frozen = False

    def send(self, message: FromWorker) -> None:
        with self.lock:
            if not self.frozen:
                self.connection.sendall(encode(message))

    def emit(self, event: Event) -> None:
        self.send(msgspec.structs.replace(WORKING, events=(event,)))

    def score(self, add: Add, prompt: str) -> None:
        top = self.likelier(add)
        told = [TokenLogprob(token=ord(each), piece=each.encode(), logprob=-0.25, top=top) for each in prompt]
        first = TokenLogprob(token=1, piece=b"<s>", logprob=0.0)
        self.emit(Scored(number=add.number, logprobs=(first, *told)))

    def likelier(self, add: Add) -> tuple[tuple[int, bytes, float], ...]:
        count = 0 if add.logprobs is None else add.logprobs.top
        return tuple((index, b"top%d" % index, -0.1 * (index + 1)) for index in range(count))

    def say(self, add: Add, text: str) -> None:
        logprobs: tuple[TokenLogprob, ...] = ()
        if add.logprobs is not None:
            logprobs = (TokenLogprob(token=99, piece=text.encode(), logprob=-0.5, top=self.likelier(add)),)
        self.emit(Delta(number=add.number, text=text, tokens=1, logprobs=logprobs))

    def run(self, add: Add) -> None:
        prompt = add.prompt
        text = prompt.messages[-1].content if isinstance(prompt, ChatPrompt) else ""
        text = prompt.text if isinstance(prompt, TextPrompt) else text
        if isinstance(prompt, EmbeddingPrompt):
            text = prompt.inputs[0] if isinstance(prompt.inputs[0], str) else ""
        elif isinstance(prompt, RerankPrompt):
            text = prompt.query
        pooled = pooled_of(add)
        tokens = 0
        deadline = time.monotonic() + add.seconds_max
        for word in (*text.split(" "), ""):
            seed, asked, rest = word.partition("?")
            if asked and seed != str(add.sampling.seed):
                continue
            verb, _, argument = (rest if asked else word).partition(":")
            if add.number in self.aborted:
                self.emit(Failed(number=add.number, code=None, message="aborted"))
                return
            if time.monotonic() > deadline:
                self.out_of_time(add, tokens)
                return
            match verb:
                case "say":
                    tokens += 1
                    self.say(add, argument.replace("_", " "))
                case "scored":
                    self.score(add, text)
                case "tell":
                    told = {name: getattr(add, name) for name in add.__struct_fields__ if name != "prompt"}
                    self.say(add, msgspec.json.encode(told).decode())
                case "write":
                    tokens += 1
                    self.say(add, unquote(argument))
                case "spell":
                    for letter in unquote(argument):
                        tokens += 1
                        self.say(add, letter)
                case "prompt":
                    self.say(add, msgspec.json.encode(prompt).decode())
                case "read":
                    tools, reasoning, *thinking = argument.split(",")
                    answer = AnswerFormat(tools=tools, reasoning=reasoning, thinking=bool(thinking))  # type: ignore[arg-type]
                    self.emit(Started(number=add.number, prompt_tokens=7, cached_tokens=3, answer=answer))
                case "started":
                    self.emit(Started(number=add.number, prompt_tokens=7, cached_tokens=3))
                case "sleep":
                    time.sleep(float(argument))
                case "crash":
                    os._exit(3)
                case "fail":
                    self.emit(Failed(number=add.number, code=argument, message="told to fail"))  # type: ignore[arg-type]
                    return
                case "hang":
                    while add.number not in self.aborted and time.monotonic() < deadline:
                        time.sleep(0.02)
                        self.send(WORKING)
                case "until":
                    while (
                        add.number not in self.aborted and time.monotonic() < deadline and not Path(argument).exists()
                    ):
                        time.sleep(0.01)
                        self.send(WORKING)
                case "late":
                    deadline = float("-inf")
                case "stop":
                    self.finish(add, tokens, "stop", argument)
                    return
                case "deaf":
                    deadline = float("inf")
                case "some":
                    self.emit(pooled.pop())
                case "freeze":
                    self.frozen = True
        for event in reversed(pooled):
            self.emit(event)
        self.finish(add, tokens, "stop")

    def out_of_time(self, add: Add, tokens: int) -> None:
        if tokens:
            self.finish(add, tokens, "length")
        else:
            self.emit(Failed(number=add.number, code="deadline_exceeded", message="out of time"))

    def finish(self, add: Add, tokens: int, reason: FinishReason, stopped_by: str | None = None) -> None:
        usage = Usage(prompt_tokens=7, completion_tokens=tokens, cached_tokens=3)
        timings = Timings(queue_seconds=0.1, prefill_seconds=0.2, decode_seconds=0.3)
        done = Finished(number=add.number, reason=reason, usage=usage, timings=timings, stopped_by=stopped_by)
        self.emit(done)

    def watch(self, job: WatchHardware) -> None:
        while True:
            self.send(Hardware(reading=ROOMY))
            time.sleep(job.interval_seconds)

    def serve(self, load: str) -> None:
        reader = worker_reader()
        name_process(SPARE)
        while data := self.connection.recv(65536):
            for message in reader.feed(data):
                match message:
                    case Load():
                        name_process(ENGINE)
                        if load == "crash":
                            os._exit(4)
                        if load == "fail":
                            self.send(LoadFailed(reason="model.gguf: told to fail"))
                            return
                        if load.startswith("memory") and (lack := lacks(message.spec, load)) is not None:
                            self.send(LoadFailed(reason="model.gguf: no memory", lack=lack))
                            return
                        if load == "killed":
                            os.kill(os.getpid(), signal.SIGKILL)
                        while load.startswith("until:") and not Path(load.removeprefix("until:")).exists():
                            time.sleep(0.01)
                        if load == "slow":
                            time.sleep(1.0)
                        self.send(Loaded(info=INFO))
                    case Add():
                        threading.Thread(target=self.run, args=(message,), daemon=True).start()
                    case Abort():
                        self.aborted.add(message.number)
                    case WatchHardware():
                        name_process(HARDWARE)
                        threading.Thread(target=self.watch, args=(message,), daemon=True).start()


def lacks(spec: ModelSpec, load: str) -> MemoryLack | None:
    """`memory:PART:DEVICE:FIELD:MOST`: memory for so much of a setting."""
    _, part, device, name, most = load.split(":")
    wanted = getattr(spec, name)
    return MemoryLack(part=part, device=device, bytes=2**20) if wanted > int(most) else None  # type: ignore[arg-type]


def pooled_of(add: Add) -> list[Pooled]:
    match add.prompt:
        case EmbeddingPrompt():
            vectors = [(float(index), 1.0, 0.0, 0.0) for index in range(len(add.prompt.inputs))]
            long = [len(given) > LONG for given in add.prompt.inputs]
        case RerankPrompt():
            documents = add.prompt.documents
            vectors = [(float(text.removeprefix("score:")[:8]),) for text in documents]  # type: ignore[misc]
            long = [len(text) > LONG for text in documents]
        case _:
            return []
    return [
        Pooled(
            number=add.number,
            index=index,
            tokens=3,
            truncated=long[index],
            values=struct.pack(f"<{len(vector)}f", *vector),
        )
        for index, vector in enumerate(vectors)
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--load", default="ok")
    options = parser.parse_args()
    with socket.socket(fileno=options.fd) as connection:
        ScriptedWorker(connection).serve(options.load)
    os._exit(0)


if __name__ == "__main__":
    main()
