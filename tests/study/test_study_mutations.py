"""500 mutated study files: each is a study, or is refused in one short line; no traceback, no hang."""

import copy
import tomllib
from importlib.resources import files

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consilium.core.errors import ConsiliumError
from consilium.study.plan.plan import make_plan
from consilium.study.spec.parse import parse, read

QUICKSTART = tomllib.loads((files("consilium.study.spec") / "quickstart.toml").read_text(encoding="utf-8"))
CHEAP = copy.deepcopy(QUICKSTART) | {"model": {"kind": "mlp", "hidden": 4}}
CHEAP["data"] = {"kind": "breast-cancer", "sites": 3, "partition": "iid", "public": 0.05}
CHEAP["vary"]["privacy"] = [{"kind": "dp-sgd", "noise-multiplier": 1.1, "delta": 1e-3, "clip": 1.0}]
CHEAP["federation"]["rounds"] = 2

ROUNDS = {"kind": "fed-avg", "rounds": 1, "batch": 8}
PRIVATE = {"privacy": [{"kind": "dp-sgd", "noise-multiplier": 1.1, "delta": 1e-3, "unit": "patient", "batch": 8}]}
SITES = {"sites": 2, "partition": "iid"}
FINDINGS = {"kind": "generated-findings", "patients": 40, "pictures": 2, "size": 8, "task": {"kind": "multi-label"}}
OVERLAP = {"kind": "masks", "threshold": 0.5}
MASKS = {"kind": "generated-masks", "patients": 30, "slices": 2, "size": 16, "task": OVERLAP}
CONVOLUTION = {"in_channels": 1, "out_channels": 3, "kernel_size": 1}
OTHERS = {
    "findings": {
        "data": {**FINDINGS, **SITES},
        "model": {"kind": "mlp", "hidden": 4},
        "vary": {**PRIVATE, "compression": [{"kind": "static-int8"}]},
        "attacks": [{"kind": "pgd", "radius": 0.1, "steps": 2}, {"kind": "loss-threshold"}],
    },
    "masks": {
        "data": {**MASKS, **SITES},
        "model": {"kind": "module", "path": "torch.nn:Conv2d", "arguments": CONVOLUTION, "allow-code": True},
        "vary": PRIVATE,
        "attacks": [{"kind": "fgsm", "radius": 0.1}],
    },
    "notes": {
        "data": {"kind": "generated-notes", "records": 200, "length": 8, **SITES},
        "model": {"kind": "bag-of-embeddings", "width": 4},
        "vary": {**PRIVATE, "compression": [{"kind": "prune", "sparsity": 0.5}]},
        "attacks": [{"kind": "rmia", "shadows": 2}],
        "audit": {"canaries": 20},
    },
    "parts": {
        "data": {"kind": "breast-cancer", **SITES},
        "model": {"kind": "mlp", "hidden": 4, "train": {"lora": 2, "alpha": 1.0}},
        "vary": {
            "model": [{"train": "head"}, {"train": ["2"]}, {"kind": "logistic"}],
            "privacy": CHEAP["vary"]["privacy"],
        },
        "attacks": [{"kind": "transfer", "radius": 0.1, "from": {"privacy": "none"}}],
    },
}
"""Studies of the other tasks, of words, and of models that train in part."""

WORDS = st.sampled_from(
    [
        *("", "none", "kind", "dp-sgd", "digits", "pgd", "prune", "median", "logistic", "file", "module", "fed-sgd"),
        *("npz", "table", "../..", "/", "~nobody", "a\nb", "é", "\u202e", "\0", "'; drop", "name", "from", "x" * 300),
        *("1e400", "label-flip", "infinity", "true", "null", "\x1b[2J", "{}", "[[", "cuda:7"),
    ]
)
NUMBERS = st.sampled_from(
    [
        *(0, -1, 1, 2, 3, 10**3, 10**6, 10**9, 2**62, 2**63, 10**400, -(2**70), 0.0, -0.5, 0.5, 1.0),
        *(1e-9, 1e-300, 1e308, float("inf"), float("nan"), True, False),
    ]
)


def _nested(inner):
    names = st.one_of(WORDS, st.text(max_size=5))
    return st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3))


JUNK = st.recursive(st.one_of(WORDS, NUMBERS, st.text(max_size=8), st.floats(), st.integers()), _nested, max_leaves=6)


def places(node, path=()):
    """Every place in nested tables and lists."""
    yield path
    if isinstance(node, dict | list):
        for key in node if isinstance(node, dict) else range(len(node)):
            yield from places(node[key], (*path, key))


def at(tables, path):
    for step in path:
        tables = tables[step]
    return tables


@st.composite
def mutated(draw, tables):
    """One to four changes: a value replaced, a key deleted, renamed, doubled or moved, junk added, a number tuned.

    Junk alone is nearly always refused by the parser: numbers that are tuned reach the laws behind it.
    """
    made = copy.deepcopy(tables)
    for _ in range(draw(st.integers(1, 4))):
        change = draw(
            st.sampled_from(["tune", "tune", "replace", "retype", "delete", "rename", "add", "move", "double"])
        )
        every = [p for p in places(made) if p and (change != "tune" or type(at(made, p)) in (int, float))]
        path = draw(st.sampled_from(every or [("name",)]))
        parent, key = at(made, path[:-1]), path[-1]
        if change == "tune" and every:
            parent[key] = draw(st.sampled_from([parent[key] * 2, parent[key] // 2, parent[key] / 2, 1, 0.5, 0]))
        elif change == "replace" or key not in (parent if isinstance(parent, dict) else range(len(parent))):
            parent[key] = draw(JUNK)
        elif change == "retype":
            parent[key] = draw(st.sampled_from([[parent[key]], {"kind": parent[key]}, str(parent[key]), [], {}, 0, ""]))
        elif change == "delete":
            del parent[key]
        elif change == "rename" and isinstance(parent, dict):
            parent[draw(st.one_of(WORDS, st.just(str(key)[:-1]), st.text(max_size=5)))] = parent.pop(key)
        elif change == "add" and isinstance(parent, dict):
            parent[draw(st.one_of(WORDS, st.text(max_size=5)))] = draw(JUNK)
        elif change == "double" and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[key]))
        else:
            other = draw(st.sampled_from([p for p in places(made) if p]))
            parent[key] = copy.deepcopy(at(made, other))
    return made


def lawful_or_one_line(act):
    try:
        return act()
    except ConsiliumError as error:
        line = str(error)
        assert line.isprintable() or all(c == "\u202e" or c.isprintable() for c in line), repr(line)
        assert len(line) < 1000 and error.exit_code == 2
        return None


GENTLE = {"deadline": None, "derandomize": True, "database": None, "suppress_health_check": list(HealthCheck)}


def test_500_mutated_studies_are_parsed_or_refused(within):
    parsed = []

    @settings(max_examples=500, **GENTLE)
    @given(tables=mutated(QUICKSTART))
    def one(tables):
        with within(5):
            parsed.append(lawful_or_one_line(lambda: parse(tables)))

    one()
    assert len(parsed) >= 500 and 25 <= sum(spec is not None for spec in parsed) <= 475


@settings(max_examples=100, **GENTLE)
@given(tables=mutated(QUICKSTART))
def test_mutated_files_are_read_or_refused(tables, as_toml, tmp_path_factory, within):
    path = tmp_path_factory.mktemp("mutated", numbered=True) / "s.toml"
    path.write_text(as_toml(tables), encoding="utf-8", errors="surrogatepass")
    with within(5):
        lawful_or_one_line(lambda: parse(read(path)))


@settings(max_examples=300, **GENTLE)
@given(data=st.data())
def test_mutated_text_is_read_or_refused(data, tmp_path_factory, within):
    """Bytes cut, doubled, swapped or put anywhere into the quickstart's file."""
    text = (files("consilium.study.spec") / "quickstart.toml").read_bytes()
    for _ in range(data.draw(st.integers(1, 5))):
        start = data.draw(st.integers(0, max(0, len(text) - 1)))
        end = min(len(text), start + data.draw(st.integers(0, 40)))
        middle = data.draw(
            st.one_of(st.binary(max_size=6), st.just(text[start:end] * 2), st.sampled_from([b"[", b'"', b"=", b"{}"]))
        )
        text = text[:start] + middle + text[end:]
    path = tmp_path_factory.mktemp("text", numbered=True) / "s.toml"
    path.write_bytes(text)
    with within(5):
        lawful_or_one_line(lambda: parse(read(path)))


def test_mutated_studies_are_planned_or_refused(within):
    planned = []

    @settings(max_examples=100, **GENTLE)
    @given(tables=mutated(CHEAP))
    def one(tables):
        with within(30):
            planned.append(lawful_or_one_line(lambda: make_plan(parse(tables))))

    one()
    assert 5 <= sum(plan is not None and bool(plan.cells) for plan in planned) <= 95


def planned(name, count, within):
    """How many of ``count`` mutated studies are planned; the others are refused in a line."""
    base, plans = {"name": name, "threads": 1, "federation": ROUNDS, **OTHERS[name]}, []

    @settings(max_examples=count, **GENTLE)
    @given(tables=mutated(base))
    def one(tables):
        with within(60):
            plans.append(lawful_or_one_line(lambda: make_plan(parse(tables))))

    one()
    return sum(plan is not None and bool(plan.cells) for plan in plans), len(plans)


@pytest.mark.parametrize("name", OTHERS)
def test_other_studies_are_planned_or_refused(name, within):
    assert planned(name, 12, within)[1] >= 12


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_500_other_studies_are_planned_or_refused(name, within):
    plans, count = planned(name, 125, within)
    assert 5 <= plans < count and count >= 125


@pytest.mark.parametrize("value", [2**62, 10**9, 10**6, 1e300, 1e-300])
@pytest.mark.parametrize(
    "path",
    [
        ("data", "sites"), ("federation", "rounds"), ("federation", "batch"), ("federation", "local-epochs"),
        ("vary", "privacy", 0, "noise-multiplier"), ("vary", "privacy", 0, "clip"), ("vary", "privacy", 0, "delta"),
        ("vary", "privacy", 0, "batch"), ("model", "hidden"), ("max-epsilon",), ("threads",), ("data", "public"),
        ("data", "test"), ("data", "non-members"), ("corruptions", 0, "sites"), ("attacks", 1, "steps"),
        ("federation", "lr"), ("vary", "compression", 0, "calibration"),
    ],
    ids=lambda path: ".".join(map(str, path)) if isinstance(path, tuple) else None,
)  # fmt: skip
def test_extreme_numbers_are_planned_or_refused(path, value, within):
    tables = copy.deepcopy(CHEAP)
    at(tables, path[:-1])[path[-1]] = value
    with within(30):
        plan = lawful_or_one_line(lambda: make_plan(parse(tables)))
    assert plan is None or plan.cells


@pytest.mark.parametrize("epsilon", [1e-300, 1e-9, 1e-3, 1e3, 1e9, 1e300])
def test_extreme_targets_are_planned_or_refused(epsilon, within):
    tables = copy.deepcopy(CHEAP)
    tables["vary"]["privacy"] = [{"kind": "dp-sgd", "epsilon": epsilon, "delta": 1e-3}]
    with within(60):
        lawful_or_one_line(lambda: make_plan(parse(tables)))


def test_the_clock_can_ring(within):
    with pytest.raises(TimeoutError), within(0.05):
        while True:
            pass
