"""The user's texts: what is read of a CSV and of a folder, what is public, and each refusal by its row or file."""

import gzip
import re

import pytest
import torch

from consilium.core.errors import Refused
from consilium.core.random import Stream
from consilium.data.division.sites import gather
from consilium.data.partitions.by_key import ByKey
from consilium.data.partitions.iid import IID
from consilium.data.sources.text import Text
from consilium.learn.tasks.single_label import SingleLabel

ROWS = 'text,label,site,who\n"Chest pain,\nsevere",ill,north,P1\nno pain,well,south,P2\nseen today,well,south,P2\n'


@pytest.fixture
def csv(tmp_path):
    (tmp_path / "words.txt").write_text("pain\nchest\nno\nseen\n")

    def write(content=ROWS, vocabulary=str(tmp_path / "words.txt"), **more):
        path = tmp_path / "notes.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return Text(str(path), vocabulary, **{"length": 4, **more})

    return write


def refusal(source):
    with pytest.raises(Refused) as caught:
        source.load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def gathered(source, partition=None, sites=1, public=0.0):
    shares = {"validation": 0.1, "test": 0.2, "non_members": 0.1}
    return gather(source, partition or IID(), SingleLabel(), sites=sites, public=public, stream=Stream(0), **shares)


def test_columns_become_ids_labels_sites_and_patients(csv) -> None:
    data = csv(site="site", patient="who", classes=("well", "ill")).load()
    assert data.records.x.tolist() == [[3, 2, 1, 0], [4, 2, 0, 0], [5, 1, 0, 0]]
    assert data.records.y.tolist() == [1, 0, 0]
    assert (data.key_names, data.unit_names) == (("north", "south"), ("P1", "P2"))
    assert data.records.units.tolist() == [0, 1, 1]
    assert data.inputs.tokens == 6
    assert data.inputs.patients
    assert not data.fitted_on_private
    assert data.classes == ("well", "ill")


def test_a_gzipped_file_is_the_same(csv, tmp_path) -> None:
    plain = csv().load()
    (tmp_path / "notes.csv.gz").write_bytes(gzip.compress(ROWS.encode()))
    packed = Text(str(tmp_path / "notes.csv.gz"), str(tmp_path / "words.txt"), length=4).load()
    assert torch.equal(plain.records.x, packed.records.x)


def test_texts_that_are_cut_are_counted_by_site(csv) -> None:
    data = csv(site="site", length=2).load()
    assert [one.line() for one in data.omitted] == ["1 texts cut to their first 2 words (site north)"]


def test_unknown_words_are_counted_by_site(csv) -> None:
    known = ("pain", "chest", "no", "seen")
    rows = [f"{known[k % 4]} {known[k // 4 % 4]} {known[k // 16 % 4]} new {known[k % 3]}" for k in range(48)]
    labelled = (f"{row},{'ab'[k % 2]},{'ns'[k // 24]}\n" for k, row in enumerate(rows))
    data = gathered(csv("text,label,site\n" + "".join(labelled), site="site", length=8), ByKey(), sites=2)
    assert [one.line() for one in data.omitted] == [
        f"24 of 120 words are not in the vocabulary and read as unknown (site {site})" for site in "ns"
    ]


def test_texts_that_read_alike_in_the_list_are_duplicates(csv) -> None:
    rows = [
        *(f"no pain x{k},{'ab'[k % 2]}" for k in range(9)),
        *(f"seen {w},a" for w in ("pain", "chest", "no", "seen")),
    ]
    with pytest.raises(Refused, match="class 'b' is lost whole"):
        gathered(csv("text,label\n" + "\n".join(rows)))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("text,label\nok,a\n...,b\n", "row 2 holds no word"),
        ("text,label\nok,a\nfine\n", "row 2 of .* has 1 fields, the row of names 2"),
        ("text,label\nok,a\nfine, \n", "row 2 has no label"),
        (b"text,label\nok,a\n\xe9t\xe9,b\n", "line 3 of .* is not UTF-8 .byte 0xe9"),
        ("text,label\nok,a\nna\0me,b\n", "line 3 of .* NUL"),
        ('text,label\nok,a\n"open,b\n', "no row of a CSV"),
        ("text,label\n", "no rows below the names"),
        ("", "is empty"),
        ("note,label\nok,a\n", "there is no column 'text'"),
        ("text,label,text\nok,a,b\n", "two columns of .* are called 'text'"),
        ("text,label\nok,Ill\nfine,ill\n", "'Ill'"),
    ],
)
def test_malformed_files_are_refused_by_row(csv, content, complaint) -> None:
    assert re.search(complaint, refusal(csv(content)))


def test_labels_that_are_not_declared_and_empty_patients(csv) -> None:
    assert "row 1 has the label 'ill', which is not declared" in refusal(csv(classes=("well", "sick")))
    assert "row 2 has an empty name" in refusal(csv("text,label,who\na,x,P1\nb,y,\n", patient="who"))


def test_empty_texts_are_left_out_where_the_study_says_so_but_never_a_whole_class(csv) -> None:
    rows = "text,label\npain,a\n--,b\nno,b\n"
    data = csv(rows, drop_empty=True).load()
    assert len(data.records) == 2
    assert [one.line() for one in data.omitted] == ["1 texts without a word, left out"]
    assert "class 'b' is lost whole" in refusal(csv("text,label\npain,a\n--,b\n", drop_empty=True))


def test_bounds(csv) -> None:
    assert "more than max-bytes = 10" in refusal(csv(max_bytes=10))
    for knobs in ({"length": 0}, {"text": "label"}, {"separator": ""}, {"classes": ("one",)}):
        with pytest.raises(Refused, match="is out of range"):
            csv(**knobs)


def test_a_folder_of_texts(csv, tmp_path) -> None:
    csv()
    for split, label, name, text in [
        ("train", "ill", "n-P1-1.txt", "chest pain"),
        ("train", "well", "s-P2-1.txt", "no pain"),
        ("test", "ill", "s-P3-1.txt", "pain"),
        ("test", "ill", "scan.pdf", "?"),
    ]:
        (tmp_path / "d" / split / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / split / label / name).write_text(text)
    source = Text(str(tmp_path / "d"), str(tmp_path / "words.txt"), site=r"^(\w)-", patient=r"-(P\d+)-", length=3)
    data = source.load()
    assert data.records.x.tolist() == [[2, 0, 0], [3, 2, 0], [4, 2, 0]]
    assert (data.split.tolist(), data.key_names) == ([2, 0, 0], ("n", "s"))
    assert data.unit_names == ("P1", "P2", "P3")
    assert [one.line() for one in data.omitted] == ["1 files not read: .pdf is not .txt: test/ill/scan.pdf"]
    (tmp_path / "d" / "train" / "ill" / "n-P4-1.txt").write_bytes(b"ok\n\xff")
    assert "line 2 of" in refusal(source)
    assert "separator = ';' does nothing where the path is a folder" in refusal(
        Text(str(tmp_path / "d"), "x", separator=";")
    )


def coded(k):
    """Six words of two, which tell 64 texts apart."""
    return " ".join("yes" if k >> bit & 1 else "no" for bit in range(6))


def test_the_public_slice_alone_decides_its_words(csv) -> None:
    """Words of private records alone read as unknown, and numbers do not depend on private texts."""
    rows = [f"{coded(k)} w{k},{'ab'[k % 2]}" for k in range(60)]
    read = {"vocabulary": "public", "length": 7}
    data = gathered(csv("text,label\n" + "\n".join(rows) + "\n", **read), public=0.3)
    public = data.public.ids.tolist()
    assert data.inputs.tokens == 2 + 2 + len(public)
    assert not (data.public.x == 1).any()
    assert not data.fitted_on_private
    train = data.sites[0].records.train
    assert (train.x[:, 6] == 1).all()
    assert (train.x[:, :6] < 4).all()  # the two most frequent ones
    changed = [row if k in public else row.replace("w", "v") for k, row in enumerate(rows)]
    again = gathered(csv("text,label\n" + "\n".join(changed) + "\n", **read), public=0.3)
    assert torch.equal(again.public.x, data.public.x)
    assert again.inputs == data.inputs


def test_texts_that_differ_in_private_words_alone_are_duplicates(csv) -> None:
    rows = [f"{coded(k)},{'ab'[k % 2]}" for k in range(60)] + [f"yes only{k},a" for k in range(9)]
    data = gathered(csv("text,label\n" + "\n".join(rows) + "\n", vocabulary="public", length=7), public=0.1)
    pools = [data.test, data.public, *vars(data.sites[0].records).values()]
    x = torch.cat([pool.x for pool in pools])
    assert len(torch.unique(x, dim=0)) == len(x)
    assert sum(data.removed.values()) == len(rows) - len(x) > 0
    assert all("alike in public words" in place for place in data.removed)


def test_public_words_need_a_public_slice(csv) -> None:
    rows = [f"{coded(k)},{'ab'[k % 2]}" for k in range(60)]
    with pytest.raises(Refused, match=r"Set data\.public"):
        gathered(csv("text,label\n" + "\n".join(rows) + "\n", vocabulary="public", length=7))


def test_words_of_the_records_are_marked(csv) -> None:
    data = csv(vocabulary="records").load()
    assert data.fitted_on_private
    assert "the vocabulary was read from the records" in data.notes[0]


def test_a_vocabulary_of_which_no_text_has_a_word_is_noted(tmp_path):
    (tmp_path / "notes.csv").write_text("text,label\nall well,well\nvery ill,ill\n")
    (tmp_path / "words.txt").write_text("gesund\nkrank\n")
    source = Text(str(tmp_path / "notes.csv"), str(tmp_path / "words.txt"))
    assert "no text has a word of the vocabulary" in source.load().cautions[0]
    (tmp_path / "words.txt").write_text("gesund\nill\n")
    assert source.load().cautions == ()
