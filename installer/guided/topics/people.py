"""Who may use the host, and how they get in. The conversation goes no further before an administrator can log in."""

import re
from collections.abc import Generator
from typing import Any

from installer.answers.login import lockout
from installer.answers.ssh_key import parse_ssh_key
from installer.errors import HyperError
from installer.guided.preview import complete
from installer.guided.questions import (
    Answers,
    Dialogue,
    Failed,
    Item,
    Line,
    Notice,
    One,
    Option,
    Secret,
    Work,
)
from installer.guided.situation import Situation, changed
from installer.guided.told import told
from installer.guided.words import _, n_

NAME = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
"""The same as `installer.answers.model.UserName`; a test compares."""
TAKEN = {"root", "nobody", "sshd", "messagebus", "polkituser", "libvirtdbus", "hv", "hvd"}
SITES = {"github": "GitHub", "gitlab": "GitLab"}
SHORTEST = 8


def title() -> str:
    """For the head of the page."""
    return _("People")


def dialogue(situation: Situation) -> Dialogue:
    """One person after the other; an administrator, as long as nobody else could log in as one."""
    users: list[dict[str, Any]] = []
    needed = True
    while True:
        user = yield from person(situation, users, needed)
        users.append(user)
        answers: Answers = {("users",): users}
        if problem := _locked_out(situation, answers):
            yield Notice(
                title=_("Nobody could log in"),
                prompt=_("Add somebody?"),
                lines=(
                    problem,
                    _("An administrator needs a password, an SSH key, or both. Add one, or go back."),
                ),
            )
            continue
        needed = False
        more = yield One(
            title=_("People"),
            prompt=_("Is there somebody else?"),
            lines=(_listed(users),),
            options=(Option(False, _("No, that is all")), Option(True, _("Yes, another person"))),
            default=False,
            field=("users",),
        )
        if not more:
            return answers


def _listed(users: list[dict[str, Any]]) -> str:
    return "\n".join(
        " "
        + _("{name}{admin}: {ways}").format(
            name=user["name"],
            admin=_(", administrator") if user.get("admin") else "",
            ways=", ".join(_ways(user)) or _("no way to log in"),
        )
        for user in users
    )


def _ways(user: dict[str, Any]) -> list[str]:
    ways = [_("password at the console")] if user.get("password_hash") else []
    count = len(user.get("ssh_keys", ()))
    return [
        *ways,
        *([n_("SSH, {count} key", "SSH, {count} keys", count).format(count=count)] if count else []),
    ]


def _locked_out(situation: Situation, answers: Answers) -> str | None:
    raw = changed(situation.raw, answers)
    try:
        problems = lockout(complete(raw))
    except HyperError as error:
        # Only who can log in is looked at here; what else is missing is asked for by other topics.
        found = [each for each in getattr(error, "problems", ()) if each.path[:1] == ("users",)]
        return "; ".join(told(each.wrong) for each in found) or None
    return "; ".join(told(problem.wrong) for problem in problems) or None


def person(
    situation: Situation, users: list[dict[str, Any]], needed: bool
) -> Generator[Item, Any, dict[str, Any]]:
    """A further person: a table of the answer file. `needed`: nobody else could log in as an administrator."""
    number = len(users)
    first = number == 0

    def check(name: str) -> str | None:
        if not NAME.fullmatch(name):
            return _("A login name has lower-case letters, digits, _ and -, at most 31, and no digit first.")
        if name in TAKEN or name.startswith(("nixbld", "systemd-", "qemu-")):
            return _("The system has an account of this name. Administrators become root by sudo.")
        if any(user["name"] == name for user in users):
            return _("There is somebody of this name already.")
        return None

    name = yield Line(
        title=_("The first administrator") if first else _("Person {number}").format(number=number + 1),
        prompt=_("Login name:"),
        lines=((_("Administrates the host, with sudo. root itself cannot log in."),) if first else ()),
        default=str(situation.said("users", number, "name", default="")),
        check=check,
        field=("users", number, "name"),
    )
    admin = True
    if not first:
        admin = yield One(
            title=name,
            prompt=_("May {name} administrate the host?").format(name=name),
            options=(Option(False, _("No")), Option(True, _("Yes, with sudo"))),
            default=needed,
            field=("users", number, "admin"),
        )
    user: dict[str, Any] = {"name": name, "admin": admin}
    hashed = yield from _password(name, number)
    if hashed:
        user["password_hash"] = hashed
    taken = yield from ssh_keys(name, number)
    if taken:
        user["ssh_keys"] = taken
    return user


def _password(name: str, number: int) -> Generator[Item, Any, str | None]:
    """Hash of somebody's password; none: there shall be none."""
    told: tuple[str, ...] = ()
    while True:
        password = yield Secret(
            title=name,
            prompt=_("Password of {name}:").format(name=name),
            lines=(
                *told,
                _("For this machine's own console and for sudo. Over SSH only keys are taken."),
                _("Empty for none: then there is no sudo either, and without an SSH key no way in."),
            ),
            check=lambda text: (
                _("It is shorter than {count} characters.").format(count=SHORTEST)
                if 0 < len(text) < SHORTEST
                else None
            ),
            field=("users", number, "password_hash"),
        )
        if not password:
            return None
        hashed = yield Work(title=_("hashing the password"), task="hash_password", arguments=(password,))
        if not isinstance(hashed, Failed):
            return str(hashed)
        told = (hashed.reason,)


def ssh_keys(name: str, number: int) -> Generator[Item, Any, list[str]]:
    """Public keys for somebody, from wherever they are."""
    keys: list[str] = []
    told: tuple[str, ...] = ()
    while True:
        source = yield One(
            title=_("SSH keys of {name}").format(name=name),
            prompt=_("Where is a key?") if not keys else _("Another key?"),
            lines=(
                *told,
                *(_("Taken: {key}").format(key=_short(key)) for key in keys),
                _("Recommended: at least one, since it is the safest way in.") if not keys else "",
            ),
            more=(
                _(
                    "A key is a line that begins with ssh-ed25519 or the like, in a file that ends in .pub. The "
                    "other half stays on your own computer."
                ),
            ),
            options=(
                Option("done", _("no more keys") if keys else _("no key")),
                Option("paste", _("paste or type it")),
                Option("stick", _("a .pub file on a stick")),
                Option("github", _("from GitHub, by the name there (needs a network)")),
                Option("gitlab", _("from GitLab, by the name there (needs a network)")),
            ),
            default="paste" if not keys else "done",
            field=("users", number, "ssh_keys"),
        )
        told = ()
        if source == "done":
            return keys
        if source == "paste":
            line = yield Line(
                title=_("SSH keys of {name}").format(name=name),
                prompt=_("Key:"),
                check=_key_problem,
                field=("users", number, "ssh_keys"),
            )
            found: tuple[str, ...] | str = (line,)
        elif source == "stick":
            found = yield Work(title=_("looking for .pub files on sticks"), task="keys_on_sticks")
        else:
            account = yield Line(
                title=_("SSH keys of {name}").format(name=name),
                prompt=_("Name at {site}:").format(site=SITES[source]),
                default=name,
                check=lambda text: (
                    None
                    if re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text)
                    else _("Type the name of the account.")
                ),
            )
            found = yield Work(
                title=_("fetching the keys of {account} from {site}").format(
                    account=account, site=SITES[source]
                ),
                task="keys_from",
                arguments=(source, account),
            )
        if isinstance(found, str):
            told = (found,)
            continue
        good = [key for key in found if _key_problem(key) is None and key not in keys]
        keys += good
        if not good:
            told = (_("No key was found there that the host can take."),)


def _key_problem(line: str) -> str | None:
    try:
        parse_ssh_key(line)
    except ValueError as error:
        return _("This is not taken: it {reason}. Paste the one line of a .pub file.").format(
            reason=told(str(error))
        )
    return None


def _short(key: str) -> str:
    words = key.split()
    return f"{words[0]} …{words[1][-8:]} {' '.join(words[2:])}" if len(words) > 1 else key
