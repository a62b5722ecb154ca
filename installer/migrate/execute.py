"""Carries a migration out, and takes it back. Touches the world through a runner and below a root."""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from installer.errors import Exit, HyperError
from installer.execute.runner import CommandError, Runner
from installer.migrate import loader
from installer.migrate.evaluation import Evaluator
from installer.migrate.fallback import Fallback
from installer.migrate.findings import IMPORT, Configuration, Findings
from installer.migrate.module import Source
from installer.migrate.nixfile import remove_import
from installer.migrate.plan import Action, Plan, Written
from installer.migrate.probe import git
from installer.migrate.summary import Summary
from installer.migrate.trial import DONE, FOLDER, PROGRAM, SOURCE_ROOT, TRIAL, Changed, Trial

PROFILE = "/nix/var/nix/profiles/system"
MESSAGE = "Make this host a Hyper-NixOS host"
MESSAGE_BACK = "Take Hyper-NixOS out again"
AUTHOR = ("-c", "user.name=hv migrate", "-c", "user.email=root@localhost")


@dataclass(frozen=True)
class Executor:
    """Does it."""

    prefix: str
    """The machine's root."""
    runner: Runner
    """Runs programs."""
    evaluator: Evaluator
    """Asks Nix, and builds."""
    say: Callable[[str], None]
    """Takes a line for the person."""

    def path(self, absolute: str) -> Path:
        """A path of the machine."""
        return Path(self.prefix, absolute.lstrip("/"))

    # The way there

    def preview(self, findings: Findings, plan: Plan) -> Summary:
        """What the host would become. Nothing of theirs is touched: a copy is evaluated.

        Raises:
            HyperError: it does not evaluate, is none of ours, or other hosts of the flake would change too.
        """
        configuration = findings.configuration
        with self.changed_copy(configuration, plan) as folder:
            after = self.evaluator.summary(configuration, folder)
            if not after.hyper_nixos:
                raise HyperError(
                    "the import had no effect; nothing was changed",
                    why=f"with {plan.place.file} importing {IMPORT}, hypervisor.enable is still false",
                    remedy="that file is probably not this host's: add the import by hand where it is",
                    code=Exit.unsuitable,
                )
            if len(configuration.hosts) > 1:
                before = self.evaluator.ours(configuration)
                others = {*self.evaluator.ours(configuration, folder)} - {*before, configuration.host}
                if others:
                    raise HyperError(
                        "other hosts of the flake would become Hyper-NixOS hosts too; nothing was changed",
                        why=f"{plan.place.file} is also used by {', '.join(sorted(map(str, others)))}",
                        remedy=f"add `imports = [ {IMPORT} ];` by hand to a module of this host alone",
                        code=Exit.unsuitable,
                    )
        return after

    @contextmanager
    def changed_copy(self, configuration: Configuration, plan: Plan) -> Iterator[Path]:
        """The configuration's files with the change, elsewhere. Of a repository only what git knows: what it does not
        know may be secret, and evaluating a flake puts all its files into the readable store.
        """
        root = Path(configuration.root)
        with TemporaryDirectory(prefix="hv-migrate-") as temporary:
            folder = Path(temporary, root.name or "configuration")
            if configuration.repository:
                listed = self.runner.run(git("ls-files", "-z", root=root), timeout=60, quiet=True).stdout
                for name in filter(None, listed.decode().split("\0")):
                    if (root / name).is_symlink() or (root / name).is_file():
                        (folder / name).parent.mkdir(parents=True, exist_ok=True)
                        shutil.copy2(root / name, folder / name, follow_symlinks=False)
            else:
                shutil.copytree(root, folder, symlinks=True, ignore=shutil.ignore_patterns(".git", "result"))
            for written in plan.files():
                (folder / written.path).write_text(written.text, encoding="utf-8")
            yield folder

    def carry_out(self, findings: Findings, plan: Plan, source: Source) -> Trial:
        """All steps. A failure before the boot loader is told leaves the host as it was, but for the built system.

        Raises:
            HyperError: a step failed; says which, and that files were put back.
        """
        assert findings.current is not None
        if not plan.steps:
            raise HyperError(
                "there is no place for the import that is certain",
                why="; ".join(plan.place.doubts),
                remedy="add the import by hand, then run `hv migrate` again",
            )
        self._unchanged(findings.configuration)
        self._hold(source)
        self._tell(plan, Action.build)
        with self.changed_copy(findings.configuration, plan) as folder:
            self.evaluator.build(findings.configuration, folder)
        changed: tuple[Changed, ...] = ()
        try:
            self._tell(plan, Action.backup)
            changed = self._backup(findings.configuration, plan)
            self._tell(plan, Action.write)
            self._write(findings.configuration, plan)
            # What lies there now is what will run: the copy's path, or the commit, may be part of the system.
            after = self.evaluator.build(findings.configuration)
            trial = Trial(
                began=datetime.now(UTC),
                before=findings.current,
                after=after,
                fallback=plan.fallback,
                files=changed,
                repository=findings.configuration.root if findings.configuration.repository else None,
                expected=plan.expected,
            )
            self._tell(plan, Action.remember)
            self._remember(TRIAL, trial.model_dump_json(indent=1))
            self._link_program(after)
            self._tell(plan, Action.profile)
            self._set_profile(after)
            self._tell(plan, Action.loader)
            self._try_next(trial, findings)
        except KeyboardInterrupt:
            # Ctrl-C, or the SSH connection is gone.
            self._take_back(changed, findings)
            self.say("Stopped: the configuration is as it was, and the running system is the next to start.")
            raise
        except (HyperError, OSError) as error:
            self._take_back(changed, findings)
            raise HyperError(
                "the migration stopped; the configuration is as it was, and the running system is the next to start",
                why=str(error.what if isinstance(error, HyperError) else error)
                + (f": {error.why}" if isinstance(error, HyperError) else ""),
                remedy=error.remedy
                if isinstance(error, HyperError)
                else "mend what is named, and begin again",
                code=Exit.step,
            ) from error
        return trial

    def _tell(self, plan: Plan, action: Action) -> None:
        number, step = next((at, each) for at, each in enumerate(plan.steps, 1) if each.action is action)
        self.say(f"{number}/{len(plan.steps)} {step.summary}")

    def _unchanged(self, configuration: Configuration) -> None:
        """The files are those that were looked at."""
        for name, text in configuration.files.items():
            if Path(configuration.root, name).read_text(encoding="utf-8") != text:
                raise HyperError(
                    f"{configuration.root}/{name} changed meanwhile",
                    why="the plan was made for another text",
                    remedy="run `hv migrate` again",
                    code=Exit.step,
                )

    def _hold(self, source: Source) -> None:
        """Keep the modules from being collected as garbage."""
        root = self.path(SOURCE_ROOT)
        root.parent.mkdir(parents=True, exist_ok=True)
        root.unlink(missing_ok=True)
        root.symlink_to(source.path)

    def _backup(self, configuration: Configuration, plan: Plan) -> tuple[Changed, ...]:
        folder = self.path(FOLDER) / "before"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        changed = []
        for written in plan.files():
            here = Path(configuration.root, written.path)
            backup = None
            if here.exists():
                copy = folder / written.path
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(here, copy)
                backup = str(copy)
            changed.append(
                Changed(
                    path=str(here),
                    backup=backup,
                    written=_digest(written.text),
                    literal=IMPORT if written is plan.place.edit else None,
                )
            )
        return tuple(changed)

    def _write(self, configuration: Configuration, plan: Plan) -> None:
        for written in plan.files():
            _replace(Path(configuration.root, written.path), written)
        if configuration.repository:
            self._commit(configuration, plan)

    def _commit(self, configuration: Configuration, plan: Plan) -> None:
        """A commit of our two files and nothing else. A file that had changes of theirs is only told to git."""
        root = Path(configuration.root)
        names = [written.path for written in plan.files()]
        self.runner.run(git("add", "--", *names, root=root), timeout=60)
        if any(name in configuration.changed for name in names):
            self.say(f"not committed: {', '.join(names)} had changes that are yours to commit")
            return
        self.runner.run(
            (*git(*AUTHOR, "commit", "--quiet", "-m", MESSAGE, "--", *names, root=root),), timeout=60
        )

    def _remember(self, place: str, text: str) -> None:
        file = self.path(place)
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = file.with_name(f".{file.name}.partial")
        partial.write_text(text, encoding="utf-8")
        partial.chmod(0o600)
        partial.replace(file)
        os.sync()

    def _link_program(self, toplevel: str) -> None:
        """As long as the generation is there, so is its `hv`."""
        link = self.path(PROGRAM)
        link.unlink(missing_ok=True)
        link.symlink_to(f"{toplevel}/sw/bin/hv")

    def _set_profile(self, toplevel: str) -> None:
        self._profile("--set", toplevel)

    def _profile(self, *words: str) -> None:
        self.runner.run(("nix-env", "--profile", str(self.path(PROFILE)), *words), timeout=300)

    def _back_to(self, before: str, after: str | None) -> None:
        """Make the old system's own generation the profile's again, and take the migrated one out, so that the menu has
        what it had, and a second migration to the same system is a new generation, with boots to count.
        """
        profile = self.path(PROFILE)
        generations: dict[str, list[int]] = {}
        for link in profile.parent.glob(f"{profile.name}-*-link"):
            if match := re.fullmatch(rf"{profile.name}-(\d+)-link", link.name):
                generations.setdefault(str(link.readlink()), []).append(int(match[1]))
        if before in generations:
            self._profile("--switch-generation", str(max(generations[before])))
        else:
            self._set_profile(before)
        if after is not None and after != before and after in generations:
            self._profile("--delete-generations", *map(str, sorted(generations[after])))

    def _install_loader(self, toplevel: str) -> None:
        """Have a system write the boot menu, with itself as the default. Nothing that runs is touched (`boot`)."""
        self.runner.run((f"{toplevel}/bin/switch-to-configuration", "boot"), timeout=900)

    def _try_next(self, trial: Trial, findings: Findings) -> None:
        """The next boot is the new system's, as the fallback allows; checked in the menu itself."""
        summary = findings.configuration.summary
        assert summary is not None
        match trial.fallback:
            case Fallback.counted:
                self._install_loader(trial.after)
                self._count(trial, self.path(summary.loader.esp))
            case Fallback.once:
                self._install_loader(trial.before)
                entry = loader.entry_of(_entries(self.path(summary.loader.esp)), trial.after)
                self.runner.run(("bootctl", "set-oneshot", _found(entry, trial.after)), timeout=60)
            case Fallback.grub:
                self._install_loader(trial.before)
                menu = self.path("/boot/grub/grub.cfg").read_text(encoding="utf-8", errors="replace")
                entry = loader.grub_entry(menu, trial.after)
                environment = self.path("/boot/grub/grubenv")
                if not environment.exists():
                    self.runner.run(("grub-editenv", str(environment), "create"), timeout=60)
                setting = f"next_entry={_found(entry, trial.after)}"
                self.runner.run(("grub-editenv", str(environment), "set", setting), timeout=60)
                said = self.runner.run(("grub-editenv", str(environment), "list"), timeout=60).text
                if setting not in said.splitlines():
                    raise _lost(f"{environment} does not hold {setting}")
            case Fallback.none:
                self._install_loader(trial.after)

    def _count(self, trial: Trial, esp: Path) -> None:
        """The new entry is counted; the old ones are known to be good, and lose the counters that they were given."""
        entries = _entries(esp)
        new = _found(loader.entry_of(entries, trial.after), trial.after)
        if not loader.counted(new):
            raise _lost(f"its entry {new} is not counted: it was there, and proved, before")
        folder = esp / "loader/entries"
        old = loader.entry_of(entries, trial.before)
        if old is None:
            raise _lost(f"no entry of the boot menu starts {trial.before}, the system from before")
        for name in entries:
            if name != new and loader.counted(name):
                (folder / name).rename(folder / loader.uncounted(name))
        os.sync()

    # The way back

    def undo(self) -> Trial:
        """Put files, profile and boot menu back. What runs goes on running until the machine is started anew.

        Raises:
            HyperError: there is no migration, or a file cannot be put back (Exit.step).
        """
        file = next((self.path(each) for each in (TRIAL, DONE) if self.path(each).exists()), None)
        if file is None:
            raise HyperError(
                "there is no migration to undo",
                why=f"neither {TRIAL} nor {DONE} is here",
                remedy="older systems are in the boot menu; `nixos-rebuild list-generations` shows them",
            )
        trial = Trial.model_validate_json(file.read_bytes())
        if not Path(trial.before, "bin/switch-to-configuration").exists():
            raise HyperError(
                "the system from before is gone",
                why=f"{trial.before} was collected as garbage",
                remedy=f"take the import of {IMPORT} out of your configuration, and `nixos-rebuild boot`",
                code=Exit.step,
            )
        for each in trial.files:
            self._restore(each)
        if trial.repository:
            self._commit_back(Path(trial.repository), trial.files)
        self._back_to(trial.before, trial.after)
        self._install_loader(trial.before)
        if trial.fallback is Fallback.grub:
            self.runner.run(
                ("grub-editenv", str(self.path("/boot/grub/grubenv")), "unset", "next_entry"), timeout=60
            )
        if trial.fallback is Fallback.once:
            self.runner.run(("bootctl", "set-oneshot", ""), timeout=60)
        self.path(SOURCE_ROOT).unlink(missing_ok=True)
        self.path(PROGRAM).unlink(missing_ok=True)
        file.rename(file.with_name(f"undone-{trial.began:%Y%m%d-%H%M%S}.json"))
        return trial

    def _restore(self, changed: Changed) -> None:
        here = Path(changed.path)
        now = here.read_text(encoding="utf-8") if here.exists() else None
        if now is None:
            self.say(f"{changed.path}: gone already")
        elif changed.literal is None and changed.backup is None:
            if _digest(now) != changed.written:
                kept = here.with_suffix(".nix.undone")
                here.rename(kept)
                self.say(f"{changed.path}: you changed it; kept as {kept}")
            else:
                here.unlink()
                self.say(f"{changed.path}: removed")
        elif changed.backup is not None and _digest(now) == changed.written:
            shutil.copy2(changed.backup, here)
            self.say(f"{changed.path}: as it was")
        elif changed.literal is not None:
            without = remove_import(now, changed.literal)
            if without is not None:
                here.write_text(without, encoding="utf-8")
                self.say(f"{changed.path}: the import is out; your later changes stay")
            elif changed.literal in now:
                raise HyperError(
                    f"the import cannot be taken out of {changed.path}",
                    why=f"{changed.literal} stands there more than once, or the file is not read as Nix",
                    remedy="take it out by hand, then `hv migrate --undo` again",
                    code=Exit.step,
                )

    def _commit_back(self, root: Path, files: tuple[Changed, ...]) -> None:
        """Files that git need not know any more, or knows as they were: nothing of it is worth an error."""
        names = [str(Path(each.path).relative_to(root)) for each in files]
        for words in (("add", "--all"), (*AUTHOR, "commit", "--quiet", "-m", MESSAGE_BACK)):
            self.runner.run(git(*words, "--", *names, root=root), timeout=60, check=False)

    def _take_back(self, changed: tuple[Changed, ...], findings: Findings) -> None:
        """After a failure: as much of the way back as was gone."""
        for each in changed:
            self._restore(each)
        if findings.configuration.repository and changed:
            root = Path(findings.configuration.root)
            last = self.runner.run(git("log", "-1", "--format=%s", root=root), timeout=60, check=False).text
            if last == MESSAGE:
                self._commit_back(root, changed)
            else:
                names = [str(Path(each.path).relative_to(root)) for each in changed]
                self.runner.run(git("reset", "--quiet", "--", *names, root=root), timeout=60, check=False)
        record = self.path(TRIAL)
        if record.exists() and findings.current:
            trial = Trial.model_validate_json(record.read_bytes())
            record.unlink()
            self.path(PROGRAM).unlink(missing_ok=True)
            try:
                self._back_to(findings.current, trial.after)
                self._install_loader(findings.current)
            except CommandError as error:
                self.say(f"the boot menu may name the new system: {error.why}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _replace(path: Path, written: Written) -> None:
    """Write a file in one step, with owner and mode of what was there, or of its folder."""
    model = (path if path.exists() else path.parent).stat()
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(written.text, encoding="utf-8")
    partial.chmod(model.st_mode & 0o777 if path.exists() else 0o644)
    os.chown(partial, model.st_uid, model.st_gid)
    partial.replace(path)


def _entries(esp: Path) -> dict[str, str]:
    folder = esp / "loader/entries"
    if not folder.is_dir():
        return {}
    return {each.name: each.read_text(encoding="utf-8", errors="replace") for each in folder.glob("*.conf")}


def _found(entry: str | None, toplevel: str) -> str:
    if entry is None:
        raise _lost(f"no entry of the boot menu starts {toplevel}")
    return entry


def _lost(why: str) -> HyperError:
    return HyperError(
        "the boot loader was not prepared",
        why=why,
        remedy="see what `switch-to-configuration boot` says in the log; `--no-fallback` goes without",
        code=Exit.step,
    )
