"""Devices for guests on the running host: which can go, what goes along, taking them from the host and giving them back."""

from hv.passthrough.verdict import Function, Handover, Verdict, judge, plan

__all__ = ["Function", "Handover", "Verdict", "judge", "plan"]
