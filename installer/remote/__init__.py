"""Installs another machine over SSH, from the operator's own computer."""
