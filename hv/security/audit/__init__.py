"""How well a running host is protected: checks that look, each with evidence and a remedy."""
