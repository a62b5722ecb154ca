"""Installations on real block devices in one machine of the lab, killed, cut off and faced with faults, again and again."""
