"""Sites that disagree about what their numbers mean are refused by name, with the first difference, before a round."""

import json
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("flwr", reason="the extra flower is not installed")
pytest.importorskip("pandas", reason="the extra 'tables' is not installed")

import pandas as pd

from consilium.core.errors import Refused
from consilium.deploy.protocol import messages as wire
from consilium.deploy.protocol.description import describe
from consilium.deploy.protocol.enrolment import decode_enrolment
from consilium.deploy.server.enrolment_handshake import enrol
from consilium.deploy.site.policy import SiteLimits
from consilium.deploy.site.policy_enforcement import Guard
from consilium.deploy.site.site_data import holding_of
from consilium.deploy.site.worker import Worker
from consilium.deploy.transport.flower import answer_of, message_bytes
from consilium.deploy.transport.server_options import ServerOptions
from consilium.study.plan.plan import Materials
from consilium.study.spec.arms import arms
from consilium.study.spec.parse import parse

RANGES = [["age", 20, 100], ["bp", 90, 180]]
CLASSES = ["outcome", "well", "ill"]
DP = {"privacy": [{"kind": "dp-sgd", "epsilon": 8.0, "delta": 1e-4}]}


def people(n=120, seed=0):
    """As in the public report: the outcome follows from the age."""
    draw = np.random.default_rng(seed)
    age, bp = draw.uniform(20, 100, n).round(2), draw.uniform(90, 180, n).round(2)
    sex = draw.choice(["F", "M"], n)
    return pd.DataFrame({"age": age, "bp": bp, "sex": sex, "outcome": np.where(age > 60, "ill", "well")})


def table(path, frame, **knobs):
    frame.to_csv(path, index=False)
    knobs = {"ranges": RANGES, "categories": [["sex", "F", "M"], CLASSES], **knobs}
    return {"kind": "table", "path": str(path), "label": "outcome", **knobs}


def written(path, data):
    """A site's data file."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in data.items() if value is not None]
    path.write_text("\n".join(["[data]", *lines]))
    return str(path)


@dataclass
class Federation:
    """A study on the server's own data, and workers with data of theirs."""

    folder: object
    data: dict
    more: dict = field(default_factory=dict)
    workers: dict = field(default_factory=dict)

    def __post_init__(self):
        head = {"name": "ward", "threads": 1, "model": "logistic", "federation": {"kind": "fed-avg", "rounds": 2}}
        self.spec = parse({**head, "data": {**self.data, "sites": 2}, **self.more})
        self.consortium = Materials(self.spec).consortium(0)

    def join(self, site, data, holding=None):
        home = self.folder / site
        home.mkdir(exist_ok=True)
        held = holding or holding_of(written(home / "data.toml", data))
        self.workers[site] = Worker(site, held, home / "studies", Guard(SiteLimits(), home / "ledger"))
        return self

    def request(self):
        return describe(self.spec, arms(self.spec)[-1], 0, "t", self.consortium, ["site-0", "site-1"])

    def answer(self, site, *, greet=True, request=None):
        request = request or self.request()
        question = wire.encode_request(request)
        parts = {"request": question, "question": question, "token": b"t" * 16, **({"greet": b"-"} if greet else {})}
        message = SimpleNamespace(content=answer_of(parts), has_content=lambda: True)
        return SimpleNamespace(content=self.workers[site](message))

    def refusal(self, site="site-1", **more):
        """The one line that leaves a site."""
        reply = message_bytes(self.answer(site, **more), "answer")
        assert wire.kind_of(reply) == "refusal", "the site takes part"
        text = str(wire.decode_refusal(reply, wire.Context(self.request().digest())).error())
        assert text.isprintable() and len(text) < 2500
        return text

    def takes_part(self, site="site-1", **more):
        digest = self.request().digest()
        return decode_enrolment(message_bytes(self.answer(site, **more), "answer"), digest, site)

    def gather(self):
        """What the server makes of every site's answer."""
        return enrol(
            Asking(0.0, self), ServerOptions("127.0.0.1:9", None, insecure=True), self.request(), list(self.workers),
            more={"greet": b"-"},
        )  # fmt: skip


@dataclass(frozen=True)
class Asking:
    """Stands for the line: questions go to the workers of one federation."""

    deadline: float
    federation: Federation

    def ask(self, sites, parts, read, what):
        return {site: read(site, self.federation.answer(site)) for site in sites}, {}

    def say(self, text):
        pass


@pytest.fixture
def ward(tmp_path):
    return Federation(tmp_path, table(tmp_path / "public.csv", people(seed=9)))


def site_of(ward, frame=None, **knobs):
    return ward.join("site-1", table(ward.folder / "s1.csv", people(seed=1) if frame is None else frame, **knobs))


def test_equal_files_take_part(ward):
    site_of(ward).join("site-0", table(ward.folder / "s0.csv", people(seed=2)))
    came = ward.gather()
    assert came["site-0"].inputs == came["site-1"].inputs != ""
    assert ward.takes_part(greet=False).inputs == came["site-1"].inputs, "declared again for each training"


@pytest.mark.parametrize("greet", [True, False], ids=["greeting", "enrolment"])
def test_columns_in_another_order(ward, greet):
    """0.733 for 1.000, in silence."""
    site_of(ward, people()[["bp", "age", "sex", "outcome"]])
    assert "site-1.data: column 1 is 'bp', the study's is 'age'. Bring" in ward.refusal(greet=greet)


def test_a_sites_own_minimum_and_maximum(ward):
    """0.817 for 1.000: people over 55 only, scaled by themselves.  Neither limit leaves the site."""
    frame = people(400)
    frame = frame[frame.age > 55]
    said = site_of(ward, frame, ranges=[["bp", 90, 180]]).refusal()
    assert "the range of column 1 'age' is not declared. Declare ranges = [[\"age\", 20, 100]]" in said
    assert str(frame.age.min()) not in said and str(frame.age.max()) not in said


def test_another_range(ward):
    said = site_of(ward, ranges=[["age", 20, 100], ["bp", 90, 200.5]]).refusal()
    assert "column 2 'bp' runs from 90 to 200.5, the study's from 90 to 180. Declare ranges" in said


def test_as_many_categories_of_other_names(ward):
    frame = people().replace({"sex": {"F": "x", "M": "y"}})
    said = site_of(ward, frame, categories=[["sex", "x", "y"], CLASSES]).refusal()
    assert (
        "category 1 of column 3 'sex' is 'x', the study's 'F'. Declare categories = [[\"sex\", \"F\", \"M\"]]" in said
    )


def test_as_many_categories_of_other_names_that_were_read_from_records_stay_there(ward, caplog):
    frame = people().replace({"sex": {"F": "Secretus", "M": "y"}})
    said = site_of(ward, frame, categories=[CLASSES]).refusal()
    assert "category 1 of column 3 'sex' is not the study's ('F'), and the list is not declared" in said
    assert "Secretus" not in said and "Secretus" in caplog.text, "the site's own log has it"


def test_categories_in_another_order(ward):
    said = site_of(ward, categories=[["sex", "M", "F"], CLASSES]).refusal()
    assert "category 1 of column 3 'sex' is 'M', the study's 'F'" in said


def test_undeclared_categories_that_are_the_studys_take_part_where_nothing_is_claimed(ward):
    assert site_of(ward, categories=[CLASSES]).takes_part()
    claimed = Federation(ward.folder, ward.data, {"vary": DP})
    said = site_of(claimed, categories=[CLASSES]).refusal()
    assert "the categories of column 'sex' are not declared, and the study claims differential privacy (LAWS 9)" in said
    assert site_of(claimed).takes_part()


def test_classes_in_another_order(ward):
    said = site_of(ward, categories=[["sex", "F", "M"], ["outcome", "ill", "well"]]).refusal()
    assert "class 1 is 'ill', the study's 'well'. Declare the study's classes, in its order: ['well', 'ill']" in said


def test_classes_that_were_read_from_labels_stay_there(ward):
    frame = people().replace({"outcome": {"ill": "dying"}})
    said = site_of(ward, frame, categories=[["sex", "F", "M"]]).refusal()
    assert "class 1 is not the study's ('well'), and the list is not declared" in said and "dying" not in said


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda f: f.drop(columns="bp"), "column 2 is 'sex', the study's is 'bp'"),
        (lambda f: f.drop(columns="sex"), "there are 2 columns, the study's column 3 is 'sex'. Add it"),
        (lambda f: f.assign(extra=1.0), "column 4 is one that the study has not, the study's are 3. Drop it"),
        (lambda f: f.assign(sex=(f.sex == "F") * 1.0), "column 3 'sex' holds numbers, the study's categories"),
        (
            lambda f: f.assign(bp=f.bp.gt(130).map({True: "high", False: "low"})),
            "column 2 'bp' holds categories, the study's numbers",
        ),
    ],
    ids=["missing", "fewer", "more", "number", "words"],
)
def test_other_columns(ward, change, reason):
    frame = change(people(60))
    ranges = [given for given in RANGES if given[0] in frame and frame[given[0]].dtype == float]
    sex = [["sex", "F", "M"]] if "sex" in frame and frame.sex.dtype != float else []
    assert reason in site_of(ward, frame, ranges=ranges, categories=[*sex, CLASSES]).refusal()


def test_a_file_without_header_does_not_send_a_persons_values(ward):
    """Its first row stands where the names should: the study does not know them, so they do not leave."""
    frame = people(40).rename(columns={"age": "77.31", "bp": "133.7"})
    said = site_of(ward, frame, ranges=[]).refusal()
    assert "column 1 is one that the study has not, the study's is 'age'" in said and "77.31" not in said


def test_what_is_wrong_with_a_sites_own_records_stays_there(ward, caplog):
    frame = people()
    frame.loc[3, "sex"] = "Secretus"
    said = site_of(ward, frame).refusal()
    assert said == "site-1.data: the site's own data cannot be used. See the site's log."
    assert "'Secretus', which is not among its declared categories" in caplog.text


def test_units_of_measurement(tmp_path):
    """A declared range holds in one unit only: 5 mmol/l lies within 0 to 600 too."""
    measured = [["age", 20, 100], ["bp", 90, 180, "mmHg"]]
    ward = Federation(tmp_path, table(tmp_path / "public.csv", people(), ranges=measured))
    assert site_of(ward, ranges=measured).takes_part()
    said = site_of(ward, ranges=[["age", 20, 100], ["bp", 90, 180, "kPa"]]).refusal()
    assert "column 2 'bp' is in 'kPa', the study's in 'mmHg'. Convert it" in said
    assert "column 2 'bp' is in no unit, the study's in 'mmHg'" in site_of(ward).refusal()


def test_patients_at_one_site_only(ward):
    """A claim per patient would count one site's records as people; the study's own data may name none."""
    numbered = people().assign(who=[f"p{k // 2}" for k in range(120)])
    site_of(ward, numbered, patient="who").join("site-0", table(ward.folder / "s0.csv", people(seed=2)))
    with pytest.raises(Refused, match="site-0: the records of site-1 name their patients, and those of site-0 do not"):
        ward.gather()
    ward.join("site-0", table(ward.folder / "s0.csv", numbered.assign(age=numbered.age[::-1].values), patient="who"))
    assert set(ward.gather()) == {"site-0", "site-1"}


def test_patients_that_the_studys_data_name(tmp_path):
    numbered = people().assign(who=[f"p{k // 2}" for k in range(120)])
    ward = Federation(tmp_path, table(tmp_path / "public.csv", numbered, patient="who"))
    assert "name no patient for each record. Declare the patient of each record" in site_of(ward).refusal()


def test_a_site_with_another_digest_is_refused_by_name(ward, monkeypatch):
    """One that runs other code, and took part although it differs."""
    site_of(ward, people()[["bp", "age", "sex", "outcome"]])
    ward.join("site-0", table(ward.folder / "s0.csv", people(seed=2)))
    monkeypatch.setattr("consilium.deploy.site.worker.refuse_difference", lambda *_, **__: None)
    with pytest.raises(Refused, match="site-1: it enrols with other inputs than the study's"):
        ward.gather()


@pytest.mark.parametrize(
    ("knobs", "reason"),
    [
        ({"ranges": []}, "the limits of column 'age' were read from the records, but every site receives them"),
        ({"categories": [CLASSES]}, "the categories of column 'sex' were read from the records"),
    ],
    ids=["ranges", "categories"],
)
def test_a_study_that_does_not_declare_its_inputs_is_not_sent(tmp_path, knobs, reason):
    ward = Federation(tmp_path, table(tmp_path / "public.csv", people(), **knobs))
    with pytest.raises(Refused, match=reason):
        ward.request()


def grey(n=40, size=8, seed=0):
    draw = np.random.default_rng(seed)
    return {"x": draw.integers(0, 256, (n, size, size), dtype=np.uint8), "y": np.arange(n) % 2}


def arrays(path, classes=("well", "ill"), **content):
    np.savez(path, **content)
    return {"kind": "npz", "path": str(path), "classes": list(classes)}


@pytest.fixture
def scans(tmp_path):
    return Federation(tmp_path, arrays(tmp_path / "public.npz", **grey(seed=9)))


def test_arrays_that_agree(scans):
    assert scans.join("site-1", arrays(scans.folder / "a.npz", **grey())).takes_part()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda a: {**a, "x": a["x"] / 255.0}, "values: 'floats as stored', the study's: 'uint8 / 255'. Prepare"),
        (lambda a: {**a, "x": a["x"][:, :7]}, r"inputs have the shape (1, 7, 8), the study's (1, 8, 8)"),
        (lambda a: {**a, "x": np.stack([a["x"]] * 3, -1)}, "inputs have the shape (3, 8, 8)"),
        (lambda a: {**a, "x": a["x"].reshape(40, 64), "columns": np.array([f"v{k}" for k in range(64)])},
         "the data have named columns, the study's have none"),
    ],
    ids=["floats", "size", "colour", "features"],
)  # fmt: skip
def test_arrays_that_differ(scans, change, reason):
    assert reason in scans.join("site-1", arrays(scans.folder / "a.npz", **change(grey()))).refusal()


def test_classes_of_arrays(scans):
    said = scans.join("site-1", arrays(scans.folder / "a.npz", ("ill", "well"), **grey())).refusal()
    assert "class 1 is 'ill', the study's 'well'" in said
    unnamed = {**arrays(scans.folder / "a.npz", **grey()), "classes": None}
    assert (
        "class 1 is not the study's ('well'), and the list is not declared" in scans.join("site-1", unnamed).refusal()
    )


def test_features_in_an_npz_need_names(tmp_path):
    names = np.array(["age", "bp"])
    content = {"x": np.random.default_rng(0).random((40, 2)), "y": np.arange(40) % 2}
    lab = Federation(tmp_path, arrays(tmp_path / "public.npz", **content, columns=names))
    assert lab.join("site-1", arrays(tmp_path / "a.npz", **content, columns=names)).takes_part()
    swapped = arrays(tmp_path / "a.npz", **content, columns=names[::-1])
    assert "column 1 is 'bp', the study's is 'age'" in lab.join("site-1", swapped).refusal()
    said = lab.join("site-1", arrays(tmp_path / "a.npz", **content)).refusal()
    assert (
        "the data have no named columns, the study's have some. Give a table, or an npz with an array columns" in said
    )
    with pytest.raises(Refused, match="the features have no names, so sites cannot agree on their order"):
        Federation(tmp_path, arrays(tmp_path / "public.npz", **content)).request()


def folder(root, **knobs):
    from PIL import Image

    draw = np.random.default_rng(0)
    for name in ("well", "ill"):
        (root / name).mkdir(parents=True, exist_ok=True)
        for k in range(20):
            Image.fromarray(draw.integers(0, 256, (9, 9), dtype=np.uint8)).save(root / name / f"{k}.png")
    return {"kind": "image-folder", "path": str(root), "size": 8, **knobs}


def test_pictures(tmp_path):
    pytest.importorskip("PIL", reason="the extra 'images' is not installed")
    scans = Federation(tmp_path, folder(tmp_path / "public"))
    assert scans.join("site-1", folder(tmp_path / "a")).takes_part()
    said = scans.join("site-1", folder(tmp_path / "a", channels=3)).refusal()
    assert "colour: 'RGB', the study's: 'grey, ITU-R 601-2'" in said
    assert (
        "the shape (1, 7, 7), the study's (1, 8, 8)" in scans.join("site-1", folder(tmp_path / "a", size=7)).refusal()
    )
    as_arrays = arrays(tmp_path / "a.npz", ("ill", "well"), **grey())
    assert "colour: 'as stored', the study's: 'grey, ITU-R 601-2'" in scans.join("site-1", as_arrays).refusal()


@pytest.mark.parametrize("kind", ["digits", "breast-cancer"])
def test_a_rehearsal_agrees(tmp_path, kind):
    study = Federation(tmp_path, {"kind": kind})
    assert study.join("site-1", {}, holding_of("study")).takes_part(greet=False).inputs


def test_a_medmnist_set_beside_arrays_of_its_make(tmp_path):
    content = {f"{part}_images": grey(40, 28, seed)["x"] for seed, part in enumerate(("train", "val", "test"))}
    content |= {f"{part}_labels": np.arange(40)[:, None] % 2 for part in ("train", "val", "test")}
    np.savez(tmp_path / "public.npz", **content)
    study = Federation(tmp_path, {"kind": "pneumonia-mnist", "path": str(tmp_path / "public.npz")})
    names = ("normal", "pneumonia")
    assert study.join("site-1", arrays(tmp_path / "a.npz", names, **grey(size=28))).takes_part()
    assert "class 1 is 'pneumonia'" in study.join(
        "site-1", arrays(tmp_path / "a.npz", names[::-1], **grey(size=28))
    ).refusal()  # fmt: skip


def test_what_a_server_writes_does_not_reach_a_terminal(ward, caplog):
    request = ward.request()
    columns = [{"name": "\x1b[2Jage\n" * 50, "range": [0.0, 1.0]}]
    plan = {**request.plan, "inputs": {**request.plan["inputs"], "columns": columns}}
    twisted = wire.StudyRequest(**{**request.to_json(), "defences": (), "plan": plan})
    reply = message_bytes(site_of(ward).answer("site-1", request=twisted), "answer")
    reason = wire.decode_refusal(reply, wire.Context(twisted.digest())).reason
    assert reason.startswith("column 1 is 'age', the study's is '\\x1b[2Jage\\n") and len(reason) < 200
    assert "\x1b" not in caplog.text
