"""What is talked about, a file a topic; `catalogue.py` has them in order."""
