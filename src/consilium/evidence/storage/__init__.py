"""Evidence written to and read from a folder of a study."""
