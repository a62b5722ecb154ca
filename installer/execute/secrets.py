"""Secrets: fetched once, before anything is written, kept in memory alone."""

import getpass
from collections.abc import Callable
from pathlib import Path

from installer.answers.login import require_login
from installer.answers.model import Answers
from installer.errors import Exit, HyperError
from installer.execute import keymap
from installer.execute.log import Redactor
from installer.execute.recovery import new_key
from installer.plan.actions import Action, AddKeyFile, AddRecoveryKey, Run, SecretReference, WriteSecret
from installer.plan.model import Plan

_SHORTEST_PASSPHRASE = 8
_SHORTEST_PIN = 6
_PASSWORD = "password-hash:"  # noqa: S105 (a name, not a secret)


def references(plan: Plan) -> tuple[SecretReference, ...]:
    """Every secret that the plan's steps need, once each, in order of use."""
    found = [
        secret
        for step in plan.steps
        for action in (*step.actions, *step.undo)
        if (secret := _secret_of(action)) is not None
    ]
    return tuple(dict.fromkeys(found))


def _secret_of(action: Action) -> SecretReference | None:
    match action:
        case Run(stdin=secret):
            return secret
        case AddRecoveryKey(passphrase=secret) | AddKeyFile(passphrase=secret):
            return secret
        case WriteSecret(secret=secret):
            return secret
        case _:
            return None


class Secrets:
    """The values of a plan's secrets."""

    def __init__(
        self,
        redact: Redactor,
        answers: Answers,
        ask: Callable[[str], str] = getpass.getpass,
        compiled: Callable[[str], bytes | None] = keymap.compiled,
    ) -> None:
        self._redact = redact
        self._answers = answers
        self._ask = ask
        self._compiled = compiled
        self._values: dict[str, bytes] = {}
        self._recovery: str | None = None

    def collect(self, plan: Plan) -> None:
        """Fetch all that the plan needs, so that nothing is asked once writing has begun.

        Raises:
            HyperError: a file is missing or unreadable, a value is empty, too short or has a line break in it; with
                the password hashes as they are nobody could log in.
        """
        for reference in references(plan):
            value = self._fetch(reference)
            self._redact.add(value)
            self._values[reference.name] = value
            self._require_keys(reference, value)
        hashes = {
            reference.file: self.value(reference).decode(errors="replace")
            for reference in references(plan)
            if reference.file and reference.name.startswith(_PASSWORD)
        }
        require_login(self._answers, hashes)

    def value(self, reference: SecretReference) -> bytes:
        """The value, without a trailing line break."""
        return self._values[reference.name]

    @property
    def recovery_key(self) -> str:
        """This run's recovery key; made when it is first needed."""
        if self._recovery is None:
            self._recovery = new_key()
            for form in (self._recovery, self._recovery.replace("-", "")):
                self._redact.add(form.encode())
        return self._recovery

    @property
    def has_recovery_key(self) -> bool:
        """Whether this run made one."""
        return self._recovery is not None

    def _require_keys(self, reference: SecretReference, value: bytes) -> None:
        """What is typed at boot must have its keys there, where a screen is the only place to type it.

        A serial line and SSH have the keyboard of whoever is at their other end.
        """
        elsewhere = self._answers.boot.serial_console or self._answers.storage.encryption.ssh.enable
        if reference.name not in ("passphrase", "pin") or elsewhere:
            return
        name = self._answers.keymap
        known = self._compiled(name)
        letters = keymap.lacking(value.decode(errors="replace"), known) if known else ""
        if letters:
            raise HyperError(
                f"the secret `{reference.name}` could not be typed at boot",
                why=f"{len(letters)} of its letters have no key in the keymap `{name}`, which stage 1 has",
                remedy="choose a keymap that has them (kbd's `de`, for one, has neither umlauts nor ß; `de-latin1` has), "
                "or another secret",
                code=Exit.answers,
            )

    def _fetch(self, reference: SecretReference) -> bytes:
        if reference.file:
            return self._from_file(reference, reference.file)
        for user in self._answers.users:
            if reference.name == _PASSWORD + user.name and user.password_hash:
                return user.password_hash.encode()
        return self._from_console(reference)

    def _from_file(self, reference: SecretReference, file: str) -> bytes:
        try:
            value = Path(file).read_bytes()
        except OSError as error:
            raise HyperError(
                f"the secret `{reference.name}` cannot be read",
                why=f"{file}: {error.strerror}",
                remedy="put the file there, readable for root, or name another in the answers",
                code=Exit.answers,
            ) from error
        value = value.removesuffix(b"\n")
        problem = _problem(reference, value)
        if problem:
            raise HyperError(
                f"the secret `{reference.name}` cannot be used",
                why=f"{file} {problem}",
                remedy="write the secret alone into the file, on one line",
                code=Exit.answers,
            )
        return value

    def _from_console(self, reference: SecretReference) -> bytes:
        try:
            first = self._ask(f"{reference.name}: ")
            second = self._ask(f"{reference.name} again: ")
        except (EOFError, OSError) as error:
            raise HyperError(
                f"the secret `{reference.name}` cannot be asked for",
                why="there is no terminal to type it on",
                remedy="name a file that holds it in the answers, or run the installer on a console",
                code=Exit.answers,
            ) from error
        value = first.encode()
        problem = (
            "differs between the two times it was typed" if first != second else _problem(reference, value)
        )
        if problem:
            raise HyperError(
                f"the secret `{reference.name}` was not taken",
                why=f"it {problem}",
                remedy="run the same command again; nothing was written",
                code=Exit.answers,
            )
        return value


def _problem(reference: SecretReference, value: bytes) -> str | None:
    if not value:
        return "is empty"
    if b"\n" in value or b"\0" in value or b"\r" in value:
        return "has a line break or a zero byte inside, which nobody could type at boot"
    if reference.name == "pin" and len(value.decode(errors="replace")) < _SHORTEST_PIN:
        return f"is shorter than {_SHORTEST_PIN} characters"
    if reference.name == "passphrase" and len(value.decode(errors="replace")) < _SHORTEST_PASSPHRASE:
        return f"is shorter than {_SHORTEST_PASSPHRASE} characters"
    return None
