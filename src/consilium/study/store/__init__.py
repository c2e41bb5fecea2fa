"""The folder of the evidence, the machine's description in it, and the summary of an error."""
