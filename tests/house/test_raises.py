"""Public docstrings name the errors that a function raises; and the list of files that do not yet only shrinks."""

import pytest

import house

SOURCE = [path for path in house.tracked() if path.suffix == ".py" and house.ROOT / "src" in path.parents]
PACKAGE = house.ROOT / "src" / "consilium"
RAISE = "    raise Refused('x')\n"


def complaints(folder, text, not_yet=()):
    path = folder / "planted.py"
    path.write_text(text)
    return list(house.unraised([path], folder, not_yet))


def test_public_docstrings_name_what_is_raised():
    assert list(house.unraised(SOURCE, PACKAGE)) == []


@pytest.mark.parametrize(
    "text",
    [
        f"__all__ = ['f']\ndef f():\n    'No word of it.'\n{RAISE}",
        f"__all__ = ['f']\ndef f():\n    'Raises Failed: never.'\n{RAISE}",
        f"__all__ = ['f']\ndef f():\n    'Raises Refused where x.'\n{RAISE}",
        f"__all__ = ['f']\nasync def f():\n    'No word of it.'\n    if x:\n    {RAISE}",
        f"__all__ = ['A']\nclass A:\n    'Raises Refused: in a method.'\n    def f(self):\n        'x'\n    {RAISE}",
        "__all__ = ['f']\ndef f():\n    'No word of it.'\n    raise errors.Unlawful('x', law=1)\n",
    ],
)
def test_an_error_that_is_not_named_is_a_complaint(tmp_path, text):
    (complaint,) = complaints(tmp_path, text)
    assert "say when: 'Raises" in complaint


@pytest.mark.parametrize(
    "text",
    [
        f"__all__ = ['f']\ndef f():\n    'Raises Refused: always.'\n{RAISE}",
        f"__all__ = ['f']\ndef f():\n    '''First.\n\n    Raises Refused: always.\n    '''\n{RAISE}",
        f"__all__ = []\ndef f():\n    'Not public.'\n{RAISE}",
        f"__all__ = ['f']\ndef f():\n    'x'\n    def inner():\n    {RAISE}",
        "__all__ = ['f']\ndef f():\n    'Of Python, not ours.'\n    raise ValueError('x')\n",
        "__all__ = ['f']\ndef f():\n    'Again.'\n    raise\n",
    ],
)
def test_what_names_its_errors_or_raises_none_of_ours_is_fine(tmp_path, text):
    assert complaints(tmp_path, text) == []


def test_the_functions_of_the_command_line_are_left_alone(tmp_path):
    (tmp_path / "cli").mkdir()
    assert complaints(tmp_path / "cli", f"__all__ = ['f']\ndef f():\n    'Help.'\n{RAISE}") == []


def test_a_listed_file_may_until_it_is_finished(tmp_path):
    text = f"__all__ = ['f']\ndef f():\n    'No word of it.'\n{RAISE}"
    assert complaints(tmp_path, text, ["planted.py"]) == []
    assert (
        "take planted.py out"
        in complaints(tmp_path, text.replace("No word of it", "Raises Refused: always"), ["planted.py"])[0]
    )
    assert "gone.py" in complaints(tmp_path, "__all__ = []\n", ["gone.py"])[0]
