"""The rule for commit messages, on planted ones; scripts/house.py judges the history itself, where there is one."""

import subprocess

import pytest

import commits


@pytest.mark.parametrize(
    "subject",
    [
        "Add the l1 ball",
        "Feed each shadow its own seed",
        "Pass the stream",
        "Focus on one",
        "Bring back x",
        "Need less",
    ],
)
def test_an_order_with_a_reason_is_fine(subject):
    assert list(commits.faults(subject, "It was missing.")) == []


@pytest.mark.parametrize(
    ("subject", "body", "fault"),
    [
        ("A" * 73, "Why.", "73 characters"),
        ("add the ball", "Why.", "capital letter"),
        ("Add the ball.", "Why.", "full stop"),
        ("Added the ball", "Why.", "imperative"),
        ("Adding the ball", "Why.", "imperative"),
        ("Adds the ball", "Why.", "imperative"),
        ("Add the ball", "", "no body"),
        ("Add the ball", "Signed-off-by: A <a@example.org>", "no body"),
        ("", "Why.", "capital letter"),
    ],
)
def test_a_fault_is_found(subject, body, fault):
    assert any(fault in complaint for complaint in commits.faults(subject, body))


def git(folder, *words):
    name = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    subprocess.run(["git", "-C", str(folder), *name, *words], check=True, capture_output=True)


def test_a_history_is_judged_from_its_start(tmp_path, monkeypatch):
    git(tmp_path, "init")
    git(tmp_path, "commit", "--allow-empty", "-m", "whatever stood before")
    git(tmp_path, "tag", "start")
    monkeypatch.setattr(commits, "START", "start")
    git(tmp_path, "commit", "--allow-empty", "-m", "Add a thing", "-m", "It was missing:\n\nin two places.")
    assert commits.bare_commits(tmp_path) == []
    git(tmp_path, "commit", "--allow-empty", "-m", "Added another")
    assert len(commits.bare_commits(tmp_path)) == 2


def test_without_the_history_nothing_is_judged(tmp_path):
    assert commits.bare_commits(tmp_path) is None
    git(tmp_path, "init")
    git(tmp_path, "commit", "--allow-empty", "-m", "a shallow clone")
    assert commits.bare_commits(tmp_path) is None
