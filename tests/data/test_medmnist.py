"""Which MedMNIST file is used, that it is the one it says, and how it is fetched, from a server on this machine."""

import hashlib
import http.server
import io
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from consilium.core.errors import Refused
from consilium.data.files.download import download
from consilium.data.sources import _medmnist
from consilium.data.sources._medmnist_facts import FACTS, REBUILT
from consilium.data.sources.med_mnist import MedMNIST
from consilium.data.sources.pneumonia_mnist import PneumoniaMNIST


def content(size=28, labels=2, channels=()):
    rng, buffer, arrays = np.random.default_rng(0), io.BytesIO(), {}
    for name, n in (("train", 20), ("val", 6), ("test", 8)):
        arrays[f"{name}_images"] = rng.integers(0, 256, (n, size, size, *channels), dtype=np.uint8)
        arrays[f"{name}_labels"] = (np.arange(n) % labels)[:, None].astype(np.uint8)
    np.savez(buffer, **arrays)
    return buffer.getvalue()


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A machine with an empty home and an empty CONSILIUM_DATA, and no network."""
    for name in ("home", "data"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CONSILIUM_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(_medmnist, "URL", "http://127.0.0.1:9/{file}")
    return tmp_path


def publish(monkeypatch, data, name="pneumoniamnist"):
    """Make ``data`` the published file."""
    monkeypatch.setitem(FACTS, name, replace(FACTS[name], md5={28: hashlib.md5(data).hexdigest(), 64: "none"}))


@pytest.fixture
def served():
    """A server of one file; yields its address and what it answers."""
    answer = {"status": 200, "body": b""}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(answer["status"])
            self.send_header("Content-Length", str(len(answer["body"]) + answer.get("short", 0)))
            self.end_headers()
            self.wfile.write(answer["body"])

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{{file}}", answer
        server.shutdown()


def test_a_given_path_is_taken_as_it_is_and_said_not_to_be_official(bare):
    path = bare / "mine.npz"
    path.write_bytes(content())
    dataset = PneumoniaMNIST(path=str(path)).load()
    assert dataset.records.x.shape == (34, 1, 28, 28) and dataset.classes == ("normal", "pneumonia")
    assert torch.bincount(dataset.split).tolist() == [20, 6, 8]
    assert dataset.provenance == f"{path}, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert dataset.notes[-1].startswith("not the official file (md5 differs), its counts are [20, 6, 8]")
    assert (dataset.name, dataset.bundled) == ("pneumonia-mnist", False)


def test_the_data_folder_comes_before_the_home(bare, monkeypatch):
    data = content()
    publish(monkeypatch, data)
    home = bare / "home" / ".medmnist" / "pneumoniamnist.npz"
    home.parent.mkdir()
    home.write_bytes(data)
    assert PneumoniaMNIST().load().provenance.startswith(f"{home}, sha256")
    rebuilt = bare / "data" / "pneumoniamnist_rebuilt.npz"
    rebuilt.write_bytes(data)
    assert PneumoniaMNIST().load().provenance.startswith(f"{rebuilt}, sha256")
    own = bare / "data" / "pneumoniamnist.npz"
    own.write_bytes(data)
    dataset = PneumoniaMNIST().load()
    assert dataset.provenance.startswith(f"{own}, sha256")
    assert dataset.notes[-1] == "the official file: its md5 is the published one"


def test_a_found_file_that_is_not_the_published_one_is_refused_by_name(bare):
    path = bare / "data" / "pneumoniamnist.npz"
    path.write_bytes(content())
    with pytest.raises(Refused) as caught:
        PneumoniaMNIST().load()
    assert f"{path} is not the published pneumoniamnist" in str(caught.value)
    assert "name it by path" in caught.value.remedy


def test_without_file_or_network_one_line_says_where_to_put_it(bare):
    with pytest.raises(Refused) as caught:
        MedMNIST(name="bloodmnist").load()
    said = str(caught.value)
    assert "http://127.0.0.1:9/bloodmnist.npz could not be fetched" in said and "\n" not in said
    assert f"put it at {bare}/home/.medmnist/bloodmnist.npz, or name it by path" in said
    assert not list((bare / "home" / ".medmnist").iterdir())


def test_a_missing_file_is_fetched_checked_and_kept(bare, monkeypatch, served, capsys):
    url, answer = served
    answer["body"] = content()
    publish(monkeypatch, answer["body"])
    monkeypatch.setattr(_medmnist, "URL", url)
    dataset = PneumoniaMNIST().load()
    kept = bare / "home" / ".medmnist" / "pneumoniamnist.npz"
    assert dataset.provenance.startswith(str(kept)) and kept.read_bytes() == answer["body"]
    assert [file.name for file in kept.parent.iterdir()] == ["pneumoniamnist.npz"]
    assert capsys.readouterr().out == ""
    answer["status"] = 500
    assert len(PneumoniaMNIST().load().records) == 34  # nothing is fetched twice


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"status": 404}, "answered 404 Not Found"),
        ({"body": b"another file"}, "gave a file with md5"),
        ({"short": 1000}, "gave a file with md5|could not be fetched"),
    ],
)
def test_a_download_that_goes_wrong_leaves_nothing(tmp_path, served, change, said):
    url, answer = served
    answer["body"] = b"the file"
    md5 = hashlib.md5(answer["body"]).hexdigest()
    answer |= change
    with pytest.raises(Refused, match=said):
        download(url.format(file="x.npz"), tmp_path / "to" / "x.npz", md5 if "short" not in change else "other")
    assert list((tmp_path / "to").iterdir()) == []


def test_a_download_into_a_place_that_cannot_be(tmp_path, served):
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match="could not be fetched"):
        download(served[0].format(file="x.npz"), tmp_path / "file" / "x.npz", "")


def test_colour_labels_and_sizes_are_checked(bare):
    path = bare / "x.npz"
    path.write_bytes(content(channels=(3,), labels=7))
    assert MedMNIST("dermamnist", path=str(path)).load().records.x.shape[1:] == (3, 28, 28)
    with pytest.raises(Refused, match=r"a label outside 0\.\.1"):
        PneumoniaMNIST(path=str(path)).load()
    with pytest.raises(Refused, match=r"images have shape \(3, 28, 28\); the study sets size = 64"):
        MedMNIST("dermamnist", path=str(path), size=64).load()


def test_names_and_knobs():
    with pytest.raises(Refused, match="chestmnist is multi-label"):
        MedMNIST("chestmnist")
    with pytest.raises(Refused, match="Did you mean 'bloodmnist'"):
        MedMNIST("blodmnist")
    with pytest.raises(Refused, match="size: 32 is out of range"):
        PneumoniaMNIST(size=32)
    with pytest.raises(Refused, match="max-bytes"):
        MedMNIST("bloodmnist", max_bytes=0)


def test_the_published_facts_are_whole():
    assert len(FACTS) == 11 and "chestmnist" not in FACTS
    digests = [md5 for facts in FACTS.values() for md5 in facts.md5.values()]
    assert len(set(digests)) == 44 and all(len(md5) == 32 and int(md5, 16) for md5 in digests)
    assert all(sorted(facts.md5) == [28, 64, 128, 224] for facts in FACTS.values())
    assert FACTS["pneumoniamnist"].md5[28] == "28209eda62fecd6e6a2d98b1501bb15f"
    assert all(len(digest) == 64 for digest in REBUILT.values())


def test_the_rebuilt_file(real):
    dataset = PneumoniaMNIST().load()
    assert dataset.provenance.endswith(", sha256 " + REBUILT["pneumoniamnist"])
    assert "train order is not official" in dataset.notes[-1]
    counts = [torch.bincount(dataset.records.y[dataset.split == k]).tolist() for k in range(3)]
    assert counts == [[1214, 3494], [135, 389], [234, 390]]
    assert dataset.records.x.shape == (5856, 1, 28, 28) and dataset.records.x.dtype == torch.float32
    assert MedMNIST("pneumoniamnist").load().name == "pneumoniamnist"
