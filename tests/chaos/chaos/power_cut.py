"""Plays a power cut: files keep what was synced (as shim/synced.c recorded), and a random part of the rest."""

import os
import pathlib
import struct
import subprocess

SHIM = pathlib.Path(__file__).resolve().parents[1] / "shim" / "synced.c"


def wrapper(cluster):
    """Builds the shim and a script that runs the binary under it; one record file per data directory."""
    library = cluster.dir / "synced.so"
    command = ["gcc", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(library), str(SHIM)]
    subprocess.run(command, check=True, timeout=60)
    script = cluster.dir / "strom-recorded"
    script.write_text(
        "#!/usr/bin/env bash\n"
        "arguments=(\"$@\")\n"
        "while (($#)); do\n"
        "  if [[ $1 == --data-dir ]]; then\n"
        "    export CHAOS_SYNC_ROOT=$2 CHAOS_SYNC_LOG=$2.synced\n"
        "    [[ ${arguments[0]} != broker ]] || export CHAOS_SYNC_DELAY_US=15000\n"
        f"    LD_PRELOAD={library} exec {cluster.binary} \"${{arguments[@]}}\"\n"
        "  fi\n"
        "  shift\n"
        "done\n"
        f"exec {cluster.binary} \"${{arguments[@]}}\"\n"
    )
    script.chmod(0o755)
    return script


def synced_lengths(record):
    """{inode: the greatest length known to be on the disk}"""
    data, found = record.read_bytes(), {}
    for inode, length in struct.iter_unpack("<QQ", data[: len(data) // 16 * 16]):
        found[inode] = max(length, found.get(inode, 0))
    return found


def cut(cluster, rng):
    """Cuts every append-only file (segments, the journals of controllers) to a random length in [synced, size]; half of
    what is left above the synced length becomes garbage. What survives is on the disk for the next round. Counts of what was
    done. With CHAOS_CUT_SYNCED=1 synced bytes of brokers are cut as well, which the checker must notice."""
    done = {"files": 0, "unsynced_files": 0, "unsynced_bytes": 0, "cut_bytes": 0, "garbage_files": 0}
    for record in sorted(cluster.dir.glob("*.synced")):
        data_dir, synced = pathlib.Path(str(record)[: -len(".synced")]), synced_lengths(record)
        for path in sorted(data_dir.rglob("*.log")):
            facts = path.stat()
            low = min(synced.get(facts.st_ino, 0), facts.st_size)
            if os.environ.get("CHAOS_CUT_SYNCED") and data_dir.name.startswith("broker"):
                low = low * 2 // 3
            done["files"] += 1
            if low == facts.st_size:
                continue
            length = rng.randint(low, facts.st_size)
            done["unsynced_files"] += 1
            done["unsynced_bytes"] += facts.st_size - low
            done["cut_bytes"] += facts.st_size - length
            os.truncate(path, length)
            if length > low and rng.random() < 0.5:
                with open(path, "r+b") as file:
                    file.seek(low)
                    file.write(rng.randbytes(length - low))
                done["garbage_files"] += 1
        survived = [path.stat() for path in data_dir.rglob("*") if path.is_file()]
        record.write_bytes(b"".join(struct.pack("<QQ", facts.st_ino, facts.st_size) for facts in survived))
    if done["files"] == 0:
        raise RuntimeError("no append-only file found: the layout of data directories has changed")
    return done
