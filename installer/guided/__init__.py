"""The guided installation: a conversation that ends in an answer file.

Topics (`topics/`) are dialogues without a terminal: pure generators that yield questions and get answers. The
conversation (`conversation.py`) leads through them, forwards and back; a front (`screen.py`, `plain.py`) puts them to a
person; the world (`world.py`) does the little that has to be done while asking.
"""
