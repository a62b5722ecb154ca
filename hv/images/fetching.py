"""A template's image on this machine: fetched, verified against what its vendor vouches for, whole."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

from hv.firstrun.world import Programs
from hv.images.template import Source, Template, Trust, TrustRule, beside
from hv.images.verify import Sum, digest, require_signature, require_sum, signed_text, sum_of
from installer.download import Cache, Progress
from installer.errors import Exit, HyperError


@dataclass(frozen=True)
class Image:
    """An image that is what its vendor published."""

    path: Path
    """Where it is."""
    format: str
    """As qemu-img names it, or `iso`."""
    url: str
    """Where it came from."""
    sha256: str
    """Of the file, as it was verified."""
    vouched: str
    """By what it was recognised, for people."""


def require_consent(template: Template, *, unsigned: bool) -> None:
    """Raises HyperError where nobody signs a template's checksums, and nobody said that they will do."""
    if template.trust is not None and not template.trust.kind.signed and not unsigned:
        raise HyperError(
            f"The image of {template.name} has no signature.",
            why="its vendor publishes checksums that nobody signed: whoever controls its server, or a certificate for "
            "its name, can give you another system",
            remedy="If that will do, say so with --unsigned; `hv image templates` shows which have signatures.",
            code=Exit.consent,
        )


def fetch(
    template: Template,
    architecture: str,
    cache: Cache,
    programs: Programs,
    *,
    unsigned: bool = False,
    say: Callable[[str], None] = lambda _text: None,
    progress: Progress = lambda _there, _all: None,
) -> Image:
    """The image. Raises HyperError; a file that is not what it should be is not kept.

    Args:
        template: What is wanted.
        architecture: As the kernel names it, x86_64.
        cache: Where files stay.
        programs: Runs gpg(1).
        unsigned: Whether checksums that nobody signed will do.
        say: Told of each step.
        progress: Told of the bytes of the image.
    """
    source, rule = template.source(architecture), template.trust
    assert rule is not None, "the model has it with `image`"
    require_consent(template, unsigned=unsigned)
    name, told = source.name, None
    if rule.kind is not Trust.signed_image:
        name, told = _listed(source, rule, cache, programs, say)
    url = urljoin(source.url, name)
    kept = cache.path(url)
    if told is not None and kept.exists() and digest(kept, told.algorithm) != told.digest:
        say(f"{name} was replaced by its vendor")
        cache.forget(url)
    say(f"{name}: from {url}")
    path = cache.fetch(url, progress)
    try:
        if told is not None:
            require_sum(path, told, name)
        else:
            _require_own_signature(path, url, rule, cache, programs)
    except HyperError:
        cache.forget(url)
        raise
    return Image(path, source.format, url, digest(path, "sha256"), _vouched(rule))


def _listed(
    source: Source, rule: TrustRule, cache: Cache, programs: Programs, say: Callable[[str], None]
) -> tuple[str, Sum]:
    """The file's name and sum, out of a list that its vendor vouches for."""
    where = beside(source, source.sums or rule.sums or f"{source.name}{rule.suffix}")
    say(f"checksums: from {where}")
    listed = cache.fetch_small(where)
    if rule.kind is Trust.https_sums:
        text = listed.decode(errors="replace")
    else:
        with tempfile.TemporaryDirectory(prefix="hv-sums-") as folder:
            file = Path(folder, where.split("?")[0].rpartition("/")[2] or "sums")
            file.write_bytes(listed)
            key = cache.fetch_small(rule.key or "")
            if rule.kind is Trust.clear_signed_sums:
                text = signed_text(file, key, rule.fingerprints, programs)
            else:
                signature = Path(folder, "signature")
                signature.write_bytes(cache.fetch_small(beside(source, rule.signature or "")))
                require_signature(file, signature, key, rule.fingerprints, programs)
                text = listed.decode(errors="replace")
    say(f"checksums: {_vouched(rule)}")
    return sum_of(text, source.name, source.pattern)


def _require_own_signature(path: Path, url: str, rule: TrustRule, cache: Cache, programs: Programs) -> None:
    with tempfile.TemporaryDirectory(prefix="hv-signature-") as folder:
        signature = Path(folder, "signature")
        signature.write_bytes(cache.fetch_small(url + (rule.suffix or "")))
        require_signature(path, signature, cache.fetch_small(rule.key or ""), rule.fingerprints, programs)


def _vouched(rule: TrustRule) -> str:
    if rule.kind.signed:
        return f"signed by {' or '.join(rule.fingerprints)}"
    return "from the vendor's server by https, signed by nobody"
