"""``python -m consilium``."""

from .cli import main

main()
