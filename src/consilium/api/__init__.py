"""Studies in Python: tables or objects in; results as cells, tables and figures out."""
