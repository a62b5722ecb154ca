"""`hv` of the machine that tests/test_remote.py installs: the real one for what runs apart and for looking at it; what
it installs, and how it is planned, is told by script.json.
"""

import json
import os
import signal
import sys
from pathlib import Path

from installer.execute import apart
from installer.execute.live import LiveSystem
from installer.execute.progress import Plain

TALKER = """import json, sys, time
for number in range(int(sys.argv[1])):
    print(json.dumps({"event": "message", "text": f"line {number}"}), flush=True)
    time.sleep(0.1)
sys.exit(int(sys.argv[2]))
"""


def main(folder: Path, argv: list[str]) -> int:
    """As it was called."""
    with (folder / "calls").open("a") as file:
        file.write(json.dumps(argv) + "\n")
    script = json.loads((folder / "script.json").read_text())
    live = LiveSystem()
    if "--plan" in argv:
        print(script["plan"], end="")
        return 0
    if "--apart" in argv:
        if "refuse" in script:
            return int(script["refuse"])
        live.runtime.mkdir(parents=True, exist_ok=True)
        apart.said(live).write_text("")
        if os.fork() == 0:
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            for number in range(3):
                os.dup2(null, number)
            talker = [sys.executable, "-c", TALKER, str(script["lines"]), str(script["code"])]
            os._exit(apart.supervise(live, talker))
        return 0
    if "--attach" in argv:
        cuts = folder / "cuts"
        done = int(cuts.read_text()) if cuts.exists() else 0
        if done < script.get("cut", 0):
            cuts.write_text(str(done + 1))
            # The connection's own server process: the line is cut.
            os.kill(connection(), signal.SIGKILL)
        return apart.follow(live, lambda total: Plain(sys.stdout, total))
    raise AssertionError(argv)


def connection() -> int:
    """The sshd that serves this command."""
    pid = os.getppid()
    while True:
        stat = Path(f"/proc/{pid}/stat").read_text()
        name = stat.partition("(")[2].rpartition(")")[0]
        if name.startswith("sshd"):
            return pid
        pid = int(stat.rpartition(")")[2].split()[1])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
