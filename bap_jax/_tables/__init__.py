"""Columns of names and strict tables, for training data and for the audit; needs no JAX.

names       values of any kind ─► texts, and which of them are missing
csv_text    CSV files in which no row is lost
arrow       pyarrow without pandas
shown       names as terminals and figures show them
"""
