"""From the words of a study to data, networks, exchanges and engines."""
