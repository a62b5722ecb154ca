"""hv-hostd, root's helper of the broker: the few things that need root, each a typed verb from a closed set.

Nobody but the broker's account (and root) may ask. No request names a path, a program or an argument of one.
"""
