"""What is verified of records before they are divided: values, names, duplicates, omissions."""
