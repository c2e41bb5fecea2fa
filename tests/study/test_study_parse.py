"""Every mistake in a study file is one short line: the place as it is written in the file, the reason, a remedy."""

import copy

import pytest

from consilium.core.errors import ConsiliumError, Refused
from consilium.data.partitions.dirichlet import Dirichlet
from consilium.data.partitions.iid import IID
from consilium.study.spec import toml_binding
from consilium.study.spec.parse import parse, read
from consilium.study.spec.toml_binding import entry


def change(tables, path, value):
    """``tables`` with ``value`` at ``path`` (None removes it)."""
    out = copy.deepcopy(tables)
    at = out
    for step in path[:-1]:
        at = at[step]
    if value is None:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return out


CASES = [
    (("atacks",), [], "atacks: a study has no 'atacks'. Did you mean 'attacks' or 'track'?"),
    (("name",), None, "name: missing. A study needs name, data and model; give name."),
    (("name",), "../up", "name: '../up' is out of range. Use letters, digits, dots and dashes: it names a folder."),
    (("name",), 3, "name: 3 is not a valid string."),
    (("seeds",), [], "seeds: '0 seeds' is out of range."),
    (("seeds",), [0, 0], "seeds: (0, 0) is out of range. Use each seed once."),
    (("seeds",), [0.5], "seeds[0]: 0.5 is not a valid integer."),
    (("seeds",), [True], "seeds[0]: True is not a valid integer."),
    (("seeds",), [2**63], "seeds[0]: this number has more than 63 bits."),
    (("threads",), 0, "threads: 0 is out of range. Use 1 to 1024 threads."),
    (("threads",), "2", "threads: '2' is not a valid integer."),
    (("device",), "tpu", "device: 'tpu' is out of range. Use cpu, cuda or cuda:N."),
    (("unlawful",), "ignore", "unlawful: 'ignore' is not 'refuse' or 'skip'."),
    (("max-epsilon",), 0.0, "max-epsilon: 0.0 is out of range. Use an epsilon above 0."),
    (("max-epsilon",), float("nan"), "max-epsilon: nan is not a finite number."),
    (("max-epsilon",), float("inf"), "max-epsilon: inf is not a finite number."),
    (("data", "kind"), "digit", "data.kind: unknown source kind 'digit'. Did you mean 'digits'?"),
    (("data", "kind"), None, 'data.kind: no kind is given. Write kind = "...".'),
    (("data", "kind"), 3, 'data.kind: kind 3 is not a string. Write kind = "...".'),
    (
        ("data", "sits"),
        3,
        "data.sits: data breast-cancer has no knob 'sits'. Did you mean 'sites'",
    ),
    (("data", "sites"), 0, "data.sites: 0 is out of range. Use 1 to 100000 sites."),
    (("data", "sites"), 2.5, "data.sites: 2.5 is not a valid integer."),
    (("data", "partition"), "irichlet", "data.partition.kind: unknown partition kind 'irichlet'."),
    (("data",), [], """data: expected a table, got []. Write { kind = "...", ... }."""),
    (("model",), {"kind": "mlp", "hiden": 3}, "model.hiden: mlp has no knob 'hiden'. Did you mean 'hidden'?"),
    (("model", "hidden"), 0, "model.hidden: 0 is out of range. Use 1 to 65536 units."),
    (("model", "hidden"), [16], "model.hidden: [16] is not a valid integer."),
    (
        ("federation", "kind"),
        "fedavg",
        "federation.kind: unknown algorithm kind 'fedavg'. Did you mean 'fed-a",
    ),
    (
        ("model",),
        {"kind": "module", "path": "m:N", "nrm": 1},
        "model.nrm: module has no knob 'nrm'. Known are allow-code, arguments, path, train, weights",
    ),
    (("model",), {"kind": "mlp", "wieghts": "x"}, "model.wieghts: mlp has no knob 'wieghts'. Did you mean 'weights'?"),
    (("federation", "round"), 3, "federation.round: fed-avg has no knob 'round'. Did you mean 'rounds'?"),
    (
        ("model",),
        {"kind": "logistic", "width": 3},
        "model.width: logistic has no knob 'width'. Known are pool",
    ),
    (("federation", "step_size"), 3, "federation.step_size: fed-avg has no knob 'step_size'."),
    (("federation", "fraction"), 0.0, "federation.fraction: 0.0 is out of range. Use a share of the sites above 0"),
    (("federation", "engine"), "warp", "federation.engine: 'warp' is not 'auto', 'loop', 'pool' or 'stacked'."),
    (("vary", "privacy"), "dp-sgd", "vary.privacy: expected a list, got 'dp-sgd'."),
    (("vary", "privacy", 0, "kind"), "dpsgd", "vary.privacy[0].kind: unknown"),
    (("vary", "privacy", 0, "clp"), 1.0, "vary.privacy[0].clp: dp-sgd has no knob 'clp'. Did you mean 'clip'"),
    (("vary", "privacy", 0, "clip"), -1.0, "vary.privacy[0].clip: -1.0 is out of range. Use a positive number"),
    (("vary", "privacy", 0), ["dp-sgd"], "vary.privacy[0][0]: dp-sgd needs epsilon or noise-multiplier"),
    (("vary", "privacy", 0), [], 'vary.privacy[0]: a choice names no defence. "none" is always a choice.'),
    (("vary", "privacy", 0, "name"), "none", "vary.privacy[0].name: 'none' is no name."),
    (("vary", "privacy", 0, "name"), "a b", "vary.privacy[0].name: 'a b' is no name."),
    (("vary", "privacy", 0, "name"), "static-int8", "vary: choice 'static-int8' stands on two axes."),
    (("vary", "compression"), ["static-int8", "static-int8"], "vary.compression: choice 'static-int8' stands twice."),
    (("vary", "a b"), ["prune"], "vary: axis 'a b' is not a name of letters, digits and dashes."),
    (("attacks",), {"kind": "pgd"}, "attacks: expected a list, got {'kind': 'pgd'}. Write [ ... ] or [[...]]."),
    (("attacks", 0, "kind"), "fgms", "attacks[0].kind: unknown"),
    (("attacks", 0, "steps"), 3, "attacks[0].steps: fgsm has no knob 'steps'."),
    (("attacks", 0, "radius"), "big", "attacks[0].radius: 'big' is not a valid number."),
    (("attacks", 0, "norm"), "l3", "attacks[0].norm: 'l3' is not 'linf', 'l2' or 'l1'."),
    (("attacks", 0, "from"), {}, "attacks[0].from: fgsm crafts on the model itself and takes no other arm."),
    (("attacks", 1, "from"), None, "attacks[1].from: transfer needs the arm it crafts on."),
    (("attacks", 1, "from"), {"privcy": "none"}, "attacks[1].from.privcy: the study varies no 'privcy'."),
    (("attacks", 1, "from"), {"privacy": "dp"}, "attacks[1].from.privacy: axis privacy has no choice 'dp'. Did you"),
    (("attacks", 2), {"kind": "fgsm"}, "attacks.name: two of them are called 'fgsm'. Give one another: name ="),
    (("attacks", 0, "name"), "../x", "attacks[0].name: '../x' is no name. Use letters, digits, dots, dashes."),
    (("corruptions", 0, "kind"), "pgd", "corruptions[0].kind: unknown poisoning kind 'pgd'."),
    (("corruptions", 0, "share"), 2.0, "corruptions[0].share: 2.0 is out of range. Use a share between 0 and 1."),
    (("name",), "a" * 300, f"name: '{'a' * 79}… has 300 characters. Use at most 100."),
    (("attacks", 0, "name"), "a" * 81, f"attacks[0].name: '{'a' * 79}… has 81 characters. Use at most 80."),
    (("vary", "a" * 51), ["prune"], f"vary: '{'a' * 51}' has 51 characters. Use at most 50."),
    (("federation", "rounds"), 10**9, "federation.rounds: 1000000000 is out of range. Use 1 to 1000000 rounds."),
    (("federation", "local-epochs"), 10**9, "federation.local-epochs: 1000000000 is out of range. Use 1 to 10000 ep"),
    (("federation", "workers"), 5000, "federation.workers: 5000 is out of range. Use 1 to 4096 processes, or 0 for"),
    (("federation", "ema"), 1.0, "federation.ema: 1.0 is out of range. Use a decay above 0 and below 1, or 0 for"),
    (("audit",), {"canaries": 10**7}, "audit.canaries: 10000000 is out of range. Use 2 to 1000000 canaries"),
    (("federation",), {"kind": "fed-prox", "mu": 1e7}, "federation.mu: 10000000.0 is out of range. Use 0 to 1e6;"),
    (("federation",), {"kind": "fed-dyn", "alpha": 1e7}, "federation.alpha: 10000000.0 is out of range. Use 1e-6 to"),
    (("federation",), {"kind": "ditto", "lam": 1e7}, "federation.lam: 10000000.0 is out of range. Use 0 to 1e6;"),
    (
        ("vary", "x"),
        [{"kind": "prune", "fine-tune-steps": 10**7}],
        "vary.x[0].fine-tune-steps: 10000000 is out of range. Use 0 to 1000000 steps.",
    ),
    (
        ("vary", "x"),
        [{"kind": "adversarial-training", "share": 2.0}],
        "vary.x[0].share: 2.0 is out of range. Use a probability above 0, at most 1.",
    ),
    (
        ("vary", "x"),
        [[{"kind": "prune", "name": "one"}, {"kind": "round-answer", "name": "two"}]],
        "vary.x[0]: one choice has 2 names. Keep 'one' alone.",
    ),
    (('quo"te\nline',), 1, r'"quo\"te\nline": a study has no'),
    (("x" * 5000,), 1, f'"{"x" * 80}": a study has no \'{"x" * 79}…'),
]


@pytest.mark.parametrize(("path", "value", "line"), CASES, ids=[c[2][:40] for c in CASES])
def test_one_line_names_the_place_and_the_remedy(tables, path, value, line):
    with pytest.raises(Refused) as caught:
        parse(change(tables, path, value))
    said = str(caught.value)
    assert said.startswith(line)
    assert "\n" not in said and len(said) < 500
    assert caught.value.exit_code == 2


def test_a_label_names_no_knob_that_is_not_given(tables):
    private = [{"kind": "dp-sgd", "epsilon": 4.0}, {"kind": "dp-sgd", "noise-multiplier": 1.0}]
    spec = parse(tables | {"vary": {"x": private}, "attacks": []})
    assert [c.label for c in spec.vary["x"]] == ["none", "dp-sgd(epsilon=4.0)", "dp-sgd(noise-multiplier=1.0)"]


def test_choices_of_one_kind_are_told_apart_by_what_differs(tables):
    tables["vary"] = {"x": [{"kind": "prune", "sparsity": s} for s in (0.5, 0.9)] + [{"kind": "prune", "name": "mine"}]}
    tables["attacks"][1]["from"] = {"x": "prune(sparsity=0.5)"}
    spec = parse(tables)
    assert [c.label for c in spec.vary["x"]] == ["none", "prune(sparsity=0.5)", "prune(sparsity=0.9)", "mine"]
    assert spec.attacks[1].source == {"x": "prune(sparsity=0.5)"}
    tables["attacks"][1]["from"] = {"x": "prune"}
    with pytest.raises(Refused, match="axis x has 2 choices that begin with 'prune'"):
        parse(tables)


def test_none_may_be_written_and_changes_nothing(tables):
    bare = parse(tables)
    tables["vary"]["privacy"].insert(0, "none")
    assert parse(tables).vary == bare.vary


def test_a_word_stands_for_a_table(tables):
    tables |= {"model": "logistic", "attacks": ["fgsm"], "corruptions": ["label-flip"], "vary": {"x": ["prune"]}}
    spec = parse(tables)
    assert spec.model.kind() == "logistic" and spec.attacks[0].name == "fgsm"
    assert [c.label for c in spec.vary["x"]] == ["none", "prune"]


def test_too_much_is_refused_at_once(tables):
    with pytest.raises(Refused, match="16384 arms are more than 4096"):
        parse({**tables, "attacks": [], "vary": {f"x{i}": [{"kind": "prune", "name": f"p{i}"}] for i in range(14)}})
    with pytest.raises(Refused, match=r"attacks: 20000 are more than"):
        parse({**tables, "attacks": ["fgsm"] * 20000})
    with pytest.raises(Refused, match="more than 4096"):
        parse({**tables, "vary": {"x": [{"kind": "prune", "sparsity": 1 / i} for i in range(2, 9000)]}})
    deep = []
    for _ in range(100):
        deep = [deep]
    with pytest.raises(Refused, match="tables deep"):
        parse({**tables, "model": {"kind": "module", "path": "a:b", "arguments": {"x": deep}}})


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"name = ", "not TOML"),
        (b"\xff\xfe\x00", "not TOML"),
        (b"a = " + b"9" * 6000, "not TOML"),
        (b"a = " + b"[" * 50_000, "not TOML"),
        (b"a = 1\na = 2", "not TOML"),
        (b"#" * 1_000_001, "a study file is at most 1 MB"),
    ],
    ids=["cut", "binary", "huge-number", "deep", "twice", "huge"],
)
def test_what_is_no_study_file_is_refused_with_its_path(tmp_path, text, line):
    (tmp_path / "s.toml").write_bytes(text)
    with pytest.raises(Refused) as caught:
        read(tmp_path / "s.toml")
    said = str(caught.value)
    assert said.startswith(f"{tmp_path / 's.toml'}: {line}") and "\n" not in said and len(said) < 500


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    for path, why in ((tmp_path, "Is a directory"), (tmp_path / "no.toml", "No such file or directory")):
        with pytest.raises(ConsiliumError, match=why):
            read(path)


@pytest.mark.parametrize(
    ("inside", "beside", "said"),
    [
        (
            {"alpha": 0.1},
            {"alpha": 100.0},
            "data.alpha: alpha stands beside the table partition, which says alpha = 0.1. Take one of them out.",
        ),
        (
            {"alpha": 0.1},
            {"minimum": 1},
            "data.minimum: minimum stands beside the table partition. Say minimum in that table alone.",
        ),
        ({}, {"tries": 3}, "data.tries: tries stands beside the table partition. Say tries in that table alone."),
    ],
)
def test_a_partition_has_its_knobs_in_one_place(tables, inside, beside, said):
    table = {"kind": "dirichlet", **inside}
    for partition in (table, Dirichlet(**inside)):
        with pytest.raises(Refused) as caught:
            parse({**tables, "data": {"kind": "digits", "sites": 3, "partition": partition, **beside}})
        if partition is table:
            assert str(caught.value) == said
    short = {"kind": "digits", "sites": 3, "partition": "dirichlet", **beside, **inside}
    long = {"kind": "digits", "sites": 3, "partition": {"kind": "dirichlet", **inside, **beside} | inside}
    assert parse({**tables, "data": short}).data == parse({**tables, "data": long}).data


def test_the_study_s_own_algorithm_has_no_second_name(tables):
    varied = {"x": [{"kind": "fed-avg", "name": "mine"}, "scaffold"]}
    with pytest.raises(Refused, match="'mine' is the study's own algorithm, which an axis shows as 'fed-avg'"):
        parse({**tables, "federation": "fed-avg", "vary": varied, "attacks": []})


def test_an_entry_whose_class_is_not_that_of_its_room_is_refused(monkeypatch):
    """A plugin of the group of sources that is a partition would fail far from its cause."""
    assert entry({"kind": "iid"}, "data", "data/partitions") == IID()
    monkeypatch.setattr(toml_binding, "load_entry", lambda card: IID)
    with pytest.raises(Refused, match="digits stands in data/sources, and its class Digits is no Source"):
        entry({"kind": "digits"}, "data", "data/sources")
