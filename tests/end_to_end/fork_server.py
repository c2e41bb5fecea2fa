"""Runs the command line in children of a process that has imported everything: a fresh process without the wait.

Requests and answers are lines of JSON.  ``{"start": {...}}`` forks a child and answers its pid; ``{"wait": pid}``
answers its exit code (negative: the signal that ended it).  The parent sends signals to the pid itself.
"""

import json
import os
import resource
import sys
import traceback

from torch.ao.quantization import quantize_fx

from consilium import Study, write_csv, write_page
from consilium.cli import commands

READY = (Study, write_csv, write_page, quantize_fx)


def child(words, cwd, env, out, err, most_bytes):
    os.chdir(cwd)
    os.environ.update(env)
    sys.path[:0] = [p for p in env.get("PYTHONPATH", "").split(os.pathsep) if p]
    if most_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    for path, number in ((os.devnull, 0), (out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), number)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        number = getattr(sys, f"__{name}__").fileno()
        setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    sys.argv = ["consilium", *words]
    commands.main()


def ended(request):
    """Run the child to its end; never returns."""
    code = 0
    try:
        child(**request)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main():
    for line in sys.stdin:
        request = json.loads(line)
        if "start" in request:
            pid = os.fork()
            if pid == 0:
                ended(request["start"])
            print(json.dumps(pid), flush=True)
        else:
            _, status = os.waitpid(request["wait"], 0)
            print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)


if __name__ == "__main__":
    main()
