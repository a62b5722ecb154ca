"""Plans: what will be done to a machine, decided purely from facts, answers and the medium."""
