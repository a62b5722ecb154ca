"""All topics, in the order in which they are talked about."""

from installer.guided.conversation import Topic
from installer.guided.topics import (
    disks,
    encryption,
    guests,
    host,
    keyboard,
    more,
    network,
    passthrough,
    people,
    phase,
    tier,
    welcome,
)

TOPICS = (
    Topic("welcome", welcome.title, welcome.dialogue),
    Topic("keyboard", keyboard.title, keyboard.dialogue),
    Topic("network", network.title, network.dialogue),
    Topic("disks", disks.title, disks.dialogue),
    Topic("encryption", encryption.title, encryption.dialogue),
    Topic("host", host.title, host.dialogue),
    Topic("users", people.title, people.dialogue),
    Topic("hypervisor", tier.title, tier.dialogue),
    Topic("passthrough", passthrough.title, passthrough.dialogue),
    Topic("guests", guests.title, guests.dialogue),
    Topic("security", phase.title, phase.dialogue),
    Topic("more", more.title, more.dialogue),
)
NAMES = tuple(topic.name for topic in TOPICS)
"""What `interactive` in an answer file may list."""
