"""Server and three sites as separate processes, TLS and keys on: the model of the loop, bit for bit, whatever dies."""

import json
import ssl
import urllib.error
import urllib.request

import pytest
from safetensors.torch import load_file

from consilium import Study
from consilium.deploy.transport.certificates import make_server_keys, make_site_key

ROUNDS = 5
TERMS = ("--gather", "1000", "--deadline", "1000")
"""Seconds that nobody waits for."""


@pytest.fixture(scope="module")
def finished(federation, deployed_study):
    """One training in which a site and the server are killed; strangers try the door meanwhile."""
    study = deployed_study("deployed", ROUNDS)
    federation.serve(study, *TERMS, afresh=True)
    for site in federation.sites:
        federation.join(site, afresh=site == "site-0")
    make_site_key("stranger", federation.folder / "stranger")
    make_server_keys(federation.folder / "foreign", ["127.0.0.1"])
    federation.until(lambda: len(federation.rounds()) >= 1, what="no first round")
    refusals = {path: knock(federation, path) for path in ("/v1/control/start-run", "/v1/runtime/acquire-task")}
    federation.kill("site-1")  # until it is back no round ends
    federation.join("site-2", name="stranger", key=federation.folder / "stranger" / "stranger.key")
    federation.join("site-2", name="misled", ca=federation.folder / "foreign" / "ca.crt")
    federation.until(lambda: "does not take this key yet" in federation.log("stranger"), what="the stranger is let in")
    federation.kill("stranger")
    misled = federation.wait("misled")
    alone = len(federation.rounds())
    federation.join("site-1")
    federation.until(lambda: len(federation.rounds()) > alone, what="no round with the site that was killed")
    federation.kill("server")
    federation.until(federation.closed, what="the front door outlives the server")
    before = len(federation.rounds())
    federation.serve(study, *TERMS)
    code = federation.wait("server")
    return {"study": study, "code": code, "before": before, "refusals": refusals, "misled": misled}


def knock(federation, path):
    """The status of a call through the published port, made without any right."""
    trust = ssl.create_default_context(cafile=str(federation.folder / "keys" / "ca.crt"))
    try:
        urllib.request.urlopen(f"https://{federation.address}{path}", data=b"", context=trust, timeout=300)
    except urllib.error.HTTPError as error:
        return error.code
    return 200


def tensors(folder):
    (path,) = folder.glob("deployed/trainings/*/checkpoint.safetensors")
    return load_file(path)


def test_killed_and_started_again_it_is_the_model_of_the_loop_to_the_last_bit(federation, finished, tmp_path):
    assert finished["code"] == 0, federation.log("server")
    assert 0 < finished["before"] < ROUNDS, "the server was killed in mid-run"
    Study.read(finished["study"]).run(tmp_path, quiet=True)
    deployed, loop = tensors(federation.folder / "out"), tensors(tmp_path)
    assert all(deployed[name].equal(loop[name]) for name in ("server/params", "server/buffers"))
    assert [line["round"] for line in federation.rounds()] == list(range(1, ROUNDS + 1))
    (told,) = tmp_path.glob("deployed/trainings/*/rounds.jsonl")
    simulated = [json.loads(line) for line in told.read_text().splitlines()]
    assert [line["sites"] for line in federation.rounds()] == [line["sites"] for line in simulated]
    assert all(not line["dropped"] and not line["refused"] for line in federation.rounds())


def test_the_evidence_says_what_carried_it(federation, finished):
    (path,) = federation.folder.glob("out/deployed/cells/*/evidence.json")
    evidence = json.loads(path.read_text())
    assert evidence["status"] == "ok"
    assert evidence["engine"]["kind"] == "flower"


def test_every_site_paid_every_round_once(federation, finished):
    for site in federation.sites:
        lines = (federation.folder / site / "state" / "ledger" / "journal.jsonl").read_text().splitlines()
        paid = [entry["round"] for entry in map(json.loads, lines) if "round" in entry]
        assert sorted(set(paid)) == list(range(1, ROUNDS + 1))
        assert len(paid) <= ROUNDS + 1, "a crash between paying and storing costs one round more, no other"


def test_strangers_are_refused(federation, finished):
    assert finished["refusals"] == {"/v1/control/start-run": 403, "/v1/runtime/acquire-task": 403}
    assert "enrolled" not in federation.log("stranger")
    assert finished["misled"] == 2
    assert "not signed by" in federation.log("misled")


@pytest.mark.slow
def test_a_round_closes_without_a_site_that_never_answers(federation, deployed_study, finished):
    """With two of three, the minimum, once its deadline is over; who was silent stands in the log."""
    study = deployed_study("silent", 3, "[federation.participation]\nminimum-cohort = 2")
    deadline = federation.deadline("deployed", least=6)
    federation.serve(study, *TERMS[:2], "--deadline", str(deadline), name="patient")
    federation.until(lambda: federation.rounds("silent"), what="no first round")
    federation.kill("site-2")
    assert federation.wait("patient") == 0, federation.log("patient")
    rounds = federation.rounds("silent")
    assert rounds[-1]["dropped"] == ["site-2"]
    assert not rounds[-1]["aborted"]
    federation.join("site-2")


@pytest.mark.slow
def test_a_site_under_a_wrong_name_is_turned_away_alone_until_it_comes_as_itself(federation, deployed_study, finished):
    federation.kill("site-1")
    federation.join("site-0", name="misnamed", key=federation.folder / "site-1" / "site-1.key")
    federation.serve(deployed_study("named", 2), *TERMS[:2], name="named")
    turned = "site-1 is rejected: the enrolment is that of 'site-0'. Start it with --site site-1"
    federation.until(lambda: turned in federation.log("named"), what="nobody is turned away")
    assert federation.children["named"].poll() is None, "the server goes on waiting"
    federation.kill("misnamed")
    federation.join("site-1")
    assert federation.wait("named") == 0, federation.log("named")
    (path,) = federation.folder.glob("out/named/cells/*/evidence.json")
    merge = json.loads(path.read_text())["merge"]
    assert sorted(one["site"] for one in merge["sites"]) == list(federation.sites)
    assert sum(one["share"] for one in merge["sites"]) == pytest.approx(1)


def test_a_study_that_asks_for_more_epsilon_than_a_site_has_is_refused_and_the_evidence_says_so(
    federation, deployed_study, finished
):
    private = '[vary]\nprivacy = [{ kind = "dp-sgd", epsilon = 5.0, delta = 1e-4, clip = 1.0 }]'
    limits = federation.folder / "limits.toml"
    limits.write_text("[budget]\nepsilon = 1.0\ndelta = 1e-4\n")
    federation.kill("site-0")
    federation.join("site-0", "--limits", limits)
    federation.serve(deployed_study("greedy", 2, private), *TERMS[:2], name="greedy")
    assert federation.wait("greedy") == 3
    errors = [json.loads(path.read_text())["error"] for path in federation.folder.glob("out/greedy/trainings/*/*.json")]
    assert len(errors) == 2, "one arm without differential privacy, one with too much epsilon"
    assert all("site-0" in error and "budget.epsilon" in error for error in errors)
    assert any("these records may spend at most epsilon 1" in error for error in errors)
