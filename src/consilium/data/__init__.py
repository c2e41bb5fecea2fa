"""Sources, partitions and the pools of a consortium."""
