"""Attribution and pathways."""
