"""Answers: what a person wants of a machine. The model is the answer file, the schema and the questions."""
