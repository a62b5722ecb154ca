"""The chain: the first source that holds something decides, and what it holds must be good.

A source that holds something unusable ends the search. Going on to the next one would install what a forgotten stick
says because a server was down.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from installer import VERSION
from installer.errors import Exit, HyperError
from installer.execute.files import make_directory, write_file
from installer.facts import Facts
from installer.fetch.look import look
from installer.fetch.package import Package, split, unpack
from installer.fetch.question import Question
from installer.fetch.signature import signer
from installer.fetch.source import Arguments, Found, Passed, Source, place_in, why_not_asked, why_not_trusted
from installer.fetch.world import World
from installer.probe.identity import identity
from installer.web import Client, Place, certificates, failure, verified

SIGNERS = "allowed_signers"
"""Embedded file with the keys that answers must be signed by (ssh-keygen(1), ALLOWED SIGNERS)."""
CA = "ca.pem"
"""Embedded file with certificates to trust beside the system's."""
TOKEN = "secrets/answers-token"  # noqa: S105 -- the name of a file
"""Embedded file with the token for the server."""
UNPOSTED = frozenset({404, 405, 501})
"""What servers say that only hand out files, when something is posted to them."""
GOOD = 200


@dataclass(frozen=True)
class Fetched:
    """Answers, and the way they came."""

    package: Package
    """What came."""
    source: Source
    """Which source won."""
    where: str
    """Where exactly, for people."""
    passed: tuple[Passed, ...]
    """Sources asked before it, and why each did not win."""
    signed_by: str | None
    """Principal whose signature was checked; none: no signers are embedded."""
    arguments: Arguments = field(default_factory=Arguments)
    """What the kernel's command line says."""

    def lines(self) -> tuple[str, ...]:
        """How it came to this, for people and logs."""
        signed = f", signed by {self.signed_by}" if self.signed_by else ""
        return (*(str(each) for each in self.passed), f"{self.source}: answers from {self.where}{signed}")


def fetch(
    world: World, probe: Callable[[], Facts], say: Callable[[str], None]
) -> Fetched | tuple[Passed, ...]:
    """Ask every source in order.

    Args:
        world: Where they are looked for.
        probe: Looks at the machine, if a server must be told.
        say: Told what is going on.

    Returns:
        The answers; or, when no source holds any, why not each.

    Raises:
        HyperError: a source holds something that cannot be taken (Exit.fetch).
    """
    problem = world.embedded("problem")
    if problem is not None:
        # Nor from elsewhere: who must have signed them stood in it.
        raise HyperError(
            "what was embedded into this medium is not taken, so no answers are",
            why=problem.decode(errors="replace"),
            remedy="embed the files again, or write the medium anew",
            code=Exit.fetch,
        )
    arguments = Arguments.parse(world.root.text("/proc/cmdline") or "")
    allowed = world.embedded(SIGNERS)
    passed: list[Passed] = []
    for source in Source:
        why = why_not_asked(source, arguments, has_signers=allowed is not None)
        seen = why if why is not None else look(source, world, arguments)
        if isinstance(seen, str):
            passed.append(Passed(source, seen))
            continue
        (found,) = seen
        return _take(found, tuple(passed), _Search(world, arguments, probe, say, allowed))
    return tuple(passed)


@dataclass(frozen=True)
class _Search:
    """What the whole search shares."""

    world: World
    arguments: Arguments
    probe: Callable[[], Facts]
    say: Callable[[str], None]
    allowed: bytes | None


def _take(found: Found, passed: tuple[Passed, ...], search: _Search) -> Fetched:
    world, allowed = search.world, search.allowed
    place = place_in(found.content)
    where, content, name = found.where, found.content, "answers.toml"
    if place is not None:
        search.say(f"{found.source}: fetching {place}")
        why = why_not_trusted(place, has_signers=allowed is not None)
        if why:
            raise failure(place, why, f"change what {found.where} says")
        content = _download(_client(world, search.arguments, search.say), place, world, search.probe)
        where = f"{place}, named by {found.where}"
        name = place.url.rpartition("/")[2] or name
    elif found.source is Source.argument:
        Place.parse(found.content.decode("utf-8", "replace"))  # tells what is wrong with it
    signed_by = None
    payload, signature = split(content)
    # What is embedded lies beside the signers themselves: who can alter one can alter the other.
    if allowed is not None and not (found.source is Source.embedded and place is None):
        signed_by = signer(world.runner, payload, signature, allowed, where)
    if found.secrets and allowed is not None:
        raise HyperError(
            f"the secrets beside the answers from {where} are not taken",
            why="signers are embedded in this medium, and loose files are not covered by a signature",
            remedy="put answers and secrets into one answers.tar and sign that",
            code=Exit.fetch,
        )
    package = unpack(payload, name)
    return Fetched(
        Package(package.answers, package.name, {**dict(found.secrets), **package.secrets}),
        found.source,
        where,
        passed,
        signed_by,
        search.arguments,
    )


def _client(world: World, arguments: Arguments, say: Callable[[str], None]) -> Client:
    ca, token = world.embedded(CA), world.embedded(TOKEN)
    if ca is not None:
        try:
            certificates(ca)
        except ValueError as error:
            raise HyperError(
                f"the embedded {CA} cannot be used",
                why=f"it {error}",
                remedy="embed PEM certificates",
                code=Exit.fetch,
            ) from None
    client = Client(
        ca=ca,
        token=token.decode("ascii", "replace").strip() if token else None,
        patience=world.patience,
        say=say,
        agent=f"hyper-nixos/{VERSION}",
    )
    proxies = dict(client.proxies if world.proxies is None else world.proxies)
    if arguments.proxy:
        proxies |= {"http": arguments.proxy, "https": arguments.proxy}
    return replace(client, proxies=proxies)


def _download(client: Client, place: Place, world: World, probe: Callable[[], Facts]) -> bytes:
    """The file; a server that could choose one is told what machine this is.

    Where the content is fixed by its digest there is nothing to choose, and over http nobody is told anything.
    """
    if place.sha256 is None and place.url.startswith("https:"):
        facts = probe()
        question = Question(identity=identity(world.root, facts), facts=facts)
        reply = client.ask(place, body=question.model_dump_json().encode())
        if reply.status in UNPOSTED:
            posted = reply
            reply = client.ask(place)
            if reply.status != GOOD:
                reply = posted
    else:
        reply = client.ask(place)
    if reply.status != GOOD:
        told = " ".join(reply.body[:300].decode("utf-8", "replace").split())
        raise failure(
            place,
            f"it answers with HTTP state {reply.status}"
            + (f": {told}" if told.isprintable() and told else ""),
            "look at the server's log; `hv answers serve` says there which machine asked",
        )
    return verified(place, reply.body)


def put_secrets(world: World, package: Package) -> tuple[str, ...]:
    """Write the secrets that came where answers name them; what was written, for people. In memory, root's alone."""
    folder = world.live / "secrets"
    for name, content in package.secrets.items():
        make_directory(folder, 0o700)
        write_file(folder / name, content, 0o600)
    return tuple(str(folder / name) for name in package.secrets)
