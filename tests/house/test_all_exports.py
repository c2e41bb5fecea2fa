"""Every module's ``__all__`` is what it shows, and what it shows is there."""

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest

import consilium
import house

SOURCE = Path(consilium.__file__).parent
MODULES = sorted(m.name for m in pkgutil.walk_packages([str(SOURCE)], "consilium.") if not m.name.endswith("__main__"))


def test_every_module_lists_what_it_shows():
    assert list(house.exports(SOURCE.rglob("*.py"))) == []


@pytest.mark.parametrize("name", ["consilium", *MODULES])
def test_every_listed_name_is_there(name):
    module = importlib.import_module(name)
    assert [n for n in getattr(module, "__all__", ()) if not hasattr(module, n)] == []
    assert len(set(getattr(module, "__all__", ()))) == len(getattr(module, "__all__", ()))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("def shown(): pass\n", "__all__ is missing"),
        ('__all__ = ["a"]\ndef a(): pass\nB = 1\n', "B is visible"),
        ('__all__ = ["a", "gone"]\ndef a(): pass\n', "gone is in __all__"),
        ('__all__ = ["a"]\ntry:\n    a = 1\nexcept ImportError:\n    b = 2\nelse:\n    c = 3\n', "c is visible"),
    ],
)
def test_a_planted_gap_is_found(tmp_path, text, complaint):
    (tmp_path / "planted.py").write_text(text)
    assert complaint in "\n".join(house.exports([tmp_path / "planted.py"]))


def test_private_names_and_type_variables_do_not_count():
    tree = ast.parse("T = TypeVar('T')\n_x = 1\ntable = {}\ntable['k'] = 1\nclass A: pass\n")
    assert house.public_names(tree, package=False) == {"table", "A"}


def test_a_package_shows_what_it_takes_from_below():
    tree = ast.parse("from .x import y as z\nimport os\nif TYPE_CHECKING:\n    from .w import v\n")
    assert house.public_names(tree, package=True) == {"z", "v"}
