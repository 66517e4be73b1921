"""Runs the checks of tests/compat/java: Kafka's own Java client with its defaults. Arguments as for the other suites."""

import os
import sys

import java

if __name__ == "__main__":
    arguments = [a for a in sys.argv[1:] if not a.startswith("--")]
    line = java.command("compat.Main", *arguments)
    os.execvp(line[0], line)
