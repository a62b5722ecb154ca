"""hvd, the broker: the one program that speaks to libvirt for people.

It listens on a unix socket, asks the kernel who is calling, decides by role and ownership, writes every operation down,
and is the only one that builds definitions of guests. What people send are typed values; no definition, path, program
or argument of theirs ever reaches libvirt.
"""
