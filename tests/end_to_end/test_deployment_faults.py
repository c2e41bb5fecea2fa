"""The network is cut and disks are full, really, under a deployment with TLS and keys; every site has its own line.

One training with a long deadline ends with the model of the loop, bit for bit; one with a short deadline goes on
without the site that is away or cannot write, names it, and takes it in again.
"""

import json
import re

import pytest
from safetensors.torch import load_file

from consilium import Study

ROUNDS, MANY = 3, 8


@pytest.fixture(scope="module")
def disks(federation, small_disk, why_no_disk):
    """Disks of their own for what the server and site-0 write; none where they cannot be mounted."""
    if why_no_disk:
        return {}
    folders = {"server": federation.folder / "out", "site-0": federation.folder / "site-0" / "state"}
    return {name: small_disk(folder, 65536) for name, folder in folders.items()}


def checkpoint(folder, study):
    (path,) = folder.glob(f"{study}/trainings/*/checkpoint.safetensors")
    return path


@pytest.fixture(scope="module")
def torn(federation, deployed_study, lines, disks):
    """Two lines are cut in a round, one of them by silence, and the third site's node is killed; meanwhile the server's
    disk is full; then all lines are cut.
    """
    study = deployed_study("torn", ROUNDS)
    terms = ("--gather", "1000", "--deadline", "1000")
    federation.serve(study, *terms)
    for site, line in lines.items():
        federation.join(site, address=line.address)
    federation.until(lambda: federation.rounds("torn"), what="no first round")
    lines["site-1"].cut("silent")
    lines["site-2"].cut("reset")
    before = len(federation.log("site-0"))
    federation.kill_node("site-0")
    late = re.compile(r"round \d+: no answer yet from (.*site-1.*)")
    federation.until(lambda: late.search(federation.log("server")), what="nobody is called late")
    lines["site-1"].heal()
    lines["site-2"].heal()
    made = {"study": study, "before kill": before, "late": late.search(federation.log("server"))[1]}
    if disks:
        made |= filled(federation, disks["server"])
        federation.serve(study, *terms)
    federation.until(lambda: len(federation.rounds("torn")) >= 2, what="no second round")
    felt = {site: line.felt for site, line in lines.items()}
    for line in lines.values():
        line.cut("reset")
    federation.until(lambda: all(lines[site].felt > felt[site] + 1 for site in lines), what="nobody tries again")
    for line in lines.values():
        line.heal()
    return {**made, "end": federation.wait("server")}


def filled(federation, disk):
    """What becomes of a server on a full disk; there is room again at the end."""
    path = checkpoint(federation.folder / "out", "torn")
    before = path.read_bytes()
    disk.fill()
    code = federation.wait("server")
    after = path.read_bytes()
    disk.free()
    return {"full": code, "before": before, "after": after, "said": federation.log("server")}


def test_cut_and_healed_it_is_the_model_of_the_loop_to_the_last_bit(federation, torn, lines, tmp_path):
    assert torn["end"] == 0, federation.log("server")
    assert all(line.felt for line in lines.values()), "every line was cut while something was said on it"
    Study.read(torn["study"]).run(tmp_path, quiet=True)
    deployed, loop = (load_file(checkpoint(f, "torn")) for f in (federation.folder / "out", tmp_path))
    assert all(deployed[name].equal(loop[name]) for name in ("server/params", "server/buffers"))
    rounds = federation.rounds("torn")
    assert [line["round"] for line in rounds] == list(range(1, ROUNDS + 1))
    assert not any(line["dropped"] or line["refused"] or line["aborted"] for line in rounds)
    assert all(len(line["sites"]) == 3 for line in rounds), "each round was judged by all"


def test_who_is_waited_for_is_named_while_the_server_waits(torn):
    assert "site-1" in torn["late"] and int(re.search(r"after (\d+) s", torn["late"])[1]) >= 10


def test_a_node_that_died_is_succeeded_without_the_minute_in_which_its_key_is_taken(federation, torn):
    since = federation.log("site-0")[torn["before kill"] :]
    assert "the node ended" in since and "does not take this key" not in since


def test_a_server_on_a_full_disk_ends_and_says_why_and_what_it_had_is_whole(torn, disks, why_no_disk):
    if not disks:
        pytest.skip(why_no_disk)
    assert torn["full"] == 3
    last = torn["said"].strip().splitlines()[-1]
    assert "No space left on device" in last and "Free disk space" in last and "Traceback" not in torn["said"]
    assert torn["before"] == torn["after"], "the checkpoint is the old one"


@pytest.fixture(scope="module")
def patient(federation, deployed_study, torn, lines, disks):
    """A short deadline: site-2 is cut off for longer than that and comes back; then the disk of site-0 is full."""
    study = deployed_study("patient", MANY, "[federation.participation]\nminimum-cohort = 2")
    deadline = federation.deadline("torn", least=8)
    federation.serve(study, "--gather", "1000", "--deadline", str(deadline), name="patient")

    def until(trouble, site, after=0):
        """The first round after ``after`` in which ``site`` met ``trouble``, or with "" none."""
        found = []

        def seen():
            found[:] = [
                r["round"] for r in federation.rounds("patient") if r["round"] > after and met(r, site, trouble)
            ]
            return bool(found) or federation.children["patient"].poll() is not None

        federation.until(seen, what=f"{site} is never {trouble or 'back'}")
        assert found, f"{site} is never {trouble or 'back'}\n{federation.log('patient')}"
        return found[0]

    first = until("", "site-2")
    lines["site-2"].cut("reset")
    made = {"deadline": deadline, "dropped": until("dropped", "site-2", first)}
    lines["site-2"].heal()
    made["back"] = until("", "site-2", made["dropped"])
    if disks:
        disks["site-0"].fill()
        made["refused"] = until("refused", "site-0", made["back"])
        disks["site-0"].free()
        made["well"] = until("", "site-0", made["refused"])
    return {**made, "end": federation.wait("patient")}


def met(report, site, trouble):
    """Whether ``site`` met ``trouble`` in a round that counted; with "", whether its update is in the model."""
    refused = [one["site"] for one in report["refused"]]
    found = "dropped" if site in report["dropped"] else "refused" if site in refused else ""
    return found == trouble and not report["aborted"]


def evidence(federation):
    (path,) = federation.folder.glob("out/patient/cells/*/evidence.json")
    return json.loads(path.read_text())


def test_a_cut_longer_than_the_deadline_costs_the_site_its_rounds_by_name_and_no_more(federation, patient):
    assert patient["end"] == 0, federation.log("patient")
    assert patient["dropped"] < patient["back"]
    assert f"round {patient['dropped']}: no answer from site-2 in {patient['deadline']} s" in federation.log("patient")
    assert evidence(federation)["engine"]["silent"][f"round {patient['dropped']} round"] == ["site-2"]


def test_a_site_on_a_full_disk_refuses_by_name_and_takes_part_again(federation, patient, disks, why_no_disk):
    if not disks:
        pytest.skip(why_no_disk)
    reason = "No space left on device. Free disk space"
    assert patient["refused"] < patient["well"]
    assert f"round {patient['refused']}: site-0 refuses: site-0: cannot write" in federation.log("patient")
    assert reason in federation.log("patient") and reason in federation.log("site-0")
    assert reason in evidence(federation)["engine"]["refusals"]["site-0"]
    told = [r for line in federation.rounds("patient") for r in line["refused"] if r["site"] == "site-0"]
    assert told and all(reason in one["reason"] for one in told)


def test_what_a_site_on_a_full_disk_sent_is_paid_in_a_ledger_that_is_whole(federation, patient, disks, why_no_disk):
    if not disks:
        pytest.skip(why_no_disk)
    from consilium.deploy.site.ledger import open_ledger

    folder = federation.folder / "site-0" / "state"
    (study,) = (path.name for path in (folder / "studies").iterdir() if (path / f"answer-{MANY}.bin").is_file())
    with open_ledger(folder / "ledger", wait=10.0) as ledger:
        paid = ledger.paid(study)
    sent = [line["round"] for line in federation.rounds("patient") if met(line, "site-0", "")]
    assert set(sent) <= set(paid) and len(paid) == len(set(paid))
