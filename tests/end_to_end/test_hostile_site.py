"""A site with a valid key that attacks, and strangers at the port, before a live server with TLS and keys.

The model must be that of a run in which that site does not answer in the rounds of its attacks, bit for bit: whatever
it sent was refused, and whatever was called in another's name changed nothing.
"""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from consilium import Study
from consilium.federate.client.participant import SiteState
from consilium.federate.engines.engine import one_thread
from consilium.study.build.factory import exchange, start
from consilium.study.plan.plan import Materials
from consilium.study.spec.arms import arms
from consilium.study.spec.parse import parse

EVIL = "site-2"
PLENTY = "[federation.participation]\nminimum-cohort = 2"


def beside(name):
    """A module of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def hostile():
    pytest.importorskip("flwr", reason="the extra flower is not installed")
    return beside("hostile")


@pytest.fixture(scope="module")
def rounds(hostile):
    return max(hostile.ATTACKS) + 1


@pytest.fixture(scope="module")
def finished(federation, deployed_study, hostile, rounds):
    """One training: every round another attack by the site, and calls in others' names while it goes on."""
    study = deployed_study("attacked", rounds, PLENTY)
    federation.serve(study, "--gather", "1000", "--deadline", "1000")
    for site in federation.sites:
        if site == EVIL:
            attack(federation, hostile)
        else:
            federation.join(site)
    federation.until(lambda: len(federation.rounds("attacked")) >= 2, what="no second round")
    before = len(federation.rounds("attacked"))
    statuses = intrude(federation)
    between = before, len(federation.rounds("attacked"))
    return {"study": study, "statuses": statuses, "between": between, "code": federation.wait("server")}


def attack(federation, hostile):
    """Start the hostile site in the place of the site's own program."""
    folder = federation.folder / EVIL
    words = [federation.address, EVIL, folder / f"{EVIL}.key", federation.folder / "keys" / "ca.crt", folder / "state"]
    with (federation.folder / f"{EVIL}.log").open("a") as log:
        command = [sys.executable, hostile.__file__, *map(str, words)]
        federation.children[EVIL] = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def node_of(federation, site):
    return int(re.search(r"SuperNode ID: ([0-9]+)", (federation.folder / site / "state" / "node.log").read_text())[1])


def intrude(federation):
    """Calls in the name of site-0 and of nobody, and their statuses."""
    m = beside("intruder")
    door = m.Intruder(federation.address, federation.folder / "keys" / "ca.crt")
    victim, mine = (node_of(federation, site) for site in ("site-0", EVIL))
    captured = door.signed(federation.folder / "site-0" / "site-0.key")
    own = federation.folder / EVIL / f"{EVIL}.key"
    state = federation.folder / "out" / "attacked" / "link" / "state.db"
    federation.until(lambda: m.stolen_questions(state, victim), what="no message is on its way")
    stolen = m.stolen_questions(state, victim)
    return {
        "the node's own call": door.call("send-node-heartbeat", m.heartbeat(victim), captured),
        "the same again": door.call("send-node-heartbeat", m.heartbeat(victim), captured),
        "another call with its head": door.call("deactivate-node", m.leave(victim), captured),
        "its messages with its head": door.call("pull-messages", m.pull(victim), captured),
        "its leave, with one's own key": door.call("deactivate-node", m.leave(victim), door.signed(own)),
        "its messages, with one's own key": door.call("pull-messages", m.pull(victim), door.signed(own)),
        "its leave, without a key": door.call("deactivate-node", m.leave(victim), {}),
        "replies in its name": {
            door.call("push-messages", m.reply(mine, victim, question, run), door.signed(own))
            for question, run in stolen
        },
    }


def without(study, silent):
    """The model of a loop in which ``silent`` rounds have no answer of the hostile site."""
    spec = parse(Study.read(study).table())
    materials, (arm,) = Materials(spec), arms(spec)
    data, net = materials.consortium(0), materials.network(0)
    whole, state = exchange(spec, arm, 0, None, data, net), start(spec, arm, data, net)
    kept = {site.id: SiteState() for site in data.sites}
    with one_thread():
        while state.server.round < spec.federation.shape.rounds:
            cohort, inbox = whole.open(state)
            updates = {}
            for site in cohort:
                if site != EVIL or inbox.round not in silent:
                    updates[site], kept[site] = whole.site_half.site("round", site, inbox, kept[site])
            state, _ = whole.server("round", updates, state)
    return state.server


def test_the_model_is_that_of_a_run_without_the_attacks_to_the_last_bit(federation, finished, hostile, rounds):
    assert finished["code"] == 0, federation.log("server")
    (path,) = federation.folder.glob("out/attacked/trainings/*/checkpoint.safetensors")
    deployed, alone = load_file(path), without(finished["study"], hostile.ATTACKS)
    assert deployed["server/params"].equal(alone.params)
    assert deployed["server/buffers"].equal(alone.buffers)
    honest = without(finished["study"], ())
    assert not alone.params.equal(honest.params), "or nothing would be shown"


def test_every_attack_is_refused_by_name_and_its_round_goes_on(federation, finished, hostile, rounds):
    reports = federation.rounds("attacked")
    assert [one["round"] for one in reports] == list(range(1, rounds + 1))
    told = {one["round"]: {each["site"]: each["reason"] for each in one["refused"]} for one in reports}
    for number, (name, _, word) in hostile.ATTACKS.items():
        assert list(told[number]) == [EVIL], name
        assert word in told[number][EVIL], (name, told[number][EVIL])
    assert [number for number, refused in told.items() if not refused] == [1, rounds], "its honest rounds count"
    assert not any(one["dropped"] or one["aborted"] for one in reports)


def test_every_false_declaration_turns_that_site_away_and_nobody_else(federation, finished, hostile):
    log = federation.log("server")
    assert log.count(f"{EVIL} is rejected") == len(hostile.ENROLMENTS)
    assert "site-0 is rejected" not in log and "Traceback" not in log


def test_what_is_called_in_anothers_name_is_refused(finished):
    statuses = finished["statuses"]
    assert finished["between"][0] >= 2
    assert statuses.pop("the node's own call") == 200
    assert statuses.pop("replies in its name") == {400}
    assert set(statuses.values()) == {401}, statuses


def test_nobody_lost_its_place(federation, finished):
    for site in federation.sites:
        log = federation.log(site)
        assert "the node ended" not in log and "does not take this key" not in log


def test_the_evidence_is_of_a_study_that_went_well_and_says_whom_it_refused(federation, finished):
    (path,) = federation.folder.glob("out/attacked/cells/*/evidence.json")
    evidence = json.loads(path.read_text())
    assert evidence["status"] == "ok"
    assert EVIL in evidence["engine"]["refusals"]
