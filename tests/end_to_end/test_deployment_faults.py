"""A deployment whose network is cut for a while: every site behind a line of its own that can be cut, TLS on."""

import time

import pytest
from safetensors.torch import load_file

from consilium.study.study import Study

ROUNDS = 5


@pytest.fixture(scope="module")
def cut(federation, deployed_study, lines):
    study = deployed_study("cut", ROUNDS)
    began = time.monotonic()

    def stamp(what):
        print(f"{time.monotonic() - began:6.1f} {what}", [r["round"] for r in federation.rounds("cut")])

    federation.serve(study, "--gather", "120", "--deadline", "120")
    for site, line in lines.items():
        federation.join(site, address=line.address)
    federation.until(lambda: len(federation.rounds("cut")) >= 1, what="no first round")
    stamp("first round")
    lines["site-1"].cut("silent")
    lines["site-2"].cut("reset")
    time.sleep(5)
    lines["site-1"].heal()
    lines["site-2"].heal()
    stamp("healed")
    federation.until(lambda: len(federation.rounds("cut")) >= 3, what="no third round")
    stamp("third")
    for line in lines.values():
        line.cut("reset")
    time.sleep(5)
    for line in lines.values():
        line.heal()
    stamp("healed")
    code = federation.wait("server")
    stamp("end")
    return {"study": study, "code": code}


def test_cut(federation, cut, lines, tmp_path):
    print({site: line.felt for site, line in lines.items()})
    for name in federation.children:
        print(f"--- {name}\n{federation.log(name)}")
    print(federation.log("server"))
    assert cut["code"] == 0
    Study.read(cut["study"]).run(tmp_path, quiet=True)
    (a,) = (federation.folder / "out").glob("cut/trainings/*/checkpoint.safetensors")
    (b,) = tmp_path.glob("cut/trainings/*/checkpoint.safetensors")
    a, b = load_file(a), load_file(b)
    assert all(a[name].equal(b[name]) for name in ("server/params", "server/buffers"))
