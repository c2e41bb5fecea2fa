"""A reader takes in a folder at a glance: at most 15 files, catalogue rooms and the nouns of core aside."""

from pathlib import Path

from consilium.core.catalogue import ROOMS

PACKAGE = Path(__file__).parents[2] / "src" / "consilium"
MOST = 15


def crowded(package: Path, excused: set[str]) -> list[str]:
    folders = {path.parent.relative_to(package) for path in package.rglob("*.py")}
    sizes = {folder.as_posix(): len(list((package / folder).glob("*.py"))) for folder in folders}
    return sorted(folder for folder, size in sizes.items() if size > MOST and folder not in excused)


def test_no_folder_is_crowded():
    assert crowded(PACKAGE, {*ROOMS, "core"}) == []


def test_a_crowded_one_is_found(tmp_path):
    for number in range(MOST + 1):
        path = tmp_path / "full" / f"file_{number}.py"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "full" / "deep").mkdir()
    (tmp_path / "full" / "deep" / "one.py").touch()
    assert crowded(tmp_path, set()) == ["full"] and crowded(tmp_path, {"full"}) == []
