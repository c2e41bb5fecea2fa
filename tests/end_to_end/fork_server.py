"""Runs the command line in children of a process that has imported everything: a fresh process without the wait.

With a ``program`` the child runs that file instead, which finds in its globals ``consilium``: the command line in a
process that what the program did has not touched.

Requests and answers are lines of JSON.  ``{"start": {...}}`` forks a child and answers its pid; ``{"wait": pid}``
answers its exit code (negative: the signal that ended it), ``{"poll": pid}`` that or null while it runs, ``{"deploy":
true}`` imports what servers and sites need too.  The parent sends signals to the pid itself.
"""

import importlib
import json
import os
import resource
import runpy
import sys
import traceback
from functools import partial
from pathlib import Path

from torch.ao.quantization import quantize_fx

from consilium import Study, write_csv, write_page
from consilium.cli import commands

READY = (Study, write_csv, write_page, quantize_fx)


def prepare_deployment():
    """Import Flower, and what servers and sites are made of, as they do it."""
    from consilium.deploy.transport.processes import require_flower

    require_flower()
    for name in ("flwr.app", "flwr.serverapp", "flwr.cli.build", "flwr.superlink.grid", "flwr.supercore.control"):
        importlib.import_module(name)
    for name in ("flwr.supercore.runtime", "flwr.supernode.runtime.run_clientapp", "flwr.supernode.fleet_http_client"):
        importlib.import_module(name)
    for name in ("server.server", "site.site", "transport.certificates"):
        importlib.import_module(f"consilium.deploy.{name}")


def child(words, cwd, env, out, err, most_bytes=0, session=False, program=""):
    """The command in this process; with ``session`` in a session of its own, as a program started from a shell."""
    if session:
        os.setsid()
    os.chdir(cwd)
    os.environ.update(env)
    sys.path[:0] = [p for p in env.get("PYTHONPATH", "").split(os.pathsep) if p]
    if most_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    redirect(out, err)
    if program:
        run = partial(another, server_of_commands(), out, err)
        sys.argv = [program, *words]
        runpy.run_path(program, {"consilium": run}, "__main__")
    else:
        sys.argv = ["consilium", *words]
        commands.main()


def redirect(out, err):
    for path, number in ((os.devnull, 0), (out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), number)
    for name, mode, buffering in (("stdin", "r", -1), ("stdout", "w", -1), ("stderr", "w", 1)):
        number = getattr(sys, f"__{name}__").fileno()
        setattr(sys, name, os.fdopen(number, mode, buffering, encoding="utf-8", closefd=False))


def server_of_commands():
    """A copy of this process that goes on serving: pipes for its requests and its answers."""
    (requests, ask), (hear, answers) = os.pipe(), os.pipe()
    if os.fork() == 0:
        for number in (ask, hear):
            os.close(number)
        serve(os.fdopen(requests), os.fdopen(answers, "w"))
        os._exit(0)
    for number in (requests, answers):
        os.close(number)
    return os.fdopen(ask, "w"), os.fdopen(hear)


def another(pipes, out, err, words):
    """The exit code of a command, run where the program is and in its environment."""
    ask, hear = pipes

    def answer(request):
        print(json.dumps(request), file=ask, flush=True)
        return json.loads(hear.readline())

    sys.stdout.flush()
    start = {"words": words, "cwd": str(Path.cwd()), "env": dict(os.environ), "out": out, "err": err}
    return answer({"wait": answer({"start": start})})


def ended(request):
    """Run the child to its end; never returns."""
    code = 0
    try:
        child(**request)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if code and code is not end.code:
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def serve(requests, answers):
    def answer(value):
        print(json.dumps(value), file=answers, flush=True)

    for line in requests:
        request = json.loads(line)
        if "start" in request:
            pid = os.fork()
            if pid == 0:
                ended(request["start"])
            answer(pid)
        elif "deploy" in request:
            answer(prepare_deployment())
        else:
            pid, status = os.waitpid(request.get("wait") or request["poll"], 0 if "wait" in request else os.WNOHANG)
            answer(os.waitstatus_to_exitcode(status) if pid else None)


if __name__ == "__main__":
    serve(sys.stdin, sys.stdout)
