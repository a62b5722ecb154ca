"""The keys of an authorized_keys(5) file."""

from installer import embed
from installer.answers.ssh_key import fingerprint, parse_ssh_key


def public_keys(text: bytes) -> tuple[str, ...]:
    """Fingerprint and comment of each key in an authorized_keys(5) file. Raises HyperError for a line that is none."""
    found = []
    for number, line in enumerate(text.decode(errors="replace").splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            key = parse_ssh_key(line)
        except ValueError as error:
            raise embed.refusal(f"line {number} of {embed.KEYS} {error}") from error
        found.append(f"{fingerprint(key.blob)} {key.comment}".rstrip())
    return tuple(found)
