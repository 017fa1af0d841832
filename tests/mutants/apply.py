#!/usr/bin/env python3
"""Plants a bug: writes a copy of one source with its part of a mutant's patch applied.

  apply.py --list PATCH                  the sources the patch changes
  apply.py PATCH PATH SOURCE OUTPUT      SOURCE as PATH in the patch wants it, to OUTPUT

The whole part must apply, with no line of its surroundings different; else nothing is written and
the status is 1. Whatever calls this must not go on then: an unplanted mutant would survive or be
killed for no reason.
"""
import subprocess
import sys


def parts(patch):
    """The unified diff of each file, by path."""
    found, path = {}, None
    with open(patch, encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("--- a/"):
                path = line[6:].strip()
                found[path] = ""
            if path is not None:
                found[path] += line
    if not found:
        sys.exit(f"{patch}: no '--- a/...' line in it, so it changes nothing")
    return found


def plant(part, source, output):
    """Nothing, or what patch(1) says when the part does not apply. No output: only a trial."""
    to = ["--output", output] if output else ["--dry-run"]
    # An offset is no harm, since every line around must be as the patch has it.
    done = subprocess.run(
        ["patch", "--fuzz=0", "--no-backup-if-mismatch", "--silent", "--reject-file=-", *to, source],
        input=part, text=True, capture_output=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def main(arguments):
    if len(arguments) == 2 and arguments[0] == "--list":
        print("\n".join(parts(arguments[1])))
        return 0
    if len(arguments) != 4:
        sys.exit(__doc__)
    patch, path, source, output = arguments
    refused = plant(parts(patch)[path], source, output)
    if refused:
        sys.exit(f"{patch} does not apply to {path} any more: write it anew, or drop it with a "
                 f"reason\n{refused}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
