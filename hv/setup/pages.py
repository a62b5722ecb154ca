"""The pages of `hv setup`: the guided installer's own where it has one, else made from the answer model."""

from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Any

from installer.answers.catalogue import enabled
from installer.answers.declaration import PLACEHOLDER, load_declaration
from installer.answers.load import Format, load
from installer.answers.model import HypervisorAnswers
from installer.answers.problems import AnswersError, Path
from installer.answers.schema import node_at
from installer.answers.toml import toml
from installer.errors import HyperError
from installer.guided.conversation import Topic
from installer.guided.page import description
from installer.guided.questions import Answers, Dialogue, Item, Line, Many, Notice, One, Option, Question
from installer.guided.situation import Situation, changed, said
from installer.guided.topics import network, people, tier
from installer.render.users import PASSWORDS

FIELDS: dict[str, tuple[Path, ...]] = {
    "host": (("timezone",), ("locale",), ("keymap",), ("domain",)),
    "ssh": (("ssh", "enable"), ("ssh", "port"), ("ssh", "password_login")),
    "limits": (
        ("hypervisor", "risk_tolerance"),
        ("hypervisor", "nested"),
        ("hypervisor", "cpu_model"),
        ("hypervisor", "hugepages_1g"),
        ("hypervisor", "hugepages_2m"),
    ),
    "security": (("security", "profile"),),
}
"""Pages that ask for fields one after the other."""
TITLES = {
    "network": "Network",
    "users": "People",
    "host": "Time, language, keyboard",
    "ssh": "SSH server",
    "hypervisor": "Tier and features",
    "limits": "Limits of the host",
    "security": "Security profile",
}
"""Every page, in order."""
PAGES = tuple(TITLES)
KEEP = object()


def topics() -> tuple[Topic, ...]:
    """All of them."""
    own = {"network": _network, "users": _users, "hypervisor": _tier}

    def titled(name: str) -> Topic:
        dialogue = own.get(name) or (lambda situation: _fields(FIELDS[name], TITLES[name], situation))
        return Topic(name, lambda: TITLES[name], dialogue)

    return tuple(map(titled, PAGES))


def summary(name: str, raw: Mapping[str, Any]) -> str:
    """What a page has decided, in a few words."""
    match name:
        case "network":
            return network_summary(raw)
        case "users":
            return ", ".join(_shortly(user) for user in said(raw, ("users",), ()))
        case "hypervisor":
            features = said(raw, ("hypervisor", "features"), {})
            return " ".join(
                [
                    str(said(raw, ("hypervisor", "tier"), "standard")),
                    *(f"{'+' if on else '~'}{feature}" for feature, on in features.items()),
                ]
            )
        case _:
            return ", ".join(
                str(value) if not isinstance(value, bool) else f"{path[-1]} {'on' if value else 'off'}"
                for path in FIELDS[name]
                if (value := said(raw, path, _default(path))) not in (None, "")
            )


def network_summary(raw: Mapping[str, Any]) -> str:
    """Each link that has addresses."""
    links = [
        link
        for kind in ("ethernets", "bonds", "vlans", "bridges")
        for link in said(raw, ("network", kind), ())
        if "addressing" in link
    ]
    told = [
        f"{link['name']}: {', '.join(link['addressing'].get('addresses', ())) or 'DHCP'}" for link in links
    ]
    return ", ".join(told) or "DHCP on every wired port"


def _shortly(user: Mapping[str, Any]) -> str:
    return f"{user['name']}{' (administrator)' if user.get('admin') else ''}"


# Pages of the guided installer, which begin with what is there ------------------------------------------------------


def _standing(dialogue: Dialogue, situation: Situation) -> Dialogue:
    """The same questions, with what the host has now as what stands there at first."""
    answer: Any = None
    while True:
        try:
            item = dialogue.send(answer)
        except StopIteration as end:
            decided: Answers = end.value
            return decided
        answer = yield _with_default(item, situation)


def _with_default(item: Item, situation: Situation) -> Item:
    if not isinstance(item, Question) or not item.field:
        return item
    now = situation.said(*item.field)
    if isinstance(item, One) and any(each.value == now and not each.refused for each in item.options):
        return replace(item, default=now)
    if isinstance(item, Line) and isinstance(now, str | int):
        return replace(item, default=str(now))
    return item


def _tier(situation: Situation) -> Dialogue:
    now = HypervisorAnswers.model_validate(situation.said("hypervisor", default={}))
    dialogue = _standing(tier.dialogue(situation), situation)
    chosen, answer = now.tier.value, None
    while True:
        try:
            item = dialogue.send(answer)
        except StopIteration as end:
            return _without_twice(end.value, now)
        if isinstance(item, Many) and item.field == ("hypervisor", "features") and chosen == now.tier.value:
            on = enabled(now)
            item = replace(item, default=tuple(each.value for each in item.options if each.value in on))
        answer = yield item
        if isinstance(item, One) and item.field == ("hypervisor", "tier"):
            chosen = answer


def _without_twice(decided: Answers, now: HypervisorAnswers) -> Answers:
    """`nested` is the same as a feature: where it is set, it decides, and the feature is not set beside it."""
    if not now.nested:
        return decided
    features = dict(decided.get(("hypervisor", "features")) or {})
    nested = features.pop("nested-virtualization", None)
    made = {**decided, ("hypervisor", "features"): features or None}
    return made if nested else {**made, ("hypervisor", "nested"): None}


def _network(situation: Situation) -> Dialogue:
    new = yield One(
        title=TITLES["network"],
        prompt="Set the addresses anew?",
        lines=(
            f"Now: {network_summary(situation.raw)}.",
            "A wrong address cuts this host off: unless somebody confirms the change through the new network, it goes back.",
        ),
        options=(Option(False, "no, leave them"), Option(True, "yes, ask for port and address")),
        default=False,
        field=("network",),
    )
    now = dict(situation.said("network", default={}))
    if new:
        decided = yield from network.dialogue(situation)
        links = decided.get(("network",)) or {}
        kept = {name: now[name] for name in ("dns", "ntp", "proxy", "no_proxy") if name in now}
        now = {**kept, **links}
    fields = (("network", "dns"), ("network", "ntp"), ("network", "proxy"))
    rest = yield from _fields(
        fields,
        TITLES["network"],
        Situation(
            situation.facts,
            situation.medium,
            changed(situation.raw, {("network",): now or None}),
            situation.secrets,
        ),
    )
    network_now = changed({"network": now}, rest).get("network")
    return {("network",): network_now or None}


# People ------------------------------------------------------------------------------------------------------------


def _users(situation: Situation) -> Dialogue:
    users = [dict(user) for user in situation.said("users", default=())]
    while True:
        chosen = yield One(
            title=TITLES["users"],
            prompt="Who?",
            lines=("Passwords of people who are there already: passwd NAME, on the host.",),
            options=(
                Option("done", "that is all"),
                *(Option(number, _person_line(user)) for number, user in enumerate(users)),
                Option("new", "another person"),
            ),
            default="done",
            field=("users",),
        )
        if chosen == "done":
            problem = _problem(changed(situation.raw, {("users",): users}), ("users",))
            if problem is None:
                return {("users",): users}
            yield Notice(title=TITLES["users"], prompt="Change it?", lines=(problem,), field=("users",))
        elif chosen == "new":
            users.append((yield from people.person(situation, users, False)))
        else:
            changed_user = yield from _person(users[chosen], chosen)
            if changed_user is None:
                del users[chosen]
            else:
                users[chosen] = changed_user


def _person_line(user: Mapping[str, Any]) -> str:
    count = len(user.get("ssh_keys", ()))
    ways = [
        *(["a password"] if "password_hash_file" in user or "password_hash" in user else []),
        *([f"{count} SSH key{'s' if count > 1 else ''}"] if count else []),
    ]
    return f"{_shortly(user)}: {', '.join(ways) or 'no way to log in'}"


def _person(user: dict[str, Any], number: int) -> Generator[Item, Any, dict[str, Any] | None]:
    name, keys = user["name"], list(user.get("ssh_keys", ()))
    admin = bool(user.get("admin"))
    chosen = yield One(
        title=name,
        prompt=f"What of {name}?",
        lines=(_person_line(user),),
        options=(
            Option("nothing", "nothing"),
            Option("add", "add an SSH key"),
            *(Option(("drop", key), f"take away the key {_short(key)}") for key in keys),
            Option("admin", "no administrator any more" if admin else "make an administrator, with sudo"),
            Option("remove", "remove the account; the home folder stays"),
        ),
        default="nothing",
        field=("users", number),
    )
    match chosen:
        case "add":
            keys += [key for key in (yield from people.ssh_keys(name, number)) if key not in keys]
        case ("drop", key):
            keys.remove(key)
        case "admin":
            return {**user, "admin": not admin}
        case "remove":
            return None
    made = {**user, "ssh_keys": keys}
    if not keys:
        del made["ssh_keys"]
    return made


def _short(key: str) -> str:
    words = key.split()
    return f"{words[0]} …{words[1][-8:]} {' '.join(words[2:])}".strip() if len(words) > 1 else key


# Fields, as the model has them -------------------------------------------------------------------------------------


def _fields(fields: tuple[Path, ...], title: str, situation: Situation) -> Dialogue:
    decided: dict[Path, Any] = {}
    for path in fields:
        raw = changed(situation.raw, decided)
        answer = yield _question(path, title, raw)
        value = _parsed(path, answer)
        if value != said(raw, path, _default(path)):
            decided[path] = value
    return decided


def _question(path: Path, title: str, raw: Mapping[str, Any]) -> Question:
    node = node_at(path) or {}
    now = said(raw, path, _default(path))
    words = str(path[-1]).replace("_", " ")
    lines: tuple[str, ...] = (description(path),)
    kinds = {each.get("type") for each in (node, *node.get("anyOf", ()))}
    if "enum" in node or node.get("type") == "boolean":
        values = node.get("enum", (True, False))
        options = tuple(
            Option(
                value,
                {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value),
                _problem(changed(raw, {path: value}), path),
            )
            for value in values
        )
        return One(title=title, prompt=f"{words}?", lines=lines, options=options, default=now, field=path)
    if "array" in kinds:
        lines = (*lines, "Several with blanks between them; empty for none.")
        now = " ".join(now or ())
    return Line(
        title=title,
        prompt=f"{words}:",
        lines=lines,
        default="" if now is None else str(now),
        check=lambda text: _problem(changed(raw, {path: _parsed(path, text)}), path),
        field=path,
    )


def _default(path: Path) -> Any:
    return (node_at(path) or {}).get("default")


def _parsed(path: Path, answer: Any) -> Any:
    """What a typed line means for a field; empty takes the field out."""
    if not isinstance(answer, str):
        return answer
    node = node_at(path) or {}
    if not answer:
        return None
    if node.get("type") == "integer":
        return int(answer) if answer.lstrip("-").isdecimal() else answer
    if node.get("type") == "array":
        return answer.split()
    return answer


def _problem(raw: Mapping[str, Any], path: Path) -> str | None:
    """What is wrong with a field, or what it makes wrong elsewhere; None when all is right."""
    try:
        declaration_of(raw)
    except AnswersError as error:
        ours = [each for each in error.problems if each.path[: len(path)] == path] or error.problems
        return "; ".join(f"{each.wrong}: {each.remedy}" for each in ours).replace("`", "").replace("\n", " ")
    except HyperError as error:
        return f"{error.what} {error.why}"
    return None


def declaration_of(raw: Mapping[str, Any]) -> Any:
    """The answers that a declaration in the making stands for. Raises AnswersError."""
    text = "\n".join(f"{name} = {toml(value)}" for name, value in raw.items())
    if any("password_hash" in user for user in raw.get("users", ())):
        # A hash that was just typed: it goes into a file of its own before anything is written.
        return load(text.encode() + PLACEHOLDER, "host.toml", Format.toml)
    return load_declaration(text.encode(), "host.toml")


def hashes_apart(raw: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The declaration with files in place of hashes that were typed; and the hashes, by login name."""
    users, hashes = [], {}
    for each in raw.get("users", ()):
        user = dict(each)
        if (value := user.pop("password_hash", None)) is not None:
            hashes[user["name"]] = str(value)
            user["password_hash_file"] = {"file": f"{PASSWORDS}/{user['name']}"}
        users.append(user)
    return {**raw, "users": users}, hashes
