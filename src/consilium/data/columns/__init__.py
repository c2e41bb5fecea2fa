"""What the columns of a table hold: spellings, numbers, categories, answers and attributes, as they become features."""
