"""Change pictures as cameras, prints, light and files do."""
